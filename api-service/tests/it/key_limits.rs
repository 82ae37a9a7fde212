//! What one key may order.

use anyhow::{Context as _, Result};
use fuse_harness::postgres::as_service;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{BOOTSTRAP, Setup, World, run};

/// A key of the world's user with these limits: its record and its text.
async fn key(world: &World, limits: Value) -> Result<(Value, String)> {
    let mut body = json!({"name": "limited", "userId": world.user, "scopes": ["read", "trade"]});
    for (name, value) in limits.as_object().expect("limits are an object") {
        body[name] = value.clone();
    }
    let made = world
        .post("/v1/api-keys", &body)
        .key(BOOTSTRAP)
        .gives(201)
        .await?;
    let made = made.json();
    let text = made["key"].as_str().context("the text")?.to_owned();
    Ok((made, text))
}

/// An order at the quote for so many shares.
fn order(world: &World, quantity: &str) -> Value {
    let mut body = world.good_order();
    body["quantity"] = json!(quantity);
    body["limitPrice"] = json!("100");
    body
}

async fn world(env: Vec<(&'static str, String)>) -> Result<World> {
    let world = World::with(Setup {
        env,
        ..Setup::default()
    })
    .await?;
    world.simulator.set_prices(&world.symbol(), vec!["100".parse()?]);
    let snapshot = world.publish().await?;
    world.wait_for_snapshot(snapshot.meta.id).await?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stricter_of_both_amounts_applies() -> Result<()> {
    let world = world(vec![("FUSE_ORDERS__MAX_NOTIONAL", "500".to_owned())]).await?;
    let (_, narrow) = key(&world, json!({"maxNotional": "250.000000001"})).await?;
    let (_, wide) = key(&world, json!({"maxNotional": "1000"})).await?;
    for (key, quantity, limit) in [
        (&narrow, "2.5", None),
        (&narrow, "2.500000001", Some("250.000000001")),
        (&wide, "5", None),
        (&wide, "5.000000001", Some("500")),
        (&world.key, "5.000000001", Some("500")),
    ] {
        let call = |path: &str| world.post(path, &order(&world, quantity)).key(key).fresh();
        let told = call("/v1/orders/preview").gives(200).await?.json();
        let Some(limit) = limit else {
            call("/v1/orders").gives(201).await?;
            assert_eq!(told["verdict"], "accepted");
            continue;
        };
        let refused = call("/v1/orders")
            .refused(422, "notional_too_large", &["/quantity refused"])
            .await?;
        let detail = format!("Price times quantity must be at most {limit}.");
        assert_eq!(refused.json()["detail"], detail);
        assert_eq!(told["detail"], detail);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keys_own_number_of_orders_goes_before_the_configured_one() -> Result<()> {
    let world = world(vec![("FUSE_ORDERS__MAX_PER_DAY_PER_KEY", "1".to_owned())]).await?;
    let (record, text) = key(&world, json!({"maxOrdersPerDay": 2})).await?;
    let place = || world.post("/v1/orders", &order(&world, "1")).key(&text).fresh();
    place().gives(201).await?;
    place().gives(201).await?;
    let refused = place().refused(429, "daily_limit_reached", &[]).await?;
    let detail = refused.json()["detail"].clone();
    assert!(
        detail.as_str().is_some_and(|detail| detail.contains(" 2 orders")),
        "{detail}"
    );
    assert_eq!(
        world.sql("select count(distinct key_id) || ' ' || min(key_id::text) from orders")?,
        format!("1 {}", record["id"].as_str().expect("an id"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_told_with_the_key_and_bad_ones_named() -> Result<()> {
    let world = World::start().await?;
    let (record, _) = key(&world, json!({"maxNotional": "50000.50", "maxOrdersPerDay": 500})).await?;
    assert_eq!(
        (&record["maxNotional"], &record["maxOrdersPerDay"]),
        (&json!("50000.5"), &json!(500))
    );
    let path = format!("/v1/api-keys?userId={}", world.user);
    let list = world.get(&path).key(BOOTSTRAP).gives(200).await?.json();
    let limits: Vec<(&Value, &Value)> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| (&item["maxNotional"], &item["maxOrdersPerDay"]))
        .collect();
    assert_eq!(
        limits,
        [(&Value::Null, &Value::Null), (&json!("50000.5"), &json!(500))]
    );
    for (limits, error) in [
        (json!({"maxNotional": "0"}), "/maxNotional not_positive"),
        (
            json!({"maxNotional": "1.0000000001"}),
            "/maxNotional too_many_decimals",
        ),
        (json!({"maxNotional": 100}), "/maxNotional wrong_type"),
        (json!({"maxOrdersPerDay": 0}), "/maxOrdersPerDay out_of_range"),
        (json!({"maxOrdersPerDay": -1}), "/maxOrdersPerDay out_of_range"),
        (json!({"maxOrdersPerDay": 1.5}), "/maxOrdersPerDay out_of_range"),
        (
            json!({"maxOrdersPerDay": 2_147_483_648_u32}),
            "/maxOrdersPerDay out_of_range",
        ),
        (json!({"maxOrdersPerDay": "5"}), "/maxOrdersPerDay wrong_type"),
    ] {
        let mut body = json!({"name": "x", "scopes": ["read"]});
        for (name, value) in limits.as_object().expect("limits are an object") {
            body[name] = value.clone();
        }
        let call = world.post("/v1/api-keys", &body).key(BOOTSTRAP);
        call.refused(422, "invalid_fields", &[error]).await?;
    }
    assert_eq!(world.sql("select count(*) from api_keys")?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_makes_limited_keys_too() -> Result<()> {
    let world = World::start().await?;
    let env = [("FUSE_DATABASE__URL", as_service(&world.database_url))];
    let user = Uuid::now_v7().to_string();
    let create = |more: &[&str]| {
        let mut args = vec![
            "keys",
            "create",
            "--name",
            "x",
            "--user",
            user.as_str(),
            "--scopes",
            "trade",
        ];
        args.extend(more);
        run(&args, &env)
    };
    let printed: Value = serde_json::from_str(&create(&[
        "--max-notional",
        "250.50",
        "--max-orders-per-day",
        "3",
    ])?)?;
    assert_eq!(
        (&printed["maxNotional"], &printed["maxOrdersPerDay"]),
        (&json!("250.5"), &json!(3))
    );
    let printed: Value = serde_json::from_str(&create(&[])?)?;
    assert_eq!(
        (&printed["maxNotional"], &printed["maxOrdersPerDay"]),
        (&Value::Null, &Value::Null)
    );
    for wrong in [
        ["--max-notional", "0"],
        ["--max-notional", "1e3"],
        ["--max-orders-per-day", "0"],
        ["--max-orders-per-day", "2147483648"],
    ] {
        assert!(create(&wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(run(&["keys", "list"], &env)?.lines().count(), 3);
    Ok(())
}
