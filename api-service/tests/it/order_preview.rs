//! Previews: the same verdicts as orders, and no effect.

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Call, Setup, World};

fn preview(world: &World, body: &Value) -> Call {
    world.post("/v1/orders/preview", body).key(&world.key)
}

/// The good order with some fields replaced.
fn with(world: &World, changes: &Value) -> Value {
    let mut body = world.good_order();
    for (name, value) in changes.as_object().expect("changes are an object") {
        body[name] = value.clone();
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_says_what_the_order_gets_and_does_nothing() -> Result<()> {
    let world = World::start().await?;
    let snapshot = world.get("/v1/clock").key(&world.key).gives(200).await?.json()["snapshot"]["id"].clone();
    for (changes, reason) in [
        (json!({}), None),
        (json!({"quantity": null, "notional": "1000"}), None),
        (json!({"symbol": "NOSUCH"}), Some("unknown_symbol")),
        (json!({"limitPrice": "0.01"}), Some("price_out_of_band")),
        (json!({"quantity": "999999999999"}), Some("notional_too_large")),
        (
            json!({"quantity": null, "notional": "99999999999"}),
            Some("notional_too_large"),
        ),
    ] {
        let body = with(&world, &changes);
        let before = (world.ledger()?, world.vendor_buys());
        let told = preview(&world, &body).gives(200).await?.json();
        assert_eq!((world.ledger()?, world.vendor_buys()), before, "{body}");
        let verdict = if reason.is_none() { "accepted" } else { "rejected" };
        assert_eq!(
            (&told["verdict"], &told["reason"], &told["snapshot"]["id"]),
            (&json!(verdict), &json!(reason), &snapshot),
            "{told}"
        );

        let order = world.order(&body).send().await?;
        let Some(reason) = reason else {
            assert_eq!(order.status, 201, "{}", order.text);
            let order = order.json();
            for member in ["quantity", "limitPrice", "notional", "remainder", "quote"] {
                assert_eq!(told[member], order[member], "{member}");
            }
            assert_eq!(
                (&told["total"], &told["detail"]),
                (&order["fill"]["total"], &Value::Null)
            );
            continue;
        };
        let problem = order.json();
        assert_eq!(
            (&problem["code"], &problem["detail"]),
            (&json!(reason), &told["detail"])
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_makes_the_same_complaints_as_the_order() -> Result<()> {
    let world = World::start().await?;
    world
        .order(&with(&world, &json!({"clientOrderId": "taken"})))
        .gives(201)
        .await?;
    let before = (world.ledger()?, world.vendor_buys());
    for changes in [
        json!({"symbol": "no symbol", "side": "sell", "quantity": "0", "limitPrice": "x", "colour": 1}),
        json!({"notional": "1"}),
        json!({"quantity": null}),
        json!({"clientOrderId": "taken"}),
        json!({"portfolioId": Uuid::now_v7()}),
        json!({"portfolioId": "mine"}),
    ] {
        let body = with(&world, &changes);
        let told = preview(&world, &body).send().await?;
        let order = world.order(&body).send().await?;
        assert_eq!((told.status, order.status / 100), (order.status, 4), "{body}");
        let (told, order) = (told.json(), order.json());
        for member in ["code", "errors", "detail"] {
            assert_eq!(told[member], order[member], "{body}");
        }
    }
    assert_eq!((world.ledger()?, world.vendor_buys()), before);
    // Nothing of the header is looked at.
    let odd = preview(&world, &world.good_order()).header("idempotency-key", "not a key");
    odd.gives(200).await?;
    let reader = world.make_key(Some(world.user), "read")?;
    world
        .post("/v1/orders/preview", &world.good_order())
        .key(&reader)
        .refused(403, "scope_missing", &[])
        .await?;
    world
        .call(Method::GET, "/v1/orders/preview")
        .key(&world.key)
        .refused(405, "method_not_allowed", &[])
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_judges_the_portfolio_and_the_limit_of_the_key() -> Result<()> {
    let world = World::with(Setup {
        env: vec![("FUSE_ORDERS__MAX_PER_DAY_PER_KEY", "1".to_owned())],
        ..Setup::default()
    })
    .await?;
    let body = world.good_order();
    let reason = async |tag: &str| {
        let told = preview(&world, &body).header("if-match", tag).gives(200).await?;
        anyhow::Ok(told.json()["reason"].clone())
    };
    assert_eq!(reason("\"1\"").await?, Value::Null);
    assert_eq!(reason("*").await?, Value::Null);
    assert_eq!(reason("\"2\"").await?, "portfolio_changed");
    preview(&world, &body)
        .header("if-match", "W/\"1\"")
        .refused(400, "invalid_header", &["/If-Match not_a_tag"])
        .await?;
    world.order(&body).gives(201).await?;
    assert_eq!(reason("\"1\"").await?, "portfolio_changed");
    let over = preview(&world, &body)
        .header("if-match", "\"2\"")
        .gives(200)
        .await?;
    assert_eq!(over.json()["reason"], "daily_limit_reached");
    // What the rules say comes first.
    let bad = with(&world, &json!({"symbol": "NOSUCH"}));
    let told = preview(&world, &bad)
        .header("if-match", "\"1\"")
        .gives(200)
        .await?;
    assert_eq!(told.json()["reason"], "unknown_symbol");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_without_prices_says_so() -> Result<()> {
    let world = World::with(Setup {
        publish: None,
        ..Setup::default()
    })
    .await?;
    let body = json!({"symbol": "AAPL", "side": "buy", "quantity": "1", "limitPrice": "1"});
    let told = preview(&world, &body).gives(200).await?.json();
    assert_eq!(
        (&told["reason"], &told["quote"], &told["snapshot"]),
        (&json!("no_market_data"), &Value::Null, &Value::Null)
    );
    assert_eq!(told["total"], "1");
    Ok(())
}
