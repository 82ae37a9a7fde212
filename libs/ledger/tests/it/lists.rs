//! Lists of orders: what a page costs must not grow with the orders that are not on it.

use anyhow::Result;
use fuse_domain::OrderStatus;
use fuse_ledger::OrderFilter;
use uuid::Uuid;

use crate::support::{Fixture, at, fixture, order_id, request};

/// Enough for the planner to prefer an index, where there is one.
const ORDERS: i64 = 20_000;
const USERS: i64 = 20;
/// One a minute.
const BEGIN: &str = "2026-03-02T00:00:00Z";
const MIDDLE: &str = "2026-03-09T00:00:00Z";
const LAST: &str = "2026-03-15T21:20:00Z";
const LIMIT: u16 = 50;
/// More often than a session plans a statement anew before it may keep one plan for all values.
const TIMES: i64 = 12;

/// Filled orders of some users, whose ids are of the time when they were placed. No holdings: nobody looks at them here.
async fn history() -> Result<Fixture> {
    let fixture = fixture().await?;
    for number in 2..=USERS {
        let name = format!("user {number}");
        fixture
            .ledger
            .create_user(Uuid::now_v7(), &name, at(BEGIN))
            .await?;
    }
    let sql = format!(
        "set session_replication_role = replica;
         create temporary table made as
         select p.user_id, p.portfolio_id, n, t.at,
             (lpad(to_hex((extract(epoch from t.at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid
                 as order_id
         from generate_series(1, {ORDERS}) n
             join (select row_number() over () - 1 as place, * from portfolios) p on p.place = n % {USERS},
             lateral (select timestamptz '{BEGIN}' + n * interval '1 minute' as at) t;
         insert into orders (user_id, order_id, portfolio_id, idempotency_key, request_sha256, symbol, side, quantity,
             limit_price, status, quote_price, quote_as_of, quote_snapshot_id, fill_price, fill_quantity, fill_total,
             answer_status, answer_body, created_at, updated_at)
         select user_id, order_id, portfolio_id, 'k' || n, sha256('x'), 'AAPL', 'buy', 1, 10, 'filled', 10, at, order_id,
             10, 1, 10, 201, '{{}}', at, at
         from made;
         insert into order_events (user_id, order_id, status, at, seq)
         select user_id, order_id, 'submitted', at, n from made;
         insert into order_events (user_id, order_id, from_status, status, fill_price, fill_quantity, fill_total, at, seq)
         select user_id, order_id, 'submitted', 'filled', 10, 1, 10, at, {ORDERS} + n from made;
         analyze"
    );
    fixture.by_hand(&sql).await?.map_err(anyhow::Error::msg)?;
    Ok(fixture)
}

/// Rows of orders that were looked at so far. A session tells when it ends, at the latest.
async fn looked_at(fixture: &mut Fixture) -> Result<i64> {
    fixture.reopen().await?;
    let rows =
        "select (seq_tup_read + idx_tup_fetch)::text from pg_stat_user_tables where relname = 'orders'";
    Ok(fixture.text(rows).await?.parse()?)
}

#[tokio::test]
async fn no_page_looks_at_all_orders() -> Result<()> {
    let mut fixture = history().await?;
    let other = Uuid::now_v7();
    let (begin, middle, last) = (at(BEGIN), at(MIDDLE), at(LAST));
    fixture.ledger.create_user(other, "Bo", begin).await?;
    let all = OrderFilter::default();
    let lists = [
        ("everybody's", all.clone(), 50),
        (
            "failed",
            OrderFilter {
                status: Some(OrderStatus::Failed),
                ..all.clone()
            },
            0,
        ),
        (
            "rejected",
            OrderFilter {
                status: Some(OrderStatus::Rejected),
                ..all.clone()
            },
            0,
        ),
        (
            "unknown",
            OrderFilter {
                status: Some(OrderStatus::Unknown),
                ..all.clone()
            },
            0,
        ),
        (
            "before",
            OrderFilter {
                created_before: Some(middle),
                ..all.clone()
            },
            50,
        ),
        (
            "in an empty time",
            OrderFilter {
                created_from: Some(begin),
                created_before: Some(begin),
                ..all.clone()
            },
            0,
        ),
        (
            "changed lately",
            OrderFilter {
                updated_from: Some(last),
                ..all.clone()
            },
            1,
        ),
        (
            "changed since then",
            OrderFilter {
                updated_from: Some(begin),
                ..all.clone()
            },
            50,
        ),
        (
            "of an empty portfolio",
            OrderFilter {
                portfolio_id: Some(other),
                ..all.clone()
            },
            0,
        ),
        (
            "of no portfolio",
            OrderFilter {
                portfolio_id: Some(Uuid::now_v7()),
                ..all.clone()
            },
            0,
        ),
    ];
    for (name, filter, expected) in lists {
        let before = looked_at(&mut fixture).await?;
        for _ in 0..TIMES {
            let page = fixture.ledger.orders(&filter, None, LIMIT).await?;
            assert_eq!(page.items.len(), expected, "{name}");
        }
        let rows = (looked_at(&mut fixture).await? - before) / TIMES;
        assert!(rows <= 4 * i64::from(LIMIT), "{name}: {rows} rows a page");
    }
    Ok(())
}

/// The index narrows, the time decides: also where an id was made a little before or after the time that is kept with it.
#[tokio::test]
async fn a_list_by_time_is_exact_whatever_the_clock_did_between_id_and_time() -> Result<()> {
    let fixture = fixture().await?;
    let when = "2026-03-02T10:00:00Z";
    let mut ids = Vec::new();
    for (number, id_at) in ["2026-03-02T09:59:30Z", when, "2026-03-02T10:00:30Z"]
        .iter()
        .enumerate()
    {
        let mut order = fixture.submit(&format!("k{number}"), request("AAPL", "1", "10"), when);
        order.id = order_id(at(id_at));
        ids.push(fixture.placed(order).await?.id);
    }
    ids.reverse();
    let listed = async |created_from: Option<&str>, created_before: Option<&str>| -> Result<Vec<Uuid>> {
        let filter = OrderFilter {
            created_from: created_from.map(at),
            created_before: created_before.map(at),
            ..OrderFilter::default()
        };
        let page = fixture.ledger.orders(&filter, None, LIMIT).await?;
        Ok(page.items.iter().map(|order| order.id).collect())
    };
    let (after, before) = ("2026-03-02T10:00:00.000001Z", "2026-03-02T09:59:59.999999Z");
    assert_eq!(listed(Some(when), Some(after)).await?, ids);
    assert_eq!(listed(Some(before), None).await?, ids);
    assert_eq!(listed(Some(after), None).await?, Vec::<Uuid>::new());
    assert_eq!(listed(None, Some(when)).await?, Vec::<Uuid>::new());
    // Times that no id can have.
    assert_eq!(
        listed(Some("1960-01-01T00:00:00Z"), Some("9999-12-30T00:00:00Z")).await?,
        ids
    );
    Ok(())
}
