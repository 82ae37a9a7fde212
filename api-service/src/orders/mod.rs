//! Placing orders: what must never be lost, doubled or invented.

mod answer;
mod backlog;
mod body;
mod check;
mod day;
mod desk;
mod limits;
mod new_order;
mod preview;
mod refusals;
mod repeated;

pub use answer::{Answer, unknown_answer};
pub use backlog::Backlog;
pub use body::{OrderBody, QuoteBody, left_of};
pub use desk::{OrderDesk, PlaceOrder};
pub use limits::{KeyRules, OrderSettings};
pub use new_order::{NewOrder, NewOrderBody};
pub use preview::Verdict;
pub use repeated::portfolio_not_found;
