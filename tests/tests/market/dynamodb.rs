//! DynamoDB refuses, hangs, cuts, throttles and leaves items unwritten while clients read and a refresher goes on: every
//! answer is right, and what is published next reaches every replica. (reliability: T13)

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::dynamodb::DynamoFault;
use fuse_harness::load::Running;
use fuse_harness::services::Service;
use fuse_harness::wait;
use jiff::Timestamp;
use serde_json::json;

use crate::watch::{self, Record, Rhythm};
use crate::world::{SOON, World};

const PATH: &str = "/v1/stocks?limit=500";
const RHYTHM: Rhythm = Rhythm {
    stale_after_secs: 4,
    interval_secs: 2,
};
/// Answers of each replica that a fault must outlast.
const ANSWERS: u64 = 100;
/// Connections that must have been made anew.
const CUTS: u64 = 20;
const ALWAYS: u64 = u64::MAX;
const TABLE: &str = "test-market";
const UNPROCESSED: &str = "fuse_snapshot_unprocessed_items_total";
/// A price that nothing has before the last fault.
const LAST_PRICE: &str = "777.77";

/// A replica and who watches it.
struct Watched {
    api: Service,
    watch: Running,
    record: Arc<Record>,
}

struct Scene {
    world: World,
    refresher: Service,
    replicas: Vec<Watched>,
}

impl Scene {
    fn start() -> Result<Self> {
        let world = World::start(&[
            ("FUSE_REFRESH__INTERVAL_SECS", &RHYTHM.interval_secs.to_string()),
            (
                "FUSE_STOCKS__STALE_AFTER_SECS",
                &RHYTHM.stale_after_secs.to_string(),
            ),
        ])?;
        let refresher = world.refresher()?;
        // Or a replica would make the first crawl.
        wait::until("the first pass", SOON, || world.pointer())
            .map_err(|error| refresher.proc().explain(error))?;
        let replica = || -> Result<Watched> {
            let (api, record) = (world.api()?, Arc::default());
            let watch = watch::start(&world.target(&api, PATH)?, &record, RHYTHM)?;
            Ok(Watched { api, watch, record })
        };
        let replicas = vec![replica()?, replica()?];
        Ok(Self {
            world,
            refresher,
            replicas,
        })
    }

    /// The fault lasts for so many answers of each replica, and until it was met.
    fn lasts(&self, fault: &str, mut meets: impl FnMut() -> Result<bool>) -> Result<()> {
        let answers = || self.replicas.iter().map(|replica| replica.record.answers());
        let until: Vec<u64> = answers().map(|from| from + ANSWERS).collect();
        let mut is_met = false;
        wait::until(fault, SOON, || match meets() {
            Ok(now) => {
                is_met |= now;
                let is_outlasted = answers().zip(&until).all(|(now, until)| now >= *until);
                (is_met && is_outlasted).then_some(Ok(()))
            }
            Err(error) => Some(Err(error)),
        })
        .map_err(|error| self.refresher.proc().explain(error))?
    }

    /// A pass that begins from now on is shown by every replica.
    fn next_pass_arrives(&self, after: &str) -> Result<()> {
        let now = Timestamp::now();
        for replica in &self.replicas {
            wait::until(&format!("a pass after {after}"), SOON, || {
                (replica.record.seen().taken_at? > now).then_some(())
            })
            .map_err(|error| self.refresher.proc().explain(replica.api.proc().explain(error)))?;
        }
        Ok(())
    }

