//! The vendor takes connections and never answers, for "an hour": twelve intervals, each of two seconds here instead of five
//! minutes. Replicas are restarted in the middle of it. (reliability: T01)

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::load::Running;
use fuse_harness::services::Service;
use fuse_harness::wait;
use serde_json::json;
use uuid::Uuid;
use vendor_simulator::{Action, Operation, Rule};

use crate::watch::{self, Record};
use crate::world::{SOON, World};

const PATH: &str = "/v1/stocks?limit=5";
const INTERVAL_SECS: u64 = 2;
const STALE_AFTER_SECS: u64 = 4;
const OUTAGE_SECS: u64 = 12 * INTERVAL_SECS;
/// For the whole outage: what opens the breaker, and its probes, which come ever more rarely.
const VENDOR_CALLS_AT_MOST: u64 = 20;
/// Buys until the breaker around buys must be open.
const BUYS_AT_MOST: usize = 20;

/// A replica and who watches it.
struct Watched {
    api: Service,
    watch: Running,
    record: Arc<Record>,
}

impl Watched {
    fn start(world: &World, record: Arc<Record>) -> Result<Self> {
        let api = world.api()?;
        let watch = watch::start(&world.target(&api, PATH)?, &record, STALE_AFTER_SECS)?;
        Ok(Self { api, watch, record })
    }

    /// The next replica goes on from what clients of this one saw.
    fn restart(self, world: &World) -> Result<Self> {
        let record = Arc::clone(&self.record);
        self.end()?;
        Self::start(world, record)
    }

    /// Every answer so far was good. The watch ends first, as traffic does before a pod ends.
    fn end(self) -> Result<()> {
        let outcome = self.watch.stop()?;
        self.api.stop()?;
        outcome.all_good()
    }

    fn wait_until(&self, what: &str, fits: impl Fn(&watch::Seen) -> bool) -> Result<()> {
        wait::until(what, SOON, || fits(&self.record.seen()).then_some(()))
            .with_context(|| format!("last seen: {:?}", self.record.seen()))
    }
}

#[test]
fn an_hour_without_the_vendor_serves_every_get_with_its_age() -> Result<()> {
    let world = World::start(&[
        ("FUSE_REFRESH__INTERVAL_SECS", &INTERVAL_SECS.to_string()),
        ("FUSE_STOCKS__STALE_AFTER_SECS", &STALE_AFTER_SECS.to_string()),
        ("FUSE_VENDOR__PAGE_TIMEOUT_MILLIS", "500"),
        ("FUSE_ORDERS__MAX_QUOTE_AGE_SECS", "3600"),
    ])?;
    let refresher = world.refresher()?;
    let mut one = Watched::start(&world, Arc::default())?;
    let mut two = Watched::start(&world, Arc::default())?;
    let first = one.record.seen().snapshot;
    for replica in [&one, &two] {
        replica.wait_until("a refresh", |seen| {
            !seen.snapshot.is_empty() && seen.snapshot != first && !seen.stale
        })?;
    }

    world.rule(Rule::on(Operation::List, Action::NeverAnswer { executed: false }))?;
    world.rule(Rule::on(Operation::Buy, Action::NeverAnswer { executed: false }))?;
    let calls_before = world.list_requests();
    wait::until("the breaker around lists to open", SOON, || {
        let series = "fuse_vendor_breaker_transitions_total{op=\"list\",to=\"open\"}";
        (refresher.metric(series).ok()?? >= 1.0).then_some(())
    })?;
    for replica in [&one, &two] {
        replica.wait_until("the mark of stale prices", |seen| seen.stale)?;
    }
    one.wait_until("the middle of the outage", |seen| seen.age >= OUTAGE_SECS / 2)?;
    one = one.restart(&world)?;
    two = two.restart(&world)?;
    buys_fail_fast(&world, &one)?;
    for replica in [&one, &two] {
        replica.wait_until("the end of the outage", |seen| seen.age >= OUTAGE_SECS)?;
    }
    let calls = world.list_requests() - calls_before;
    ensure!(
        calls <= VENDOR_CALLS_AT_MOST,
        "{calls} calls of a vendor that is away"
    );

    world.vendor.clear_rules();
    for replica in [&one, &two] {
        replica.wait_until("fresh prices", |seen| !seen.stale)?;
        ensure!(replica.record.answers() > 100, "hardly an answer was looked at");
    }
    one.end()?;
    two.end()
}

/// Buys that were sent are `unknown`; once the breaker is open they are refused with a time to come back; nothing is booked.
fn buys_fail_fast(world: &World, replica: &Watched) -> Result<()> {
    let client = world.client(&replica.api);
    let client = client.with_key(client.create_user_key("outage")?);
    let stock = client.get("/v1/stocks?limit=1")?.expect(200)?["items"][0].clone();
    let order = json!({
        "symbol": stock["symbol"], "side": "buy", "quantity": "1", "limitPrice": stock["price"],
    });
    let mut statuses = Vec::new();
    for _ in 0..BUYS_AT_MOST {
        let answer = client.place(&Uuid::new_v4().to_string(), &order)?;
        statuses.push(answer.status);
        if answer.status == 503 {
            break;
        }
        ensure!(
            answer.status == 202 && answer.json()["status"] == "unknown",
            "{}: {}",
            answer.status,
            answer.text
        );
    }
    ensure!(statuses.last() == Some(&503), "no breaker opened: {statuses:?}");
    let sent = world.vendor.counters().buys.received;
    let refused = client.place(&Uuid::new_v4().to_string(), &order)?;
    ensure!(
        refused.status == 503 && refused.retry_after_secs.is_some(),
        "refused otherwise than with 503 and Retry-After: {refused:?}"
    );
    let buys = world.vendor.counters().buys;
    ensure!(
        buys.received == sent && buys.executed == 0,
        "the breaker lets buys through: {buys:?}"
    );
    let orders = client.get("/v1/orders")?.expect(200)?;
    let is_booked = |order: &serde_json::Value| order["status"] == "filled";
    ensure!(
        !orders["items"]
            .as_array()
            .context("orders")?
            .iter()
            .any(is_booked),
        "booked: {orders}"
    );
    Ok(())
}
