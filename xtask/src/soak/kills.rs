//! Kills and outages under a mixed load, one blow a run, each run from its seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use fuse_harness::chaos::Session;
use fuse_harness::services::Binaries;

use crate::build::{self, Profile};

/// A world grows with its runs (logs, write-ahead log); a new one now and then keeps a long soak within bounds.
const RUNS_PER_WORLD: u64 = 50;

/// Runs by their seeds, of the binaries as shipped, in so many worlds side by side; most of a run is waiting, so several share a core.
pub fn run(first_seed: u64, count: u64, jobs: u64) -> Result<u64> {
    Binaries::use_dir(&build::binaries(Profile::Release)?)?;
    let soak = Soak {
        first_seed,
        count,
        begun: AtomicU64::new(0),
        done: AtomicU64::new(0),
        orders: AtomicU64::new(0),
        violations: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        let worlds: Vec<_> = (0..jobs).map(|_| scope.spawn(|| soak.work())).collect();
        let ended = worlds.into_iter().map(|world| {
            let ended = world.join().map_err(|_| anyhow!("a world of the soak panicked"));
            ended.flatten()
        });
        // All of them end before the first error is told.
        ended.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
    })?;
    let violations = soak.violations.into_inner();
    println!(
        "kills: {count} runs, {} orders, {violations} violations",
        soak.orders.into_inner()
    );
    Ok(violations)
}

/// What all worlds share.
struct Soak {
    first_seed: u64,
    count: u64,
    begun: AtomicU64,
    done: AtomicU64,
    orders: AtomicU64,
    violations: AtomicU64,
}

impl Soak {
    /// Takes the next run until there is none.
    fn work(&self) -> Result<()> {
        let mut session = None;
        for runs in 0.. {
            let run = self.begun.fetch_add(1, Ordering::Relaxed);
            if run >= self.count {
                break;
            }
            if runs % RUNS_PER_WORLD == 0 {
                // The old world ends before the new one begins.
                drop(session.take());
                session = Some(Session::start()?);
            }
            self.perform(
                session.as_mut().expect("made above"),
                self.first_seed.wrapping_add(run),
            )?;
        }
        Ok(())
    }

    fn perform(&self, session: &mut Session, seed: u64) -> Result<()> {
        let begun = Instant::now();
        let report = session
            .run(seed)
            .map_err(|error| error.context(format!("seed {seed}")))?;
        self.orders.fetch_add(report.orders as u64, Ordering::Relaxed);
        println!(
            "run {} of {}, seed {seed}: {:?} after {} answers, {} replicas: {} orders ({}), {:.1} s",
            self.done.fetch_add(1, Ordering::Relaxed) + 1,
            self.count,
            report.plan.blow,
            report.plan.strike_after,
            report.plan.replicas,
            report.orders,
            report.states,
            begun.elapsed().as_secs_f64()
        );
        for violation in report.violations {
            self.violations.fetch_add(1, Ordering::Relaxed);
            println!("seed {seed}: {violation}");
        }
        Ok(())
    }
}
