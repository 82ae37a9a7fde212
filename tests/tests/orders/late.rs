//! The outcome is known and the database is away: the client gets a receipt, the outcome is kept and booked when the database is
//! back, once. (the second write is impossible for a while)

use anyhow::{Context as _, Result, ensure};
use fuse_harness::chaos::Told;
use fuse_harness::proxy::Mode;
use fuse_harness::wait;
use serde_json::json;
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{Case, SOON, new_key};

const ORDERS: usize = 8;

#[test]
fn outcomes_that_the_database_cannot_take_are_kept_and_booked_once() -> Result<()> {
    let mut case = Case::start_with(
        2,
        Default::default(),
        &[("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "15000")],
    )?;
    let slow = Action::Latency(Latency::Fixed { ms: 1000 });
    case.world.rule(Rule::on(Operation::Buy, slow))?;
    let orders: Vec<_> = (0..ORDERS).map(|_| (new_key(), case.unique_order())).collect();
    let begun: Vec<_> = orders
        .iter()
        .enumerate()
        .map(|(number, (key, order))| case.begin(number % 2, key, order))
        .collect();
    case.wait_for_buys(ORDERS as u64)?;
    case.world.proxy.set(Mode::Refuse)?;
    let mut receipts = Vec::new();
    for begun in begun {
        let got = case.end(begun)?.context("no answer")?;
        let Told::Receipt { order_id } = got.told() else {
            anyhow::bail!("the database is away: {got:?}");
        };
        receipts.push(order_id);
    }
    ensure!(case.world.vendor.executed().len() == ORDERS);
    // Long past every bound of a write; the database itself is there and can be asked.
    let old = "select count(*) from orders where status = 'submitted' and created_at < clock_timestamp() - interval '5 s'";
    wait::until("the outage to last", SOON, || {
        (case.world.count(old).ok()? == ORDERS as u64).then_some(())
    })?;
    case.world.proxy.set(Mode::Forward)?;
    for order_id in receipts {
        let id = json!(order_id);
        wait::until("the outcome that was kept", SOON, || {
            (case.read(0, &id).ok()?["status"] == "filled").then_some(())
        })?;
    }
    case.count()
}
