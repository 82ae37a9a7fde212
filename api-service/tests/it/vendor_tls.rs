//! A vendor that cannot prove who it is.

use anyhow::Result;
use fuse_harness::tls_server::UntrustedServer;
use fuse_harness::wait;
use serde_json::json;

use crate::support::{PATIENCE, Setup, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_to_a_vendor_that_nobody_trusts_is_certainly_not_bought() -> Result<()> {
    let vendor = UntrustedServer::start()?;
    let world = World::with(Setup {
        env: vec![
            ("FUSE_VENDOR__BASE_URL", vendor.url()),
            // Time enough for every handshake to come to its end, also on a busy machine.
            ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "10000".to_owned()),
        ],
        ..Setup::default()
    })
    .await?;
    let body = world.good_order();
    let call = || {
        let call = world.post("/v1/orders", &body).key(&world.key);
        call.header("idempotency-key", "k")
    };
    let refused = call().refused(503, "vendor_unreachable", &[]).await?;
    let document = refused.json();
    let detail = document["detail"].as_str().expect("a detail");
    assert!(detail.contains("nothing was bought"), "{detail}");
    let again = call().refused(503, "vendor_unreachable", &[]).await?;
    assert_eq!(
        (again.text.as_str(), again.header("idempotency-replayed")),
        (refused.text.as_str(), Some("true"))
    );

    let id = document["orderId"].as_str().expect("an id");
    let read = world.get(&format!("/v1/orders/{id}")).key(&world.key);
    let order = read.gives(200).await?.json();
    assert_eq!(
        (&order["status"], &order["reason"], &order["fill"]),
        (&json!("failed"), &json!("vendor_unreachable"), &json!(null)),
        "{order}"
    );
    let attempts = order["attempts"].as_array().expect("attempts");
    let all_in_the_handshake = attempts
        .iter()
        .all(|attempt| attempt["reached"] == "not_sent" && attempt["detail"] == "connect");
    assert!(!attempts.is_empty() && all_in_the_handshake, "{order}");
    assert_eq!(
        world.sql("select string_agg(status, ' ' order by txid, seq) from order_events")?,
        "submitted failed"
    );
    wait::until("the vendor to see why", PATIENCE, || {
        (vendor.refusals() >= attempts.len()).then_some(())
    })
}
