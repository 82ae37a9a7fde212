//! What the service does about its own market data: the first crawl, early crawls, and saying that it is deaf.

use anyhow::Result;
use fuse_harness::wait;
use serde_json::Value;

use crate::support::{BOOTSTRAP, PATIENCE, Setup, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_moved_since_our_quote_is_told_as_that_and_brings_new_prices() -> Result<()> {
    let world = World::with(Setup {
        env: vec![("FUSE_STOCKS__EARLY_PASS_SECS", "1".to_owned())],
        publish: Some(30),
        ..Setup::default()
    })
    .await?;
    let symbol = world.symbol();
    let order = world.good_order();
    world.simulator.set_prices(&symbol, vec!["12345.67".parse()?]);
    let answer = world
        .order(&order)
        .refused(422, "vendor_rejected", &["/limitPrice refused"])
        .await?;
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    let quote = order["limitPrice"].as_str().expect("a price");
    assert!(
        detail.contains(quote) && detail.contains("fetched anew"),
        "{detail}"
    );
    assert_eq!(world.vendor_buys(), (1, 0));

    let path = format!("/v1/stocks/{symbol}");
    wait::until_async("the new price", PATIENCE, || async {
        let answer = world.get(&path).key(&world.key).send().await.ok()?;
        (answer.json()["price"] == "12345.67").then_some(())
    })
    .await
    .map_err(|error| world.api.proc.explain(error))?;
    world.order(&world.good_order()).gives(201).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_are_said_to_be_fetched_only_when_they_are() -> Result<()> {
    let world = World::with(Setup {
        env: vec![("FUSE_STOCKS__EARLY_PASS_SECS", "300".to_owned())],
        publish: Some(30),
        ..Setup::default()
    })
    .await?;
    let order = world.good_order();
    world
        .simulator
        .set_prices(&world.symbol(), vec!["12345.67".parse()?]);
    let answer = world
        .order(&order)
        .refused(422, "vendor_rejected", &["/limitPrice refused"])
        .await?;
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(
        detail.contains("has probably moved since. Read the stock again"),
        "{detail}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_anywhere_the_first_readers_wait_for_one_crawl() -> Result<()> {
    let world = World::with(Setup {
        publish: None,
        ..Setup::default()
    })
    .await?;
    world.simulator.back();
    world.wait_for_stocks().await?;
    assert_eq!(
        world.simulator.counters().lists.answered,
        5,
        "one crawl of five pages"
    );
    let metrics = world.api.metrics().await?;
    assert!(
        metrics.contains(r#"fuse_snapshot_refreshes_total{result="published"} 1"#),
        "{metrics}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hears_of_no_snapshot_for_three_intervals_says_so() -> Result<()> {
    let world = World::with(Setup {
        env: vec![("FUSE_REFRESH__INTERVAL_SECS", "1".to_owned())],
        ..Setup::default()
    })
    .await?;
    let status = || async {
        let text = reqwest::get(format!("{}/status", world.api.admin_url))
            .await
            .ok()?
            .text()
            .await
            .ok()?;
        serde_json::from_str::<Value>(&text)
            .ok()
            .map(|answer| answer["status"].clone())
    };
    wait::until_async("deafness in /status", PATIENCE, || async {
        (status().await?["market"]["deaf"] == true).then_some(())
    })
    .await?;
    let metrics = world.api.metrics().await?;
    assert!(metrics.contains("fuse_snapshot_replica_deaf 1"), "{metrics}");

    let published = world.publish().await?;
    world.wait_for_snapshot(published.meta.id).await?;
    let status = status().await.expect("a status");
    assert_eq!(status["snapshot"]["id"], published.meta.id.to_string());
    world.get("/v1/stocks").key(BOOTSTRAP).gives(200).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ten_minutes_off_makes_data_stale_and_sells_nothing() -> Result<()> {
    // The writer's clock was ten minutes ahead, or ours is ten minutes behind: it looks the same from here.
    for age_secs in [-660, 660] {
        let world = World::with(Setup {
            publish: Some(age_secs),
            ..Setup::default()
        })
        .await?;
        let list = world.get("/v1/stocks").key(&world.key).gives(200).await?.json();
        assert_eq!(
            list["snapshot"]["stale"], true,
            "{age_secs}: {}",
            list["snapshot"]
        );
        world
            .order(&world.good_order())
            .refused(503, "quote_stale", &[])
            .await?;
        assert_eq!(world.vendor_buys(), (0, 0));
        let metrics = world.api.metrics().await?;
        let age = metrics
            .lines()
            .find_map(|line| line.strip_prefix("fuse_snapshot_age_seconds "))
            .and_then(|age| age.parse::<f64>().ok());
        assert!(age.is_some_and(|age| age > 600.0), "{age_secs}: {age:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_service_whose_pages_are_gone_lists_the_movers_from_their_index() -> Result<()> {
    let world = World::with(Setup {
        env: vec![("FUSE_STOCKS__EARLY_PASS_SECS", "1".to_owned())],
        publish: Some(30),
        ..Setup::default()
    })
    .await?;
    let (symbol, order) = (world.symbol(), world.good_order());
    world.simulator.set_prices(&symbol, vec!["12345.67".parse()?]);
    world.order(&order).gives(422).await?;
    let path = "/v1/stocks?movers=true";
    let listed = wait::until_async("the mover", PATIENCE, || async {
        let answer = world.get(path).key(&world.key).send().await.ok()?;
        (answer.json()["total"] == 1).then(|| answer.json())
    })
    .await
    .map_err(|error| world.api.proc.explain(error))?;
    assert_eq!(listed["items"][0]["symbol"], symbol);

    world.simulator.away();
    let id = listed["snapshot"]["id"].as_str().expect("an id");
    let key = serde_json::json!({
        "TableName": "fuse-market",
        "Key": {"pk": {"S": format!("SNAPSHOT#{id}")}, "sk": {"S": "PAGE#00000"}},
    });
    world.dynamodb.call("DeleteItem", &key)?;
    let cold = world.second_api()?;
    let get = |path: &str| cold.call(reqwest::Method::GET, path).key(&world.key);
    let found = wait::until_async("the movers", PATIENCE, || async {
        let answer = get(path).send().await.ok()?;
        (answer.status == 200).then(|| answer.json())
    })
    .await
    .map_err(|error| cold.proc.explain(error))?;
    assert_eq!(found["items"], listed["items"]);
    assert_eq!(found["snapshot"]["takenAt"], listed["snapshot"]["takenAt"]);
    get("/v1/stocks").refused(503, "no_market_data", &[]).await?;
    Ok(())
}
