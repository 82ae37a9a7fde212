//! The cold stampede: an empty table, three replicas that hold nothing, 1,000 GETs at once. One crawl may serve them all.

use std::time::Duration;

use anyhow::{Context as _, Result};
use fuse_harness::load::{self, Outcome, Pace, Plan, Target, Until};
use fuse_harness::redis::Redis;
use fuse_harness::services::Service;
use vendor_simulator::{Action, Latency, Operation, Rule, SimulatorConfig};

use crate::bench::figure::{Figure, Goal, count};
use crate::bench::table;
use crate::bench::world::World;

const PATH: &str = "/v1/stocks";
const REPLICAS: usize = 3;
const GETS: u16 = 1_000;
const SYMBOLS: usize = 400;
const PAGE_SIZE: usize = 50;
/// What one page takes at the vendor: eight pages make a crawl that lasts.
const PAGE_MS: u64 = 50;
/// What the slowest percent may wait beyond the crawl, in milliseconds.
const BEYOND_CRAWL_MS: f64 = 100.0;

pub fn measure(quick: bool) -> Result<Vec<Figure>> {
    let rounds = if quick { 2 } else { 7 };
    let world = World::start(SimulatorConfig {
        symbols: SYMBOLS,
        page_size: PAGE_SIZE,
        ..SimulatorConfig::default()
    })?;
    let slow = Rule::on(Operation::List, Action::Latency(Latency::Fixed { ms: PAGE_MS }));
    world.vendor.add_rule(slow).context("slow pages")?;
    let key = {
        let api = world.launch_ready("api-service", &[])?;
        let key = world.user_key(&api)?;
        api.stop()?;
        key
    };
    let redis = Redis::start()?;
    let mut figures = Vec::new();
    let mut modes = [
        (Mode::new("with Redis"), Some(redis.url())),
        (Mode::new("with DynamoDB alone"), None),
    ];
    for round in 1..=rounds {
        for (mode, redis_url) in &mut modes {
            // What the round before left, or the warm-up.
            table::empty(world.dynamodb()?)?;
            redis.command(&["FLUSHALL"])?;
            let sample = stampede(&world, &key, redis_url.as_deref())?;
            mode.add(round, &sample);
        }
    }
    for (mode, _) in modes {
        figures.extend([mode.crawls, mode.others, mode.p99]);
    }
    Ok(figures)
}

/// The figures of one way to run.
struct Mode {
    name: &'static str,
    crawls: Figure,
    others: Figure,
    p99: Figure,
}

impl Mode {
    fn new(name: &'static str) -> Self {
        let of = |what: &str| format!("{GETS} cold GETs {name}: {what}");
        let beyond = Some(Goal::AboveYardstickAtMost(BEYOND_CRAWL_MS));
        Self {
            name,
            crawls: Figure::new(of("crawls"), "", Some(Goal::Always(1.0))),
            others: Figure::new(of("answers not 200"), "", Some(Goal::Always(0.0))),
            p99: Figure::new(of("p99 beside the crawl"), "ms", beyond),
        }
    }

    fn add(&mut self, round: u32, sample: &Sample) {
        let p99 = sample.outcome.percentile_ms(0.99);
        println!(
            "round {round} {}: {:?}, {} failed; {} list requests ({:.2} crawls); p50 {:.0} ms p99 {p99:.0} ms max {:.0} ms; crawl {:.0} ms, publishing {:.0} ms",
            self.name,
            sample.outcome.statuses,
            sample.outcome.failed,
            sample.list_requests,
            sample.crawls(),
            sample.outcome.percentile_ms(0.50),
            sample.outcome.percentile_ms(1.0),
            sample.crawl_ms,
            sample.publish_ms
        );
        for message in sample.outcome.messages.iter().take(2) {
            println!("  {message}");
        }
        let good = sample.outcome.statuses.get(&200).copied().unwrap_or(0);
        self.crawls.ours.push(sample.crawls());
        self.others.ours.push(f64::from(GETS) - count(good));
        self.p99.pair(p99, sample.crawl_ms);
    }
}

struct Sample {
    outcome: Outcome,
    list_requests: u64,
    crawl_ms: f64,
    publish_ms: f64,
}

impl Sample {
    /// Every page once is one crawl.
    fn crawls(&self) -> f64 {
        count(self.list_requests) / count(SYMBOLS.div_ceil(PAGE_SIZE) as u64)
    }
}

fn stampede(world: &World, key: &str, redis_url: Option<&str>) -> Result<Sample> {
    let envs: Vec<(&str, &str)> = redis_url
        .into_iter()
        .map(|url| ("FUSE_REDIS__URL", url))
        .collect();
    let before = world.vendor.counters().lists.received;
    let replicas = (0..REPLICAS)
        .map(|_| world.launch("api-service", &envs))
        .collect::<Result<Vec<Service>>>()?;
    let targets = replicas
        .iter()
        .map(|replica| Target::get(&replica.http_url(), PATH, &[("x-api-key", key)]))
        .collect::<Result<Vec<Target>>>()?;
    let outcome = load::run(
        &targets,
        &Plan {
            connections: usize::from(GETS),
            pace: Pace::FlatOut,
            until: Until::Each(1),
            inspect: None,
        },
    )?;
    // Whatever crawls on in vain would still be counted.
    std::thread::sleep(Duration::from_millis(500));
    let phase = |phase: &str| -> Result<f64> {
        let series = format!("fuse_snapshot_refresh_duration_seconds_sum{{phase=\"{phase}\"}}");
        let seconds = replicas
            .iter()
            .map(|replica| Ok(replica.metric(&series)?.unwrap_or(0.0)))
            .sum::<Result<f64>>()?;
        Ok(seconds * 1000.0)
    };
    let sample = Sample {
        outcome,
        list_requests: world.vendor.counters().lists.received - before,
        crawl_ms: phase("crawl")?,
        publish_ms: phase("l2")? + phase("l1")?,
    };
    for replica in &replicas {
        replica.stop()?;
    }
    Ok(sample)
}
