//! What the tests of orders share.

use anyhow::{Result, ensure};
use fuse_harness::chaos::{Evidence, Quote, Traffic, User, World, violations};
use fuse_harness::figures;
use serde_json::{Value, json};
use uuid::Uuid;

/// For anything that a loaded machine does in the end.
pub const SOON: std::time::Duration = std::time::Duration::from_secs(90);

/// An order at the quote. Its quantity tells it from every other order at the vendor.
pub fn order(quote: &Quote, quantity: &str) -> Value {
    json!({
        "symbol": quote.symbol,
        "side": "buy",
        "quantity": quantity,
        "limitPrice": figures::text(quote.price),
    })
}

/// A key that was never used.
pub fn new_key() -> String {
    Uuid::new_v4().to_string()
}

/// Users as the load wants them: the first one's default portfolio is the hot one.
pub fn users(world: &World) -> Result<Vec<User>> {
    (0..3)
        .map(|number| world.user(&format!("user {number}"), 1))
        .collect()
}

/// Ends the load, waits for rest, and counts: nothing may be wrong.
pub fn count(world: &mut World, traffic: Traffic, users: Vec<User>) -> Result<()> {
    let journal = traffic.stop()?;
    world.rest()?;
    nothing_wrong(&violations(world, &Evidence { journal, users })?)
}

pub fn nothing_wrong(violations: &[String]) -> Result<()> {
    ensure!(violations.is_empty(), "{}", violations.join("\n"));
    Ok(())
}
