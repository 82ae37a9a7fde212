//! `cargo xtask bench refresh`: full passes over 10,000 symbols in 400 pages, each after all prices changed: what a pass
//! costs in CPU time, memory and writes, and what an API replica needs to hold three such snapshots.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::redis::Redis;
use fuse_harness::services::Service;
use fuse_harness::usage;
use serde_json::Value;
use vendor_simulator::SimulatorConfig;

use super::figure::{Figure, Goal, count};
use super::meter::{Cost, Meter};
use super::table;
use super::world::{READY_DEADLINE, World, megabytes, wait_for_json};

const SYMBOLS: usize = 10_000;
const PAGE_SIZE: usize = 25;
/// Time between two starts of passes; a pass ends well within it, and its cost is taken while nothing runs.
const INTERVAL_SECS: &str = "20";
const PASS_DEADLINE: Duration = Duration::from_secs(120);
/// Snapshots that a replica holds.
const SNAPSHOTS: usize = 3;
/// Passes of a day at the vendor's rhythm.
const PASSES_A_DAY: f64 = 288.0;
/// Share of the prices that must really have changed: the simulator rounds some changes away.
const CHANGED_AT_LEAST: f64 = 0.9;

pub fn measure(quick: bool) -> Result<Vec<Figure>> {
    let passes = if quick { SNAPSHOTS } else { 10 };
    let world = World::start(SimulatorConfig {
        symbols: SYMBOLS,
        page_size: PAGE_SIZE,
        ..SimulatorConfig::default()
    })?;
    let meter = Meter::start(&world.dynamodb()?.endpoint())?;
    let redis = Redis::start()?;
    let redis_url = redis.url();
    let refresher = world.launch_ready(
        "cache-refresher",
        &[
            ("FUSE_REFRESH__INTERVAL_SECS", INTERVAL_SECS),
            ("FUSE_DYNAMODB__ENDPOINT", meter.url()),
            ("FUSE_REDIS__URL", &redis_url),
        ],
    )?;
    let api = world.launch_ready("api-service", &[("FUSE_REDIS__URL", &redis_url)])?;
    wait_for_pass(&refresher, 1)?;
    let mut figures = Figures::new();
    for pass in 1..=passes {
        world.vendor.tick(1);
        meter.take();
        let before = (usage::cpu(refresher.pid())?, vendor_seconds(&refresher)?);
        let line = wait_for_pass(&refresher, pass + 1)?;
        let after = (usage::cpu(refresher.pid())?, vendor_seconds(&refresher)?);
        let sample = Sample {
            cpu_ms: (after.0 - before.0).as_secs_f64() * 1000.0,
            wall_ms: number(&line, "duration_ms")?,
            vendor_ms: (after.1 - before.1) * 1000.0,
            changed: number(&line, "history_written")?,
            writes: meter.take().into_values().fold(Cost::default(), add),
        };
        figures.add(pass, &sample)?;
    }
    figures
        .peak
        .ours
        .push(megabytes(usage::memory(refresher.pid())?.peak));
    figures.replica(&world, &api)?;
    let weight = table::current_snapshot(world.dynamodb()?)?;
    figures.bytes.ours.push(megabytes(weight.bytes as u64));
    println!(
        "the current snapshot: {} pages, {} bytes",
        weight.pages, weight.bytes
    );
    Ok(figures.into_list())
}

struct Sample {
    cpu_ms: f64,
    wall_ms: f64,
    vendor_ms: f64,
    changed: f64,
    writes: Cost,
}

fn add(sum: Cost, cost: Cost) -> Cost {
    Cost {
        requests: sum.requests + cost.requests,
        items: sum.items + cost.items,
        units: sum.units + cost.units,
    }
}

struct Figures {
    cpu: Figure,
    own_wall: Figure,
    peak: Figure,
    replica: Figure,
    replica_peak: Figure,
    bytes: Figure,
    items: Figure,
    units: Figure,
    units_a_day: Figure,
}

