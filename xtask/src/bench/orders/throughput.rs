//! Orders end to end in turns with pgbench, spread over many portfolios and all on one.

use std::time::Duration;

use anyhow::Result;

use super::ours::{Ours, Taken};
use super::pgbench::{Commit, Pgbench};
use super::scene::{Database, Scene};
use super::{CLIENTS, HOT, Reach, SPREAD, Sample, count};
use crate::bench::figure::{Figure, Goal};

/// Before the rounds, each gets so much: pools, caches and the tables' first pages.
const WARM_UP: Duration = Duration::from_secs(3);
const SPREAD_RATIO: f64 = 1.0;
const HOT_RATIO: f64 = 6.0;
/// Of ours, at 64 clients that wait for one row.
const HOT_P99_MS: f64 = 50.0;
/// Four times as many as usual on the one row: they must wait for each other, and none for long. (reliability: T09)
const CROWD: usize = 256;
const CROWD_SECS: u64 = 60;
const CROWD_LONGEST_MS: f64 = 2_000.0;

/// Over 10,000 portfolios.
pub fn spread(quick: bool) -> Result<Vec<Figure>> {
    measure(quick, "spread", SPREAD, SPREAD_RATIO, None, None)
}

/// All on one portfolio and one symbol.
pub fn hot(quick: bool) -> Result<Vec<Figure>> {
    let crowd_for = Duration::from_secs(if quick { 6 } else { CROWD_SECS });
    measure(
        quick,
        "hot",
        HOT,
        HOT_RATIO,
        Some(Goal::AtMost(HOT_P99_MS)),
        Some(crowd_for),
    )
}

fn measure(
    quick: bool,
    name: &'static str,
    reach: Reach,
    goal_ratio: f64,
    goal_p99: Option<Goal>,
    crowd_for: Option<Duration>,
) -> Result<Vec<Figure>> {
    let (rounds, secs) = if quick { (4, 3) } else { (10, 8) };
    let each = Duration::from_secs(secs);
    let scene = Scene::start()?;
    let database = Database::make(&scene, name)?;
    let ours = Ours::start(&scene, &database, reach)?;
    let pgbench = Pgbench {
        scene: &scene,
        database: &database,
        reach,
        answer_bytes: ours.answer_bytes,
    };
    println!(
        "orders on {}: {CLIENTS} connections, {rounds} rounds of {secs} s each",
        reach.name
    );
    ours.sample(WARM_UP)?;
    pgbench.sample(Commit::Each, WARM_UP)?;
    database.analyze(&scene)?;
    let mut figures = Figures::new(reach, goal_ratio, goal_p99);
    for round in 1..=rounds {
        let own = ours.sample(each)?;
        let separate = pgbench.sample(Commit::Each, each)?;
        let both = pgbench.sample(Commit::Both, each)?;
        figures.add(round, each, &own, &separate, &both);
    }
    database.check_books(&scene)?;
    let mut figures = figures.into_list();
    if let Some(time) = crowd_for {
        figures.extend(crowd(&ours, time)?);
        database.check_books_with_refusals(&scene)?;
    }
    ours.api.stop()?;
    Ok(figures)
}

/// Nobody waits for long, and nobody is turned away.
fn crowd(ours: &Ours<'_>, time: Duration) -> Result<[Figure; 2]> {
    let outcome = ours.load(CROWD, time)?;
    let (longest, filled) = (
        outcome.percentile_ms(1.0),
        outcome.statuses.get(&201).copied().unwrap_or(0),
    );
    println!(
        "{CROWD} clients for {} s: {:.0} answers/s, p50 {:.1} ms, p99 {:.1} ms, longest {longest:.0} ms; by status {:?}",
        time.as_secs(),
        outcome.per_second(),
        outcome.percentile_ms(0.50),
        outcome.percentile_ms(0.99),
        outcome.statuses
    );
    for message in outcome.messages.iter().take(1) {
        println!("the first that was answered otherwise: {message}");
    }
    // In a shorter time the promise says nothing.
    let is_whole = time.as_secs() >= CROWD_SECS;
    let of = |what: &str| format!("{CROWD} clients for {} s: {what}", time.as_secs());
    let goal = is_whole.then_some(Goal::AtMost(CROWD_LONGEST_MS));
    let mut wait = Figure::new(of("longest wait"), "ms", goal);
    wait.ours.push(longest);
    let mut turned_away = Figure::new(of("not filled"), "", is_whole.then_some(Goal::Always(0.0)));
    turned_away
        .ours
        .push(count(outcome.answers() + outcome.failed - filled));
    Ok([wait, turned_away])
}

struct Figures {
    orders: Figure,
    p50: Figure,
    p99: Figure,
    both: Figure,
    batch: Figure,
}

impl Figures {
    fn new(reach: Reach, goal_ratio: f64, goal_p99: Option<Goal>) -> Self {
        let of = |what: &str| format!("orders on {}{what}", reach.name);
        Self {
            orders: Figure::new(of(" beside pgbench"), "1/s", Some(Goal::RatioAtLeast(goal_ratio))),
            p50: Figure::new(of(" beside pgbench: p50"), "ms", None),
            p99: Figure::new(of(" beside pgbench: p99"), "ms", goal_p99),
            both: Figure::new(of(" beside both writes in one"), "1/s", None),
            batch: Figure::new(of(": in a batch, mean"), "", None),
        }
    }

    fn add(&mut self, round: u32, time: Duration, own: &Taken, separate: &Sample, both: &Sample) {
        let busy = own.generator_cpu.as_secs_f64() / time.as_secs_f64() * 100.0;
        let batch = own
            .batch
            .map_or_else(String::new, |size| format!("  {size:.1} in a batch"));
        own.sample
            .show(round, "ours", &format!("  generator {busy:.0} % busy{batch}"));
        separate.show(round, "pgbench", "");
        both.show(round, "pgbench, both writes in one", "");
        self.orders.pair(own.sample.per_second, separate.per_second);
        self.p50.pair(own.sample.p50_ms, separate.p50_ms);
        self.p99.pair(own.sample.p99_ms, separate.p99_ms);
        self.both.pair(own.sample.per_second, both.per_second);
        self.batch.ours.extend(own.batch);
    }

    fn into_list(self) -> Vec<Figure> {
        let has_batches = !self.batch.ours.is_empty();
        let mut list = vec![self.orders, self.p50, self.p99, self.both];
        list.extend(has_batches.then_some(self.batch));
        list
    }
}
