//! Kills and outages under a mixed load, one blow a run, each run from its seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use fuse_harness::chaos::{Plan, Session, Toll};
use fuse_harness::services::Binaries;

use crate::build::{self, Profile};

/// A world grows with its runs (logs, write-ahead log); a new one now and then keeps a long soak within bounds.
const RUNS_PER_WORLD: u64 = 50;

/// How many runs, from this seed on, kill so many processes: a seed tells what its run strikes.
pub fn runs_that_kill(first_seed: u64, kills: u64) -> u64 {
    let mut killed = 0;
    let mut runs = 0;
    while killed < kills {
        killed += Plan::of(first_seed.wrapping_add(runs)).blow.toll().kills();
        runs += 1;
    }
    runs
}

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
        not_run: AtomicU64::new(0),
        toll: Mutex::default(),
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
    let toll = soak.toll.into_inner().unwrap_or_else(PoisonError::into_inner);
    let not_run = soak.not_run.into_inner();
    println!(
        "kills: {} runs, {} orders, {violations} violations\nstruck: {toll}",
        soak.done.into_inner(),
        soak.orders.into_inner()
    );
    ensure!(
        not_run == 0,
        "{not_run} of {count} runs could not be made, as said above; try their seeds again"
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
    /// Runs that ended before anything could be counted, such as on a machine that is too busy.
    not_run: AtomicU64,
    /// What the runs that ended did to processes and connections.
    toll: Mutex<Toll>,
}

impl Soak {
    /// Takes the next run until there is none.
    fn work(&self) -> Result<()> {
        let mut session = None;
        let mut left_in_world = 0;
        loop {
            let run = self.begun.fetch_add(1, Ordering::Relaxed);
            if run >= self.count {
                return Ok(());
            }
            if left_in_world == 0 {
                // The old world ends before the new one begins.
                drop(session.take());
                session = Some(Session::start()?);
                left_in_world = RUNS_PER_WORLD;
            }
            let seed = self.first_seed.wrapping_add(run);
            left_in_world -= 1;
            if let Err(error) = self.perform(session.as_mut().expect("made above"), seed) {
                println!("seed {seed} could not be run: {error:#}");
                self.not_run.fetch_add(1, Ordering::Relaxed);
                left_in_world = 0;
            }
        }
    }

    fn perform(&self, session: &mut Session, seed: u64) -> Result<()> {
        let begun = Instant::now();
        let report = session.run(seed)?;
        self.orders.fetch_add(report.orders as u64, Ordering::Relaxed);
        *self.toll.lock().unwrap_or_else(PoisonError::into_inner) += report.plan.blow.toll();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_runs_kill_so_many_processes_and_one_run_less_does_not() {
        let killed = |runs: u64| {
            (0..runs)
                .map(|run| Plan::of(7 + run).blow.toll().kills())
                .sum::<u64>()
        };
        let runs = runs_that_kill(7, 1000);
        assert!(killed(runs) >= 1000 && killed(runs - 1) < 1000, "{runs} runs");
        assert_eq!(runs_that_kill(7, 0), 0);
    }

    #[test]
    fn runs_are_counted_or_kills_are_and_not_both() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: super::super::Args,
        }
        let parse = |args: &[&str]| {
            let args = ["soak", "kills"].iter().chain(args);
            <Cli as clap::Parser>::try_parse_from(args)
                .ok()
                .map(|cli| (cli.args.kills, cli.args.count))
        };
        assert_eq!(parse(&["--kills", "5"]), Some((Some(5), 100)));
        assert_eq!(parse(&["--count", "5"]), Some((None, 5)));
        assert_eq!(parse(&["--kills", "5", "--count", "5"]), None);
    }
}
