//! A page costs the same however many symbols there are: the same page out of a large and out of a small list, in turns.

use std::time::Duration;

use anyhow::Result;
use fuse_harness::load::Target;
use fuse_harness::services::Service;
use vendor_simulator::SimulatorConfig;

use super::sample::sample;
use crate::bench::figure::{Figure, Goal};
use crate::bench::world::{READY_DEADLINE, World, empty_log, wait_for_json};

/// A page in another order than the one that the list is stored in.
const PATH: &str = "/v1/stocks?sort=-price&limit=50";
const MANY: usize = 10_000;
const FEW: usize = 150;
/// Beyond noise, nothing.
const GOAL_RATIO: f64 = 1.1;

/// A replica over a list of some size.
struct Sized {
    name: String,
    world: World,
    api: Service,
    target: Target,
    _refresher: Service,
}

impl Sized {
    fn start(symbols: usize) -> Result<Self> {
        let world = World::start(SimulatorConfig {
            symbols,
            page_size: 100,
            ..SimulatorConfig::default()
        })?;
        let refresher = world.launch_ready("cache-refresher", &[])?;
        let api = world.launch_ready("api-service", &[])?;
        let key = world.user_key(&api)?;
        let client = world.admin(&api).with_key(&key);
        wait_for_json(&client, PATH, "all symbols", READY_DEADLINE, |page| {
            (page["total"].as_u64()? >= symbols as u64).then_some(())
        })?;
        Ok(Self {
            name: format!("{symbols} symbols"),
            target: Target::get(&api.http_url(), PATH, &[("x-api-key", &key)])?,
            world,
            api,
            _refresher: refresher,
        })
    }

    /// CPU time of an answer in microseconds, and its p99 in milliseconds.
    fn sample(&self, round: u32, time: Duration) -> Result<(f64, f64)> {
        let sample = sample(self.api.pid(), &self.target, time)?;
        sample.show(round, &self.name);
        empty_log(&self.api)?;
        Ok((sample.cpu_micros, sample.p99_ms))
    }
}

pub fn measure(quick: bool) -> Result<Vec<Figure>> {
    let (rounds, secs) = if quick { (4, 1) } else { (10, 2) };
    let time = Duration::from_secs(secs);
    let (many, few) = (Sized::start(MANY)?, Sized::start(FEW)?);
    let goal = Some(Goal::RatioAtMost(GOAL_RATIO));
    let mut cpu = Figure::new("a page of 10,000 symbols beside 150: CPU per answer", "us", goal);
    let mut p99 = Figure::new("a page of 10,000 symbols beside 150: p99", "ms", None);
    // Not counted: whatever is made once.
    for sized in [&many, &few] {
        sized.sample(0, time)?;
    }
    for round in 1..=rounds {
        let (of_many, of_few) = (many.sample(round, time)?, few.sample(round, time)?);
        cpu.pair(of_many.0, of_few.0);
        p99.pair(of_many.1, of_few.1);
    }
    for sized in [many, few] {
        sized.api.stop()?;
        drop(sized.world);
    }
    Ok(vec![cpu, p99])
}
