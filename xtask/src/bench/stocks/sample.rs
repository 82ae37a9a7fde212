//! One server's part of a round, for some seconds: flat out, or at a pace.

use std::time::Duration;

use anyhow::Result;
use fuse_harness::load::{self, Outcome, Pace, Plan, Target, Until};
use fuse_harness::usage;

/// Connections of the load.
pub const CONNECTIONS: usize = 32;

/// Far below what one replica can do, so that the latency is that of the service and not that of a queue.
pub const PER_SECOND: f64 = 2_000.0;

/// What a server did in its part of a round.
pub struct Sample {
    /// Answers a second.
    pub per_second: f64,
    /// CPU time of the server for each answer, the kernel's work for it included.
    pub cpu_micros: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Share of the time that the generator's one thread was busy.
    generator_share: f64,
}

impl Sample {
    /// One line for a person who waits.
    pub fn show(&self, round: u32, name: &str) {
        println!(
            "round {round:>2} {name:<15} {:>7.0} answers/s  {:>6.1} us CPU each  p50 {:>6.2} ms  p99 {:>6.2} ms  generator {:>3.0} % busy",
            self.per_second,
            self.cpu_micros,
            self.p50_ms,
            self.p99_ms,
            self.generator_share * 100.0
        );
    }
}

/// A flat-out load of this length.
pub fn plan(time: Duration) -> Plan {
    Plan {
        connections: CONNECTIONS,
        pace: Pace::FlatOut,
        until: Until::Elapsed(time),
        inspect: None,
    }
}

/// A paced load of this length; what came of it is the caller's to judge.
pub fn paced(target: &Target, time: Duration) -> Result<Outcome> {
    let plan = Plan {
        pace: Pace::PerSecond(PER_SECOND),
        ..plan(time)
    };
    load::run(std::slice::from_ref(target), &plan)
}

/// Loads a server; every answer must be good.
pub fn sample(pid: u32, target: &Target, time: Duration) -> Result<Sample> {
    let before = usage::cpu(pid)?;
    let outcome = load::run(std::slice::from_ref(target), &plan(time))?;
    let cpu = usage::cpu(pid)?.saturating_sub(before);
    outcome.all_good()?;
    Ok(Sample {
        per_second: outcome.per_second(),
        cpu_micros: cpu_micros(cpu, &outcome),
        p50_ms: outcome.percentile_ms(0.50),
        p99_ms: outcome.percentile_ms(0.99),
        generator_share: outcome.generator_cpu.as_secs_f64() / outcome.elapsed.as_secs_f64(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of answers are far below 2^52")]
fn cpu_micros(cpu: Duration, outcome: &Outcome) -> f64 {
    cpu.as_secs_f64() * 1e6 / outcome.answers().max(1) as f64
}
