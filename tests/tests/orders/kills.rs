//! SIGKILL to a replica and outages of the database at random moments of a mixed load with random faults of the vendor. (reliability:
//! T06; the long run is `cargo xtask soak kills`)

use anyhow::{Result, ensure};
use fuse_harness::chaos::{Blow, Plan, Report, Session};

/// Each must show something other than nothing: a run in which hardly anything happens proves nothing.
fn good(report: &Report) -> Result<()> {
    println!(
        "seed {}: {:?}, {}",
        report.plan.seed, report.plan.blow, report.states
    );
    ensure!(
        report.violations.is_empty(),
        "replay with `cargo xtask soak kills --seed {} --count 1`:\n{}",
        report.plan.seed,
        report.violations.join("\n")
    );
    ensure!(
        report.orders >= 20,
        "only {} orders: {}",
        report.orders,
        report.states
    );
    Ok(())
}

fn kill_a_replica(plan: &Plan) -> Blow {
    Blow::KillReplica {
        replica: plan.replicas - 1,
    }
}

#[test]
fn a_killed_replica_loses_nothing_and_buys_nothing_twice() -> Result<()> {
    let mut session = Session::start()?;
    for seed in 1..=3 {
        good(&session.run_with(seed, kill_a_replica)?)?;
    }
    Ok(())
}

#[test]
fn outages_of_the_database_with_a_kill_in_their_midst_lose_nothing() -> Result<()> {
    let mut session = Session::start()?;
    let outage = std::time::Duration::from_millis(700);
    good(&session.run_with(11, |_| Blow::HangDatabase {
        outage,
        kill: Some(0),
    })?)?;
    good(&session.run_with(12, |_| Blow::RefuseDatabase {
        outage,
        kill: Some(0),
    })?)?;
    good(&session.run_with(13, |_| Blow::KillPostgres { kill: Some(0) })?)
}
