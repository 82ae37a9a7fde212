//! An order as clients see it.

use fuse_domain::{Amount, OrderRequest, QuoteUsed, remainder};
use fuse_ledger::Order;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// One order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Order)]
pub struct OrderBody {
    pub id: Uuid,
    /// Your own name for it, if you gave one.
    pub client_order_id: Option<String>,
    pub user_id: Uuid,
    /// Where a fill is booked.
    pub portfolio_id: Uuid,
    #[schema(example = "AAPL")]
    pub symbol: String,
    /// Always `buy`.
    #[schema(example = "buy")]
    pub side: &'static str,
    #[schema(example = "4.5")]
    pub quantity: String,
    #[schema(example = "150.25")]
    pub limit_price: String,
    /// The amount of money that the quantity was made from; null when a quantity was ordered.
    pub notional: Option<String>,
    /// What of that amount does not buy a further part of a share at the limit price; null when a quantity was ordered.
    pub remainder: Option<String>,
    /// `rejected` by us, `submitted`, `filled`, `failed` (the vendor refused, or was never reached), or `unknown`: it may have been bought.
    #[schema(example = "filled")]
    pub status: &'static str,
    /// Why, when rejected, failed or unknown; listed in docs/errors.md.
    pub reason: Option<&'static str>,
    /// What the price was checked against.
    pub quote: Option<QuoteBody>,
    /// What was bought.
    pub fill: Option<FillBody>,
    /// One entry for each call of the vendor.
    #[schema(value_type = Vec<AttemptBody>)]
    pub attempts: serde_json::Value,
    /// How it came to its outcome, when that was unknown before.
    pub resolution: Option<ResolutionBody>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// The quote that a limit price was checked against.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OrderQuote)]
pub struct QuoteBody {
    #[schema(example = "150.25")]
    price: String,
    /// When it was fetched from the vendor.
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
    snapshot_id: Uuid,
}

/// What was bought.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Fill)]
pub struct FillBody {
    #[schema(example = "150.25")]
    price: String,
    #[schema(example = "4.5")]
    quantity: String,
    /// The exact product.
    #[schema(example = "676.125")]
    total: String,
}

/// How an unknown order was settled.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrderResolution)]
pub struct ResolutionBody {
    /// Who told: `key:` and the id of an API key, or `service` when what it knew came late.
    #[schema(example = "service")]
    by: String,
    /// How it is known.
    note: String,
}

/// One call of the vendor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OrderAttempt)]
pub struct AttemptBody {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// How long it took, in milliseconds.
    millis: u64,
    /// `not_sent`, `sent` (no answer came) or `answered`.
    #[schema(example = "answered")]
    reached: String,
    #[schema(example = "http 200")]
    detail: String,
    /// The total that the vendor named, as it wrote it. Evidence only: `fill.total` is the exact product.
    #[schema(example = "88.69981500000001")]
    vendor_total: Option<String>,
}

impl From<&Order> for OrderBody {
    fn from(order: &Order) -> Self {
        Self {
            id: order.id,
            client_order_id: order.client_order_id.clone(),
            user_id: order.user_id,
            portfolio_id: order.portfolio_id,
            symbol: order.request.symbol.as_str().to_owned(),
            side: order.request.side.as_str(),
            quantity: order.request.quantity.to_string(),
            limit_price: order.request.limit_price.to_string(),
            notional: order.notional.map(|notional| notional.to_string()),
            remainder: order
                .notional
                .and_then(|notional| left_of(notional, &order.request)),
            status: order.status.as_str(),
            reason: order.reason.map(|reason| reason.as_str()),
            quote: order.quote.as_ref().map(QuoteBody::from),
            fill: order.fill.as_ref().map(|fill| FillBody {
                price: fill.price.to_string(),
                quantity: fill.quantity.to_string(),
                total: fill.total.to_string(),
            }),
            attempts: order.attempts.clone(),
            resolution: order.resolution.as_ref().map(|resolution| ResolutionBody {
                by: resolution.actor.clone(),
                note: resolution.note.clone(),
            }),
            created_at: order.created_at,
            updated_at: order.updated_at,
        }
    }
}

/// What is left of an amount of money once an order is filled at its limit price.
pub fn left_of(notional: Amount, request: &OrderRequest) -> Option<String> {
    remainder(notional, request.limit_price, request.quantity)
        .ok()
        .map(|left| left.to_string())
}

impl From<&QuoteUsed> for QuoteBody {
    fn from(quote: &QuoteUsed) -> Self {
        Self {
            price: quote.price.to_string(),
            as_of: quote.as_of,
            snapshot_id: quote.snapshot_id,
        }
    }
}
