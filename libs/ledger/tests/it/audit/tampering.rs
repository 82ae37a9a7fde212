//! What was changed behind the service's back is found and named.

use anyhow::Result;
use fuse_domain::ChainHead;
use fuse_ledger::{Invariant, VerifyOptions};

use super::{ledger, tamper, verify};

/// One change; the check must name the row.
async fn check(sql: &str, invariant: Invariant, row: &str, problem: &str) -> Result<()> {
    let fixture = ledger().await?;
    assert_eq!(verify(&fixture).await?.first_bad, None);
    assert_eq!(fixture.metric("fuse_ledger_chain_valid").as_deref(), Some("1"));
    tamper(&fixture, sql).await?;
    let found = verify(&fixture).await?;
    let bad = found
        .first_bad
        .clone()
        .unwrap_or_else(|| panic!("not found: {sql}"));
    assert_eq!(bad.invariant, invariant, "{bad:?}");
    assert!(bad.row.contains(row), "{bad:?}");
    assert!(bad.problem.contains(problem), "{bad:?}");
    assert!(!found.is_valid());
    let gauge = format!(
        "fuse_ledger_invariant_violations{{invariant=\"{}\"}}",
        invariant.as_str()
    );
    assert_ne!(fixture.metric(&gauge).as_deref(), Some("0"));
    Ok(())
}

#[tokio::test]
async fn a_flipped_byte_of_an_event_is_named() -> Result<()> {
    let event =
        "(select order_id from order_events where status = 'filled' order by txid, seq limit 1 offset 7)";
    let sql = format!(
        "update order_events set at = at + interval '1 microsecond' where status = 'filled' and order_id = {event}"
    );
    check(&sql, Invariant::Chain, " filled", "was changed").await
}

#[tokio::test]
async fn what_an_order_asked_for_is_covered_too() -> Result<()> {
    check(
        "update orders set limit_price = 10.26 where idempotency_key = 'k1-4'",
        Invariant::Chain,
        "order_events",
        "what its order asked for, was changed",
    )
    .await
}

#[tokio::test]
async fn a_deleted_event_is_missed() -> Result<()> {
    check(
        "delete from order_events where status = 'failed' and order_id = (select order_id from orders where idempotency_key = 'k1-3')",
        Invariant::Chain,
        "of link 2",
        "was deleted",
    )
    .await
}

#[tokio::test]
async fn an_event_that_was_slipped_in_is_named() -> Result<()> {
    check(
        "insert into order_events (user_id, order_id, from_status, status, reason, at, txid, seq)
         select user_id, order_id, from_status, 'unknown', 'interrupted', at, txid, seq + 1000 from order_events
         where status = 'filled' order by txid limit 1",
        Invariant::Chain,
        " unknown",
        "added after the chain had passed it",
    )
    .await
}

#[tokio::test]
async fn a_link_that_was_made_anew_breaks_the_next() -> Result<()> {
    check(
        "update order_event_chain set hash = sha256('x') where link = 2",
        Invariant::Chain,
        "order_event_chain 2",
        "hash",
    )
    .await
}

#[tokio::test]
async fn a_cut_tail_is_seen_by_who_kept_a_head() -> Result<()> {
    let fixture = ledger().await?;
    let head = fixture.ledger.chain_head().await?.expect("a chain");
    let last = "select last_txid::text from order_event_chain where link = 2";
    let last = fixture.text(last).await?;
    tamper(
        &fixture,
        &format!(
            "delete from order_event_chain where link = 3;
             delete from holdings; update portfolios set version = 1 + (select count(*) from orders o where status = 'filled'
                 and exists (select from order_events e where e.order_id = o.order_id and e.status = 'filled' and e.txid <= '{last}'));
             delete from order_events where txid > '{last}';
             delete from orders o where not exists (select from order_events e where e.order_id = o.order_id);
             insert into holdings (user_id, portfolio_id, symbol, quantity, cost, version, updated_at)
             select user_id, portfolio_id, symbol, sum(fill_quantity), sum(fill_total), count(*), max(updated_at)
             from orders where status = 'filled' group by 1, 2, 3"
        ),
    )
    .await?;
    assert_eq!(verify(&fixture).await?.first_bad, None, "nothing inside shows it");
    let kept = VerifyOptions { anchors: vec![head] };
    let found = fixture.ledger.verify(&kept, |_| ()).await?;
    let bad = found.first_bad.expect("the anchor shows it");
    assert!(
        bad.row.contains("anchor (link 3)") && bad.problem.contains("ends before"),
        "{bad:?}"
    );
    let text: ChainHead = format!("2:{}", "0".repeat(64)).parse()?;
    let found = fixture
        .ledger
        .verify(&VerifyOptions { anchors: vec![text] }, |_| ())
        .await?;
    assert!(
        found
            .first_bad
            .is_some_and(|bad| bad.problem.contains("another hash"))
    );
    Ok(())
}

#[tokio::test]
async fn a_changed_holding_is_named() -> Result<()> {
    check(
        "update holdings set quantity = quantity + 1",
        Invariant::Holdings,
        " AAPL",
        "not the sum of its filled orders",
    )
    .await
}

#[tokio::test]
async fn an_order_that_was_turned_round_is_named() -> Result<()> {
    check(
        "update orders set status = 'failed', reason = 'vendor_rejected', fill_price = null, fill_quantity = null,
             fill_total = null where idempotency_key = 'k2-4'",
        Invariant::Events,
        "orders ",
        "not what its events made of it",
    )
    .await
}

#[tokio::test]
async fn an_answer_that_was_rewritten_is_named() -> Result<()> {
    check(
        "update orders set answer_body = answer_body || ' ' where idempotency_key = 'k2-4'",
        Invariant::Chain,
        " filled",
        "was changed",
    )
    .await
}

#[tokio::test]
async fn a_version_that_skips_and_an_order_that_was_sent_twice_are_named() -> Result<()> {
    check(
        "update portfolios set version = version + 1",
        Invariant::Versions,
        "portfolios ",
        "not one more than its fills",
    )
    .await?;
    check(
        r#"update orders set attempts = '[{"reached":"sent"},{"reached":"answered"}]' where idempotency_key = 'k0-1'"#,
        Invariant::Chain,
        "order_events",
        "was changed",
    )
    .await
}

#[tokio::test]
async fn a_portfolio_that_is_gone_is_missed() -> Result<()> {
    check(
        "delete from portfolios",
        Invariant::Versions,
        "portfolios ",
        "is gone",
    )
    .await
}
