//! The replica that does the upkeep stands still: another one takes over, and no order waits for it.

use anyhow::{Context as _, Result, ensure};
use fuse_harness::wait;
use nix::sys::signal::Signal;
use vendor_simulator::{Action, Operation, Rule};

use crate::support::{Case, SOON, new_key};

/// The session that has the upkeep's lock, if one has.
const HOLDER: &str = "select pid from pg_locks where locktype = 'advisory' and granted";

fn holders_become(case: &Case, count: usize) -> Result<()> {
    wait::until("the upkeep's lock", SOON, || {
        (case.world.sql(HOLDER).ok()?.lines().count() == count).then_some(())
    })
}

#[test]
fn an_order_is_swept_while_the_replica_that_does_the_upkeep_stands_still() -> Result<()> {
    let mut case = Case::start_with(
        2,
        Default::default(),
        &[("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "1000")],
    )?;
    // Alone, the first one takes the upkeep and keeps it.
    for index in [0, 1] {
        case.world.kill_replica(index)?;
    }
    holders_become(&case, 0)?;
    case.world.start_replica(0)?;
    holders_become(&case, 1)?;
    case.world.start_replica(1)?;
    case.world
        .rule(Rule::on(Operation::Buy, Action::NeverAnswer { executed: true }).times(1))?;
    let (key, order) = (new_key(), case.unique_order());
    let begun = case.begin(0, &key, &order);
    case.wait_for_buys(1)?;
    case.world.replica(0).proc().signal(Signal::SIGSTOP)?;
    let swept = "select count(*) from orders where status = 'unknown'";
    wait::until("the order to be swept by the other", SOON, || {
        (case.world.count(swept).ok()? == 1).then_some(())
    })?;
    let told = case.place(1, &key, &order)?;
    ensure!(told.status == 202 && told.replayed, "{told:?}");
    case.world.replica(0).proc().signal(Signal::SIGCONT)?;
    let first = case.end(begun)?.context("its client waited all the time")?;
    ensure!(first.body == told.body, "{first:?} after {told:?}");
    case.count()
}
