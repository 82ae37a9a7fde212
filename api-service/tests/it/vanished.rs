//! A stock that the vendor lists no more: an order of it is refused and kept without a call of the vendor, and whoever holds it still
//! sees it.

use anyhow::{Context as _, Result};
use fuse_domain::Quote;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::World;

/// Older than anything that a test takes.
const LAST_SEEN_AGO: SignedDuration = SignedDuration::from_mins(10);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_no_snapshot_any_more_is_not_sold_and_has_no_price() -> Result<()> {
    let world =
        world_without(|quotes, symbol| quotes.retain(|quote| quote.symbol.as_str() != symbol)).await?;
    is_refused_and_kept(&world).await?;
    let held = held(&world).await?;
    for unknown in ["currentPrice", "marketValue", "profitLoss", "priceAsOf"] {
        assert_eq!(held[unknown], Value::Null, "{unknown}: {held}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_marked_as_vanished_is_not_sold_and_has_its_last_price_with_its_age() -> Result<()> {
    let last_seen = Timestamp::now() - LAST_SEEN_AGO;
    let world = world_without(|quotes, symbol| {
        let gone = quotes.iter_mut().find(|quote| quote.symbol.as_str() == symbol);
        let gone = gone.expect("it was listed");
        (gone.listed, gone.as_of) = (false, last_seen);
    })
    .await?;
    is_refused_and_kept(&world).await?;
    let held = held(&world).await?;
    assert_eq!(held["currentPrice"], held["averagePrice"], "{held}");
    let as_of: Timestamp = held["priceAsOf"].as_str().context("a time")?.parse()?;
    assert_eq!(as_of.as_second(), last_seen.as_second(), "{held}");
    Ok(())
}

/// A world in which one share of the first stock was bought before it vanished from what is published.
async fn world_without(vanish: impl FnOnce(&mut Vec<Quote>, &str)) -> Result<World> {
    let world = World::start().await?;
    world.order(&world.good_order()).gives(201).await?;
    let symbol = world.symbol();
    let snapshot = world.publish_with(|quotes| vanish(quotes, &symbol)).await?;
    world.wait_for_snapshot(snapshot.meta.id).await?;
    Ok(world)
}

/// One order of the vanished stock, previewed, placed, repeated and read.
async fn is_refused_and_kept(world: &World) -> Result<()> {
    let body = world.good_order();
    let preview = world.post("/v1/orders/preview", &body).key(&world.key);
    let told = preview.gives(200).await?.json();
    assert_eq!(
        (&told["verdict"], &told["reason"], &told["quote"]),
        (&json!("rejected"), &json!("unknown_symbol"), &Value::Null),
        "{told}"
    );

    let place = || {
        let call = world.post("/v1/orders", &body).key(&world.key);
        call.header("idempotency-key", "gone")
    };
    let refused = place()
        .refused(422, "unknown_symbol", &["/symbol refused"])
        .await?;
    assert_eq!(refused.json()["detail"], told["detail"]);
    let again = place().gives(422).await?;
    assert_eq!(
        (again.text.as_str(), again.header("idempotency-replayed")),
        (refused.text.as_str(), Some("true"))
    );
    assert_eq!(
        world.vendor_buys(),
        (1, 1),
        "nothing but the first order was sent"
    );

    let id = refused.json()["orderId"].as_str().context("an id")?.to_owned();
    let read = world.get(&format!("/v1/orders/{id}")).key(&world.key);
    let kept = read.gives(200).await?.json();
    for (member, value) in [
        ("status", json!("rejected")),
        ("reason", json!("unknown_symbol")),
        ("symbol", body["symbol"].clone()),
        ("quote", Value::Null),
        ("fill", Value::Null),
        ("attempts", json!([])),
    ] {
        assert_eq!(kept[member], value, "{member}: {kept}");
    }
    Ok(())
}

/// The one holding, whose figures of the ledger are there whatever its price is.
async fn held(world: &World) -> Result<Value> {
    let path = format!("/v1/portfolios/{}", world.user);
    let portfolio = world.get(&path).key(&world.key).gives(200).await?.json();
    let [held] = portfolio["holdings"].as_array().context("holdings")?.as_slice() else {
        anyhow::bail!("not one holding: {portfolio}");
    };
    let order = world.good_order();
    for (member, value) in [
        ("symbol", &order["symbol"]),
        ("quantity", &order["quantity"]),
        ("cost", &order["limitPrice"]),
    ] {
        assert_eq!(&held[member], value, "{member}: {portfolio}");
    }
    Ok(held.clone())
}
