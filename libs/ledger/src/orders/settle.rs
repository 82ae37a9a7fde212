//! Write 2: what the vendor's answer made of an order.

use fuse_domain::Outcome;
use jiff::Timestamp;
use uuid::Uuid;

use super::read::{order_columns, order_from};
use super::{Order, StoredAnswer};
use crate::{Ledger, LedgerError, row};

/// The end of an attempt.
#[derive(Debug, Clone)]
pub struct Settle {
    /// Which order.
    pub order_id: Uuid,
    /// Its owner.
    pub user_id: Uuid,
    /// What became of it.
    pub outcome: Outcome,
    /// One record per call of the vendor, as a JSON array.
    pub attempts: serde_json::Value,
    /// What the client is told, for every repeat.
    pub answer: StoredAnswer,
    /// Now.
    pub at: Timestamp,
}

/// What became of [`Ledger::settle`].
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// Settled, and by this call.
    Now(Box<Order>),
    /// It was settled before: nothing was changed, and this answer was given.
    Before(Box<Order>, StoredAnswer),
    /// The user has no such order.
    NotFound,
}

// The portfolio is locked before the holding, and the holding is reached through it, so that two settlements
// of one portfolio wait for each other instead of for a deadlock.
const SETTLE: &str = concat!(
    "
    with settled as (
        update orders set status = $3, reason = $4, fill_price = $5::numeric, fill_quantity = $6::numeric,
            fill_total = $7::numeric, attempts = $8::json, answer_status = $9, answer_body = $10, updated_at = $11
        where user_id = $1 and order_id = $2 and status = 'submitted'
        returning *
    ), moved as (
        update portfolios p set version = p.version + 1, updated_at = greatest(p.updated_at, $11)
        from settled s
        where $3 = 'filled' and p.user_id = s.user_id and p.portfolio_id = s.portfolio_id
        returning p.user_id, p.portfolio_id
    ), held as (
        insert into holdings as h (user_id, portfolio_id, symbol, quantity, cost, updated_at)
        select m.user_id, m.portfolio_id, s.symbol, $6::numeric, $7::numeric, $11
        from moved m join settled s using (user_id, portfolio_id)
        on conflict (user_id, portfolio_id, symbol) do update
            set quantity = h.quantity + excluded.quantity, cost = h.cost + excluded.cost,
                version = h.version + 1, updated_at = greatest(h.updated_at, excluded.updated_at)
    ), logged as (
        insert into order_events (user_id, order_id, from_status, status, reason, fill_price, fill_quantity, fill_total, at)
        select user_id, order_id, 'submitted', $3, $4, $5::numeric, $6::numeric, $7::numeric, $11 from settled
    )
    select ",
    order_columns!(),
    " from settled"
);

impl Ledger {
    /// Makes a submitted order filled, failed or unknown: the order, its holding, its portfolio's version and
    /// its event, all or nothing. Repeating it, also with another outcome, changes nothing.
    ///
    /// # Errors
    /// `Unavailable` (it may have been written: repeat it), `Conflict` (repeat it), or `Refused`.
    pub async fn settle(&self, settle: Settle) -> Result<Settled, LedgerError> {
        let fill = settle.outcome.fill();
        let query = sqlx::query(SETTLE)
            .bind(settle.user_id)
            .bind(settle.order_id)
            .bind(settle.outcome.status().as_str())
            .bind(settle.outcome.reason().map(|reason| reason.as_str()))
            .bind(fill.map(|fill| fill.price.to_string()))
            .bind(fill.map(|fill| fill.quantity.to_string()))
            .bind(fill.map(|fill| fill.total.to_string()))
            .bind(settle.attempts.to_string())
            .bind(settle.answer.status_column())
            .bind(settle.answer.body.clone())
            .bind(row::at(settle.at));
        let rows = self.write("settle", query).await?;
        if let Some(settled) = rows.first() {
            return Ok(Settled::Now(Box::new(order_from(settled)?)));
        }
        let Some((order, answer)) = self.order_and_answer(settle.user_id, settle.order_id).await? else {
            return Ok(Settled::NotFound);
        };
        // Still submitted: its first write was committed between our two statements.
        let answer = answer.ok_or(LedgerError::Conflict(sqlx::Error::RowNotFound))?;
        Ok(Settled::Before(Box::new(order), answer))
    }
}
