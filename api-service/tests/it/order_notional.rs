//! Orders by an amount of money.

use anyhow::Result;
use serde_json::{Value, json};

use crate::support::World;

/// A world whose first stock costs 150.25, and a body that orders it for an amount.
async fn world() -> Result<World> {
    let world = World::start().await?;
    world
        .simulator
        .set_prices(&world.symbol(), vec!["150.25".parse()?]);
    let snapshot = world.publish().await?;
    world.wait_for_snapshot(snapshot.meta.id).await?;
    Ok(world)
}

fn order_for(world: &World, notional: &str) -> Value {
    json!({"symbol": world.symbol(), "side": "buy", "notional": notional, "limitPrice": "150.25"})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_buys_what_it_pays_for_and_the_rest_is_told() -> Result<()> {
    let world = world().await?;
    let place = |body: &Value| {
        world
            .post("/v1/orders", body)
            .key(&world.key)
            .header("idempotency-key", "amount")
    };
    let first = place(&order_for(&world, "1000")).gives(201).await?;
    let order = first.json();
    for (member, value) in [
        ("quantity", "6.655574043"),
        ("notional", "1000"),
        ("remainder", "0.00000003925"),
        ("limitPrice", "150.25"),
    ] {
        assert_eq!(order[member], value, "{member}: {order}");
    }
    assert_eq!(order["fill"]["total"], "999.99999996075");
    assert_eq!(world.simulator.executed()[0].quantity, "6.655574043");
    let path = format!("/v1/orders/{}", order["id"].as_str().expect("an id"));
    let read = world.get(&path).key(&world.key).gives(200).await?;
    assert_eq!(read.json(), order, "it is kept with the order");

    // The same amount written otherwise is the same order; the quantity that it makes is another one.
    let again = place(&order_for(&world, "1000.00")).gives(201).await?;
    assert_eq!(
        (again.text.as_str(), again.header("idempotency-replayed")),
        (first.text.as_str(), Some("true"))
    );
    let mut by_quantity = order_for(&world, "1000");
    by_quantity.as_object_mut().expect("an object").remove("notional");
    by_quantity["quantity"] = json!("6.655574043");
    let reused: &[&str] = &["/Idempotency-Key not_allowed"];
    place(&by_quantity)
        .refused(422, "idempotency_key_reused", reused)
        .await?;
    place(&order_for(&world, "1000.000000001"))
        .refused(422, "idempotency_key_reused", reused)
        .await?;
    assert_eq!(world.vendor_buys(), (1, 1));

    let by_quantity = world.order(&by_quantity).gives(201).await?.json();
    assert_eq!(
        (&by_quantity["notional"], &by_quantity["remainder"]),
        (&Value::Null, &Value::Null)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_amount_names_its_field_and_books_nothing() -> Result<()> {
    let world = world().await?;
    let before = world.ledger()?;
    let check = async |changes: Value, errors: &[&str]| {
        let mut body = order_for(&world, "1000");
        for (name, value) in changes.as_object().expect("changes are an object") {
            body[name] = value.clone();
        }
        world.order(&body).refused(422, "invalid_fields", errors).await
    };
    for (text, code) in [
        ("0", "not_positive"),
        ("-1", "not_positive"),
        ("1e3", "not_a_number"),
        ("", "empty"),
        ("0.0000000001", "too_many_decimals"),
        ("99999999999999999999", "too_large"),
        // It buys nothing at all.
        ("0.000000001", "out_of_range"),
    ] {
        check(json!({"notional": text}), &[&format!("/notional {code}")]).await?;
    }
    check(json!({"notional": 1000}), &["/notional wrong_type"]).await?;
    check(
        json!({"notional": "9999999999999999999", "limitPrice": "0.000000001"}),
        &["/notional too_large"],
    )
    .await?;
    // Without a price there is no quantity, and nothing more to complain of.
    check(json!({"limitPrice": "0"}), &["/limitPrice not_positive"]).await?;
    check(
        json!({"quantity": "1"}),
        &["/quantity not_allowed", "/notional not_allowed"],
    )
    .await?;
    check(
        json!({"notional": null, "quantity": null}),
        &["/quantity required", "/notional required"],
    )
    .await?;
    assert_eq!((world.ledger()?, world.vendor_buys()), (before, (0, 0)));

    let large = world.order(&order_for(&world, "10000001"));
    large
        .refused(422, "notional_too_large", &["/notional refused"])
        .await?;
    assert_eq!(world.vendor_buys(), (0, 0));
    Ok(())
}
