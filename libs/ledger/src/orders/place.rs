//! Write 1: the order and its first event, committed before the vendor is called.

use fuse_domain::{Amount, OrderRequest, OrderStatus, QuoteUsed, Reason};
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::read::answer_from;
use super::{IdempotencyKey, Order, StoredAnswer};
use crate::pool::PgQuery;
use crate::{Ledger, LedgerError, row};

/// What to write before the vendor is called.
#[derive(Debug, Clone)]
pub struct SubmitOrder {
    /// UUIDv7 of the new order.
    pub id: Uuid,
    /// Its owner.
    pub user_id: Uuid,
    /// `None`: the user's default portfolio.
    pub portfolio_id: Option<Uuid>,
    /// Makes a repeat a repeat.
    pub key: IdempotencyKey,
    /// SHA-256 of the request, which tells a repeat from another request under the same key.
    pub request_sha256: [u8; 32],
    /// What is to be bought.
    pub request: OrderRequest,
    /// The client's own name for it, 1 to 64 characters.
    pub client_order_id: Option<String>,
    /// The amount of money that was asked for, when the quantity follows from it.
    pub notional: Option<Amount>,
    /// The API key that places it; `None` for the bootstrap key.
    pub key_id: Option<Uuid>,
    /// The portfolio must still be at this version.
    pub expected: Option<ExpectedVersion>,
    /// How many orders the key may place in a day.
    pub daily: Option<DailyLimit>,
    /// What the price was checked against; an accepted order must have one.
    pub quote: Option<QuoteUsed>,
    /// The verdict of `fuse_domain::judge`.
    pub decision: Decision,
    /// Now.
    pub at: Timestamp,
}

/// The version that a client has seen. An order on a portfolio that has moved since is rejected as `portfolio_changed`.
#[derive(Debug, Clone)]
pub struct ExpectedVersion {
    /// As in the portfolio's `ETag`.
    pub version: i64,
    /// What the client is told otherwise; its status is 412.
    pub answer_body: String,
}

/// A key's limit. An order beyond it is rejected as `daily_limit_reached`. Exact on one replica; several replicas may
/// together let as many more through as are being placed at that moment.
#[derive(Debug, Clone)]
pub struct DailyLimit {
    /// Orders that were not rejected, at most.
    pub max: i64,
    /// Counted are orders with this id or a later one: the smallest UUIDv7 of the day.
    pub day_begins: Uuid,
    /// What the client is told beyond it; its status is 429.
    pub answer_body: String,
}

/// Whether the vendor is going to be called.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The order becomes `submitted`; [`Ledger::settle`] must follow.
    Accepted,
    /// The order is `rejected` at once and for good.
    Rejected {
        /// Why.
        reason: Reason,
        /// What the client is told.
        answer: StoredAnswer,
    },
}

/// What became of [`Ledger::place`]. Only `New` with status `submitted` may go on to the vendor.
#[derive(Debug, Clone, PartialEq)]
pub enum Placed {
    /// Written, and by this call.
    New(Box<Order>),
    /// The same request under the same key was answered before: give this answer again.
    Replay(StoredAnswer),
    /// The same request under the same key is at the vendor now, or was when its process died.
    InFlight {
        /// The order of the first request.
        order_id: Uuid,
    },
    /// The key was used for another request.
    KeyReused,
    /// Another order of this user has this `client_order_id`.
    ClientOrderIdTaken,
    /// The user has no such portfolio.
    PortfolioNotFound,
}

// What conflicts is not written, and the next statement finds out why: a row of a transaction that was
// committed in the meantime is invisible to this one's snapshot.
const PLACE: &str = "
    with placed as (
        insert into orders (user_id, order_id, portfolio_id, idempotency_key, request_sha256, client_order_id,
            symbol, side, quantity, limit_price, status, reason, quote_price, quote_as_of, quote_snapshot_id,
            answer_status, answer_body, created_at, updated_at)
        select p.user_id, $2, p.portfolio_id, $4, $5, $6, $7, $8, $9::numeric, $10::numeric, $11, $12,
            $13::numeric, $14, $15, $16, $17, $18, $18
        from portfolios p where p.user_id = $1 and p.portfolio_id = $3
        on conflict do nothing
        returning user_id, order_id, status, reason, created_at
    ), logged as (
        insert into order_events (user_id, order_id, status, reason, at)
        select user_id, order_id, status, reason, created_at from placed
    )
    select
        exists (select from placed) as placed,
        exists (select from portfolios where user_id = $1 and portfolio_id = $3) as portfolio_found";

