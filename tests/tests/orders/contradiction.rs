//! A person resolves an order as failed that was executed, while the replica that knows better cannot reach its database: the first
//! word stays, and the contradiction is an alarm that names the order.

use anyhow::{Context as _, Result, ensure};
use fuse_harness::chaos::{ADMIN_KEY, Told};
use fuse_harness::proxy::Mode;
use fuse_harness::wait;
use serde_json::json;
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{Case, SOON, new_key};

const PATIENT: [(&str, &str); 1] = [("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "15000")];
/// An order is given up two seconds after it was placed.
const IMPATIENT: [(&str, &str); 1] = [("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "1000")];

const WAITING: &str = "fuse_order_settlements_waiting";
const CONTRADICTIONS: &str = "fuse_order_contradictions_total";

#[test]
fn a_kept_outcome_that_contradicts_a_resolution_is_an_alarm_and_changes_nothing() -> Result<()> {
    let mut case = Case::start_apart(&IMPATIENT, &PATIENT)?;
    let slow = Action::Latency(Latency::Fixed { ms: 500 });
    case.world.rule(Rule::on(Operation::Buy, slow).times(1))?;
    let (key, order) = (new_key(), case.unique_order());
    let begun = case.begin(0, &key, &order);
    case.wait_for_buys(1)?;
    case.world.proxy.set(Mode::Refuse)?;
    let told = case.end(begun)?.context("no answer")?;
    ensure!(matches!(told.told(), Told::Receipt { .. }), "{told:?}");
    metric_becomes(&case, WAITING, 1.0)?;

    let id = case.only("unknown")?;
    let name = id.as_str().context("an id")?;
    let path = format!("/v1/orders/{name}/resolve");
    let wrong = json!({"outcome": "failed", "note": "somebody looked at another order"});
    let resolved = case.world.client(1, ADMIN_KEY).post(&path, &wrong)?.expect(200)?;
    ensure!(resolved["status"] == "failed", "{resolved}");
    metric_becomes(&case, CONTRADICTIONS, 0.0)?;

    case.world.proxy.set(Mode::Forward)?;
    metric_becomes(&case, CONTRADICTIONS, 1.0)?;
    metric_becomes(&case, WAITING, 0.0)?;
    case.world
        .replica(0)
        .wait_for_log("the contradiction", SOON, |line| {
            line["message"] == "what is known of an order contradicts its recorded outcome"
                && line["order.id"] == id
                && line["ledger.outcome"] == "failed"
        })?;
    for replica in [0, 1] {
        let read = case.read(replica, &id)?;
        ensure!(read["status"] == "failed", "{read}");
    }
    ensure!(case.path_of(&id)? == "submitted unknown failed");
    let portfolio = format!("/v1/portfolios/{}", case.users[0].id);
    let client = case.world.client(1, &case.users[0].key);
    let held = client.get(&portfolio)?.expect(200)?;
    ensure!(held["holdings"] == json!([]), "{held}");
    let again = case.place(1, &key, &order)?;
    ensure!(
        again.replayed && again.json()["status"] == "unknown",
        "what it was told when it was given up: {again:?}"
    );
    // The vendor's execution and the alarm speak of this order; nothing else is wrong.
    case.count_but_for(&[name])?;
    metric_becomes(&case, CONTRADICTIONS, 1.0)
}

fn metric_becomes(case: &Case, series: &str, value: f64) -> Result<()> {
    let replica = case.world.replica(0);
    wait::until(&format!("{series} to be {value}"), SOON, || {
        (replica.metric(series).ok()?? == value).then_some(())
    })
}