    /// Whoever uses DynamoDB says that it does not work.
    fn all_miss_it(&self) -> Result<bool> {
        for service in self
            .replicas
            .iter()
            .map(|replica| &replica.api)
            .chain([&self.refresher])
        {
            if total(service, "fuse_dependency_up{dependency=\"dynamodb\"}")? > 0.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn failed_passes(&self) -> Result<f64> {
        total(
            &self.refresher,
            "fuse_snapshot_refreshes_total{result=\"store_unavailable\"}",
        )
    }

    /// Every answer was good, and none of what the replicas showed came by a crawl of theirs.
    fn end(self) -> Result<()> {
        for Watched { api, watch, .. } in self.replicas {
            watch.stop()?.all_good()?;
            for series in [
                "fuse_vendor_requests_total{op=\"list\"",
                "fuse_snapshot_refreshes_total{",
                UNPROCESSED,
            ] {
                let total = total(&api, series)?;
                ensure!(total == 0.0, "{series}: {total} at a replica");
            }
        }
        Ok(())
    }
}

/// The sum of the series that begin so; there must be one.
fn total(service: &Service, series: &str) -> Result<f64> {
    let text = service.metrics()?;
    let values: Vec<f64> = text
        .lines()
        .filter(|line| line.starts_with(series))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
        .collect();
    ensure!(!values.is_empty(), "no series {series}");
    Ok(values.iter().sum())
}

#[test]
fn whatever_dynamodb_does_answers_are_right_and_the_next_pass_reaches_every_replica() -> Result<()> {
    let scene = Scene::start()?;
    let dynamodb = &scene.world.dynamodb;
    scene.next_pass_arrives("nothing at all")?;

    dynamodb.stop()?;
    scene.lasts("DynamoDB refuses connections", || scene.all_miss_it())?;
    dynamodb.restart()?;
    scene.next_pass_arrives("refused connections")?;

    dynamodb.hang()?;
    scene.lasts("DynamoDB hangs", || scene.all_miss_it())?;
    dynamodb.restart()?;
    scene.next_pass_arrives("a hang")?;

    let taken = dynamodb.connections();
    scene.lasts("DynamoDB's connections are cut", || {
        dynamodb.cut();
        Ok(dynamodb.connections() >= taken + CUTS)
    })?;
    scene.next_pass_arrives("cuts")?;

    for operation in ["GetItem", "Query"] {
        dynamodb.inject(operation, DynamoFault::Throttle, ALWAYS);
    }
    scene.lasts("reads are throttled", || scene.all_miss_it())?;
    dynamodb.clear_faults();
    scene.next_pass_arrives("throttled reads")?;

    let failed = scene.failed_passes()?;
    dynamodb.inject("BatchWriteItem", DynamoFault::Throttle, ALWAYS);
    scene.lasts("writes are throttled", || Ok(scene.failed_passes()? > failed))?;
    dynamodb.clear_faults();
    scene.next_pass_arrives("throttled writes")?;

    let before = total(&scene.refresher, UNPROCESSED)?;
    ensure!(
        before == 0.0,
        "{before} items came back, and nobody sent any back"
    );
    dynamodb.inject("BatchWriteItem", DynamoFault::Unprocessed, ALWAYS);
    all_prices_become_the_last(&scene.world)?;
    scene.lasts("items are left unprocessed", || {
        Ok(total(&scene.refresher, UNPROCESSED)? > 0.0)
    })?;
    // This pass, too, is written by leftovers alone.
    scene.next_pass_arrives("unprocessed items")?;
    dynamodb.clear_faults();
    all_that_was_left_is_written(&scene)?;
    scene.end()
}

/// So that each of them is a write.
fn all_prices_become_the_last(world: &World) -> Result<()> {
    for symbol in world.vendor.symbols() {
        let price = LAST_PRICE.parse()?;
        ensure!(world.vendor.set_prices(&symbol, vec![price]), "no {symbol}");
    }
    world.vendor.tick(1);
    Ok(())
}

/// The replicas show the prices, and their history holds each change.
fn all_that_was_left_is_written(scene: &Scene) -> Result<()> {
    let world = &scene.world;
    let wanted: BTreeSet<String> = world.vendor.symbols().into_iter().collect();
    for replica in &scene.replicas {
        let list = world.client(&replica.api).get(PATH)?.expect(200)?;
        let items = list["items"].as_array().context("items")?;
        let shown: BTreeSet<String> = items
            .iter()
            .filter(|item| item["price"] == LAST_PRICE)
            .filter_map(|item| item["symbol"].as_str().map(str::to_owned))
            .collect();
        ensure!(shown == wanted, "shown: {shown:?}");
    }
    let table = world.dynamodb.call("Scan", &json!({"TableName": TABLE}))?;
    let items = table["Items"].as_array().context("items of the table")?;
    let written: BTreeSet<String> = items
        .iter()
        .filter_map(|item| item["points"]["S"].as_str())
        .flat_map(|points| points.split(';'))
        .filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [symbol, _, LAST_PRICE, _] => Some(symbol.to_owned()),
            _ => None,
        })
        .collect();
    ensure!(written == wanted, "written: {written:?}");
    Ok(())
}
