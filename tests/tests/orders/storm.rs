//! Two hundred and fifty-six clients whose connections are cut again and again during buys, and the service's own to PostgreSQL with
//! them: no session is left in a transaction, nothing that was told is lost, and afterwards no request fails. (reliability: T05)

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::proxy::TcpProxy;
use fuse_harness::wait;
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{Case, SOON, new_key};

const CLIENTS: u64 = 256;
const CUTS: u64 = 20;
/// The service's connections to PostgreSQL are cut with every so many of the clients'.
const DATABASE_CUT_EVERY: u64 = 4;
/// Buys at the vendor between two cuts, so that each meets some in every phase.
const BUYS_BETWEEN: u64 = 15;

/// A session that holds its locks for so long is what a cancelled transaction leaves behind.
const STUCK: &str = "select count(*) from pg_stat_activity where datname = current_database() \
    and state like 'idle in transaction%' and state_change < clock_timestamp() - interval '5 s'";

#[test]
fn a_storm_of_disconnects_leaves_no_session_behind_and_loses_nothing() -> Result<()> {
    let mut case = Case::start(1)?;
    let address = case.world.urls()[0]
        .trim_start_matches("http://")
        .parse()
        .context("the replica's address")?;
    let between = TcpProxy::start(address)?;
    let slow = Latency::Uniform {
        min_ms: 5,
        max_ms: 120,
    };
    case.world.rule(Rule::on(Operation::Buy, Action::Latency(slow)))?;
    let urls = vec![format!("http://{}", between.address())];
    let traffic = case.traffic(5, CLIENTS, urls)?;
    for cut in 1..=CUTS {
        let before = case.world.vendor.counters().buys.received;
        wait::until("buys between two cuts", SOON, || {
            (case.world.vendor.counters().buys.received >= before + BUYS_BETWEEN).then_some(())
        })?;
        between.cut();
        if cut % DATABASE_CUT_EVERY == 0 {
            case.world.proxy.cut();
        }
        ensure!(
            case.world.count(STUCK)? == 0,
            "sessions idle in transaction after {cut} cuts"
        );
    }
    let journal = traffic.journal().entries();
    let unanswered: u64 = journal.values().map(|entry| entry.unanswered).sum();
    ensure!(
        unanswered > CUTS,
        "only {unanswered} requests were cut: nothing was shown"
    );
    // The storm is over: whatever it broke inside the service would break these.
    traffic.wait_for_more_outcomes(50)?;
    case.count_with(traffic)?;
    let orders = (0..64).map(|_| (new_key(), case.unique_order())).collect();
    for got in case.place_all(orders, 16)? {
        ensure!(got.status == 201, "after the storm: {got:?}");
    }
    wait::until(
        "the end of every session's transaction",
        Duration::from_secs(10),
        || (case.world.count(STUCK).ok()? == 0).then_some(()),
    )
}
