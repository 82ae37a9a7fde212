//! The same paced load with Redis and without, in turns: gone in one round, hung in the next, with a pass a second all the
//! while, so that a replica has something to follow. (reliability: T11)

use std::time::Duration;

use anyhow::Result;
use fuse_harness::load::{Outcome, Target};
use fuse_harness::proxy::{Mode, TcpProxy};
use fuse_harness::redis::Redis;
use fuse_harness::services::Service;
use fuse_harness::wait;
use vendor_simulator::SimulatorConfig;

use super::sample::paced;
use crate::bench::figure::{Figure, Goal, count};
use crate::bench::world::{READY_DEADLINE, World, empty_log, wait_for_json};

const PATH: &str = "/v1/stocks";
const SYMBOLS: usize = 500;
const GOAL_RATIO: f64 = 2.0;
const UP: &str = "fuse_dependency_up{dependency=\"redis\"}";

pub fn measure(quick: bool) -> Result<Vec<Figure>> {
    let (rounds, secs) = if quick { (4, 3) } else { (10, 6) };
    let each = Duration::from_secs(secs);
    let world = World::start(SimulatorConfig {
        symbols: SYMBOLS,
        page_size: 100,
        ..SimulatorConfig::default()
    })?;
    let redis = Redis::start()?;
    let proxy = TcpProxy::start(redis.address())?;
    let url = format!("redis://{}/", proxy.address());
    let envs = [
        ("FUSE_REDIS__URL", url.as_str()),
        ("FUSE_REFRESH__INTERVAL_SECS", "1"),
    ];
    let _refresher = world.launch_ready("cache-refresher", &envs)?;
    let api = world.launch_ready("api-service", &envs)?;
    let key = world.user_key(&api)?;
    let client = world.admin(&api).with_key(&key);
    wait_for_json(&client, PATH, "prices", READY_DEADLINE, |_| Some(()))?;
    let target = Target::get(&api.http_url(), PATH, &[("x-api-key", &key)])?;
    let goal = Some(Goal::RatioAtMost(GOAL_RATIO));
    let mut p50 = Figure::new("GET without Redis beside healthy: p50", "ms", None);
    let mut p99 = Figure::new("GET without Redis beside healthy: p99", "ms", goal);
    let mut bad = Figure::new("GET without Redis: answers not 2xx", "", Some(Goal::Always(0.0)));
    for round in 1..=rounds {
        let (mode, how) = if round % 2 == 1 {
            (Mode::Refuse, "gone")
        } else {
            (Mode::Hang, "hung")
        };
        set(&proxy, Mode::Forward, &api)?;
        let healthy = paced(&target, each)?;
        healthy.all_good()?;
        set(&proxy, mode, &api)?;
        let without = paced(&target, each)?;
        empty_log(&api)?;
        let not_good = not_good(&without);
        println!(
            "round {round:>2} healthy p50 {:.2} ms p99 {:.2} ms; Redis {how}: p50 {:.2} ms p99 {:.2} ms, {not_good} of {} answers not 2xx",
            healthy.percentile_ms(0.50),
            healthy.percentile_ms(0.99),
            without.percentile_ms(0.50),
            without.percentile_ms(0.99),
            without.answers()
        );
        p50.pair(without.percentile_ms(0.50), healthy.percentile_ms(0.50));
        p99.pair(without.percentile_ms(0.99), healthy.percentile_ms(0.99));
        bad.ours.push(count(not_good));
    }
    Ok(vec![p50, p99, bad])
}

/// Until the replica has met Redis so: else this would measure nothing.
fn set(proxy: &TcpProxy, mode: Mode, api: &Service) -> Result<()> {
    proxy.set(mode)?;
    let is_up = mode == Mode::Forward;
    let what = if is_up {
        "Redis to be used"
    } else {
        "Redis to be missed"
    };
    wait::until(what, READY_DEADLINE, || {
        let up = api.metric(UP).ok()??;
        ((up > 0.5) == is_up).then_some(())
    })
}

/// Answers that are not 2xx, and requests without an answer.
fn not_good(outcome: &Outcome) -> u64 {
    let good: u64 = outcome.statuses.range(200..300).map(|(_, count)| count).sum();
    outcome.answers() - good + outcome.failed
}
