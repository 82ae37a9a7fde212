//! What millions of orders that are already there do to the next one: two databases on one server, one with and one without
//! them, each with an api-service, in turns.

use std::time::Duration;

use anyhow::Result;

use super::ours::Ours;
use super::pgbench::{Commit, Pgbench};
use super::scene::{Database, Scene};
use super::{SPREAD, cost, history};
use crate::bench::figure::{Figure, Goal};

const WARM_UP: Duration = Duration::from_secs(5);
const GOAL_RATIO: f64 = 0.9;

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
    let sides = [Side::start(&scene, &full)?, Side::start(&scene, &none)?];
    let figure = |what: &str, unit, goal| {
        Figure::new(format!("{orders} orders there beside none: {what}"), unit, goal)
    };
    // With fewer orders the promise says nothing.
    let goal = (!quick).then_some(Goal::RatioAtLeast(GOAL_RATIO));
    let mut per_second = figure("ours", "1/s", goal);
    let mut p50 = figure("ours, p50", "ms", None);
    let mut p99 = figure("ours, p99", "ms", None);
    let mut api = figure("CPU time of api-service, an order", "ms", None);
    let mut postgres = figure("CPU time of PostgreSQL, an order", "ms", None);
    let mut wal = figure("WAL, an order", "bytes", None);
    let mut pgbench = figure("pgbench", "1/s", None);
    for side in &sides {
        side.ours.sample(WARM_UP)?;
        side.pgbench.sample(Commit::Each, WARM_UP)?;
        side.pgbench.database.analyze(&scene)?;
    }
    for round in 1..=rounds {
        let full = cost::of_ours(&scene, &sides[0].ours, each)?;
        let none = cost::of_ours(&scene, &sides[1].ours, each)?;
        full.sample.show(round, "ours, with orders", "");
        none.sample.show(round, "ours, without", "");
        per_second.pair(full.sample.per_second, none.sample.per_second);
        p50.pair(full.sample.p50_ms, none.sample.p50_ms);
        p99.pair(full.sample.p99_ms, none.sample.p99_ms);
        api.pair(full.api, none.api);
        postgres.pair(full.server.postgres, none.server.postgres);
        wal.pair(full.server.wal, none.server.wal);
        let full = sides[0].pgbench.sample(Commit::Each, each)?;
        let none = sides[1].pgbench.sample(Commit::Each, each)?;
        full.show(round, "pgbench, with orders", "");
        none.show(round, "pgbench, without", "");
        pgbench.pair(full.per_second, none.per_second);
    }
    for side in &sides {
        side.ours.api.stop()?;
        side.pgbench.database.check_books(&scene)?;
    }
    Ok(vec![per_second, p50, p99, api, postgres, wal, pgbench])
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
}
