//! One run from its seed, in a world that many runs share one after the other.

use anyhow::Result;

use super::blow::Blow;
use super::check::{Evidence, Row, rows, violations};
use super::plan::Plan;
use super::step::User;
use super::traffic::Traffic;
use super::world::{Options, World};
use super::{Violations, proofs, resolve};

/// Clients at once; half of them are one user.
const CLIENTS: u64 = 12;
/// Outcomes that must still be told after the blow: the load gets through again.
const OUTCOMES_AFTER: u64 = 10;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    pub plan: Plan,
    pub orders: usize,
    /// Orders by their state, for people.
    pub states: String,
    pub violations: Violations,
}

/// A world for many runs.
pub struct Session {
    world: World,
}

impl Session {
    /// # Errors
    /// When a backend does not start.
    pub fn start() -> Result<Self> {
        Ok(Self {
            world: World::start(Options::default())?,
        })
    }

    /// The run of a seed.
    ///
    /// # Errors
    /// When the world breaks in a way that is not the services' own.
    pub fn run(&mut self, seed: u64) -> Result<Report> {
        self.run_plan(Plan::of(seed))
    }

    /// The run of a seed with another blow.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_with(&mut self, seed: u64, blow: impl FnOnce(&Plan) -> Blow) -> Result<Report> {
        let mut plan = Plan::of(seed);
        plan.blow = blow(&plan);
        self.run_plan(plan)
    }

    fn run_plan(&mut self, plan: Plan) -> Result<Report> {
        let world = &mut self.world;
        world.round(plan.replicas)?;
        let users = users(world)?;
        let quotes = world.quotes()?;
        for rule in &plan.rules {
            world.rule(rule.clone())?;
        }
        let traffic = Traffic::start(plan.seed, CLIENTS, world.urls(), users.clone(), quotes)?;
        traffic.wait_for_answers(plan.strike_after)?;
        std::thread::sleep(plan.strike_delay);
        plan.blow.strike(world)?;
        // In the midst of the load: what commits around its cut must be in this report or in the last one, and in one only.
        proofs::report_so_far(world)?;
        traffic.wait_for_answers(traffic.answers() + plan.calm_after)?;
        traffic.wait_for_more_outcomes(OUTCOMES_AFTER)?;
        let evidence = Evidence {
            journal: traffic.stop()?,
            users,
        };
        world.rest()?;
        let mut found = violations(world, &evidence)?;
        let unknown = resolve::resolve_all(world)?;
        found.extend(violations(world, &evidence)?);
        found.extend(resolve::executions_are_fills(world)?);
        let rows = rows(world)?;
        let closed = proofs::close(world)?;
        found.extend(proofs::proof_violations(world, &closed)?);
        Ok(Report {
            orders: rows.len(),
            states: format!("{}, {unknown} of them resolved", states(&rows)),
            plan,
            violations: found,
        })
    }
}

/// The first one has the hot portfolio; the others have several.
fn users(world: &World) -> Result<Vec<User>> {
    (0..3)
        .map(|number| world.user(&format!("user {number}"), usize::from(number > 0) * 2))
        .collect()
}

fn states(rows: &[Row]) -> String {
    let count = |status: &str| rows.iter().filter(|row| row.status == status).count();
    ["filled", "failed", "rejected"]
        .into_iter()
        .map(|status| format!("{} {status}", count(status)))
        .collect::<Vec<_>>()
        .join(", ")
}
