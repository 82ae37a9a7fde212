//! Orders without an `Idempotency-Key`.

use anyhow::Result;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Call, Setup, World};

fn without_key(world: &World) -> Call {
    world.post("/v1/orders", &world.good_order()).key(&world.key)
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_refused_unless_configured_otherwise() -> Result<()> {
    let world = World::start().await?;
    let refused = without_key(&world)
        .refused(400, "invalid_header", &["/Idempotency-Key required"])
        .await?;
    assert_eq!(refused.header("idempotency-key"), None);
    assert_eq!(
        (world.ledger()?.as_str(), world.vendor_buys()),
        ("0|0|0|1", (0, 0))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn they_get_a_key_that_the_answer_tells() -> Result<()> {
    let world = World::with(Setup {
        env: vec![("FUSE_ORDERS__REQUIRE_IDEMPOTENCY_KEY", "false".to_owned())],
        ..Setup::default()
    })
    .await?;
    let first = without_key(&world).gives(201).await?;
    let key = first
        .header("idempotency-key")
        .expect("the key that was made")
        .to_owned();
    Uuid::try_parse(&key)?;
    let again = without_key(&world)
        .header("idempotency-key", &key)
        .gives(201)
        .await?;
    assert_eq!(
        (again.text.as_str(), again.header("idempotency-replayed")),
        (first.text.as_str(), Some("true"))
    );
    assert_eq!(
        again.header("idempotency-key"),
        None,
        "the client's own is not told back"
    );

    // Another request without one is another order.
    let second = without_key(&world).gives(201).await?;
    assert_ne!(second.header("idempotency-key"), Some(key.as_str()));
    assert_eq!(world.vendor_buys(), (2, 2));
    // With a failure it is told too: it may be what finds out about the order.
    let mut bad = world.good_order();
    bad["symbol"] = json!("NOSUCH");
    let rejected = world.post("/v1/orders", &bad).key(&world.key).gives(422).await?;
    assert!(rejected.header("idempotency-key").is_some());
    bad["portfolioId"] = json!(Uuid::now_v7());
    let unfound = world.post("/v1/orders", &bad).key(&world.key).gives(404).await?;
    assert!(unfound.header("idempotency-key").is_some());
    without_key(&world)
        .header("idempotency-key", "not a key")
        .refused(400, "invalid_header", &["/Idempotency-Key bad_character"])
        .await?;
    Ok(())
}
