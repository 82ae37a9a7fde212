//! Reading what clients send: every mistake is collected, so that one answer names them all.
//!
//! A first pass keeps values raw ([`Fields`] for a JSON body, [`Params`] for a query string); reading a value records what is wrong with it
//! and gives `None`; `finish` refuses what nobody asked for and then fails with everything at once.

mod body;
mod domain;
mod headers;
mod path;
mod query;

pub use body::{Fields, JsonBody};
pub use domain::{price, quantity, sentence, symbol_code};
pub use headers::IdempotencyKeyHeader;
pub use path::{PathDate, PathId, PathSymbol};
pub use query::Params;
