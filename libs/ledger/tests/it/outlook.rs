//! What a preview is told.

use anyhow::Result;
use fuse_ledger::{OrderOutlook, OutlookOf};
use uuid::Uuid;

use crate::support::{Fixture, at, fill, fixture, request};

/// An order of a key, written by hand.
async fn placed(fixture: &Fixture, order_id: Uuid, key_id: Uuid, status: &str) -> Result<()> {
    let (reason, answer) = match status {
        "rejected" => ("'unknown_symbol'", "422, '{}'"),
        _ => ("null", "null, null"),
    };
    let sql = format!(
        "insert into orders (user_id, order_id, portfolio_id, idempotency_key, request_sha256, symbol, side, quantity,
             limit_price, key_id, status, reason, quote_price, quote_as_of, quote_snapshot_id, answer_status, answer_body,
             created_at, updated_at)
         values ('{user}', '{order_id}', '{user}', '{order_id}', decode(repeat('00', 32), 'hex'), 'A', 'buy', 1, 1,
             '{key_id}', '{status}', {reason}, 1, now(), '{order_id}', {answer}, now(), now())",
        user = fixture.user
    );
    let written = fixture.by_hand(&sql).await?;
    written.map_err(anyhow::Error::msg)
}

#[tokio::test]
async fn an_outlook_is_what_the_first_write_would_find() -> Result<()> {
    let fixture = fixture().await?;
    let (key, other_key) = (Uuid::now_v7(), Uuid::now_v7());
    let yesterday = Uuid::now_v7();
    let begins = Uuid::now_v7();
    placed(&fixture, yesterday, key, "submitted").await?;
    placed(&fixture, begins, key, "submitted").await?;
    placed(&fixture, Uuid::now_v7(), key, "submitted").await?;
    placed(&fixture, Uuid::now_v7(), key, "rejected").await?;
    placed(&fixture, Uuid::now_v7(), other_key, "submitted").await?;
    let named = fuse_ledger::SubmitOrder {
        client_order_id: Some("mine".into()),
        ..fixture.submit("n", request("A", "1", "2"), "2026-03-02T10:00:00Z")
    };
    let named = fixture.placed(named).await?;
    let settle = fixture.settlement(named.id, fill("2", "1"), "2026-03-02T10:00:01Z");
    fixture.ledger.settle(settle).await?;

    let of = OutlookOf {
        user_id: fixture.user,
        portfolio_id: None,
        client_order_id: Some("mine".into()),
        counted: Some((key, begins)),
    };
    let expected = OrderOutlook {
        version: 2,
        is_client_order_id_taken: true,
        placed_today: 2,
    };
    assert_eq!(fixture.ledger.order_outlook(&of).await?, Some(expected));
    let uncounted = OutlookOf {
        client_order_id: Some("another".into()),
        counted: None,
        ..of.clone()
    };
    let expected = OrderOutlook {
        is_client_order_id_taken: false,
        placed_today: 0,
        ..expected
    };
    assert_eq!(fixture.ledger.order_outlook(&uncounted).await?, Some(expected));

    let stranger = Uuid::now_v7();
    fixture
        .ledger
        .create_user(stranger, "Bob", at("2026-03-02T10:00:00Z"))
        .await?;
    let foreign = OutlookOf {
        user_id: stranger,
        portfolio_id: Some(fixture.user),
        ..of.clone()
    };
    assert_eq!(fixture.ledger.order_outlook(&foreign).await?, None);
    // Names and counts of others are none of a user's.
    let own = OutlookOf {
        user_id: stranger,
        ..of
    };
    let untouched = OrderOutlook {
        version: 1,
        is_client_order_id_taken: false,
        placed_today: 0,
    };
    assert_eq!(fixture.ledger.order_outlook(&own).await?, Some(untouched));
    Ok(())
}
