//! What callers see while PostgreSQL is away, and that it comes back by itself.

use std::time::{Duration, Instant};

use anyhow::Result;
use fuse_harness::postgres::Postgres;
use fuse_harness::wait::until_async;
use fuse_ledger::{Ledger, LedgerError};
use fuse_platform::Metrics;
use uuid::Uuid;

use crate::support::{at, config};

/// The acquire timeout of the tests' configuration and some room for a busy machine.
const FAST: Duration = Duration::from_secs(8);
const BACK: Duration = Duration::from_secs(20);

async fn unavailable(ledger: &Ledger) -> Result<()> {
    let began = Instant::now();
    let read = ledger.user_exists(Uuid::nil()).await;
    anyhow::ensure!(matches!(read, Err(LedgerError::Unavailable(_))), "{read:?}");
    anyhow::ensure!(began.elapsed() < FAST, "took {:?}", began.elapsed());
    let write = ledger
        .create_user(Uuid::nil(), "x", at("2026-03-02T10:00:00Z"))
        .await;
    anyhow::ensure!(matches!(&write, Err(error) if error.retryable()), "{write:?}");
    Ok(())
}

async fn comes_back(ledger: &Ledger) -> Result<()> {
    until_async("the ledger to answer again", BACK, || async {
        ledger.ping().await.ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_or_killed_database_is_unavailable_fast_and_recovers_by_itself() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let url = postgres.database()?;
    let ledger = Ledger::new(&config(&url), &Metrics::new())?;
    ledger.migrate().await?;
    let user = Uuid::now_v7();
    ledger
        .create_user(user, "Ada", at("2026-03-02T10:00:00Z"))
        .await?;

    postgres.stop()?;
    unavailable(&ledger).await?;
    postgres.restart()?;
    comes_back(&ledger).await?;
    assert!(
        ledger.user_exists(user).await?,
        "what was committed is still there"
    );

    postgres.kill()?;
    unavailable(&ledger).await?;
    let migration = ledger.migrate().await;
    assert!(
        matches!(migration, Err(LedgerError::Unavailable(_))),
        "{migration:?}"
    );
    postgres.restart()?;
    comes_back(&ledger).await?;
    assert!(ledger.user_exists(user).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_at_start_is_no_reason_not_to_start() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let url = postgres.database()?;
    postgres.stop()?;
    let ledger = Ledger::new(&config(&url), &Metrics::new())?;
    unavailable(&ledger).await?;
    postgres.restart()?;
    comes_back(&ledger).await?;
    assert_eq!(ledger.migrate().await?, fuse_ledger::SCHEMA_VERSION);
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_an_outage_and_a_wrong_address_a_mistake() -> Result<()> {
    let url = Postgres::shared()?.database()?;
    let (before, after) = url
        .split_once('@')
        .expect("the harness puts a password into its URLs");
    let ledger = Ledger::new(&config(&format!("{before}x@{after}")), &Metrics::new())?;
    unavailable(&ledger).await?;
    let address = Ledger::new(&config("postgres://host:notaport/x"), &Metrics::new());
    assert!(matches!(address, Err(LedgerError::Address(_))));
    Ok(())
}

/// A caller that goes away in the middle of a write leaves neither half a write nor an open transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_cuts_nothing() -> Result<()> {
    let fixture = crate::support::fixture().await?;
    for number in 0..50 {
        let order = fixture.submit(
            &format!("k{number}"),
            crate::support::request("A", "1", "1"),
            "2026-03-02T10:00:00Z",
        );
        // Polled once, then dropped.
        let _ = tokio::time::timeout(Duration::ZERO, fixture.ledger.place(order)).await;
    }
    until_async("all orders to be there", BACK, || async {
        let orders = fixture.text("select count(*)::text from orders").await.ok()?;
        (orders == "50").then_some(())
    })
    .await?;
    assert_eq!(
        fixture.text("select count(*)::text from order_events").await?,
        "50"
    );
    let stuck = "select count(*)::text from pg_stat_activity where datname = current_database() and state like 'idle in%'";
    assert_eq!(fixture.text(stuck).await?, "0");
    Ok(())
}