impl Figures {
    fn new() -> Self {
        let at_most = |goal| Some(Goal::AtMost(goal));
        Self {
            cpu: Figure::new("pass over 10,000 symbols: CPU time", "ms", at_most(250.0)),
            own_wall: Figure::new("pass over 10,000 symbols: wall less vendor waits", "ms", None),
            peak: Figure::new("refresher: resident at its peak", "MB", at_most(40.0)),
            replica: Figure::new("api replica with three snapshots: resident", "MB", at_most(60.0)),
            replica_peak: Figure::new("api replica with three snapshots: at its peak", "MB", None),
            bytes: Figure::new("pages of a snapshot", "MB", None),
            items: Figure::new("items written in a pass", "", None),
            units: Figure::new("write units of a pass", "", None),
            units_a_day: Figure::new("write units of a day", "", None),
        }
    }

    fn add(&mut self, pass: usize, sample: &Sample) -> Result<()> {
        let own_wall = sample.wall_ms - sample.vendor_ms;
        println!(
            "pass {pass}: {:.0} ms CPU; {:.0} ms wall, {:.0} ms of it for the vendor; {:.0} prices changed; {} items in {} requests, {:.0} write units",
            sample.cpu_ms,
            sample.wall_ms,
            sample.vendor_ms,
            sample.changed,
            sample.writes.items,
            sample.writes.requests,
            sample.writes.units
        );
        ensure!(
            sample.changed >= count(SYMBOLS as u64) * CHANGED_AT_LEAST,
            "only {} prices changed: this is no full pass",
            sample.changed
        );
        self.cpu.ours.push(sample.cpu_ms);
        self.own_wall.ours.push(own_wall);
        self.items.ours.push(count(sample.writes.items));
        self.units.ours.push(sample.writes.units);
        self.units_a_day.ours.push(sample.writes.units * PASSES_A_DAY);
        Ok(())
    }

    /// Memory of the replica once it followed the last pass and answered whole walks over what it holds.
    fn replica(&mut self, world: &World, api: &Service) -> Result<()> {
        let client = world.admin(api);
        let client = client.with_key(world.user_key(api)?);
        let newest = table::current_id(world.dynamodb()?)?;
        wait_for_json(
            &client,
            "/v1/stocks?limit=1",
            "the last snapshot",
            READY_DEADLINE,
            |page| (page["snapshot"]["id"] == newest.as_str()).then_some(()),
        )?;
        for _ in 0..3 {
            let mut path = "/v1/stocks?limit=500".to_owned();
            loop {
                let page = client.get(&path)?.expect(200)?;
                let Some(token) = page["nextPageToken"].as_str() else {
                    break;
                };
                path = format!("/v1/stocks?limit=500&pageToken={token}");
            }
        }
        let memory = usage::memory(api.pid())?;
        self.replica.ours.push(megabytes(memory.resident));
        self.replica_peak.ours.push(megabytes(memory.peak));
        Ok(())
    }

    fn into_list(self) -> Vec<Figure> {
        vec![
            self.cpu,
            self.own_wall,
            self.peak,
            self.replica,
            self.replica_peak,
            self.bytes,
            self.items,
            self.units,
            self.units_a_day,
        ]
    }
}

/// The log line of the n-th published pass.
fn wait_for_pass(refresher: &Service, number: usize) -> Result<Value> {
    refresher
        .proc()
        .wait_until("a published pass", PASS_DEADLINE, || {
            let is_pass = |line: &Value| line["message"] == "pass done" && line["result"] == "published";
            refresher.logs().into_iter().filter(is_pass).nth(number - 1)
        })
}

/// Seconds that the refresher waited for the vendor's pages so far.
fn vendor_seconds(refresher: &Service) -> Result<f64> {
    refresher
        .metric("fuse_vendor_request_duration_seconds_sum{op=\"list\"}")?
        .context("the refresher does not say how long the vendor took")
}

fn number(line: &Value, field: &str) -> Result<f64> {
    line[field]
        .as_f64()
        .with_context(|| format!("no {field} in {line}"))
}
