//! How unknown orders come to be and end: given up, resolved once, or answered late.

use anyhow::Result;
use fuse_domain::{Fill, OrderStatus, Outcome, Price, Quantity, Reason};
use fuse_ledger::{Order, Resolution, Resolve, Resolved, Settled};
use futures::future::join_all;
use uuid::Uuid;

use crate::support::{Fixture, answer, at, fill, fixture, request};

const WHEN: &str = "2026-03-02T10:00:00Z";

async fn unknown(fixture: &Fixture, key: &str) -> Result<Order> {
    let outcome = Outcome::Unknown(Reason::VendorTimeout);
    fixture
        .traded(key, request("AAPL", "2", "10"), outcome, WHEN)
        .await
}

fn resolve(order_id: Uuid, bought: Option<(&str, &str)>, note: &str) -> Resolve {
    let fill = bought.map(|(price, quantity)| {
        let price = Price::parse(price).expect("a price written in a test");
        Fill::new(
            price,
            Quantity::parse(quantity).expect("a quantity written in a test"),
        )
        .expect("exact")
    });
    Resolve {
        order_id,
        fill,
        told: Resolution {
            actor: "key:test".into(),
            note: note.into(),
        },
        at: at("2026-03-02T12:00:00Z"),
    }
}

#[tokio::test]
async fn a_resolution_books_what_was_bought_once() -> Result<()> {
    let fixture = fixture().await?;
    let order = unknown(&fixture, "a").await?;
    let Resolved::Now(filled) = fixture
        .ledger
        .resolve(resolve(order.id, Some(("9.5", "2")), "asked"))
        .await?
    else {
        anyhow::bail!("not resolved")
    };
    assert_eq!((filled.status, filled.reason), (OrderStatus::Filled, None));
    assert_eq!(
        filled.resolution.as_ref().map(|told| told.note.as_str()),
        Some("asked")
    );
    assert_eq!(
        filled.fill.map(|fill| fill.total.to_string()).as_deref(),
        Some("19")
    );
    // The same again, in other words: nothing changes.
    let again = fixture
        .ledger
        .resolve(resolve(order.id, Some(("9.50", "2")), "asked again"))
        .await?;
    assert_eq!(again, Resolved::Before(filled.clone()));
    for other in [None, Some(("9.6", "2")), Some(("9.5", "1"))] {
        let refused = fixture.ledger.resolve(resolve(order.id, other, "no")).await?;
        assert_eq!(refused, Resolved::Conflict(filled.clone()));
    }
    let held = "select quantity || ' ' || cost || ' ' || h.version || ' ' || p.version from holdings h, portfolios p";
    assert_eq!(fixture.text(held).await?, "2 19.0 1 2");
    let events = "select string_agg(coalesce(from_status, '-') || '>' || status || coalesce(' ' || actor || ': ' || note, ''), ', ' order by txid) from order_events";
    assert_eq!(
        fixture.text(events).await?,
        "->submitted, submitted>unknown, unknown>filled key:test: asked"
    );
    // The client's first answer stays what it was.
    assert_eq!(
        fixture.text("select answer_body from orders").await?,
        answer(201, r#"{"made":"by the test"}"#).body
    );
    Ok(())
}

#[tokio::test]
async fn only_an_unknown_order_can_be_resolved() -> Result<()> {
    let fixture = fixture().await?;
    let submitted = fixture
        .placed(fixture.submit("a", request("AAPL", "2", "10"), WHEN))
        .await?;
    let refused = fixture
        .ledger
        .resolve(resolve(submitted.id, Some(("10", "2")), "no"))
        .await?;
    assert_eq!(refused, Resolved::Conflict(Box::new(submitted)));
    let failed = fixture
        .traded(
            "b",
            request("AAPL", "2", "10"),
            Outcome::Failed(Reason::VendorRejected),
            WHEN,
        )
        .await?;
    let refused = fixture
        .ledger
        .resolve(resolve(failed.id, Some(("10", "2")), "no"))
        .await?;
    assert_eq!(refused, Resolved::Conflict(Box::new(failed)));
    assert_eq!(
        fixture
            .ledger
            .resolve(resolve(Uuid::now_v7(), None, "no"))
            .await?,
        Resolved::NotFound
    );
    assert_eq!(fixture.text("select count(*)::text from holdings").await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_and_a_resolution_race_for_one_outcome() -> Result<()> {
    let fixture = fixture().await?;
    for round in 0..10 {
        let order = unknown(&fixture, &format!("k{round}")).await?;
        let late = fixture
            .ledger
            .settle(fixture.settlement(order.id, fill("10", "2"), WHEN));
        let by_hand = fixture
            .ledger
            .resolve(resolve(order.id, None, "the vendor says no"));
        let (late, by_hand) = tokio::join!(late, by_hand);
        let found = fixture.order(order.id).await?;
        match (late?, by_hand?, found.status) {
            (Settled::Late(_), Resolved::Conflict(_), OrderStatus::Filled) => {
                assert_eq!(
                    found.resolution.map(|told| told.actor).as_deref(),
                    Some("service")
                );
            }
            (Settled::Before(..), Resolved::Now(_), OrderStatus::Failed) => {}
            other => anyhow::bail!("round {round}: {other:?}"),
        }
    }
    let difference = "select (count(*) filter (where status = 'filled') - coalesce((select sum(version) from holdings), 0))::text from orders";
    assert_eq!(fixture.text(difference).await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_resolutions_at_once_are_one() -> Result<()> {
    let fixture = fixture().await?;
    let order = unknown(&fixture, "a").await?;
    let all = (0..50).map(|_| {
        fixture
            .ledger
            .resolve(resolve(order.id, Some(("10", "2")), "asked"))
    });
    let mut now = 0;
    for outcome in join_all(all).await {
        match outcome? {
            Resolved::Now(_) => now += 1,
            Resolved::Before(_) => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
    assert_eq!(now, 1);
    assert_eq!(
        fixture
            .text("select quantity || ' ' || version from holdings")
            .await?,
        "2 1"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_submitted_for_too_long_is_found_and_given_up_once() -> Result<()> {
    let fixture = fixture().await?;
    let old = fixture
        .placed(fixture.submit("a", request("AAPL", "2", "10"), "2026-03-02T10:00:00Z"))
        .await?;
    fixture
        .placed(fixture.submit("b", request("AAPL", "2", "10"), "2026-03-02T10:00:30Z"))
        .await?;
    let found = fixture
        .ledger
        .submitted_before(at("2026-03-02T10:00:20Z"), 10)
        .await?;
    assert_eq!(found, std::slice::from_ref(&old));
    let given_up = || {
        fixture.settlement(
            old.id,
            Outcome::Unknown(Reason::Interrupted),
            "2026-03-02T10:00:40Z",
        )
    };
    let (one, two) = tokio::join!(
        fixture.ledger.settle(given_up()),
        fixture.ledger.settle(given_up())
    );
    let both = [one?, two?];
    assert_eq!(
        both.iter().filter(|settled| **settled == Settled::Now).count(),
        1,
        "{both:?}"
    );
    // The vendor's answer, when it comes after that, is the resolution; a repeat gets the answer of the first.
    let late = fixture
        .ledger
        .settle(fixture.settlement(old.id, fill("10", "2"), WHEN))
        .await?;
    assert_eq!(late, Settled::Late(answer(201, r#"{"made":"by the test"}"#)));
    assert_eq!(fixture.order(old.id).await?.status, OrderStatus::Filled);
    assert_eq!(
        fixture
            .text("select quantity || ' ' || version from holdings")
            .await?,
        "2 1"
    );
    Ok(())
}

/// The database comes back: the sweep and the outcome that was kept meanwhile meet in one batch.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_beats_a_sweep_at_the_same_moment() -> Result<()> {
    let fixture = fixture().await?;
    for round in 0..20 {
        let key = format!("k{round}");
        let order = fixture
            .placed(fixture.submit(&key, request("AAPL", "1", "10"), WHEN))
            .await?;
        let sweep =
            fixture
                .ledger
                .settle(fixture.settlement(order.id, Outcome::Unknown(Reason::Interrupted), WHEN));
        let kept = fixture
            .ledger
            .settle(fixture.settlement(order.id, fill("10", "1"), WHEN));
        let (_, kept) = tokio::join!(sweep, kept);
        // Repeated by its keeper, if it met the sweep's own statement.
        if kept.is_err() {
            fixture
                .ledger
                .settle(fixture.settlement(order.id, fill("10", "1"), WHEN))
                .await?;
        }
        assert_eq!(
            fixture.order(order.id).await?.status,
            OrderStatus::Filled,
            "round {round}"
        );
    }
    assert_eq!(
        fixture
            .text("select quantity || ' ' || version from holdings")
            .await?,
        "20 20"
    );
    Ok(())
}

#[tokio::test]
async fn one_process_leads_until_it_is_gone() -> Result<()> {
    let fixture = fixture().await?;
    let mut first = fixture.ledger.try_lead().await?.expect("nobody leads yet");
    assert!(first.holds().await);
    assert!(fixture.ledger.try_lead().await?.is_none());
    let kill = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted
        and database = (select oid from pg_database where datname = current_database())";
    fixture.by_hand(kill).await?.map_err(anyhow::Error::msg)?;
    assert!(!first.holds().await);
    let mut second = fixture.ledger.try_lead().await?.expect("the first is gone");
    assert!(second.holds().await);
    Ok(())
}
