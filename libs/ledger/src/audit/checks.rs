//! Tables against each other: each check is one statement, so it sees one moment however busy the service is.

use super::{BadRow, Invariant};
use crate::{Ledger, LedgerError, row};

/// One rule over the whole ledger. Its statement answers with how many rows it looked at, how many break the rule, and
/// which is the first of them.
pub(super) struct Check {
    pub invariant: Invariant,
    /// What is counted.
    pub rows: &'static str,
    problem: &'static str,
    sql: &'static str,
}

/// What a check found.
pub(super) struct Found {
    pub checked: u64,
    pub bad: u64,
    pub first: Option<BadRow>,
}

pub(super) const CHECKS: &[Check] = &[
    Check {
        invariant: Invariant::Events,
        rows: "orders",
        problem: "the order is not what its events made of it",
        sql: "select count(*) as checked, count(*) filter (where bad) as bad, min(name) filter (where bad) as first from (
                  select 'orders ' || o.order_id as name,
                      e.order_id is null or later.order_id is not null
                      or e.reason is distinct from o.reason or e.fill_price is distinct from o.fill_price
                      or e.fill_quantity is distinct from o.fill_quantity
                      or e.fill_total is distinct from o.fill_total as bad
                  from orders o
                  left join order_events e
                      on e.user_id = o.user_id and e.order_id = o.order_id and e.status = o.status
                  left join order_events later
                      on later.user_id = o.user_id and later.order_id = o.order_id and later.from_status = o.status
              ) looked",
    },
    Check {
        invariant: Invariant::Events,
        rows: "changes",
        problem: "the event does not follow the one that it names",
        sql: "select count(*) as checked, count(*) filter (where bad) as bad, min(name) filter (where bad) as first from (
                  select 'order_events ' || e.order_id || ' ' || e.status as name,
                      before.order_id is null or (before.txid, before.seq) >= (e.txid, e.seq) as bad
                  from order_events e
                  left join order_events before
                      on before.user_id = e.user_id and before.order_id = e.order_id and before.status = e.from_status
                  where e.from_status is not null
              ) looked",
    },
    Check {
        invariant: Invariant::Holdings,
        rows: "holdings",
        problem: "the holding is not the sum of its filled orders",
        sql: "select count(*) as checked, count(*) filter (where bad) as bad, min(name) filter (where bad) as first from (
                  select 'holdings ' || portfolio_id || ' ' || symbol as name,
                      f.quantity is distinct from h.quantity or f.cost is distinct from h.cost
                      or f.fills is distinct from h.version as bad
                  from (
                      select user_id, portfolio_id, symbol, sum(fill_quantity) as quantity, sum(fill_total) as cost,
                          count(*) as fills
                      from orders where status = 'filled' group by user_id, portfolio_id, symbol
                  ) f full join holdings h using (user_id, portfolio_id, symbol)
              ) looked",
    },
    Check {
        invariant: Invariant::Versions,
        rows: "portfolios",
        problem: "the version of the portfolio is not one more than its fills, it was deleted with what it holds, or it is gone",
        sql: "select count(*) as checked, count(*) filter (where bad) as bad, min(name) filter (where bad) as first from (
                  select 'portfolios ' || portfolio_id as name,
                      p.version is distinct from 1 + coalesce(o.fills, 0) or (p.deleted_at is not null and o.fills > 0) as bad
                  from portfolios p full join (
                      select user_id, portfolio_id, count(*) filter (where status = 'filled') as fills
                      from orders group by user_id, portfolio_id
                  ) o using (user_id, portfolio_id)
              ) looked",
    },
    Check {
        invariant: Invariant::Attempts,
        rows: "repeated orders",
        problem: "more than one attempt of the order reached the vendor",
        sql: "select count(*) as checked, count(*) filter (where bad) as bad, min(name) filter (where bad) as first from (
                  select 'orders ' || o.order_id as name, (
                      select count(*) > 1 from json_array_elements(o.attempts) a where a ->> 'reached' <> 'not_sent'
                  ) as bad
                  from orders o where json_array_length(o.attempts) > 1
              ) looked",
    },
];

impl Ledger {
    pub(super) async fn check(&self, check: &Check) -> Result<Found, LedgerError> {
        let rows = self.read("verify", sqlx::query(check.sql)).await?;
        let found = row::only(&rows, "verify")?;
        let count = |column| row::get::<i64>(found, column).map(|count| u64::try_from(count).unwrap_or(0));
        let first = row::get::<Option<String>>(found, "first")?.map(|name| BadRow {
            invariant: check.invariant,
            row: name,
            problem: check.problem.to_owned(),
        });
        Ok(Found {
            checked: count("checked")?,
            bad: count("bad")?,
            first,
        })
    }
}
