//! Kills and outages under a mixed load, one blow a run, each run from its seed.

use anyhow::Result;
use fuse_harness::chaos::Session;
use fuse_harness::services::Binaries;

use crate::build::{self, Profile};

/// A world grows with its runs (logs, write-ahead log); a new one now and then keeps a long soak within bounds.
const RUNS_PER_WORLD: u64 = 50;

pub fn run(first_seed: u64, count: u64) -> Result<u64> {
    Binaries::use_dir(&build::binaries(Profile::Dev)?)?;
    let mut violations = 0;
    let mut session = None;
    for run in 0..count {
        if run % RUNS_PER_WORLD == 0 {
            // The old world ends before the new one begins.
            drop(session.take());
            session = Some(Session::start()?);
        }
        let seed = first_seed.wrapping_add(run);
        let report = session.as_mut().expect("made above").run(seed)?;
        println!(
            "run {} of {count}, seed {seed}: {:?} after {} answers, {} replicas: {} orders ({})",
            run + 1,
            report.plan.blow,
            report.plan.strike_after,
            report.plan.replicas,
            report.orders,
            report.states
        );
        for violation in report.violations {
            violations += 1;
            println!("seed {seed}: {violation}");
        }
    }
    println!("kills: {count} runs, {violations} violations");
    Ok(violations)
}
