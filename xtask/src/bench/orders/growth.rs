//! What millions of orders that are already there do to the next one: two databases on one server, one with and one without
//! them, each with an api-service, in turns.

use std::time::Duration;

use anyhow::Result;

use super::ours::Ours;
use super::pgbench::{Commit, Pgbench};
use super::scene::{Database, Scene};
use super::{SPREAD, cost, count, history};
use crate::bench::figure::{Figure, Goal};

const WARM_UP: Duration = Duration::from_secs(5);
const GOAL_RATIO: f64 = 0.9;
/// Before the indexes are read into memory.
const COLD_ROUNDS: u32 = 2;
/// A session of PostgreSQL tells what it did once a second at most.
const STATISTICS_LAG: Duration = Duration::from_millis(1_200);

pub fn measure(quick: bool) -> Result<Vec<Figure>> {
    let (rounds, secs, orders) = if quick {
        (4, 3, 200_000)
    } else {
        (10, 8, 10_000_000)
    };
    let each = Duration::from_secs(secs);
    let scene = Scene::start()?;
    let full = Database::make(&scene, "full")?;
    let none = Database::make(&scene, "none")?;
    history::make(&scene, &full, orders)?;
    let [full, none] = [Side::start(&scene, &full)?, Side::start(&scene, &none)?];
    none.ours.sample(WARM_UP)?;
    none.pgbench.database.analyze(&scene)?;
    // With fewer orders the promise says nothing.
    let goal = (!quick).then_some(Goal::RatioAtLeast(GOAL_RATIO));
    let beside = format!("{orders} orders there beside none");
    let mut cold = Figures::new(&format!("{beside}, indexes on disk"), None);
    for round in 1..=COLD_ROUNDS {
        cold.add(
            &full.round(&scene, round, each)?,
            &none.round(&scene, round, each)?,
        );
    }
    let mut figures = Figures::new(&beside, goal);
    let mut pgbench = Figure::new(format!("{beside}: pgbench"), "1/s", None);
    for side in [&full, &none] {
        side.pgbench.database.warm(&scene)?;
        side.ours.sample(WARM_UP)?;
        side.pgbench.sample(Commit::Each, WARM_UP)?;
        side.pgbench.database.analyze(&scene)?;
    }
    for round in 1..=rounds {
        figures.add(
            &full.round(&scene, round, each)?,
            &none.round(&scene, round, each)?,
        );
        let with = full.pgbench.sample(Commit::Each, each)?;
        let without = none.pgbench.sample(Commit::Each, each)?;
        with.show(round, "pgbench on full", "");
        without.show(round, "pgbench on none", "");
        pgbench.pair(with.per_second, without.per_second);
    }
    for side in [&full, &none] {
        side.ours.api.stop()?;
        side.pgbench.database.check_books(&scene)?;
    }
    let mut list = Vec::from(cold.into_list());
    list.extend(figures.into_list());
    list.push(pgbench);
    Ok(list)
}

/// Of a database with orders beside one without.
struct Figures {
    per_second: Figure,
    p50: Figure,
    p99: Figure,
    api: Figure,
    postgres: Figure,
    wal: Figure,
    reads: Figure,
    read_ms: Figure,
}

impl Figures {
    fn new(beside: &str, goal: Option<Goal>) -> Self {
        let figure = |what: &str, unit, goal| Figure::new(format!("{beside}: {what}"), unit, goal);
        Self {
            per_second: figure("ours", "1/s", goal),
            p50: figure("ours, p50", "ms", None),
            p99: figure("ours, p99", "ms", None),
            api: figure("CPU time of api-service, an order", "ms", None),
            postgres: figure("CPU time of PostgreSQL, an order", "ms", None),
            wal: figure("WAL, an order", "bytes", None),
            reads: figure("pages from outside PostgreSQL's memory, an order", "", None),
            read_ms: figure("its wait for them, an order", "ms", None),
        }
    }

    fn add(&mut self, full: &Turn, none: &Turn) {
        self.per_second
            .pair(full.cost.sample.per_second, none.cost.sample.per_second);
        self.p50.pair(full.cost.sample.p50_ms, none.cost.sample.p50_ms);
        self.p99.pair(full.cost.sample.p99_ms, none.cost.sample.p99_ms);
        self.api.pair(full.cost.api, none.cost.api);
        self.postgres
            .pair(full.cost.server.postgres, none.cost.server.postgres);
        self.wal.pair(full.cost.server.wal, none.cost.server.wal);
        self.reads.pair(full.reads, none.reads);
        self.read_ms.pair(full.read_ms, none.read_ms);
    }

    fn into_list(self) -> [Figure; 8] {
        [
            self.per_second,
            self.p50,
            self.p99,
            self.api,
            self.postgres,
            self.wal,
            self.reads,
            self.read_ms,
        ]
    }
}

/// What a load on one of the two came to. Pages and milliseconds are of an order.
struct Turn {
    cost: cost::Cost,
    reads: f64,
    read_ms: f64,
}

struct Side<'s> {
    ours: Ours<'s>,
    pgbench: Pgbench<'s>,
}

impl<'s> Side<'s> {
    fn start(scene: &'s Scene, database: &'s Database) -> Result<Self> {
        let ours = Ours::start(scene, database, SPREAD)?;
        let answer_bytes = ours.answer_bytes;
        Ok(Self {
            ours,
            pgbench: Pgbench {
                scene,
                database,
                reach: SPREAD,
                answer_bytes,
            },
        })
    }

    fn round(&self, scene: &Scene, round: u32, time: Duration) -> Result<Turn> {
        let database = self.pgbench.database;
        let before = database.reads(scene)?;
        let cost = cost::of_ours(scene, &self.ours, time)?;
        std::thread::sleep(STATISTICS_LAG);
        let after = database.reads(scene)?;
        let orders = count(cost.sample.orders);
        let turn = Turn {
            cost,
            reads: (after.0 - before.0) / orders,
            read_ms: (after.1 - before.1) / orders,
        };
        turn.cost.sample.show(
            round,
            &format!("ours on {}", database.name),
            &format!(
                "  {:.2} pages read an order, in {:.3} ms",
                turn.reads, turn.read_ms
            ),
        );
        Ok(turn)
    }
}
