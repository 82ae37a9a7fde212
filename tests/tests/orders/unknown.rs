//! Orders whose outcome nobody knows: swept when their process died, settled when an answer comes late, resolved by a person; booked
//! once, whoever comes first.

use anyhow::{Context as _, Result, ensure};
use fuse_harness::chaos::{executions_are_fills, filled, resolve, resolve_all};
use fuse_harness::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{Case, SOON, new_key};

/// A replica that is stopped knows the outcome within its own deadline; the others sweep soon.
const PATIENT: [(&str, &str); 1] = [("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "20000")];
const IMPATIENT: [(&str, &str); 1] = [("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "1000")];

/// What the vendor says, written down.
fn truth(case: &Case) -> Result<Value> {
    let executed = case.world.vendor.executed();
    let [execution] = &executed[..] else {
        anyhow::bail!("not one execution: {executed:?}");
    };
    Ok(filled(&execution.price, &execution.quantity))
}

#[test]
fn a_lost_reply_is_resolved_to_exactly_one_fill() -> Result<()> {
    let mut case = Case::start(2)?;
    case.world
        .rule(Rule::on(Operation::Buy, Action::Reset { executed: true }).times(1))?;
    let (key, order) = (new_key(), case.unique_order());
    let first = case.place(0, &key, &order)?;
    ensure!(first.status == 202, "{first:?}");
    let id = first.json()["id"].clone();
    let resolution = truth(&case)?;
    let name = id.as_str().context("an id")?.to_owned();
    let resolved = resolve(&case.world, &name, &resolution)?.expect(200)?;
    ensure!(resolved["status"] == "filled", "{resolved}");
    resolve(&case.world, &name, &resolution)?
        .expect(200)
        .context("the same resolution again")?;
    let denied = json!({"outcome": "failed", "note": "no"});
    let conflict = resolve(&case.world, &name, &denied)?;
    ensure!(
        conflict.status == 409,
        "another resolution: {} {}",
        conflict.status,
        conflict.text
    );
    ensure!(case.path_of(&id)? == "submitted unknown filled");
    let again = case.place(1, &key, &order)?;
    ensure!(again.replayed && again.body == first.body, "{again:?}");
    case.count()?;
    ensure!(executions_are_fills(&case.world)?.is_empty());
    Ok(())
}

#[test]
fn orders_of_a_killed_replica_are_swept_once_by_whoever_comes_first() -> Result<()> {
    const ORDERS: usize = 20;
    let mut case = Case::start_with(
        3,
        Default::default(),
        &[("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "3000")],
    )?;
    case.world
        .rule(Rule::on(Operation::Buy, Action::NeverAnswer { executed: true }).times(ORDERS as u64))?;
    let orders: Vec<_> = (0..ORDERS).map(|_| (new_key(), case.unique_order())).collect();
    let begun: Vec<_> = orders
        .iter()
        .map(|(key, order)| case.begin(0, key, order))
        .collect();
    case.wait_for_buys(ORDERS as u64)?;
    case.world.kill_replica(0)?;
    for begun in begun {
        ensure!(case.end(begun)?.is_none(), "its process was killed");
    }
    // Under way as far as anybody can tell: a client must neither be told an outcome nor be let through.
    let early = case.place(1, &orders[0].0, &orders[0].1)?;
    ensure!(
        early.status == 409 || early.json()["status"] == "unknown",
        "{early:?}"
    );
    // Three sweepers are due at the same time.
    case.world.start_replica(0)?;
    let swept = "select count(*) from order_events where from_status = 'submitted' and status = 'unknown' and reason = 'interrupted'";
    wait::until("the sweep", SOON, || {
        (case.world.count(swept).ok()? == ORDERS as u64).then_some(())
    })?;
    for (key, order) in &orders {
        let told = case.place(2, key, order)?;
        ensure!(
            told.status == 202 && told.json()["status"] == "unknown",
            "{told:?}"
        );
    }
    ensure!(case.world.vendor.executed().len() == ORDERS);
    case.count()?;
    ensure!(resolve_all(&case.world)? == ORDERS);
    case.count()?;
    ensure!(executions_are_fills(&case.world)?.is_empty());
    Ok(())
}

/// Stops a replica while the vendor answers it, until another one has swept its order. Returns the order's id.
fn stopped_past_the_sweep(
    case: &mut Case,
    key: &str,
    order: &Value,
) -> Result<(Value, crate::support::Begun)> {
    case.world.kill_replica(0)?;
    case.world.start_replica_with(0, &PATIENT)?;
    let slow = Action::Latency(Latency::Fixed { ms: 500 });
    case.world.rule(Rule::on(Operation::Buy, slow).times(1))?;
    let begun = case.begin(0, key, order);
    case.wait_for_buys(1)?;
    case.world.replica(0).proc().signal(Signal::SIGSTOP)?;
    let id = case.only("unknown")?;
    ensure!(case.path_of(&id)? == "submitted unknown");
    Ok((id, begun))
}

#[test]
fn an_answer_that_comes_after_the_sweep_resolves_the_order_once() -> Result<()> {
    let mut case = Case::start_with(2, Default::default(), &IMPATIENT)?;
    let (key, order) = (new_key(), case.unique_order());
    let (id, begun) = stopped_past_the_sweep(&mut case, &key, &order)?;
    let swept = case.place(1, &key, &order)?;
    ensure!(swept.status == 202 && swept.replayed, "{swept:?}");
    case.world.replica(0).proc().signal(Signal::SIGCONT)?;
    let told = case.end(begun)?.context("its client waited all the time")?;
    ensure!(told.body == swept.body, "{told:?} after {swept:?}");
    case.wait_for_status(1, &id, "filled")?;
    ensure!(case.path_of(&id)? == "submitted unknown filled");
    case.count()?;
    ensure!(executions_are_fills(&case.world)?.is_empty());
    Ok(())
}

#[test]
fn a_resolution_before_the_late_answer_is_the_only_one() -> Result<()> {
    let mut case = Case::start_with(2, Default::default(), &IMPATIENT)?;
    let (key, order) = (new_key(), case.unique_order());
    let (id, begun) = stopped_past_the_sweep(&mut case, &key, &order)?;
    let path = format!("/v1/orders/{}/resolve", id.as_str().context("an id")?);
    let admin = case.world.client(1, fuse_harness::chaos::ADMIN_KEY);
    admin.post(&path, &truth(&case)?)?.expect(200)?;
    case.world.replica(0).proc().signal(Signal::SIGCONT)?;
    let told = case.end(begun)?.context("its client waited all the time")?;
    ensure!(told.status == 202, "{told:?}");
    ensure!(case.path_of(&id)? == "submitted unknown filled");
    case.count()?;
    ensure!(executions_are_fills(&case.world)?.is_empty());
    Ok(())
}
