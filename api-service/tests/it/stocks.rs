//! Stocks: pages of one snapshot, filters, age and staleness.

use anyhow::Result;
use fuse_harness::wait;
use serde_json::json;
use vendor_simulator::SimulatorConfig;

use crate::support::{BOOTSTRAP, PATIENCE, Setup, World};

/// Walks from `path` to the last page; gives the symbols of each page.
async fn walk(world: &World, path: &str) -> Result<Vec<Vec<String>>> {
    let mut pages = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let suffix = token
            .map(|token| format!("&pageToken={token}"))
            .unwrap_or_default();
        let page = world
            .get(&format!("{path}{suffix}"))
            .key(&world.key)
            .gives(200)
            .await?
            .json();
        let items = page["items"].as_array().expect("items");
        pages.push(
            items
                .iter()
                .map(|item| item["symbol"].as_str().expect("a symbol").to_owned())
                .collect(),
        );
        match page["nextPageToken"].as_str() {
            Some(next) => token = Some(next.to_owned()),
            None => return Ok(pages),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_sees_every_stock_once() -> Result<()> {
    let world = World::start().await?;
    let mut symbols = world.simulator.symbols();
    symbols.sort();
    let pages = walk(&world, "/v1/stocks?limit=7").await?;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [7, 7, 7, 7, 7, 5]);
    assert_eq!(pages.concat(), symbols);
    assert_eq!(
        walk(&world, "/v1/stocks?limit=40").await?.len(),
        1,
        "no empty page at the end"
    );

    let page = world
        .get("/v1/stocks?limit=1")
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    let item = page["items"][0].as_object().expect("an item");
    let members: Vec<&str> = item.keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "asOf",
            "change",
            "lastUpdated",
            "listed",
            "mover",
            "name",
            "price",
            "sector",
            "symbol"
        ]
    );
    for (name, value) in item {
        let is_flag = matches!(name.as_str(), "listed" | "mover");
        assert!(
            if is_flag {
                value.is_boolean()
            } else {
                value.is_string()
            },
            "money is text: {item:?}"
        );
    }
    assert_eq!(page["total"], 40);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_select_and_stay_with_their_walk() -> Result<()> {
    let world = World::start().await?;
    let all = world
        .get("/v1/stocks?limit=500")
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    let items = all["items"].as_array().expect("items").clone();
    let sector = items[0]["sector"].as_str().expect("a sector").to_uppercase();
    let of_sector: Vec<_> = items
        .iter()
        .filter(|item| item["sector"].as_str().map(str::to_uppercase) == Some(sector.clone()))
        .collect();
    let encoded = sector.replace(' ', "%20").replace('&', "%26");
    let found = world
        .get(&format!("/v1/stocks?limit=500&sector={encoded}"))
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    assert_eq!(found["total"], of_sector.len());
    assert_eq!(
        found["items"]
            .as_array()
            .expect("items")
            .iter()
            .collect::<Vec<_>>(),
        of_sector
    );

    let name = items[5]["name"]
        .as_str()
        .expect("a name")
        .to_lowercase()
        .replace(' ', "+")
        .replace('&', "%26");
    let found = world
        .get(&format!("/v1/stocks?search={name}"))
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    assert!(
        found["items"].as_array().expect("items").contains(&items[5]),
        "{found}"
    );
    let none = world
        .get("/v1/stocks?search=no+such+stock")
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    assert_eq!(
        (&none["items"], &none["total"], none.get("nextPageToken")),
        (&json!([]), &json!(0), None)
    );

    let first = world
        .get("/v1/stocks?limit=2")
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    let token = first["nextPageToken"].as_str().expect("a token");
    let refused = |path: String, code: &'static str| {
        let call = world.get(&path).key(&world.key);
        async move { call.refused(400, "invalid_page_token", &[code]).await }
    };
    refused(
        format!("/v1/stocks?limit=2&search=a&pageToken={token}"),
        "/pageToken other_filter",
    )
    .await?;
    refused(format!("/v1/orders?pageToken={token}"), "/pageToken other_filter").await?;
    // Changed for certain, whatever it was.
    let other = if token.starts_with('A') { "B" } else { "A" };
    refused(
        format!("/v1/stocks?pageToken={other}{}", &token[1..]),
        "/pageToken forged",
    )
    .await?;
    refused("/v1/stocks?pageToken=AAAA".to_owned(), "/pageToken forged").await?;
    refused("/v1/stocks?pageToken=".to_owned(), "/pageToken forged").await?;
    // Another page size is no other filter.
    world
        .get(&format!("/v1/stocks?limit=9&pageToken={token}"))
        .key(&world.key)
        .gives(200)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_stays_on_its_snapshot_while_that_is_kept_anywhere() -> Result<()> {
    let world = World::start().await?;
    let first = world
        .get("/v1/stocks?limit=10")
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    let next = format!(
        "/v1/stocks?limit=40&pageToken={}",
        first["nextPageToken"].as_str().expect("a token")
    );
    let expected = world.get(&next).key(&world.key).gives(200).await?.json()["items"].clone();
    // The replica holds three; the store keeps more.
    for round in 1..=4 {
        refresh(&world).await?;
        let page = world.get(&next).key(&world.key).gives(200).await?.json();
        assert_eq!(page["items"], expected, "round {round}");
        assert_eq!(page["snapshot"]["id"], first["snapshot"]["id"], "round {round}");
    }
    Ok(())
}

