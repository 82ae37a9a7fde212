//! Write 1: the order and its first event, committed before the vendor is called.

use fuse_domain::{Amount, OrderRequest, OrderStatus, QuoteUsed, Reason};
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::read::answer_from;
use super::writer::{Batched, Outcomes, all};
use super::{IdempotencyKey, Order, StoredAnswer};
use crate::pool::PgQuery;
use crate::{Ledger, LedgerError, row};

/// What to write before the vendor is called.
#[derive(Debug, Clone)]
pub struct SubmitOrder {
    /// UUIDv7 of the new order, made when it was placed: orders are looked up by time through it.
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

/// What became of [`Ledger::place`]. Only `New` with status `submitted` may go on to the vendor; a new order may also be
/// `rejected` because of what was expected of the portfolio, or of the key's limit.
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

impl Ledger {
    /// Writes an order and its event, or finds out that this was done before. Committed when it returns.
    ///
    /// # Errors
    /// `Busy` (nothing was written), `Unavailable` (the order may have been written: repeating it with the same key
    /// tells), `Conflict`, or `Refused` when the order breaks a rule of the schema.
    pub async fn place(&self, order: SubmitOrder) -> Result<Placed, LedgerError> {
        let placed = self.places.write(order).await?;
        self.metrics.repeated(&placed);
        Ok(placed)
    }
}

impl Batched for SubmitOrder {
    type Outcome = Placed;
    const NAME: &'static str = "place";

    fn query(batch: &[&Self]) -> PgQuery<'static> {
        let decided: Vec<_> = batch.iter().map(|order| order.decided()).collect();
        let quotes = || batch.iter().map(|order| order.quote.as_ref());
        let expected = || batch.iter().map(|order| order.expected.as_ref());
        let daily = || batch.iter().map(|order| order.daily.as_ref());
        sqlx::query(
            "select * from place_orders($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                 $18, $19, $20, $21, $22, $23, $24, $25)",
        )
        .bind(all(batch, |order| order.user_id))
        .bind(all(batch, |order| order.id))
        .bind(all(batch, Self::portfolio))
        .bind(all(batch, |order| order.key.as_str().to_owned()))
        .bind(all(batch, |order| order.request_sha256.to_vec()))
        .bind(all(batch, |order| order.client_order_id.clone()))
        .bind(all(batch, |order| order.request.symbol.as_str().to_owned()))
        .bind(all(batch, |order| order.request.side.as_str()))
        .bind(all(batch, |order| order.request.quantity.to_string()))
        .bind(all(batch, |order| order.request.limit_price.to_string()))
        .bind(all(batch, |order| order.notional.map(|notional| notional.to_string())))
        .bind(all(batch, |order| order.key_id))
        .bind(decided.iter().map(|(status, ..)| status.as_str()).collect::<Vec<_>>())
        .bind(decided.iter().map(|(_, reason, _)| reason.map(Reason::as_str)).collect::<Vec<_>>())
        .bind(quotes().map(|quote| quote.map(|quote| quote.price.to_string())).collect::<Vec<_>>())
        .bind(quotes().map(|quote| quote.map(|quote| row::at(quote.as_of))).collect::<Vec<_>>())
        .bind(quotes().map(|quote| quote.map(|quote| quote.snapshot_id)).collect::<Vec<_>>())
        .bind(decided.iter().map(|(.., answer)| answer.map(StoredAnswer::status_column)).collect::<Vec<_>>())
        .bind(decided.iter().map(|(.., answer)| answer.map(|answer| answer.body.clone())).collect::<Vec<_>>())
        .bind(all(batch, |order| row::at(order.at)))
        .bind(expected().map(|expected| expected.map(|expected| expected.version)).collect::<Vec<_>>())
        .bind(expected().map(|expected| expected.map(|expected| expected.answer_body.clone())).collect::<Vec<_>>())
        .bind(daily().map(|daily| daily.map(|daily| daily.max)).collect::<Vec<_>>())
        .bind(daily().map(|daily| daily.map(|daily| daily.day_begins)).collect::<Vec<_>>())
        .bind(daily().map(|daily| daily.map(|daily| daily.answer_body.clone())).collect::<Vec<_>>())
    }

    fn outcomes(batch: &[&Self], rows: &[PgRow]) -> Outcomes<Self> {
        let each = batch.iter().zip(rows);
        each.map(|(order, found)| placed(order, found)).collect()
    }
}

impl SubmitOrder {
    /// Status, reason and answer as the service has decided; the portfolio's version and the key's limit may decide otherwise.
    fn decided(&self) -> (OrderStatus, Option<Reason>, Option<&StoredAnswer>) {
        match &self.decision {
            Decision::Accepted => (OrderStatus::Submitted, None, None),
            Decision::Rejected { reason, answer } => (OrderStatus::Rejected, Some(*reason), Some(answer)),
        }
    }

    /// The default portfolio has its user's id; see `/migrations`.
    fn portfolio(&self) -> Uuid {
        self.portfolio_id.unwrap_or(self.user_id)
    }

    /// The order as it was written.
    fn written(&self, status: OrderStatus, reason: Option<Reason>) -> Order {
        Order {
            id: self.id,
            user_id: self.user_id,
            portfolio_id: self.portfolio(),
            client_order_id: self.client_order_id.clone(),
            request: self.request.clone(),
            notional: self.notional,
            status,
            reason,
            quote: self.quote.clone(),
            fill: None,
            attempts: serde_json::Value::Array(Vec::new()),
            resolution: None,
            created_at: self.at,
            updated_at: self.at,
        }
    }
}

fn placed(order: &SubmitOrder, found: &PgRow) -> Result<Placed, LedgerError> {
    if row::get(found, "is_new")? {
        let status = row::parsed(found, "status", OrderStatus::parse)?;
        let reason = row::optional(found, "reason", Reason::parse)?;
        return Ok(Placed::New(Box::new(order.written(status, reason))));
    }
    let Some(first_order_id) = row::get::<Option<Uuid>>(found, "first_order_id")? else {
        return match row::get(found, "is_portfolio_there")? {
            // The portfolio came (or came back) between the two statements of the function: this order was not written.
            true => Err(LedgerError::Conflict(sqlx::Error::RowNotFound)),
            false => Ok(Placed::PortfolioNotFound),
        };
    };
    if !row::get::<bool>(found, "is_same_key")? {
        return Ok(Placed::ClientOrderIdTaken);
    }
    if row::get::<&[u8]>(found, "first_request_sha256")? != order.request_sha256 {
        return Ok(Placed::KeyReused);
    }
    Ok(
        match answer_from(found, "first_answer_status", "first_answer_body")? {
            Some(answer) => Placed::Replay(answer),
            None => Placed::InFlight {
                order_id: first_order_id,
            },
        },
    )
}
