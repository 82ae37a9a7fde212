//! Orders that the ledger itself refuses: on a portfolio that has moved, and beyond the day's number.

use anyhow::Result;
use serde_json::{Value, json};

use crate::support::{Answer, BOOTSTRAP, Call, Setup, World};

async fn limited(env: &[(&'static str, &str)]) -> Result<World> {
    World::with(Setup {
        env: env
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        ..Setup::default()
    })
    .await
}

fn place(world: &World, key: &str, tag: &str) -> Call {
    world
        .post("/v1/orders", &world.good_order())
        .key(&world.key)
        .header("idempotency-key", key)
        .header("if-match", tag)
}

/// The order that a refusal left behind.
async fn left_behind(world: &World, refused: &Answer) -> Result<Value> {
    let id = refused.json()["orderId"].clone();
    let path = format!("/v1/orders/{}", id.as_str().expect("the order is recorded"));
    Ok(world.get(&path).key(&world.key).gives(200).await?.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_on_a_portfolio_that_has_moved_is_rejected() -> Result<()> {
    let world = World::start().await?;
    let portfolio = world
        .get(&format!("/v1/portfolios/{}", world.user))
        .key(&world.key)
        .gives(200)
        .await?;
    let tag = portfolio.header("etag").expect("a tag").to_owned();
    let first = place(&world, "first", &tag).gives(201).await?;

    let refused: &[&str] = &["/If-Match refused"];
    let late = place(&world, "late", &tag)
        .refused(412, "portfolio_changed", refused)
        .await?;
    let order = left_behind(&world, &late).await?;
    assert_eq!(
        (&order["status"], &order["reason"], &order["attempts"]),
        (&json!("rejected"), &json!("portfolio_changed"), &json!([]))
    );
    assert_eq!(world.vendor_buys(), (1, 1), "the vendor is not asked");
    for (series, value) in [
        ("fuse_order_conflicts_total", 1.0),
        (
            r#"fuse_orders_total{reason="portfolio_changed",state="rejected"}"#,
            1.0,
        ),
    ] {
        assert_eq!(world.api.metric(series).await?, value, "{series}");
    }

    // The header is no part of the order: a repeat gets the first answer, whatever it expects now.
    for tag in ["\"1\"", "\"2\"", "*"] {
        let again = place(&world, "late", tag).gives(412).await?;
        assert_eq!(
            (again.text.as_str(), again.header("idempotency-replayed")),
            (late.text.as_str(), Some("true"))
        );
        let again = place(&world, "first", tag).gives(201).await?;
        assert_eq!(again.text, first.text);
    }
    place(&world, "now", "\"2\"").gives(201).await?;
    place(&world, "any", "*").gives(201).await?;
    for tag in ["W/\"4\"", "4", "\"4\", \"5\"", "\"four\""] {
        place(&world, "garbled", tag)
            .refused(400, "invalid_header", &["/If-Match not_a_tag"])
            .await?;
    }
    place(&world, "garbled", "\"4\"").gives(201).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_orders_that_expect_one_version_some_are_told_of_the_others() -> Result<()> {
    let world = World::start().await?;
    place(&world, "first", "\"1\"").gives(201).await?;
    let keys: Vec<String> = (0..10).map(|number| format!("k{number}")).collect();
    let calls = keys.iter().map(|key| place(&world, key, "\"1\"").send());
    for answer in futures::future::try_join_all(calls).await? {
        answer.is_problem(412, "portfolio_changed", &["/If-Match refused"]);
    }
    assert_eq!(world.vendor_buys(), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_places_no_more_orders_in_a_day_than_it_may() -> Result<()> {
    let world = limited(&[("FUSE_ORDERS__MAX_PER_DAY_PER_KEY", "2")]).await?;
    let body = world.good_order();
    let mut bad = body.clone();
    bad["symbol"] = json!("NOSUCH");
    // What was rejected does not count.
    world.order(&bad).gives(422).await?;
    let first = world
        .post("/v1/orders", &body)
        .key(&world.key)
        .header("idempotency-key", "first");
    first.gives(201).await?;
    world.order(&body).gives(201).await?;
    let over = || {
        world
            .post("/v1/orders", &body)
            .key(&world.key)
            .header("idempotency-key", "over")
    };
    let refused = over().refused(429, "daily_limit_reached", &[]).await?;
    let wait: u64 = refused.header("retry-after").expect("a time").parse()?;
    assert!((1..=86_400).contains(&wait), "{wait}");
    assert!(
        refused.json()["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("T00:00:00Z"))
    );
    let order = left_behind(&world, &refused).await?;
    assert_eq!(
        (&order["status"], &order["reason"]),
        (&json!("rejected"), &json!("daily_limit_reached"))
    );
    let again = over().gives(429).await?;
    assert_eq!(
        (again.text.as_str(), again.header("idempotency-replayed")),
        (refused.text.as_str(), Some("true"))
    );
    assert!(again.header("retry-after").is_some());
    let series = r#"fuse_orders_total{reason="daily_limit_reached",state="rejected"}"#;
    assert_eq!(world.api.metric(series).await?, 1.0);
    assert_eq!(world.api.metric("fuse_order_conflicts_total").await?, 0.0);

    // A repeat of what went through is no further order; another key of the same user has its own count.
    let repeat = world
        .post("/v1/orders", &body)
        .key(&world.key)
        .header("idempotency-key", "first")
        .gives(201)
        .await?;
    assert_eq!(repeat.header("idempotency-replayed"), Some("true"));
    let other = world.make_key(Some(world.user), "trade")?;
    world
        .post("/v1/orders", &body)
        .key(&other)
        .fresh()
        .gives(201)
        .await?;
    // The bootstrap key has no limits of its own and none by configuration.
    let mut of_user = body.clone();
    of_user["portfolioId"] = json!(world.user);
    for _ in 0..3 {
        world
            .post("/v1/orders", &of_user)
            .key(BOOTSTRAP)
            .fresh()
            .gives(201)
            .await?;
    }
    assert_eq!(world.vendor_buys(), (6, 6));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_once_no_more_go_through_than_one_by_one() -> Result<()> {
    let world = limited(&[
        ("FUSE_ORDERS__MAX_PER_DAY_PER_KEY", "5"),
        ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "10000"),
    ])
    .await?;
    let body = world.good_order();
    let calls = (0..20).map(|_| world.order(&body).send());
    let mut bought = 0;
    for answer in futures::future::try_join_all(calls).await? {
        match answer.status {
            201 => bought += 1,
            _ => answer.is_problem(429, "daily_limit_reached", &[]),
        }
    }
    assert_eq!((bought, world.vendor_buys()), (5, (5, 5)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_into_a_deleted_portfolio_are_not_found() -> Result<()> {
    let world = World::start().await?;
    let service = world.make_key(None, "read,trade")?;
    let path = format!("/v1/users/{}/portfolios", world.user);
    let made = world
        .post(&path, &json!({"name": "Savings"}))
        .key(&world.key)
        .gives(201)
        .await?
        .json();
    let path = format!("/v1/portfolios/{}", made["id"].as_str().expect("an id"));
    world
        .call(reqwest::Method::DELETE, &path)
        .key(&world.key)
        .gives(204)
        .await?;
    let mut body = world.good_order();
    body["portfolioId"] = made["id"].clone();
    for key in [&world.key, &service] {
        for path in ["/v1/orders", "/v1/orders/preview"] {
            world
                .post(path, &body)
                .key(key)
                .fresh()
                .refused(404, "portfolio_not_found", &["/portfolioId not_allowed"])
                .await?;
        }
    }
    assert_eq!(world.vendor_buys(), (0, 0));
    Ok(())
}
