//! Ours as shipped (a key, limits, metrics, a log line for each request) in turns with servers that only answer.
//!
//! Load generator and server share the machine, so a server that costs little is held back by the generator and the ratio
//! of answers a second flatters ours. The CPU time per answer has no such limit; both are shown.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use fuse_harness::load::{self, Plan, Target, Until};
use vendor_simulator::SimulatorConfig;

use super::sample::{CONNECTIONS, plan, sample};
use super::yardsticks::{self, Server};
use crate::bare::Answer;
use crate::bench::figure::{Figure, Goal};
use crate::bench::world::{READY_DEADLINE, World, empty_log, wait_for_json};

/// The default page of the list: 100 stocks.
const PATH: &str = "/v1/stocks";
const ITEMS: usize = 100;
const SYMBOLS: usize = 1_000;
/// Before the rounds, each server gets so much: compilers, pools and caches warm up.
const WARM_UP: Duration = Duration::from_secs(2);

pub fn measure(quick: bool) -> Result<Vec<Figure>> {
    let (rounds, secs) = if quick { (5, 1) } else { (15, 3) };
    let each = Duration::from_secs(secs);
    let world = World::start(SimulatorConfig {
        symbols: SYMBOLS,
        page_size: ITEMS,
        ..SimulatorConfig::default()
    })?;
    let _refresher = world.launch_ready("cache-refresher", &[])?;
    let api = world.launch_ready("api-service", &[])?;
    let key = world.user_key(&api)?;
    let client = world.admin(&api).with_key(&key);
    wait_for_json(&client, PATH, "a full page", READY_DEADLINE, |page| {
        (page["items"].as_array()?.len() == ITEMS).then_some(())
    })?;
    let headers = [("x-api-key", key.as_str())];
    let ours = Target::get(&api.http_url(), PATH, &headers)?;
    let answer = capture(&ours)?;
    println!(
        "the answer: {} bytes, {} headers; {CONNECTIONS} connections, {rounds} rounds of {secs} s a server",
        answer.body.len(),
        answer.headers.len()
    );
    let servers = yardsticks::start(&answer, PATH, &headers)?;
    for target in servers.iter().map(|server| &server.target).chain([&ours]) {
        load::run(std::slice::from_ref(target), &plan(WARM_UP))?.all_good()?;
    }
    let mut figures: Vec<[Figure; 4]> = servers.iter().map(figures_beside).collect();
    for round in 1..=rounds {
        let own = sample(api.pid(), &ours, each)?;
        empty_log(&api)?;
        own.show(round, "ours");
        for (server, figures) in servers.iter().zip(&mut figures) {
            let its = sample(server.pid, &server.target, each)?;
            its.show(round, server.name);
            figures[0].pair(own.per_second, its.per_second);
            figures[1].pair(own.cpu_micros, its.cpu_micros);
            figures[2].pair(own.p50_ms, its.p50_ms);
            figures[3].pair(own.p99_ms, its.p99_ms);
        }
    }
    Ok(figures.into_iter().flatten().collect())
}

fn figures_beside(server: &Server) -> [Figure; 4] {
    let name = server.name;
    let goal = Some(Goal::RatioAtLeast(server.goal));
    [
        Figure::new(format!("GET /v1/stocks beside {name}: answers"), "1/s", goal),
        Figure::new(
            format!("GET /v1/stocks beside {name}: CPU per answer"),
            "us",
            None,
        ),
        Figure::new(format!("GET /v1/stocks beside {name}: p50"), "ms", None),
        Figure::new(format!("GET /v1/stocks beside {name}: p99"), "ms", None),
    ]
}

/// One answer of ours, for the yardsticks to give.
fn capture(ours: &Target) -> Result<Answer> {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let one = Plan {
        connections: 1,
        until: Until::Requests(1),
        inspect: Some(Arc::new(move |reply| {
            let answer = yardsticks::answer_of(reply.head, reply.body).map_err(|error| error.to_string())?;
            *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            Ok(())
        })),
        ..plan(READY_DEADLINE)
    };
    load::run(std::slice::from_ref(ours), &one)?.all_good()?;
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.take().context("no answer was kept")
}
