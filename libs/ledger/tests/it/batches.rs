//! Group commit: one statement for what is queued, one outcome for each order, whatever its neighbours are.

use std::task::Poll;
use std::time::Duration;

use anyhow::Result;
use fuse_domain::{OrderStatus, Outcome, Reason};
use fuse_harness::wait;
use fuse_ledger::{LedgerError, Placed, Settled};
use futures::future::{join, join_all};
use uuid::Uuid;

use crate::support::{Fixture, fill, fixture, request};

const WHEN: &str = "2026-03-02T10:00:00Z";
/// The bounds of a writer.
const QUEUE_MAX: usize = 4096;
const BATCH_MAX: u64 = 512;
const SOON: Duration = Duration::from_secs(20);

/// Statements that a kind of write has needed, and the orders in them.
fn batches(fixture: &Fixture, statement: &str) -> (u64, u64) {
    let read = |part: &str| {
        let line = format!("fuse_order_batch_size_{part}{{statement=\"{statement}\"}}");
        fixture
            .metric(&line)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    (read("count"), read("sum"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_shares_a_statement_and_each_order_has_its_outcome() -> Result<()> {
    let fixture = fixture().await?;
    let orders: Vec<_> = (0..400)
        .map(|number| fixture.submit(&format!("k{number}"), request("AAPL", "1", "10"), WHEN))
        .collect();
    let ids: Vec<Uuid> = orders.iter().map(|order| order.id).collect();
    for (placed, id) in join_all(orders.into_iter().map(|order| fixture.ledger.place(order)))
        .await
        .into_iter()
        .zip(&ids)
    {
        let Placed::New(order) = placed? else {
            anyhow::bail!("not new")
        };
        assert_eq!((order.id, order.status), (*id, OrderStatus::Submitted));
    }
    let settlements = ids.iter().enumerate().map(|(index, id)| {
        let outcome = match index % 4 {
            0 => Outcome::Failed(Reason::VendorRejected),
            1 => Outcome::Unknown(Reason::VendorTimeout),
            _ => fill("10.5", "1"),
        };
        fixture.ledger.settle(fixture.settlement(*id, outcome, WHEN))
    });
    for settled in join_all(settlements).await {
        assert_eq!(settled?, Settled::Now);
    }
    for statement in ["place", "settle"] {
        let (statements, orders) = batches(&fixture, statement);
        assert_eq!(orders, 400, "{statement}");
        assert!(
            statements < 100,
            "{statement}: {statements} statements for 400 orders"
        );
    }
    let held = "select quantity || ' ' || cost || ' ' || version from holdings";
    assert_eq!(fixture.text(held).await?, "200 2100.0 200");
    assert_eq!(fixture.text("select version::text from portfolios").await?, "201");
    let seqs = "select count(distinct (txid, seq)) || ' ' || count(*) from order_events";
    assert_eq!(fixture.text(seqs).await?, "800 800");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_order_fails_alone() -> Result<()> {
    let fixture = fixture().await?;
    let orders: Vec<_> = (0..60)
        .map(|number| {
            let mut order = fixture.submit(&format!("k{number}"), request("AAPL", "1", "10"), WHEN);
            if number == 17 {
                // No quote: the schema refuses to let it go to the vendor.
                order.quote = None;
            }
            order
        })
        .collect();
    let outcomes = join_all(orders.into_iter().map(|order| fixture.ledger.place(order))).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Err(LedgerError::Refused(_)) if number == 17 => {}
            Ok(Placed::New(_)) if number != 17 => {}
            other => anyhow::bail!("order {number}: {other:?}"),
        }
    }
    assert_eq!(fixture.text("select count(*)::text from orders").await?, "59");
    assert_eq!(
        fixture.text("select count(*)::text from order_events").await?,
        "59"
    );
    Ok(())
}

/// A key's limit counts every new order once: neither repeats nor other users' orders nor what is rejected.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_lets_exactly_so_many_new_orders_through() -> Result<()> {
    let fixture = fixture().await?;
    let other = Uuid::now_v7();
    fixture
        .ledger
        .create_user(other, "Bo", crate::support::at(WHEN))
        .await?;
    let key_id = Uuid::now_v7();
    let limited = |key: &str, user: Uuid| {
        let mut order = fixture.submit(key, request("AAPL", "1", "10"), WHEN);
        order.user_id = user;
        order.key_id = Some(key_id);
        order.daily = Some(fuse_ledger::DailyLimit {
            max: 2,
            day_begins: Uuid::nil(),
            answer_body: "too many".to_owned(),
        });
        order
    };
    fixture.placed(limited("first", fixture.user)).await?;
    // A repeat three times, then one new order of this user, and two of another one: all are within the limit.
    let mut orders = vec![
        limited("first", fixture.user),
        limited("first", fixture.user),
        limited("first", fixture.user),
    ];
    orders.extend([
        limited("second", fixture.user),
        limited("a", other),
        limited("b", other),
    ]);
    let outcomes = join_all(orders.into_iter().map(|order| fixture.ledger.place(order))).await;
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match outcome? {
            Placed::InFlight { .. } if index < 3 => {}
            Placed::New(order) if index >= 3 => assert_eq!(order.status, OrderStatus::Submitted, "{index}"),
            other => anyhow::bail!("{index}: {other:?}"),
        }
    }
    for (key, user) in [("third", fixture.user), ("c", other)] {
        let Placed::New(order) = fixture.ledger.place(limited(key, user)).await? else {
            anyhow::bail!("not new")
        };
        assert_eq!(order.reason, Some(Reason::DailyLimitReached));
    }
    Ok(())
}

/// A deadlock inside a batch: hand-made, as two batches of ours lock in one order and cannot make one.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_or_a_held_row_costs_a_repeat_and_no_order() -> Result<()> {
    let fixture = fixture().await?;
    let mut ids = Vec::new();
    for number in 0..20 {
        let order = fixture.submit(&format!("k{number}"), request("AAPL", "1", "10"), WHEN);
        ids.push(fixture.placed(order).await?.id);
    }
    // The last order is held until the batch, which then holds the one before, must wait for it; then that one is wanted.
    let (wanted, last) = (ids[18], ids[19]);
    let mut other = fixture.connection().await?;
    let lock = |id: Uuid| format!("select from orders where order_id = '{id}' for update");
    let run = async |connection: &mut sqlx::PgConnection, sql: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(connection)
            .await
            .map(drop)
    };
    run(
        &mut other,
        format!("begin; set local deadlock_timeout = '10s'; {}", lock(last)),
    )
    .await?;
    let settling = join_all(ids.iter().map(|id| {
        fixture
            .ledger
            .settle(fixture.settlement(*id, fill("10", "1"), WHEN))
    }));
    let in_between = async {
        let waiting = "select count(*)::text from pg_stat_activity where wait_event_type = 'Lock' and query like '%settle_orders%' and datname = current_database()";
        wait::until_async("the batch to wait", SOON, || async {
            (fixture.text(waiting).await.ok()? != "0").then_some(())
        })
        .await?;
        // Now each waits for the other; ours gives up first, as the other one looks for deadlocks late.
        let _ = run(&mut other, lock(wanted)).await;
        run(&mut other, "rollback".to_owned()).await?;
        anyhow::Ok(())
    };
    let (settled, between) = tokio::join!(settling, in_between);
    between?;
    for (id, outcome) in ids.iter().zip(settled) {
        match outcome {
            Ok(Settled::Now) => {}
            // What its caller repeats, as the service does.
            Err(LedgerError::Conflict(_)) => {
                let again = fixture.settlement(*id, fill("10", "1"), WHEN);
                assert_eq!(fixture.ledger.settle(again).await?, Settled::Now);
            }
            other => anyhow::bail!("{other:?}"),
        }
    }
    let held = "select quantity || ' ' || version from holdings";
    assert_eq!(fixture.text(held).await?, "20 20");
    let retried = fixture.metric("fuse_db_retryable_errors_total{kind=\"deadlock\"}");
    assert_ne!(retried.as_deref(), Some("0"), "there was no deadlock");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_order_twice_in_one_batch_is_settled_once() -> Result<()> {
    let fixture = fixture().await?;
    let order = fixture
        .placed(fixture.submit("a", request("AAPL", "1", "10"), WHEN))
        .await?;
    let settlements = (0..100).map(|number| {
        let outcome = if number % 2 == 0 {
            fill("10", "1")
        } else {
            Outcome::Unknown(Reason::VendorTimeout)
        };
        fixture.ledger.settle(fixture.settlement(order.id, outcome, WHEN))
    });
    let mut settled = 0;
    for outcome in join_all(settlements).await {
        match outcome? {
            Settled::Now => settled += 1,
            Settled::Before(..) | Settled::Late(_) => {}
            Settled::NotFound => anyhow::bail!("lost"),
        }
    }
    assert_eq!(settled, 1);
    assert_eq!(fixture.order(order.id).await?.status, OrderStatus::Filled);
    assert_eq!(
        fixture
            .text("select quantity || ' ' || version from holdings")
            .await?,
        "1 1"
    );
    Ok(())
}

