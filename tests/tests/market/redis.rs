//! Redis tells every replica at once; gone, hung, flushed and restarted under load, it only saved time. (reliability: T11)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use fuse_harness::load::{self, Pace, Plan, Until};
use fuse_harness::proxy::{Mode, TcpProxy};
use fuse_harness::redis::Redis;
use fuse_harness::services::Service;
use fuse_harness::wait;

use crate::world::{PAGES, SOON, World};

const PATH: &str = "/v1/stocks?limit=20";
/// Answers that a fault must outlast.
const ANSWERS: u64 = 150;
/// The longest that can be set. While Redis is heard, the pointer is looked at ten times more rarely still.
const POLL_MILLIS_MAX: &str = "60000";
/// From the end of a pass until every replica shows it, by its announcement.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);

#[test]
fn replicas_that_hardly_poll_follow_what_is_announced() -> Result<()> {
    let redis = Redis::start()?;
    let world = World::start(&[
        ("FUSE_REDIS__URL", &redis.url()),
        ("FUSE_STOCKS__POLL_MILLIS", POLL_MILLIS_MAX),
    ])?;
    good_pass(&world)?;
    let replicas = [world.api()?, world.api()?];
    for replica in &replicas {
        wait::until("a subscriber to hear", SOON, || {
            (replica.metric("fuse_snapshot_subscriber_live").ok()?? >= 1.0).then_some(())
        })
        .map_err(|error| replica.proc().explain(error))?;
    }
    for _ in 0..3 {
        world.vendor.tick(1);
        good_pass(&world)?;
        all_follow(&world, &replicas, "it hardly polls", SHOWN_WITHIN)?;
    }
    Ok(())
}

#[test]
fn redis_gone_hung_and_flushed_costs_no_get_and_no_crawl() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = TcpProxy::start(redis.address())?;
    let url = format!("redis://{}/", proxy.address());
    let world = World::start(&[("FUSE_REDIS__URL", &url)])?;
    let mut passes = 0;
    let mut pass = || -> Result<()> {
        good_pass(&world)?;
        passes += 1;
        Ok(())
    };
    pass()?;
    let replicas = [world.api()?, world.api()?];
    let targets = replicas
        .iter()
        .map(|api| world.target(api, PATH))
        .collect::<Result<Vec<_>>>()?;
    let answers = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&answers);
    let load = load::start(
        &targets,
        &Plan {
            connections: 8,
            pace: Pace::PerSecond(200.0),
            until: Until::Elapsed(Duration::from_secs(600)),
            inspect: Some(Arc::new(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })),
        },
    )?;
    // The fault lasts for so many answers, and a refresh in its midst reaches every replica.
    let mut lasts = |fault: &str| -> Result<()> {
        let from = answers.load(Ordering::Relaxed);
        pass()?;
        all_follow(&world, &replicas, fault, SOON)?;
        wait::until(fault, SOON, || {
            (answers.load(Ordering::Relaxed) >= from + ANSWERS).then_some(())
        })
    };
    lasts("all is well")?;
    ensure!(
        proxy.accepted() > 0,
        "nobody talks to Redis: this test would show nothing"
    );
    proxy.set(Mode::Refuse)?;
    lasts("Redis is gone")?;
    proxy.set(Mode::Forward)?;
    lasts("Redis is back")?;
    proxy.set(Mode::Hang)?;
    lasts("Redis hangs")?;
    proxy.set(Mode::Forward)?;
    proxy.cut();
    lasts("connections to Redis were cut")?;
    redis.command(&["FLUSHALL"])?;
    redis.command(&["SCRIPT", "FLUSH"])?;
    lasts("Redis was flushed")?;

    let outcome = load.stop()?;
    outcome.all_good()?;
    let crawls_of_replicas = world.list_requests().saturating_sub(passes * PAGES);
    ensure!(
        crawls_of_replicas <= replicas.len() as u64 * PAGES,
        "{crawls_of_replicas} pages beyond the refresher's own"
    );
    Ok(())
}

/// One pass that publishes.
pub fn good_pass(world: &World) -> Result<()> {
    let done = world.one_pass()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    Ok(())
}

/// Every replica shows the snapshot that the pointer names.
pub fn all_follow(world: &World, replicas: &[Service], fault: &str, within: Duration) -> Result<()> {
    for replica in replicas {
        let client = world.client(replica);
        wait::until(&format!("a replica to follow while {fault}"), within, || {
            let item = world.item("SNAPSHOT", "CURRENT")?;
            let page = client.get("/v1/stocks?limit=1").ok()?.json();
            (page["snapshot"]["id"] == item["id"]["S"]).then_some(())
        })
        .map_err(|error| replica.proc().explain(error))?;
    }
    Ok(())
}
