//! The same paced load on two replicas while the vendor is well and while it is away altogether, in turns. An outage lasts
//! until what is served is stale, so that every part of it is in the measured time: failing passes, open breakers, stale
//! marks. In the middle of each a replica is restarted, and buys are tried as well.

mod buys;
mod replicas;

use std::time::Duration;

use anyhow::{Result, anyhow};
use vendor_simulator::{Action, Operation, Rule, SimulatorConfig};

use crate::bench::figure::{Figure, Goal};
use crate::bench::world::World;
use buys::Buys;
use replicas::Replicas;

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
    let (rounds, secs) = if quick { (4, 3) } else { (10, 6) };
    let each = Duration::from_secs(secs);
    let world = World::start(SimulatorConfig {
        symbols: SYMBOLS,
        page_size: 100,
        ..SimulatorConfig::default()
    })?;
    let mut replicas = Replicas::start(&world)?;
    let mut p50 = Figure::new("GET in an outage beside healthy: p50", "ms", None);
    let goal = Some(Goal::RatioAtMost(GOAL_RATIO));
    let mut p99 = Figure::new("GET in an outage beside healthy: p99", "ms", goal);
    let mut buys = Buys::new();
    for round in 0..rounds {
        // A new one each round: after several outages in a row a refresher rightly waits longer and longer.
        let refresher = world.launch_ready("cache-refresher", &ENVS)?;
        replicas.wait_until_stale_is(false)?;
        let healthy = replicas.load(each, false)?;
        let away = if round % 2 == 0 {
            Away::Refuses
        } else {
            Away::NeverAnswers
        };
        away.begin(&world)?;
        replicas.wait_until_stale_is(true)?;
        let outage = replicas.load_and_restart(each)?;
        buys.round(&world, &replicas.key, away.name())?;
        world.vendor.clear_rules();
        refresher.stop()?;
        replicas.empty_logs()?;
        println!(
            "round {:>2} healthy p50 {:.2} ms p99 {:.2} ms; vendor {}, a replica restarted: p50 {:.2} ms p99 {:.2} ms, {} of {} answers 2xx",
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