/// What does not fit into the queue is refused at once and leaves nothing; what does is written, never more than so many by one statement.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_queue_cannot_hold_is_refused_at_once_and_never_written() -> Result<()> {
    const TOO_MANY: usize = 100;
    let fixture = fixture().await?;
    let submit = |number: usize| fixture.submit(&format!("k{number}"), request("AAPL", "1", "10"), WHEN);
    let orders: Vec<_> = (0..QUEUE_MAX + TOO_MANY).map(submit).collect();
    let ids: Vec<Uuid> = orders.iter().map(|order| order.id).collect();
    let first = submit(orders.len());
    let first_id = first.id;

    let mut other = fixture.connection().await?;
    let lock = "begin; lock table orders in share row exclusive mode";
    sqlx::raw_sql(lock).execute(&mut other).await?;
    let mut running = Box::pin(fixture.ledger.place(first));
    assert!(futures::poll!(&mut running).is_pending());
    // Its statement can only wait for the lock, and with it all who come.
    wait::until_async("it to be taken from the queue", SOON, || async {
        (batches(&fixture, "place") == (1, 1)).then_some(())
    })
    .await?;

    // Whoever has no place is told by the very first look; the others wait.
    let mut queued = Vec::new();
    let mut refused = Vec::new();
    for (id, order) in ids.into_iter().zip(orders) {
        let mut placing = Box::pin(fixture.ledger.place(order));
        match futures::poll!(&mut placing) {
            Poll::Pending => queued.push((id, placing)),
            Poll::Ready(Err(LedgerError::Busy)) => refused.push(id),
            Poll::Ready(other) => anyhow::bail!("{other:?}"),
        }
    }
    sqlx::raw_sql("rollback").execute(&mut other).await?;
    assert_eq!((queued.len(), refused.len()), (QUEUE_MAX, TOO_MANY));

    let (queued_ids, placing): (Vec<_>, Vec<_>) = queued.into_iter().unzip();
    let (first, outcomes) = join(running, join_all(placing)).await;
    assert!(matches!(first?, Placed::New(_)));
    let mut written = vec![first_id];
    for (id, outcome) in queued_ids.into_iter().zip(outcomes) {
        match outcome {
            Ok(Placed::New(order)) => written.push(order.id),
            // On a slow machine a turn takes longer than a caller waits.
            Err(LedgerError::Busy) => refused.push(id),
            other => anyhow::bail!("{other:?}"),
        }
    }
    let among = |ids: &[Uuid]| {
        let list: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
        format!(
            "select count(*)::text from orders where order_id in ({})",
            list.join(",")
        )
    };
    assert_eq!(fixture.text(&among(&refused)).await?, "0");
    assert_eq!(fixture.text(&among(&written)).await?, written.len().to_string());
    let (statements, sum) = batches(&fixture, "place");
    assert_eq!(sum, written.len() as u64);
    let up_to = |size: u64| {
        let line = format!("fuse_order_batch_size_bucket{{statement=\"place\",le=\"{size}\"}}");
        fixture.metric(&line).and_then(|text| text.parse().ok())
    };
    assert_eq!(up_to(BATCH_MAX), Some(statements), "a statement wrote more");
    assert!(
        up_to(BATCH_MAX / 2) < Some(statements),
        "the queue was full, and no statement was"
    );
    Ok(())
}

/// Nobody waits for company: where orders come one after the other, each has a statement of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_order_waits_for_no_other() -> Result<()> {
    let fixture = fixture().await?;
    for number in 0..20 {
        let order = fixture.submit(&format!("k{number}"), request("AAPL", "1", "10"), WHEN);
        let id = fixture.placed(order).await?.id;
        let settled = fixture.settlement(id, fill("10", "1"), WHEN);
        assert_eq!(fixture.ledger.settle(settled).await?, Settled::Now);
    }
    assert_eq!(batches(&fixture, "place"), (20, 20));
    assert_eq!(batches(&fixture, "settle"), (20, 20));
    Ok(())
}
