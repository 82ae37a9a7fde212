//! DynamoDB away: at the start and later.

use anyhow::Result;
use fuse_harness::postgres::as_service;
use fuse_harness::wait;

use crate::support::{PATIENCE, Setup, World};

#[tokio::test(flavor = "multi_thread")]
async fn away_later_the_prices_stay() -> Result<()> {
    let world = World::start().await?;
    for hang in [false, true] {
        if hang {
            world.dynamodb.hang()?
        } else {
            world.dynamodb.stop()?
        }
        world
            .api
            .wait_for_metric("fuse_dependency_up{dependency=\"dynamodb\"}", 0.0)
            .await?;
        let answer = world.get("/v1/stocks").key(&world.key).gives(200).await?;
        assert!(answer.header("age").is_some());
        world.order(&world.good_order()).gives(201).await?;
        assert!(world.api.is_ready().await);
        world.dynamodb.restart()?;
        world
            .api
            .wait_for_metric("fuse_dependency_up{dependency=\"dynamodb\"}", 1.0)
            .await?;
        let published = world.publish().await?;
        world.wait_for_snapshot(published.meta.id).await?;
    }
    Ok(())
}

/// It answers, so it is up; and all who look at it must say the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_no_dependency_that_comes_and_goes() -> Result<()> {
    let world = World::with(Setup {
        env: vec![("FUSE_DYNAMODB__CREATE_TABLE", "false".to_owned())],
        publish: None,
        ..Setup::default()
    })
    .await?;
    let tables = world.dynamodb.call("ListTables", &serde_json::json!({}))?;
    for table in tables["TableNames"].as_array().into_iter().flatten() {
        let table = serde_json::json!({"TableName": table});
        world.dynamodb.call("DeleteTable", &table)?;
    }
    let series = "fuse_dependency_up{dependency=\"dynamodb\"}";
    world.api.wait_for_metric(series, 1.0).await?;
    // The probes look every five seconds, the follower more often.
    let mut is_up = Vec::new();
    for _ in 0..60 {
        is_up.push(world.api.metric(series).await? > 0.5);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(is_up.iter().all(|&is_up| is_up), "{is_up:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn away_at_the_start_it_is_ready_and_says_that_there_are_no_prices() -> Result<()> {
    let world = World::with(Setup {
        publish: None,
        ..Setup::default()
    })
    .await?;
    world.dynamodb.stop()?;
    let env: Vec<(&'static str, String)> = [
        ("FUSE_HTTP__LISTEN", "127.0.0.1:0".to_owned()),
        ("FUSE_ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
        ("FUSE_DATABASE__URL", as_service(&world.database_url)),
        ("FUSE_DYNAMODB__ENDPOINT", world.dynamodb.endpoint()),
        ("FUSE_VENDOR__BASE_URL", world.simulator.vendor_url()),
        ("FUSE_VENDOR__API_KEY", "simulator-key".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ]
    .into();
    let api = crate::support::Api::start(&env)?;
    wait::until_async("readiness", PATIENCE, || async {
        api.is_ready().await.then_some(())
    })
    .await?;
    let get = |path: &str| api.call(reqwest::Method::GET, path).key(&world.key);
    get("/v1/stocks").refused(503, "no_market_data", &[]).await?;
    get("/v1/orders").gives(200).await?;
    api.proc.wait_for_line("a clear log line", PATIENCE, |line| {
        line.contains("snapshot store not readable").then_some(())
    })?;

    world.dynamodb.restart()?;
    world.simulator.back();
    wait::until_async("stocks", PATIENCE, || async {
        let answer = get("/v1/stocks").send().await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await
}
