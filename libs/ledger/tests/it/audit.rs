//! The hash chain and the check of everything: what was changed behind the service's back is found and named.

mod columns;
mod plan;

use anyhow::Result;
use fuse_domain::{ChainHead, OrderStatus, Outcome, Reason};
use fuse_ledger::{Decision, Invariant, Resolution, Resolve, Resolved, Settle, Verification, VerifyOptions};
use jiff::Timestamp;

use crate::support::{Fixture, answer, at, fill, fixture, request};

/// Far enough from the events' own times for every link to be due.
const LATER: &str = "2026-03-03T10:00:00Z";
/// Random histories of up to sixty orders each.
const HISTORIES: u32 = 24;

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

/// How an order of a history ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Rejected,
    Submitted,
    Filled,
    Failed,
    Unknown,
    /// Given up by the sweep, and then the vendor's answer came.
    SweptThenFilled,
    SweptThenFailed,
    /// Unknown, and then a person said what became of it.
    ResolvedFilled,
    ResolvedFailed,
}

impl End {
    const ALL: [Self; 9] = [
        Self::Rejected,
        Self::Submitted,
        Self::Filled,
        Self::Failed,
        Self::Unknown,
        Self::SweptThenFilled,
        Self::SweptThenFailed,
        Self::ResolvedFilled,
        Self::ResolvedFailed,
    ];

    fn status(self) -> OrderStatus {
        match self {
            Self::Rejected => OrderStatus::Rejected,
            Self::Submitted => OrderStatus::Submitted,
            Self::Filled | Self::SweptThenFilled | Self::ResolvedFilled => OrderStatus::Filled,
            Self::Failed | Self::SweptThenFailed | Self::ResolvedFailed => OrderStatus::Failed,
            Self::Unknown => OrderStatus::Unknown,
        }
    }
}

/// One order: whose, of what, how many billionths of a share, and how it ends.
type Step = (usize, usize, u32, End);

/// The fold of any history is what the tables hold: random orders with random ends, by hand counted.
#[tokio::test(flavor = "multi_thread")]
async fn the_fold_of_any_legal_history_equals_the_tables() -> Result<()> {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    let mut runner = TestRunner::new(Config {
        cases: HISTORIES,
        ..Config::default()
    });
    let step = (
        0_usize..4,
        0_usize..3,
        1_u32..1_000_000,
        prop::sample::select(&End::ALL[..]),
    );
    let histories = prop::collection::vec(step, 1..60);
    let fixture = fixture().await?;
    let handle = tokio::runtime::Handle::current();
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&histories, |history| {
            handle
                .block_on(play(&fixture, &history))
                .map_err(|error| TestCaseError::fail(error.to_string()))
        })
    });
    outcome.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Plays one history all at once, for users of its own, and checks everything.
async fn play(fixture: &Fixture, history: &[Step]) -> Result<()> {
    let mut users = Vec::new();
    for _ in 0..4 {
        let user = uuid::Uuid::now_v7();
        fixture
            .ledger
            .create_user(user, "Bo", at("2026-03-02T10:00:00Z"))
            .await?;
        users.push(user);
    }
    let run = history
        .iter()
        .enumerate()
        .map(|(number, step)| play_step(fixture, users[step.0], number, *step));
    futures::future::try_join_all(run).await?;
    fixture.ledger.extend_chain(at(LATER)).await?;
    let found = verify(fixture).await?;
    anyhow::ensure!(found.is_valid(), "{:?}", found.first_bad);
    let ids = users
        .iter()
        .map(|user| format!("'{user}'"))
        .collect::<Vec<_>>()
        .join(", ");
    // The same with integers: a billionth of a share, in billionths of a billionth of money.
    let filled = history
        .iter()
        .filter(|step| step.3.status() == OrderStatus::Filled);
    let nanos: u128 = filled.map(|step| u128::from(step.2)).sum();
    let sums = format!(
        "select coalesce(sum(trunc(quantity * 1e9)), 0) || ' ' || coalesce(sum(trunc(cost * 1e18)), 0) from holdings where user_id in ({ids})"
    );
    let (held, expected) = (
        fixture.text(&sums).await?,
        format!("{nanos} {}", nanos * 3_000_000_001),
    );
    anyhow::ensure!(held == expected, "held {held}, filled {expected}");
    let mut expected = std::collections::BTreeMap::new();
    for step in history {
        *expected.entry(step.3.status().as_str()).or_insert(0) += 1;
    }
    let counts = format!(
        "select json_object_agg(status, orders)::text from (select status, count(*) as orders from orders where user_id in ({ids}) group by 1) c"
    );
    let counts: serde_json::Value = serde_json::from_str(&fixture.text(&counts).await?)?;
    anyhow::ensure!(
        counts == serde_json::json!(expected),
        "{counts}, expected {expected:?}"
    );
    Ok(())
}

async fn play_step(fixture: &Fixture, user_id: uuid::Uuid, number: usize, step: Step) -> Result<()> {
    const SYMBOLS: [&str; 3] = ["AAPL", "MSFT", "NVDA"];
    let (_, symbol, nanos, end) = step;
    let quantity = format!("0.{nanos:09}");
    let mut order = fixture.submit(
        &format!("k{number}"),
        request(SYMBOLS[symbol], &quantity, "3.000000007"),
        "2026-03-02T10:00:00Z",
    );
    order.user_id = user_id;
    if matches!(end, End::Rejected) {
        order.decision = Decision::Rejected {
            reason: Reason::PriceOutOfBand,
            answer: answer(422, "{}"),
        };
    }
    let id = order.id;
    fixture.ledger.place(order).await?;
    let filled = fill("3.000000001", &quantity);
    let failed = Outcome::Failed(Reason::VendorRejected);
    let unknown = Outcome::Unknown(Reason::VendorReset);
    let swept = Outcome::Unknown(Reason::Interrupted);
    let (outcomes, resolution) = match end {
        End::Rejected | End::Submitted => (vec![], None),
        End::Filled => (vec![filled], None),
        End::Failed => (vec![failed], None),
        End::Unknown => (vec![unknown], None),
        End::SweptThenFilled => (vec![swept, filled], None),
        End::SweptThenFailed => (vec![swept, failed], None),
        End::ResolvedFilled => (vec![unknown], Some(filled.fill().copied())),
        End::ResolvedFailed => (vec![unknown], Some(None)),
    };
    for outcome in outcomes {
        let settle = Settle {
            user_id,
            ..fixture.settlement(id, outcome, "2026-03-02T10:00:01Z")
        };
        fixture.ledger.settle(settle).await?;
    }
    if let Some(fill) = resolution {
        let told = Resolution {
            actor: "key:test".into(),
            note: "asked".into(),
        };
        let resolve = Resolve {
            order_id: id,
            fill,
            told,
            at: at("2026-03-02T12:00:00Z"),
        };
        let resolved = fixture.ledger.resolve(resolve).await?;
        anyhow::ensure!(matches!(resolved, Resolved::Now(_)), "{resolved:?}");
    }
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
