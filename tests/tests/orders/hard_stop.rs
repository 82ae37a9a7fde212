//! A process is stopped hard while it knows outcomes that the database did not take: its log holds what is needed to record each of
//! them by hand, and that is done here.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fuse_harness::chaos::{Got, Told, executions_are_fills, filled, resolve};
use fuse_harness::figures::shortest;
use fuse_harness::proxy::Mode;
use fuse_harness::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{Begun, Case, SOON, new_key};

const ORDERS: usize = 16;
const DEADLINE: Duration = Duration::from_secs(3);
/// For a process that was told to end at once, on a loaded machine.
const GRACE: Duration = Duration::from_secs(10);

const SHORT: [(&str, &str); 2] = [
    ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "15000"),
    ("FUSE_LIFECYCLE__DEADLINE_SECS", "3"),
];
/// A statement that the database is silent about is waited for to the hard stop and beyond.
const ENDLESS: [(&str, &str); 4] = [
    ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "15000"),
    ("FUSE_DATABASE__ACQUIRE_TIMEOUT_MILLIS", "30000"),
    ("FUSE_DATABASE__STATEMENT_TIMEOUT_MILLIS", "600000"),
    ("FUSE_LIFECYCLE__DEADLINE_SECS", "600"),
];
/// An order is given up two seconds after it was placed.
const IMPATIENT: [(&str, &str); 1] = [("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "1000")];

/// What it says beside the outcomes.
const CUT_OFF: &str = "stopped with work cut off";

#[test]
fn outcomes_that_are_kept_at_the_deadline_of_a_stop_are_in_the_log() -> Result<()> {
    let mut case = Case::start_with(2, Default::default(), &IMPATIENT)?;
    let begun = bought_by(&mut case, &SHORT)?;
    case.world.proxy.set(Mode::Refuse)?;
    let mut ids = Vec::new();
    for begun in begun {
        let got = case.end(begun)?.context("no answer")?;
        ids.push(receipt(&got)?);
    }
    let (asked, process) = (Instant::now(), case.world.replica(0).proc());
    process.signal(Signal::SIGTERM)?;
    let status = process.wait_exit(DEADLINE + GRACE)?;
    ensure!(
        asked.elapsed() >= DEADLINE && status.code() == Some(1),
        "{status} after {:?}",
        asked.elapsed()
    );
    recorded_by_hand(case, &ids)
}

#[test]
fn outcomes_that_are_being_stored_when_a_second_signal_comes_are_in_the_log() -> Result<()> {
    let mut case = Case::start_with(2, Default::default(), &IMPATIENT)?;
    let begun = bought_by(&mut case, &ENDLESS)?;
    case.world.proxy.set(Mode::Hang)?;
    let replica = case.world.replica(0);
    wait::until("the vendor's answers", SOON, || {
        let series = "fuse_order_duration_seconds_count{phase=\"vendor\"}";
        (replica.metric(series).ok()?? == 1.0 + ORDERS as f64).then_some(())
    })?;
    let process = replica.proc();
    process.signal(Signal::SIGTERM)?;
    replica.wait_for_log("the stop", SOON, |line| line["message"] == "stopping")?;
    process.signal(Signal::SIGTERM)?;
    let status = process.wait_exit(GRACE)?;
    ensure!(status.code() == Some(1), "{status}");
    for begun in begun {
        case.end(begun)?;
    }
    let ids = case
        .world
        .sql("select order_id from orders where status in ('submitted', 'unknown')")?;
    let ids: Vec<Value> = ids.lines().map(|id| json!(id)).collect();
    recorded_by_hand(case, &ids)
}

/// Orders that the vendor executes at the first replica, which runs under these settings; it hears of that a second later.
fn bought_by(case: &mut Case, settings: &[(&str, &str)]) -> Result<Vec<Begun>> {
    case.world.kill_replica(0)?;
    case.world.start_replica_with(0, settings)?;
    // A process that has its connections takes all of them at once, on a loaded machine too.
    wait::until("an order that is filled", SOON, || {
        let got = case.place(0, &new_key(), &case.unique_order()).ok()?;
        (got.status == 201).then_some(())
    })?;
    let slow = Action::Latency(Latency::Fixed { ms: 1000 });
    case.world.rule(Rule::on(Operation::Buy, slow))?;
    let begun = (0..ORDERS)
        .map(|_| case.begin(0, &new_key(), &case.unique_order()))
        .collect();
    case.wait_for_buys(1 + ORDERS as u64)?;
    Ok(begun)
}

fn receipt(got: &Got) -> Result<Value> {
    let Told::Receipt { order_id } = got.told() else {
        anyhow::bail!("the database is away: {got:?}");
    };
    Ok(json!(order_id))
}

/// Writes down each outcome as the log of the stopped process tells it: then everything is as it was at the vendor.
fn recorded_by_hand(mut case: Case, ids: &[Value]) -> Result<()> {
    ensure!(ids.len() == ORDERS, "{ids:?}");
    let log = case.world.replica(0).logs();
    let outcomes = ids
        .iter()
        .map(|id| outcome_in(&log, id).with_context(|| format!("{id} is not in the log:\n{log:?}")))
        .collect::<Result<Vec<_>>>()?;
    case.world.kill_replica(0)?;
    case.world.proxy.set(Mode::Forward)?;
    case.world.start_replica(0)?;
    for (id, (price, quantity)) in ids.iter().zip(&outcomes) {
        case.wait_for_status(1, id, "unknown")?;
        resolve(
            &case.world,
            id.as_str().context("an id")?,
            &filled(price, quantity),
        )?
        .expect(200)?;
        case.wait_for_status(0, id, "filled")?;
    }
    let known: Vec<&str> = ids.iter().filter_map(Value::as_str).chain([CUT_OFF]).collect();
    case.count_but_for(&known)?;
    ensure!(executions_are_fills(&case.world)?.is_empty());
    Ok(())
}

/// Price and quantity of a fill, as the one line says them that asks somebody to act.
fn outcome_in(log: &[Value], id: &Value) -> Option<(String, String)> {
    let mut lines = log
        .iter()
        .filter(|line| line["level"] == "error" && line["order.id"] == *id);
    let (line, None) = (lines.next()?, lines.next()) else {
        return None;
    };
    let outcome = line["outcome"]
        .as_str()
        .filter(|text| text.starts_with("Filled"))?;
    let figure = |name: &str| {
        let (_, rest) = outcome.split_once(name)?;
        Some(shortest(rest.split_once(')')?.0).to_owned())
    };
    Some((figure("price: Price(")?, figure("quantity: Quantity(")?))
}
