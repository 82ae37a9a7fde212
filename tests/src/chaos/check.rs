//! The count on both sides: what clients were told, what the ledger holds, what the vendor executed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use uuid::Uuid;
use vendor_simulator::Executed;

use super::journal::{Entry, Got, Journal, Told};
use super::step::User;
use super::world::World;
use super::{Violations, books, replays};
use crate::figures::shortest;

/// What a test brings to the count.
pub struct Evidence {
    pub journal: Arc<Journal>,
    pub users: Vec<User>,
}

/// An order as the ledger holds it.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) user_id: Uuid,
    pub(super) key: String,
    pub(super) symbol: String,
    pub(super) quantity: String,
    pub(super) limit_price: String,
    pub(super) status: String,
    pub(super) fill_price: Option<String>,
    pub(super) fill_quantity: Option<String>,
    pub(super) answer_status: Option<u16>,
    pub(super) answer_body: Option<String>,
}

impl Row {
    /// Its text tells the order at the vendor.
    pub(super) fn quantity(&self) -> &str {
        shortest(&self.quantity)
    }
}

const ROWS: &str = "
    select json_build_object('id', order_id, 'user_id', user_id, 'key', idempotency_key, 'symbol', symbol,
        'quantity', quantity::text, 'limit_price', limit_price::text, 'status', status, 'fill_price', fill_price::text,
        'fill_quantity', fill_quantity::text, 'answer_status', answer_status, 'answer_body', answer_body)
    from orders order by order_id";

/// All orders of a world.
pub(super) fn rows(world: &World) -> Result<Vec<Row>> {
    let text = world.sql(ROWS)?;
    let row = |line: &str| serde_json::from_str(line).with_context(|| format!("a row: {line}"));
    text.lines().map(row).collect()
}

/// Everything that must hold of a world at rest, counted twice: before and after every key is sent again.
///
/// # Errors
/// When the world cannot be asked. What is wrong with it is in the list.
pub fn violations(world: &World, evidence: &Evidence) -> Result<Violations> {
    let mut found = count(world, evidence)?;
    let before = rows(world)?;
    found.extend(replays::repeat_all(
        &evidence.journal,
        &evidence.users,
        &world.urls(),
    )?);
    found.extend(count(world, evidence)?);
    terminal_orders_stay(&before, &rows(world)?, &mut found);
    found.extend(world.complaints());
    // Most would be there twice.
    let once: BTreeSet<String> = found.into_iter().collect();
    Ok(once.into_iter().collect())
}

fn count(world: &World, evidence: &Evidence) -> Result<Violations> {
    let rows = rows(world)?;
    let mut found = books::violations(world)?;
    answers_against_rows(evidence, &rows, &mut found);
    vendor_against_rows(&world.vendor.executed(), &rows, &mut found);
    if !world.vendor.counters().buys.add_up() {
        found.push("the vendor's counters do not add up".to_owned());
    }
    Ok(found)
}

/// I5: whatever is asked under their keys.
fn terminal_orders_stay(before: &[Row], after: &[Row], found: &mut Violations) {
    let after: BTreeMap<Uuid, &Row> = after.iter().map(|row| (row.id, row)).collect();
    for row in before {
        let is_terminal = matches!(row.status.as_str(), "rejected" | "filled" | "failed");
        let now = after.get(&row.id).copied();
        if is_terminal && now != Some(row) {
            found.push(format!("a terminal order changed: {row:?} is now {now:?}"));
        }
    }
}

/// Nothing that a client was told is lost or otherwise in the ledger (I4, and no acknowledged order lost).
fn answers_against_rows(evidence: &Evidence, rows: &[Row], found: &mut Violations) {
    let by_key: BTreeMap<(Uuid, &str), &Row> = rows
        .iter()
        .map(|row| ((row.user_id, row.key.as_str()), row))
        .collect();
    if by_key.len() != rows.len() {
        found.push("a key has more than one order".to_owned());
    }
    let entries = evidence.journal.entries();
    for (key, entry) in &entries {
        let row = by_key.get(&(evidence.users[entry.user].id, key.as_str()));
        for got in &entry.answers {
            if let Some(wrong) = judge_answer(entry, got, row.copied()) {
                found.push(format!("{key}: {wrong}; told {} {}", got.status, got.body));
            }
        }
        for got in &entry.to_other {
            let is_refused = got.status == 422 && got.json()["code"] == "idempotency_key_reused";
            // While the database is away nobody can say that the key is taken.
            let is_put_off = got.status == 503 && got.told() == Told::Nothing;
            if !is_refused && !is_put_off {
                found.push(format!(
                    "{key}: another order under it: {} {}",
                    got.status, got.body
                ));
            }
        }
    }
    for row in rows.iter().filter(|row| !entries.contains_key(&row.key)) {
        found.push(format!(
            "order {} has a key that nobody sent: {}",
            row.id, row.key
        ));
    }
}

