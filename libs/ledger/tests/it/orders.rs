//! Placing and settling.

use anyhow::Result;
use fuse_domain::{OrderStatus, Outcome, Reason};
use fuse_ledger::{Decision, OrderFilter, Placed, Settled};
use uuid::Uuid;

use crate::support::{answer, at, fill, fixture, request};

#[tokio::test]
async fn an_order_is_committed_as_submitted_and_then_filled_exactly() -> Result<()> {
    let fixture = fixture().await?;
    let when = "2026-03-02T10:00:00Z";
    let submitted = fixture
        .placed(fixture.submit("a", request("AAPL", "4.5", "19.8"), when))
        .await?;
    assert_eq!(submitted.status, OrderStatus::Submitted);
    assert_eq!(fixture.text("select status from orders").await?, "submitted");
    assert_eq!(
        fixture.ledger.order(Some(fixture.user), submitted.id).await?,
        Some(submitted.clone())
    );

    let settle = fixture.settlement(submitted.id, fill("19.71107", "4.5"), "2026-03-02T10:00:01Z");
    assert_eq!(fixture.ledger.settle(settle).await?, Settled::Now);
    let filled = fixture.order(submitted.id).await?;
    assert_eq!(filled.status, OrderStatus::Filled);
    assert_eq!(
        filled.fill.map(|fill| fill.total.to_string()).as_deref(),
        Some("88.699815")
    );
    assert_eq!(filled.updated_at, at("2026-03-02T10:00:01Z"));
    assert_eq!(filled.request, submitted.request);

    let portfolio = fixture
        .ledger
        .portfolio(Some(fixture.user), fixture.user)
        .await?
        .expect("the default one");
    assert_eq!(portfolio.portfolio.version, 2);
    let [holding] = &portfolio.holdings[..] else {
        anyhow::bail!("{:?}", portfolio.holdings)
    };
    assert_eq!(
        (holding.quantity.to_string(), holding.cost.to_string()),
        ("4.5".into(), "88.699815".into())
    );
    let events = fixture
        .text("select string_agg(status, ',' order by txid, seq) from order_events")
        .await?;
    assert_eq!(events, "submitted,filled");
    Ok(())
}

#[tokio::test]
async fn holdings_are_the_exact_fold_of_many_fills_at_once() -> Result<()> {
    let fixture = fixture().await?;
    let prices = [
        "19.71107",
        "0.000000001",
        "123.45000000000002",
        "0.1",
        "1000000000",
        "7",
    ];
    let trades = (0..60).map(|number| {
        let price = prices[number % prices.len()];
        let fixture = &fixture;
        async move {
            let request = request("AAPL", "4.5", "10");
            fixture
                .traded(
                    &format!("k{number}"),
                    request,
                    fill(price, "4.5"),
                    "2026-03-02T10:00:00Z",
                )
                .await
        }
    });
    for traded in futures::future::join_all(trades).await {
        traded?;
    }
    let portfolio = fixture
        .ledger
        .portfolio(None, fixture.user)
        .await?
        .expect("the default one");
    assert_eq!(portfolio.portfolio.version, 61, "one step per fill, none lost");
    let holding = &portfolio.holdings[0];
    assert_eq!(holding.quantity.to_string(), "270");
    // 45 times the sum of the six prices.
    assert_eq!(holding.cost.to_string(), "45000006761.7481500450009");
    let difference = fixture
        .text(
            "select ((select sum(cost) from holdings) - (select sum(fill_total) from orders))::float8::text",
        )
        .await?;
    assert_eq!(difference, "0");
    Ok(())
}