const FIND_FIRST: &str = "
    select order_id, request_sha256, answer_status, answer_body, idempotency_key = $2 as same_key
    from orders
    where user_id = $1 and (idempotency_key = $2 or client_order_id = $3)
    order by same_key desc limit 1";

impl Ledger {
    /// Writes an order and its event, or finds out that this was done before. Committed when it returns.
    ///
    /// # Errors
    /// `Unavailable` (the order may have been written: repeating it with the same key tells),
    /// `Conflict`, or `Refused` when the order breaks a rule of the schema.
    pub async fn place(&self, order: SubmitOrder) -> Result<Placed, LedgerError> {
        let rows = self.write("place", place_query(&order)).await?;
        let outcome = row::only(&rows, "place")?;
        if row::get(outcome, "placed")? {
            return Ok(Placed::New(Box::new(written(order))));
        }
        let query = sqlx::query(FIND_FIRST)
            .bind(order.user_id)
            .bind(order.key.as_str().to_owned())
            .bind(order.client_order_id.clone());
        let found = self.read("find_key_of_order", query).await?;
        let placed = match found.first() {
            Some(first) => repeated(&order, first)?,
            None if row::get(outcome, "portfolio_found")? => {
                // Only the order's own id can have been in the way.
                return Err(crate::error::corrupt("order_id", "a new order's id is in use"));
            }
            None => Placed::PortfolioNotFound,
        };
        self.metrics.repeated(&placed);
        Ok(placed)
    }
}

fn place_query(order: &SubmitOrder) -> PgQuery<'static> {
    let (status, reason, answer) = match &order.decision {
        Decision::Accepted => (OrderStatus::Submitted, None, None),
        Decision::Rejected { reason, answer } => (OrderStatus::Rejected, Some(reason), Some(answer)),
    };
    let quote = order.quote.as_ref();
    sqlx::query(PLACE)
        .bind(order.user_id)
        .bind(order.id)
        .bind(portfolio_of(order))
        .bind(order.key.as_str().to_owned())
        .bind(order.request_sha256.to_vec())
        .bind(order.client_order_id.clone())
        .bind(order.request.symbol.as_str().to_owned())
        .bind(order.request.side.as_str())
        .bind(order.request.quantity.to_string())
        .bind(order.request.limit_price.to_string())
        .bind(status.as_str())
        .bind(reason.map(|reason| reason.as_str()))
        .bind(quote.map(|quote| quote.price.to_string()))
        .bind(quote.map(|quote| row::at(quote.as_of)))
        .bind(quote.map(|quote| quote.snapshot_id))
        .bind(answer.map(|answer| answer.status_column()))
        .bind(answer.map(|answer| answer.body.clone()))
        .bind(row::at(order.at))
}

/// The default portfolio has its user's id; see `/migrations`.
fn portfolio_of(order: &SubmitOrder) -> Uuid {
    order.portfolio_id.unwrap_or(order.user_id)
}

fn written(order: SubmitOrder) -> Order {
    let portfolio_id = portfolio_of(&order);
    let (status, reason) = match order.decision {
        Decision::Accepted => (OrderStatus::Submitted, None),
        Decision::Rejected { reason, .. } => (OrderStatus::Rejected, Some(reason)),
    };
    Order {
        id: order.id,
        user_id: order.user_id,
        portfolio_id,
        client_order_id: order.client_order_id,
        request: order.request,
        status,
        reason,
        quote: order.quote,
        fill: None,
        attempts: serde_json::Value::Array(Vec::new()),
        created_at: order.at,
        updated_at: order.at,
    }
}

fn repeated(order: &SubmitOrder, first: &PgRow) -> Result<Placed, LedgerError> {
    if !row::get::<bool>(first, "same_key")? {
        return Ok(Placed::ClientOrderIdTaken);
    }
    if row::get::<&[u8]>(first, "request_sha256")? != order.request_sha256 {
        return Ok(Placed::KeyReused);
    }
    Ok(match answer_from(first)? {
        Some(answer) => Placed::Replay(answer),
        None => Placed::InFlight {
            order_id: row::get(first, "order_id")?,
        },
    })
}
