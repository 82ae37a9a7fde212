//! Tests of the domain through its public names. `rational` is the independent model that exactness is held
//! against.

mod band;
mod breaker;
mod market;
mod money;
mod notional;
mod orders;
mod rational;
mod report;
mod valuation;

use fuse_domain::{Price, Quantity, Symbol};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

fn price(text: &str) -> Price {
    Price::parse(text).expect("a legal price")
}

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).expect("a legal quantity")
}

fn symbol(text: &str) -> Symbol {
    Symbol::parse(text).expect("a legal symbol")
}

/// A fixed instant plus milliseconds.
fn at_millis(millis: i64) -> Timestamp {
    let start: Timestamp = "2026-03-02T09:00:00Z".parse().expect("a legal time");
    start + SignedDuration::from_millis(millis)
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}
