//! Reading what clients send: every mistake is collected, so that one answer names them all.
//!
//! A first pass keeps values raw ([`Fields`] for a JSON body, [`Params`] for a query string); reading a value records what is wrong with it
//! and gives `None`; `finish` refuses what nobody asked for and then fails with everything at once.

mod body;
mod domain;
mod idempotency_key;
mod if_match;
mod path;
mod query;

pub use body::{Fields, JsonBody};
pub use domain::{notional, optional_amount, price, quantity, sentence, symbol_code};
pub use idempotency_key::{IdempotencyKeyHeader, NAME as IDEMPOTENCY_KEY};
pub use if_match::IfMatch;
pub use path::{PathDate, PathId, PathSymbol};
pub use query::Params;
