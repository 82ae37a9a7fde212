//! Random walks over the list of stocks, in the midst of refreshes and expiries, each from its seed.

use anyhow::Result;
use fuse_harness::progress::Progress;
use fuse_harness::services::Binaries;
use fuse_harness::walks::{self, Plan};

use crate::build::{self, Profile};

/// Runs `count` walks, the n-th from `seed + n`; returns how many violations there were.
pub fn run(seed: u64, count: u64) -> Result<u64> {
    // Optimised: this is about millions of requests, and unoptimised services are none that anybody runs.
    Binaries::use_dir(&build::binaries(Profile::Release)?)?;
    let progress = Progress::new(|line| println!("{line}"));
    let outcome = walks::run(&Plan::of_many(seed, count), &progress)?;
    println!("walks: {outcome}");
    Ok(outcome.violations)
}