#[tokio::test]
async fn settling_twice_changes_nothing_whatever_the_second_says() -> Result<()> {
    let fixture = fixture().await?;
    let order = fixture
        .traded(
            "a",
            request("AAPL", "2", "10"),
            fill("10", "2"),
            "2026-03-02T10:00:00Z",
        )
        .await?;
    let again = fixture.settlement(
        order.id,
        Outcome::Failed(Reason::VendorRejected),
        "2026-03-02T11:00:00Z",
    );
    let Settled::Before(found, first) = fixture.ledger.settle(again).await? else {
        anyhow::bail!("settled twice")
    };
    assert_eq!(*found, order);
    assert_eq!(first, answer(201, r#"{"made":"by the test"}"#));
    let settlements = (0..20).map(|_| {
        fixture
            .ledger
            .settle(fixture.settlement(order.id, fill("10", "2"), "2026-03-02T10:00:00Z"))
    });
    for outcome in futures::future::join_all(settlements).await {
        assert!(matches!(outcome?, Settled::Before(..)));
    }
    assert_eq!(
        fixture
            .text("select quantity::text || ' ' || version from holdings")
            .await?,
        "2 1"
    );
    assert_eq!(
        fixture.text("select count(*)::text from order_events").await?,
        "2"
    );
    let stranger = fuse_ledger::Settle {
        user_id: Uuid::now_v7(),
        ..fixture.settlement(order.id, fill("10", "2"), "2026-03-02T10:00:00Z")
    };
    assert_eq!(fixture.ledger.settle(stranger).await?, Settled::NotFound);
    Ok(())
}

#[tokio::test]
async fn failed_and_unknown_book_nothing() -> Result<()> {
    let fixture = fixture().await?;
    let when = "2026-03-02T10:00:00Z";
    let failed = Outcome::Failed(Reason::VendorRejected);
    let unknown = Outcome::Unknown(Reason::VendorTimeout);
    assert_eq!(
        fixture
            .traded("a", request("A", "1", "1"), failed, when)
            .await?
            .status,
        OrderStatus::Failed
    );
    assert_eq!(
        fixture
            .traded("b", request("A", "1", "1"), unknown, when)
            .await?
            .status,
        OrderStatus::Unknown
    );
    let portfolio = fixture
        .ledger
        .portfolio(None, fixture.user)
        .await?
        .expect("the default one");
    assert_eq!((portfolio.portfolio.version, portfolio.holdings.len()), (1, 0));

    fixture
        .placed(fixture.submit("c", request("A", "1", "1"), when))
        .await?;
    fixture.ledger.observe(at("2026-03-02T10:10:00Z")).await?;
    for state in ["submitted", "unknown"] {
        assert_eq!(
            fixture
                .metric(&format!("fuse_orders_open{{state=\"{state}\"}}"))
                .as_deref(),
            Some("1")
        );
        assert_eq!(
            fixture
                .metric(&format!("fuse_orders_open_oldest_seconds{{state=\"{state}\"}}"))
                .as_deref(),
            Some("600")
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_to_the_byte() -> Result<()> {
    let fixture = fixture().await?;
    let when = "2026-03-02T10:00:00Z";
    let first = fixture.submit("key", request("AAPL", "2", "10"), when);
    let order = fixture.placed(first.clone()).await?;
    let repeat = || fuse_ledger::SubmitOrder {
        id: Uuid::now_v7(),
        ..first.clone()
    };
    assert_eq!(
        fixture.ledger.place(repeat()).await?,
        Placed::InFlight { order_id: order.id }
    );

    let body = "{\"id\":\"…\",\r\n  \"odd spacing\" : 1.50}\u{1f4c8}";
    let settle = fuse_ledger::Settle {
        answer: answer(202, body),
        ..fixture.settlement(order.id, Outcome::Unknown(Reason::VendorReset), when)
    };
    fixture.ledger.settle(settle).await?;
    assert_eq!(
        fixture.ledger.place(repeat()).await?,
        Placed::Replay(answer(202, body))
    );

    let other = fuse_ledger::SubmitOrder {
        request_sha256: [8; 32],
        ..repeat()
    };
    assert_eq!(fixture.ledger.place(other).await?, Placed::KeyReused);
    // Another user's key of the same name is another key.
    let stranger = Uuid::now_v7();
    fixture.ledger.create_user(stranger, "Bob", at(when)).await?;
    let theirs = fuse_ledger::SubmitOrder {
        user_id: stranger,
        ..repeat()
    };
    assert!(matches!(fixture.ledger.place(theirs).await?, Placed::New(_)));
    for result in ["replay", "progress", "mismatch"] {
        assert_eq!(
            fixture
                .metric(&format!("fuse_idempotency_hits_total{{result=\"{result}\"}}"))
                .as_deref(),
            Some("1")
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_hundred_at_once_under_one_key_are_one_order() -> Result<()> {
    let fixture = fixture().await?;
    let first = fixture.submit("key", request("AAPL", "2", "10"), "2026-03-02T10:00:00Z");
    let all = (0..100).map(|_| {
        fixture.ledger.place(fuse_ledger::SubmitOrder {
            id: Uuid::now_v7(),
            ..first.clone()
        })
    });
    let mut new = 0;
    for placed in futures::future::join_all(all).await {
        match placed? {
            Placed::New(_) => new += 1,
            Placed::InFlight { .. } => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
    assert_eq!(new, 1);
    assert_eq!(fixture.text("select count(*)::text from orders").await?, "1");
    assert_eq!(
        fixture.text("select count(*)::text from order_events").await?,
        "1"
    );
    Ok(())
}

#[tokio::test]
async fn a_rejected_order_is_kept_with_its_answer_and_moves_nothing() -> Result<()> {
    let fixture = fixture().await?;
    let rejected = fuse_ledger::SubmitOrder {
        quote: None,
        decision: Decision::Rejected {
            reason: Reason::UnknownSymbol,
            answer: answer(422, "no such stock"),
        },
        ..fixture.submit("key", request("NOPE", "2", "10"), "2026-03-02T10:00:00Z")
    };
    let order = fixture.placed(rejected.clone()).await?;
    assert_eq!(
        (order.status, order.reason),
        (OrderStatus::Rejected, Some(Reason::UnknownSymbol))
    );
    assert_eq!(
        fixture.ledger.place(rejected).await?,
        Placed::Replay(answer(422, "no such stock"))
    );
    assert_eq!(fixture.text("select version::text from portfolios").await?, "1");
    Ok(())
}

#[tokio::test]
async fn an_order_needs_a_portfolio_of_its_user_and_a_free_name() -> Result<()> {
    let fixture = fixture().await?;
    let order = fixture.submit("a", request("A", "1", "1"), "2026-03-02T10:00:00Z");
    let elsewhere = fuse_ledger::SubmitOrder {
        portfolio_id: Some(Uuid::now_v7()),
        ..order.clone()
    };
    assert_eq!(fixture.ledger.place(elsewhere).await?, Placed::PortfolioNotFound);
    let nobody = fuse_ledger::SubmitOrder {
        user_id: Uuid::now_v7(),
        ..order.clone()
    };
    assert_eq!(fixture.ledger.place(nobody).await?, Placed::PortfolioNotFound);
    let named = fuse_ledger::SubmitOrder {
        client_order_id: Some("mine".into()),
        ..order
    };
    fixture.placed(named.clone()).await?;
    let same_name = fuse_ledger::SubmitOrder {
        id: Uuid::now_v7(),
        client_order_id: Some("mine".into()),
        ..fixture.submit("b", request("A", "1", "1"), "2026-03-02T10:00:00Z")
    };
    assert_eq!(fixture.ledger.place(same_name).await?, Placed::ClientOrderIdTaken);
    assert_eq!(fixture.text("select count(*)::text from orders").await?, "1");
    Ok(())
}

#[tokio::test]
async fn lists_are_filtered_paged_and_of_one_user() -> Result<()> {
    let fixture = fixture().await?;
    let mut ids = Vec::new();
    for number in 0..5 {
        let symbol = if number % 2 == 0 { "EVEN" } else { "ODD" };
        let when = format!("2026-03-0{}T10:00:00Z", number + 1);
        ids.push(
            fixture
                .traded(
                    &format!("k{number}"),
                    request(symbol, "1", "1"),
                    fill("1", "1"),
                    &when,
                )
                .await?
                .id,
        );
    }
    ids.reverse();
    let mine = OrderFilter {
        user_id: Some(fixture.user),
        ..OrderFilter::default()
    };
    let first = fixture.ledger.orders(&mine, None, 2).await?;
    let second = fixture.ledger.orders(&mine, first.next, 2).await?;
    let third = fixture.ledger.orders(&mine, second.next, 2).await?;
    assert_eq!(third.next, None);
    let walked: Vec<Uuid> = [first, second, third]
        .iter()
        .flat_map(|page| page.items.iter().map(|order| order.id))
        .collect();
    assert_eq!(walked, ids);

    let check = |filter: OrderFilter, count: usize| {
        let ledger = fixture.ledger.clone();
        async move {
            let found = ledger.orders(&filter, None, 100).await?.items.len();
            anyhow::ensure!(found == count, "{found} instead of {count} for {filter:?}");
            anyhow::Ok(())
        }
    };
    check(OrderFilter::default(), 5).await?;
    check(
        OrderFilter {
            symbol: Some(request("ODD", "1", "1").symbol),
            ..mine.clone()
        },
        2,
    )
    .await?;
    check(
        OrderFilter {
            status: Some(OrderStatus::Failed),
            ..mine.clone()
        },
        0,
    )
    .await?;
    check(
        OrderFilter {
            created_from: Some(at("2026-03-03T10:00:00Z")),
            ..mine.clone()
        },
        3,
    )
    .await?;
    check(
        OrderFilter {
            created_before: Some(at("2026-03-03T10:00:00Z")),
            ..mine.clone()
        },
        2,
    )
    .await?;
    check(
        OrderFilter {
            portfolio_id: Some(fixture.user),
            ..mine.clone()
        },
        5,
    )
    .await?;
    check(
        OrderFilter {
            client_order_id: Some("x".into()),
            ..mine
        },
        0,
    )
    .await?;
    check(
        OrderFilter {
            user_id: Some(Uuid::now_v7()),
            ..OrderFilter::default()
        },
        0,
    )
    .await?;
    let stranger = Some(Uuid::now_v7());
    assert_eq!(fixture.ledger.order(stranger, ids[0]).await?, None);
    assert!(fixture.ledger.order(None, ids[0]).await?.is_some());
    Ok(())
}
