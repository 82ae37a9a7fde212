//! Placing orders: what must never be lost, doubled or invented.

mod answer;
mod backlog;
mod body;
mod desk;

pub use answer::{Answer, unknown_answer};
pub use backlog::Backlog;
pub use body::OrderBody;
pub use desk::{OrderDesk, PlaceOrder, portfolio_not_found};
