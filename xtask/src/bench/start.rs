//! Time from exec to ready and resident memory at rest, of each process, beside `redis-server`: a server that is known
//! for both and that every machine with our backends has.

use std::time::{Duration, Instant};

use anyhow::Result;
use fuse_harness::redis::Redis;
use fuse_harness::services::{Binaries, Service, ServiceOptions};
use fuse_harness::stack::{Stack, StackOptions};
use fuse_harness::usage;

use super::figure::{Figure, Goal};
use super::world::megabytes;
use crate::build::{self, Profile};

/// Budgets of the design.
const READY_MS_AT_MOST: f64 = 50.0;
const RESIDENT_MB_AT_MOST: f64 = 20.0;
/// How long a process is left alone before its memory counts as at rest.
const SETTLE: Duration = Duration::from_millis(1500);

const PROCESSES: [&str; 2] = ["api-service", "cache-refresher"];

pub fn measure(rounds: usize) -> Result<Vec<Figure>> {
    let bin_dir = build::binaries(Profile::Release)?;
    Binaries::use_dir(&bin_dir)?;
    let stack = Stack::start(StackOptions::default())?;
    let envs = stack.addresses().service_envs(&crate::summary::new_secret());
    let envs_of = |pairs: &[(String, String)]| pairs.to_vec();
    stack.addresses().migrate()?;
    let mut figures = Vec::new();
    for process in PROCESSES {
        let mut ready = Figure::new(
            format!("{process}: exec to ready"),
            "ms",
            Some(Goal::AtMost(READY_MS_AT_MOST)),
        );
        let mut resident = Figure::new(
            format!("{process}: resident at rest"),
            "MB",
            Some(Goal::AtMost(RESIDENT_MB_AT_MOST)),
        );
        for round in 0..rounds {
            let ours = sample_ours(process, envs_of(&envs))?;
            let yardstick = sample_redis()?;
            println!(
                "{process} {}/{rounds}: ready in {:.1} ms, redis-server {:.1} ms",
                round + 1,
                ours.0,
                yardstick.0
            );
            ready.pair(ours.0, yardstick.0);
            resident.pair(ours.1, yardstick.1);
        }
        figures.extend([ready, resident]);
    }
    Ok(figures)
}

/// Milliseconds to ready, megabytes at rest.
fn sample_ours(process: &str, envs: Vec<(String, String)>) -> Result<(f64, f64)> {
    let begun = Instant::now();
    let service = Service::launch(
        process,
        ServiceOptions {
            envs,
            ..ServiceOptions::default()
        },
    )?;
    service.wait_ready(Duration::from_secs(20))?;
    let ready = begun.elapsed().as_secs_f64() * 1000.0;
    std::thread::sleep(SETTLE);
    let resident = resident_mb(service.pid())?;
    service.stop()?;
    Ok((ready, resident))
}

fn sample_redis() -> Result<(f64, f64)> {
    let begun = Instant::now();
    let redis = Redis::start()?;
    let ready = begun.elapsed().as_secs_f64() * 1000.0;
    std::thread::sleep(SETTLE);
    Ok((ready, resident_mb(redis.pid())?))
}

fn resident_mb(pid: u32) -> Result<f64> {
    Ok(megabytes(usage::memory(pid)?.resident))
}