async fn refresh(world: &World) -> Result<()> {
    world.simulator.tick(1);
    let published = world.publish().await?;
    world.wait_for_snapshot(published.meta.id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_gone_is_told_apart_from_a_store_that_is_away() -> Result<()> {
    let world = World::start().await?;
    let begin = || world.get("/v1/stocks?limit=10").key(&world.key);
    let first = begin().gives(200).await?.json();
    refresh(&world).await?;
    let second = begin().gives(200).await?.json();
    // Neither is held by the replica any more.
    for _ in 1..=3 {
        refresh(&world).await?;
    }
    let next = |page: &serde_json::Value| {
        let token = page["nextPageToken"].as_str().expect("a token");
        world
            .get(&format!("/v1/stocks?limit=40&pageToken={token}"))
            .key(&world.key)
    };
    world.dynamodb.stop()?;
    next(&first).refused(503, "price_store_unavailable", &[]).await?;
    begin().gives(200).await?;
    world.dynamodb.restart()?;

    // Somebody, or time, deleted the pages of one.
    let gone = first["snapshot"]["id"].as_str().expect("an id");
    let pages = json!({":pk": {"S": format!("SNAPSHOT#{gone}")}});
    let found = world.dynamodb.call(
        "Query",
        &json!({"TableName": "fuse-market", "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": pages}),
    )?;
    let found = found["Items"].as_array().expect("pages");
    assert!(!found.is_empty(), "the pages are where they are said to be");
    for page in found {
        let key = json!({"pk": page["pk"], "sk": page["sk"]});
        world
            .dynamodb
            .call("DeleteItem", &json!({"TableName": "fuse-market", "Key": key}))?;
    }
    // For a second after a failure nobody is sent to the store.
    let answer = wait::until_async("an answer from the store", PATIENCE, || async {
        let answer = next(&first).send().await.ok()?;
        (answer.status != 503).then_some(answer)
    })
    .await?;
    answer.is_problem(410, "snapshot_gone", &[]);
    let page = next(&second).gives(200).await?.json();
    assert_eq!(page["snapshot"]["id"], second["snapshot"]["id"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stock_carries_its_age() -> Result<()> {
    let world = World::start().await?;
    let symbol = world.symbol();
    let answer = world
        .get(&format!("/v1/stocks/{symbol}"))
        .key(&world.key)
        .gives(200)
        .await?;
    let stock = answer.json();
    assert_eq!(stock["symbol"], symbol);
    let price = world.simulator.price(&symbol).expect("a price").normalize();
    assert_eq!(stock["price"], price.to_string());
    assert!(answer.header("age").is_some_and(|age| age.parse::<u64>().is_ok()));
    assert_eq!(stock["snapshot"]["stale"], false);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_prices_are_served_and_marked_but_not_traded_on() -> Result<()> {
    let world = World::with(Setup {
        publish: Some(400),
        ..Setup::default()
    })
    .await?;
    let answer = world.get("/v1/stocks").key(&world.key).gives(200).await?;
    let snapshot = &answer.json()["snapshot"];
    assert_eq!(snapshot["stale"], true);
    let age = snapshot["ageSeconds"].as_u64().expect("an age");
    assert!((400..430).contains(&age), "{age}");
    assert_eq!(answer.header("age"), Some(age.to_string().as_str()));
    // 600 s are still good enough for an order, more are not.
    world.order(&world.good_order()).gives(201).await?;

    let world = World::with(Setup {
        publish: Some(700),
        ..Setup::default()
    })
    .await?;
    let answer = world
        .order(&world.good_order())
        .refused(503, "quote_stale", &[])
        .await?;
    assert!(
        answer.json()["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("at most 600 s")),
        "{}",
        answer.text
    );
    assert_eq!(world.vendor_buys(), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_crawl_there_is_a_503_and_then_a_200() -> Result<()> {
    let world = World::with(Setup {
        publish: None,
        ..Setup::default()
    })
    .await?;
    // No prices are no reason to be unready, once they were looked for.
    wait::until_async("readiness", PATIENCE, || async {
        world.api.is_ready().await.then_some(())
    })
    .await?;
    let symbol = world.symbol();
    world
        .get("/v1/stocks")
        .key(&world.key)
        .refused(503, "no_market_data", &[])
        .await?;
    world
        .get(&format!("/v1/stocks/{symbol}"))
        .key(&world.key)
        .refused(503, "no_market_data", &[])
        .await?;
    world
        .order(&world.good_order())
        .refused(503, "no_market_data", &[])
        .await?;
    assert_eq!(world.vendor_buys(), (0, 0));
    let clock = world.get("/v1/clock").key(&world.key).gives(200).await?.json();
    assert_eq!(
        (&clock["snapshot"], &clock["nextTickAt"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(clock["stale"], true, "nothing is not fresh");

    // Nobody publishes: the service makes the first crawl itself.
    world.simulator.back();
    world.wait_for_stocks().await?;
    world.order(&world.good_order()).gives(201).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_tells_what_comes_next() -> Result<()> {
    let simulator = SimulatorConfig::default();
    let world = World::with(Setup {
        simulator,
        ..Setup::default()
    })
    .await?;
    let clock = world.get("/v1/clock").key(BOOTSTRAP).gives(200).await?.json();
    let time = |name: &str| {
        clock[name]
            .as_str()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .expect("a time")
    };
    assert!(time("nextTickAt") > time("now") && time("nextReportAt") > time("now"));
    assert_eq!(
        (time("nextTickAt").as_second() - time("lastTickAt").as_second()) % 300,
        0,
        "on the vendor's grid"
    );
    assert_eq!(
        clock["vendor"],
        json!({"list": {"breaker": "closed"}, "buy": {"breaker": "closed"}})
    );
    assert_eq!(
        (&clock["stale"], &clock["staleAfterSeconds"]),
        (&json!(false), &json!(300))
    );
    Ok(())
}
