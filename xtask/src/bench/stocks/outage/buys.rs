//! Buys while the vendor is away: how soon the breaker around them opens, and how fast they are refused from then on. (reliability: T01)

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fuse_harness::client::{Answer, ApiClient, order_for};
use fuse_harness::load::percentile_ms;
use fuse_harness::services::Service;
use serde_json::Value;
use uuid::Uuid;

use crate::bench::figure::{Figure, Goal, count};
use crate::bench::world::{READY_DEADLINE, World, wait_for_json};

/// A vendor that takes a buy and is silent is given up on after this.
const ENVS: [(&str, &str); 1] = [("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "500")];
/// By then the breaker is open, or it does not work.
const BUYS_MAX: u64 = 20;
const OPEN_WITHIN_SECS: f64 = 5.0;
const REFUSED_WITHIN_MS: f64 = 300.0;
/// A breaker that opens for the first time stays so for half a second at least. No order is sent in the last part of it, so
/// that none can be the probe.
const OPEN_FOR: Duration = Duration::from_millis(400);

const OPENED: &str = "fuse_vendor_breaker_transitions_total{op=\"buy\",to=\"open\"}";
const KEPT_BACK: &str = "fuse_vendor_requests_total{op=\"buy\",outcome=\"breaker_open\"}";

/// The figures over all outages.
pub struct Buys {
    until_open: Figure,
    secs_until_open: Figure,
    p99: Figure,
    wrong: Figure,
}

/// What one outage showed.
struct Seen {
    buys_until_open: u64,
    secs_until_open: f64,
    refused: u64,
    p99_ms: f64,
    /// Answered otherwise than with 503 and a time to come back, sent to the vendor, or booked.
    wrong: u64,
}

impl Buys {
    pub fn new() -> Self {
        let at_most = |goal| Some(Goal::AtMost(goal));
        Self {
            until_open: Figure::new("buys until their breaker opened", "", at_most(count(BUYS_MAX))),
            secs_until_open: Figure::new(
                "buys: time until their breaker opened",
                "s",
                at_most(OPEN_WITHIN_SECS),
            ),
            p99: Figure::new(
                "POST /v1/orders, breaker open: p99",
                "ms",
                at_most(REFUSED_WITHIN_MS),
            ),
            wrong: Figure::new(
                "POST /v1/orders, breaker open: not simply refused",
                "",
                Some(Goal::Always(0.0)),
            ),
        }
    }

    /// One outage; the vendor is away already.
    pub fn round(&mut self, world: &World, key: &str, how: &str) -> Result<()> {
        // A replica of its own: its breaker is closed, and has not learnt to stay open for long.
        let api = world.launch_ready("api-service", &ENVS)?;
        let seen = see(world, &api, &world.admin(&api).with_key(key))?;
        api.stop()?;
        println!(
            "         buys, vendor {how}: breaker open after {} in {:.2} s; {} refused meanwhile, p99 {:.2} ms, {} of them wrongly",
            seen.buys_until_open, seen.secs_until_open, seen.refused, seen.p99_ms, seen.wrong
        );
        self.until_open.ours.push(count(seen.buys_until_open));
        self.secs_until_open.ours.push(seen.secs_until_open);
        self.p99.ours.push(seen.p99_ms);
        self.wrong.ours.push(count(seen.wrong));
        Ok(())
    }

    pub fn into_list(self) -> [Figure; 4] {
        [self.until_open, self.secs_until_open, self.p99, self.wrong]
    }
}

fn see(world: &World, api: &Service, client: &ApiClient) -> Result<Seen> {
    let order = wait_for_json(client, "/v1/stocks?limit=1", "prices", READY_DEADLINE, |page| {
        order_for(&page["items"][0]).ok()
    })?;
    let executed_before = world.vendor.counters().buys.executed;
    let (buys_until_open, secs_until_open, opened) = open_breaker(api, client, &order)?;
    let sent_before = world.vendor.counters().buys.received;
    let kept_back_before = total(api, KEPT_BACK)?;
    let (mut latencies_micros, mut wrong) = (Vec::new(), 0);
    while opened.elapsed() < OPEN_FOR {
        let started = Instant::now();
        let answer = place(client, &order)?;
        latencies_micros.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        wrong += u64::from(!is_refused(&answer));
    }
    latencies_micros.sort_unstable();
    let refused = latencies_micros.len() as u64;
    // The vendor's own count says nothing while it refuses connections; ours must agree either way.
    ensure!(
        total(api, KEPT_BACK)? - kept_back_before >= count(refused),
        "the breaker did not stay open for {OPEN_FOR:?}: these orders say nothing about it"
    );
    let buys = world.vendor.counters().buys;
    let filled = client.get("/v1/orders?status=filled")?.expect(200)?;
    let booked = filled["items"].as_array().context("no list of orders")?.len() as u64;
    Ok(Seen {
        buys_until_open,
        secs_until_open,
        refused,
        p99_ms: percentile_ms(&latencies_micros, 0.99),
        wrong: wrong + (buys.received - sent_before) + (buys.executed - executed_before) + booked,
    })
}

/// Buys one after the other until the breaker is open: how many, how long it took, and since when it is open at the latest.
fn open_breaker(api: &Service, client: &ApiClient, order: &Value) -> Result<(u64, f64, Instant)> {
    let started = Instant::now();
    for buys in 1..=BUYS_MAX {
        place(client, order)?;
        let answered = Instant::now();
        if total(api, OPENED)? >= 1.0 {
            return Ok((buys, (answered - started).as_secs_f64(), answered));
        }
    }
    anyhow::bail!("{BUYS_MAX} buys of a vendor that is away, and the breaker around them is not open")
}

fn place(client: &ApiClient, order: &Value) -> Result<Answer> {
    client.place(&Uuid::now_v7().to_string(), order)
}

fn is_refused(answer: &Answer) -> bool {
    answer.status == 503
        && answer.retry_after_secs.is_some_and(|secs| secs > 0)
        && answer.json()["code"] == "vendor_unreachable"
}

/// A counter of the replica; one that was never raised is zero.
fn total(api: &Service, series: &str) -> Result<f64> {
    Ok(api.metric(series)?.unwrap_or(0.0))
}
