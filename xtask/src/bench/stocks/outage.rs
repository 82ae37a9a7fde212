//! The same paced load while the vendor is well and while it is away altogether, in turns. An outage lasts until what is
//! served is stale, so that every part of it is in the measured time: failing passes, open breakers, stale marks. In
//! each outage buys are tried as well.

mod buys;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use fuse_harness::load::{Inspect, Outcome, Target};
use vendor_simulator::{Action, Operation, Rule, SimulatorConfig};

use super::sample::paced;
use crate::bench::figure::{Figure, Goal};
use crate::bench::world::{READY_DEADLINE, World, empty_log, wait_for_json};
use buys::Buys;

const PATH: &str = "/v1/stocks";
const SYMBOLS: usize = 500;
/// A pass a second, stale after a few: minutes of the vendor's real rhythm in seconds.
const ENVS: [(&str, &str); 2] = [
    ("FUSE_REFRESH__INTERVAL_SECS", "1"),
    ("FUSE_STOCKS__STALE_AFTER_SECS", "4"),
];
const GOAL_RATIO: f64 = 1.1;

/// How the vendor is away.
#[derive(Clone, Copy)]
enum Away {
    Refuses,
    NeverAnswers,
}

impl Away {
    fn name(self) -> &'static str {
        match self {
            Self::Refuses => "refuses connections",
            Self::NeverAnswers => "never answers",
        }
    }

    fn begin(self, world: &World) -> Result<()> {
        match self {
            Self::Refuses => world.vendor.away(),
            Self::NeverAnswers => {
                for operation in [Operation::List, Operation::Buy] {
                    let rule = Rule::on(operation, Action::NeverAnswer { executed: false });
                    world.vendor.add_rule(rule).map_err(|error| anyhow!("{error}"))?;
                }
            }
        }
        Ok(())
    }
}

pub fn measure(quick: bool) -> Result<Vec<Figure>> {
    let (rounds, each) = if quick { (4, 3) } else { (10, 6) };
    let world = World::start(SimulatorConfig {
        symbols: SYMBOLS,
        page_size: 100,
        ..SimulatorConfig::default()
    })?;
    let api = world.launch_ready("api-service", &ENVS)?;
    let key = world.user_key(&api)?;
    let client = world.admin(&api).with_key(&key);
    let target = Target::get(&api.http_url(), PATH, &[("x-api-key", &key)])?;
    let mut p50 = Figure::new("GET in an outage beside healthy: p50", "ms", None);
    let goal = Some(Goal::RatioAtMost(GOAL_RATIO));
    let mut p99 = Figure::new("GET in an outage beside healthy: p99", "ms", goal);
    let mut buys = Buys::new();
    for round in 0..rounds {
        // A new one each round: after several outages in a row a refresher rightly waits longer and longer.
        let refresher = world.launch_ready("cache-refresher", &ENVS)?;
        let wait_until_stale_is = |stale: bool| {
            let what = if stale { "stale prices" } else { "fresh prices" };
            wait_for_json(&client, PATH, what, READY_DEADLINE, |page| {
                (page["snapshot"]["stale"] == stale).then_some(())
            })
        };
        wait_until_stale_is(false)?;
        let healthy = run(&target, each, false)?;
        let away = if round % 2 == 0 {
            Away::Refuses
        } else {
            Away::NeverAnswers
        };
        away.begin(&world)?;
        wait_until_stale_is(true)?;
        let outage = run(&target, each, true)?;
        buys.round(&world, &key, away.name())?;
        world.vendor.clear_rules();
        refresher.stop()?;
        empty_log(&api)?;
        println!(
            "round {:>2} healthy p50 {:.2} ms p99 {:.2} ms; vendor {}: p50 {:.2} ms p99 {:.2} ms, {} of {} answers 2xx",
            round + 1,
            healthy.percentile_ms(0.50),
            healthy.percentile_ms(0.99),
            away.name(),
            outage.percentile_ms(0.50),
            outage.percentile_ms(0.99),
            outage.answers(),
            outage.answers()
        );
        p50.pair(outage.percentile_ms(0.50), healthy.percentile_ms(0.50));
        p99.pair(outage.percentile_ms(0.99), healthy.percentile_ms(0.99));
    }
    let mut figures = vec![p50, p99];
    figures.extend(buys.into_list());
    Ok(figures)
}

/// Every answer must be 2xx and marked as it should be, or the run ends.
fn run(target: &Target, secs: u64, stale: bool) -> Result<Outcome> {
    let mark: &[u8] = if stale {
        b"\"stale\":true"
    } else {
        b"\"stale\":false"
    };
    let inspect: Inspect = Arc::new(move |reply| {
        // The mark stands near the end, so the search is short.
        let tail = &reply.body[reply.body.len().saturating_sub(400)..];
        let is_marked = tail.windows(mark.len()).any(|window| window == mark);
        is_marked
            .then_some(())
            .ok_or_else(|| format!("not marked as it should be: {}", String::from_utf8_lossy(tail)))
    });
    let outcome = paced(target, Duration::from_secs(secs), Some(inspect))?;
    outcome.all_good()?;
    Ok(outcome)
}