/// What is wrong with one answer.
fn judge_answer(entry: &Entry, got: &Got, row: Option<&Row>) -> Option<String> {
    if got.status == 500 || got.status == 504 {
        return Some("an answer that no fault allows".to_owned());
    }
    if got.status == 503 && !got.retry_after {
        return Some("503 without Retry-After".to_owned());
    }
    let (Told::Outcome { order_id } | Told::Receipt { order_id }) = got.told() else {
        let is_told_otherwise = (200..300).contains(&got.status);
        return is_told_otherwise.then(|| "a success without an order".to_owned());
    };
    let Some(row) = row else {
        return Some("LOST: the order is not in the ledger".to_owned());
    };
    if row.id != order_id {
        return Some(format!("the key's order is {}", row.id));
    }
    let told = got.json();
    let may_be: &[&str] = match (got.status, told["status"].as_str()) {
        (201, Some("filled")) => &["filled"],
        (202, Some("unknown")) => &["unknown", "filled", "failed"],
        (202, Some("submitted")) => &["filled", "failed", "unknown"],
        // A problem: refused by us, by the vendor, or never sent.
        (400.., _) => &["rejected", "failed"],
        _ => &[],
    };
    if !may_be.contains(&row.status.as_str()) {
        return Some(format!("the order is {}", row.status));
    }
    if matches!(got.told(), Told::Receipt { .. }) {
        return None;
    }
    let first = entry.outcome().unwrap_or(got);
    if (got.status, &got.body) != (first.status, &first.body) {
        return Some(format!("first told {} {}", first.status, first.body));
    }
    let is_stored =
        row.answer_status == Some(got.status) && row.answer_body.as_deref() == Some(got.body.as_str());
    (!is_stored).then(|| format!("stored is {:?} {:?}", row.answer_status, row.answer_body))
}

/// At most one execution for each order; what was executed is booked or unknown, what is booked was executed exactly so (I3).
fn vendor_against_rows(executed: &[Executed], rows: &[Row], found: &mut Violations) {
    let mut by_quantity = by_quantity(executed);
    for row in rows {
        let executions = by_quantity.remove(row.quantity()).unwrap_or_default();
        if let Some(wrong) = judge_executions(row, &executions) {
            found.push(format!(
                "order {} ({}, {}): {wrong}: {executions:?}",
                row.id, row.key, row.status
            ));
        }
    }
    for executions in by_quantity.values() {
        found.push(format!("executed without an order: {executions:?}"));
    }
}

/// Executions by the quantity that tells their order.
pub(super) fn by_quantity(executed: &[Executed]) -> BTreeMap<&str, Vec<&Executed>> {
    let mut by_quantity: BTreeMap<&str, Vec<&Executed>> = BTreeMap::new();
    for execution in executed {
        by_quantity
            .entry(shortest(&execution.quantity))
            .or_default()
            .push(execution);
    }
    by_quantity
}

fn judge_executions(row: &Row, executions: &[&Executed]) -> Option<&'static str> {
    let execution = match executions {
        [] if row.status == "filled" => return Some("INVENTED: filled and never executed"),
        [] => return None,
        [execution] => execution,
        _ => return Some("executed more than once"),
    };
    let is_as_ordered =
        execution.symbol == row.symbol && shortest(&execution.price) == shortest(&row.limit_price);
    let is_booked_so = || {
        let price = row.fill_price.as_deref().map(shortest);
        let quantity = row.fill_quantity.as_deref().map(shortest);
        price == Some(shortest(&execution.price)) && quantity == Some(shortest(&execution.quantity))
    };
    match row.status.as_str() {
        _ if !is_as_ordered => Some("executed as something else"),
        "filled" if !is_booked_so() => Some("booked otherwise than executed"),
        "filled" | "unknown" => None,
        _ => Some("executed, and the order says that it was not"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: &str, fill: Option<(&str, &str)>) -> Row {
        Row {
            id: Uuid::nil(),
            user_id: Uuid::nil(),
            key: "k".to_owned(),
            symbol: "A".to_owned(),
            quantity: "2.500".to_owned(),
            limit_price: "10".to_owned(),
            status: status.to_owned(),
            fill_price: fill.map(|fill| fill.0.to_owned()),
            fill_quantity: fill.map(|fill| fill.1.to_owned()),
            answer_status: None,
            answer_body: None,
        }
    }

    fn executed(price: &str) -> Executed {
        Executed {
            symbol: "A".to_owned(),
            price: price.to_owned(),
            quantity: "2.5".to_owned(),
            tick: 0,
        }
    }

    fn found(executed: &[Executed], row: Row) -> usize {
        let mut found = Violations::new();
        vendor_against_rows(executed, &[row], &mut found);
        found.len()
    }

    #[test]
    fn an_execution_fits_its_order_or_is_named() {
        let fill = Some(("10.0", "2.5"));
        assert_eq!(found(&[executed("10")], row("filled", fill)), 0);
        assert_eq!(found(&[executed("10")], row("unknown", None)), 0);
        assert_eq!(found(&[], row("failed", None)), 0);
        assert_eq!(found(&[], row("filled", fill)), 1, "invented");
        assert_eq!(found(&[executed("10")], row("failed", None)), 1, "denied");
        assert_eq!(found(&[executed("10")], row("rejected", None)), 1, "denied");
        assert_eq!(
            found(&[executed("10"), executed("10")], row("filled", fill)),
            1,
            "twice"
        );
        assert_eq!(found(&[executed("9")], row("filled", fill)), 1, "another price");
        assert_eq!(
            found(&[executed("10")], row("filled", Some(("9", "2.5")))),
            1,
            "booked wrongly"
        );
        let mut other = row("failed", None);
        other.quantity = "3".to_owned();
        assert_eq!(found(&[executed("10")], other), 1, "without an order");
    }

    #[test]
    fn a_terminal_order_that_changes_is_named_and_an_open_one_may_change() {
        let fill = Some(("10", "2.5"));
        let changed = |before: Row, after: &[Row]| {
            let mut found = Violations::new();
            terminal_orders_stay(&[before], after, &mut found);
            found.len()
        };
        assert_eq!(changed(row("filled", fill), &[row("filled", fill)]), 0);
        assert_eq!(changed(row("unknown", None), &[row("filled", fill)]), 0);
        assert_eq!(changed(row("failed", None), &[row("filled", fill)]), 1);
        assert_eq!(
            changed(row("filled", fill), &[row("filled", Some(("9", "2.5")))]),
            1
        );
        assert_eq!(changed(row("rejected", None), &[]), 1, "gone");
    }
}
