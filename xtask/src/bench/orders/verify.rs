//! How long `api-service verify` takes to prove a ledger of a million orders.

use anyhow::{Result, ensure};

use super::history;
use super::scene::{Database, Scene};
use crate::bench::figure::{Figure, Goal};

const GOAL_SECS: f64 = 30.0;

pub fn measure(quick: bool) -> Result<Vec<Figure>> {
    let (rounds, orders) = if quick { (2, 100_000) } else { (3, 1_000_000) };
    let scene = Scene::start()?;
    let database = Database::make(&scene, "verify")?;
    if !database.command(&scene, &["verify", "--help"])?.0 {
        println!("verify is left out: this api-service has no such command");
        return Ok(Vec::new());
    }
    history::make(&scene, &database, orders)?;
    // Chains what is there.
    database.serve(&scene)?.stop()?;
    // With fewer orders the promise says nothing.
    let goal = (!quick).then_some(Goal::AtMost(GOAL_SECS));
    let mut figure = Figure::new(format!("verify {orders} orders"), "s", goal);
    for round in 1..=rounds {
        let (is_intact, said, took) = database.command(&scene, &["verify"])?;
        ensure!(is_intact, "the ledger was made legally, and verify says: {said}");
        println!("round {round}: verified in {:.1} s", took.as_secs_f64());
        figure.ours.push(took.as_secs_f64());
    }
    Ok(vec![figure])
}
