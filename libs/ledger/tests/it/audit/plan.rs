//! How the chain is read: what it costs must grow with the events that are read, not with the orders that are there.

use anyhow::Result;

use super::{tamper, until_chained, verify};
use crate::support::{Fixture, at, fill, fixture, request};

/// Enough for a join of all orders with their events to be planned as a pass over both.
const ORDERS: i64 = 5000;
const EVENTS: i64 = 2 * ORDERS;

/// Failed orders: nothing else has to agree with them.
async fn history() -> Result<Fixture> {
    let fixture = fixture().await?;
    tamper(
        &fixture,
        &format!(
            "create temporary table made as
             select p.user_id, p.portfolio_id, gen_random_uuid() as order_id, n, timestamptz '2026-03-02T10:00:00Z' as at
             from portfolios p, generate_series(1, {ORDERS}) n;
             insert into orders (user_id, order_id, portfolio_id, idempotency_key, request_sha256, symbol, side, quantity,
                 limit_price, status, reason, quote_price, quote_as_of, quote_snapshot_id, answer_status, answer_body,
                 created_at, updated_at)
             select user_id, order_id, portfolio_id, 'k' || n, sha256('x'), 'AAPL', 'buy', 1, 10, 'failed', 'vendor_rejected',
                 10, at, order_id, 422, '{{}}', at, at
             from made;
             insert into order_events (user_id, order_id, status, at, seq)
             select user_id, order_id, 'submitted', at, n from made;
             insert into order_events (user_id, order_id, from_status, status, reason, at, seq)
             select user_id, order_id, 'submitted', 'failed', 'vendor_rejected', at, {ORDERS} + n from made;
             analyze"
        ),
    )
    .await?;
    Ok(fixture)
}

/// How orders were read so far, in rows but for the searches.
#[derive(Debug, Clone, Copy)]
struct Reads {
    /// By passes over the table.
    passed: i64,
    /// Searches of any index.
    searches: i64,
    /// What they found.
    searched: i64,
}

impl Reads {
    fn since(self, before: Self) -> Self {
        Self {
            passed: self.passed - before.passed,
            searches: self.searches - before.searches,
            searched: self.searched - before.searched,
        }
    }

    /// Each order by its key, once for each of its events: the server may remember one that it has just seen, and planning
    /// takes a look at the ends of an index.
    fn is_by_key(self) -> bool {
        self.passed == 0 && self.searches >= ORDERS && self.searched < 2 * EVENTS
    }
}

/// A session tells what it has read when it ends, at the latest.
async fn reads(fixture: &mut Fixture) -> Result<Reads> {
    fixture.reopen().await?;
    let found = fixture
        .text("select concat_ws(' ', seq_tup_read, idx_scan, idx_tup_fetch) from pg_stat_user_tables where relname = 'orders'")
        .await?;
    let figures = found
        .split(' ')
        .map(str::parse)
        .collect::<Result<Vec<i64>, _>>()?;
    let [passed, searches, searched] = figures[..] else {
        anyhow::bail!("three figures: {found}")
    };
    Ok(Reads {
        passed,
        searches,
        searched,
    })
}

/// As a plain join, each piece of the chain read all orders: 94 s instead of 27 for a million of them.
#[tokio::test]
async fn each_event_of_the_chain_looks_its_order_up_by_key() -> Result<()> {
    let mut fixture = history().await?;
    let before = reads(&mut fixture).await?;
    // The tables against each other, which is meant to read all orders; there is no chain yet.
    let found = verify(&fixture).await?;
    assert_eq!((found.first_bad, found.events), (None, 0));
    let unchained = reads(&mut fixture).await?;
    let tables = unchained.since(before);
    assert!(tables.passed >= ORDERS, "the passes are not counted: {tables:?}");

    until_chained(&fixture, EVENTS).await?;
    let chained = reads(&mut fixture).await?;
    let making = chained.since(unchained);
    assert!(making.is_by_key(), "making the links: {making:?}");

    let found = verify(&fixture).await?;
    assert_eq!(found.first_bad, None);
    assert_eq!(i64::try_from(found.events)?, EVENTS);
    let walking = reads(&mut fixture).await?.since(chained).since(tables);
    assert!(walking.is_by_key(), "reading the chain: {walking:?}");
    Ok(())
}

/// For statements over many rows the server would spend longer on compiling them than on running them. Each pool opens sessions of its own.
#[tokio::test]
async fn no_session_of_the_ledger_compiles_its_statements() -> Result<()> {
    let fixture = fixture().await?;
    assert_eq!(fixture.text("show jit").await?, "on", "the server's own default");
    fixture
        .by_hand(
            "create table seen (place text, jit text);
             create function note_jit() returns trigger language plpgsql security definer as $$
             begin
                 insert into seen values (tg_table_name, current_setting('jit'));
                 return null;
             end $$;
             create trigger note_jit after insert on users for each statement execute function note_jit();
             create trigger note_jit after insert on orders for each statement execute function note_jit();
             create trigger note_jit after insert on holdings for each statement execute function note_jit()",
        )
        .await?
        .map_err(anyhow::Error::msg)?;
    let when = "2026-03-02T10:00:00Z";
    let other = uuid::Uuid::now_v7();
    fixture.ledger.create_user(other, "Bo", at(when)).await?;
    fixture
        .traded("a", request("AAPL", "1", "10"), fill("10", "1"), when)
        .await?;
    let seen = "select string_agg(distinct place || ' ' || jit, ', ' order by place || ' ' || jit) from seen";
    assert_eq!(fixture.text(seen).await?, "holdings off, orders off, users off");
    Ok(())
}
