//! The outcome is known and the database is away for half a minute: the client gets a receipt, the outcome is kept and booked when the
//! database is back, once. By then the order is old enough to be given up, so both are tried at the same moment. (the second write is
//! impossible for 30 s, then possible)

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fuse_harness::chaos::Told;
use fuse_harness::proxy::Mode;
use fuse_harness::wait;
use serde_json::json;
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{Case, SOON, new_key};

const ORDERS: u64 = 8;
/// Placed at two replicas in turns.
const KEPT_BY_EACH: f64 = 4.0;
const WAITING: &str = "fuse_order_settlements_waiting";
const OUTAGE: Duration = Duration::from_secs(30);
/// With the margin of the tests' worlds, a second, an order is given up long before the outage ends.
const SETTINGS: [(&str, &str); 1] = [("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "15000")];
const OVERDUE: &str = "
    select count(*) from orders where status = 'submitted' and created_at < clock_timestamp() - interval '16 s'";

#[test]
fn outcomes_that_the_database_cannot_take_are_kept_and_booked_once() -> Result<()> {
    let mut case = Case::start_with(2, Default::default(), &SETTINGS)?;
    let slow = Action::Latency(Latency::Fixed { ms: 2000 });
    case.world.rule(Rule::on(Operation::Buy, slow))?;
    let orders: Vec<_> = (0..ORDERS).map(|_| (new_key(), case.unique_order())).collect();
    let begun: Vec<_> = orders
        .iter()
        .enumerate()
        .map(|(number, (key, order))| case.begin(number % 2, key, order))
        .collect();
    case.wait_for_buys(ORDERS)?;
    case.world.proxy.set(Mode::Refuse)?;
    let away_since = Instant::now();
    let mut receipts = Vec::new();
    for begun in begun {
        let got = case.end(begun)?.context("no answer")?;
        let Told::Receipt { order_id } = got.told() else {
            anyhow::bail!("the database is away: {got:?}");
        };
        receipts.push(json!(order_id));
    }
    ensure!(case.world.vendor.executed().len() as u64 == ORDERS);
    wait::until("the outage to last", SOON, || {
        (away_since.elapsed() >= OUTAGE).then_some(())
    })?;
    // The database itself is there and can be asked.
    ensure!(
        case.world.count(OVERDUE)? == ORDERS,
        "somebody reached the database"
    );
    for index in [0, 1] {
        let kept = case.world.replica(index).metric(WAITING)?;
        ensure!(kept == Some(KEPT_BY_EACH), "replica {index} keeps {kept:?}");
    }

    case.world.proxy.set(Mode::Forward)?;
    let mut given_up = 0;
    for id in &receipts {
        case.wait_for_status(0, id, "filled")?;
        let path = case.path_of(id)?;
        given_up += u64::from(path == "submitted unknown filled");
        ensure!(
            ["submitted filled", "submitted unknown filled"].contains(&path.as_str()),
            "{id}: {path}"
        );
    }
    println!("{given_up} of {ORDERS} were given up before their outcome was stored");
    let fills = "select count(*) from order_events where status = 'filled'";
    ensure!(case.world.count(fills)? == ORDERS);
    ensure!(case.world.vendor.executed().len() as u64 == ORDERS);
    // Whichever came first: holdings, versions and answers are those of one fill for each order.
    case.count()
}
