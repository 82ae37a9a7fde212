//! What a person does with orders of unknown outcome: asks the vendor, here its list of executions, and writes down what it says.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::check::{Row, rows};
use super::world::{ADMIN_KEY, World};
use super::{Violations, check};

/// Resolves every unknown order as the vendor's list of executions says; returns how many there were.
///
/// # Errors
/// When the API refuses one.
pub fn resolve_all(world: &World) -> Result<usize> {
    let executed = world.vendor.executed();
    let executions = check::by_quantity(&executed);
    let mut resolved = 0;
    for row in rows(world)?.iter().filter(|row| row.status == "unknown") {
        let truth = match executions.get(row.quantity()) {
            Some(executions) => filled(&executions[0].price, &executions[0].quantity),
            None => json!({"outcome": "failed", "note": "the vendor has no such order"}),
        };
        resolve(world, &row.id.to_string(), &truth)?
            .expect(200)
            .with_context(|| format!("resolve {}", row.key))?;
        resolved += 1;
    }
    Ok(resolved)
}

/// The resolution of an order that was bought.
#[must_use]
pub fn filled(price: &str, quantity: &str) -> Value {
    json!({"outcome": "filled", "price": price, "quantity": quantity, "note": "in the vendor's list"})
}

/// Asks for one resolution, as an administrator.
///
/// # Errors
/// When there is no answer.
pub fn resolve(world: &World, order_id: &str, resolution: &Value) -> Result<crate::client::Answer> {
    let path = format!("/v1/orders/{order_id}/resolve");
    world.client(0, ADMIN_KEY).post(&path, resolution)
}

/// When nothing is unknown any more: what was executed and what is booked are the same orders.
///
/// # Errors
/// When the ledger cannot be read.
pub fn executions_are_fills(world: &World) -> Result<Violations> {
    let rows = rows(world)?;
    let count = |status: &str| rows.iter().filter(|row: &&Row| row.status == status).count();
    let executed = world.vendor.executed().len();
    let mut found = Violations::new();
    if (count("filled"), count("unknown")) != (executed, 0) {
        found.push(format!(
            "{executed} executions, {} filled orders, {} unknown ones",
            count("filled"),
            count("unknown")
        ));
    }
    Ok(found)
}
