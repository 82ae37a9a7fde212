//! The hash chain and the check of everything.

mod columns;
mod histories;
mod plan;
mod tampering;

use anyhow::Result;
use fuse_domain::{ChainHead, Outcome, Reason};
use fuse_ledger::{Verification, VerifyOptions};
use jiff::Timestamp;

use crate::support::{Fixture, at, fill, fixture, request};

/// Far enough from the events' own times for every link to be due.
const LATER: &str = "2026-03-03T10:00:00Z";

/// Thirty orders of all kinds, chained in three links of ten orders each.
async fn ledger() -> Result<Fixture> {
    let fixture = fixture().await?;
    for link in 0..3 {
        for number in 0..10 {
            let outcome = match number % 3 {
                0 => Outcome::Failed(Reason::VendorRejected),
                _ => fill("10.25", "1.5"),
            };
            let key = format!("k{link}-{number}");
            fixture
                .traded(
                    &key,
                    request("AAPL", "1.5", "10.25"),
                    outcome,
                    "2026-03-02T10:00:00Z",
                )
                .await?;
        }
        until_chained(&fixture, (link + 1) * 20).await?;
    }
    Ok(fixture)
}

/// Makes one link. Other tests' transactions on the same server may be open, and the chain waits for them: so this waits
/// until none is older than what is to be chained.
async fn until_chained(fixture: &Fixture, events: i64) -> Result<ChainHead> {
    let next = fixture.ledger.horizon().await?.next;
    fuse_harness::wait::until_async(
        "older transactions to end",
        std::time::Duration::from_secs(60),
        || async { (fixture.ledger.horizon().await.ok()?.oldest_open >= next).then_some(()) },
    )
    .await?;
    fixture.ledger.extend_chain(at(LATER)).await?;
    let head = fixture.ledger.chain_head().await?.expect("a chain");
    assert_eq!(head.events, events);
    Ok(head)
}

async fn verify(fixture: &Fixture) -> Result<Verification> {
    Ok(fixture.ledger.verify(&VerifyOptions::default(), |_| ()).await?)
}

/// As the owner of the tables, with their triggers switched off: what the service's own role cannot do.
async fn tamper(fixture: &Fixture, sql: &str) -> Result<()> {
    let sql = format!("set session_replication_role = replica; {sql}");
    fixture.by_hand(&sql).await?.map_err(anyhow::Error::msg)
}

#[tokio::test]
async fn an_untouched_ledger_is_valid_and_says_how_much_was_checked() -> Result<()> {
    let fixture = ledger().await?;
    let found = verify(&fixture).await?;
    assert_eq!((found.events, found.orders, found.holdings), (60, 30, 1));
    assert_eq!(found.head, fixture.ledger.chain_head().await?);
    assert!(found.is_valid() && found.violations.iter().all(|(_, bad)| *bad == 0));
    fixture.ledger.observe_chain().await?;
    let count = "select count(*) || ' ' || sum(events) from order_event_chain";
    assert_eq!(fixture.text(count).await?, "3 60");
    assert_eq!(fixture.metric("fuse_ledger_chain_lag_rows").as_deref(), Some("0"));
    let verified_at = fixture.metric("fuse_ledger_chain_verified_timestamp_seconds");
    assert_eq!(verified_at, Some(found.at.as_second().to_string()));
    Ok(())
}

#[tokio::test]
async fn few_events_wait_for_more_before_they_are_chained() -> Result<()> {
    let fixture = fixture().await?;
    fixture
        .traded(
            "a",
            request("AAPL", "1", "10"),
            fill("10", "1"),
            "2026-03-02T10:00:00Z",
        )
        .await?;
    let soon: Timestamp = at("2026-03-02T10:00:30Z");
    assert_eq!(fixture.ledger.extend_chain(soon).await?, 0);
    fixture.ledger.observe_chain().await?;
    assert_eq!(fixture.metric("fuse_ledger_chain_lag_rows").as_deref(), Some("2"));
    until_chained(&fixture, 2).await?;
    Ok(())
}
