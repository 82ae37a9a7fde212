//! Everything is cold: three replicas that hold nothing, an empty table, many GETs at once. (reliability: T14)

use anyhow::{Result, ensure};
use fuse_harness::load::{self, Pace, Plan, Until};
use fuse_harness::redis::Redis;
use fuse_harness::services::Service;

use crate::world::{PAGES, World};

const GETS: usize = 300;
/// Long enough that all of them come before the crawl is over.
const PAGE_MS: u64 = 200;

fn check(settings: &[(&str, &str)]) -> Result<()> {
    let world = World::start(settings)?;
    world.slow_pages(PAGE_MS)?;
    let replicas = (0..3)
        .map(|_| world.cold_api())
        .collect::<Result<Vec<Service>>>()?;
    let targets = replicas
        .iter()
        .map(|api| world.target(api, "/v1/stocks?limit=10"))
        .collect::<Result<Vec<_>>>()?;
    let outcome = load::run(
        &targets,
        &Plan {
            connections: GETS,
            pace: Pace::FlatOut,
            until: Until::Each(1),
            inspect: None,
        },
    )?;
    outcome.all_good()?;
    ensure!(outcome.answers() == GETS as u64, "{} answers", outcome.answers());
    // What holds after the stampede holds for later ones: the prices are there now.
    for api in &replicas {
        world.client(api).get("/v1/stocks")?.expect(200)?;
    }
    ensure!(
        world.list_requests() == PAGES,
        "{} pages asked for, one crawl has {PAGES}",
        world.list_requests()
    );
    Ok(())
}

#[test]
fn a_cold_stampede_causes_one_crawl_with_redis() -> Result<()> {
    let redis = Redis::start()?;
    check(&[("FUSE_REDIS__URL", &redis.url())])
}

#[test]
fn a_cold_stampede_causes_one_crawl_with_dynamodb_alone() -> Result<()> {
    check(&[])
}
