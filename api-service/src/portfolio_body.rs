//! A portfolio as clients see it: exact figures from the ledger, valued at the quotes that are known, null where none is.

use fuse_domain::{
    Amount, AmountError, Price, Quantity, SignedAmount, Snapshot, average_price, decimal_text,
    profit_loss_percent,
};
use fuse_ledger::{Holding, Pending, PendingOrder, Portfolio};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::market_data::SnapshotInfo;
use crate::problem::{ApiError, Code};

/// A portfolio without its holdings.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PortfolioSummary)]
pub struct PortfolioSummary {
    pub id: Uuid,
    pub user_id: Uuid,
    pub name: String,
    /// Grows with every fill.
    pub version: i64,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A portfolio with what it holds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Portfolio)]
pub struct PortfolioBody {
    #[serde(flatten)]
    pub summary: PortfolioSummary,
    /// By symbol.
    pub holdings: Vec<HoldingBody>,
    pub totals: TotalsBody,
    /// Orders that are not settled.
    pub pending: PendingBody,
    /// What the values come from; null while no prices are known.
    pub snapshot: Option<SnapshotInfo>,
}

/// One position. What depends on a quote is null when none is known.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Holding)]
pub struct HoldingBody {
    pub symbol: String,
    #[schema(example = "4.5")]
    pub quantity: String,
    /// Cost of one share, rounded to 9 decimals for display.
    #[schema(example = "150.25")]
    pub average_price: Option<String>,
    /// What the shares cost together, exactly.
    #[schema(example = "676.125")]
    pub cost: String,
    pub current_price: Option<String>,
    /// Quantity times current price, exactly.
    pub market_value: Option<String>,
    /// Market value less cost, exactly.
    pub profit_loss: Option<String>,
    /// Of the cost, rounded to 4 decimals for display.
    pub profit_loss_percent: Option<String>,
    /// When the current price was fetched.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub price_as_of: Option<Timestamp>,
}

/// Sums over all holdings.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PortfolioTotals)]
pub struct TotalsBody {
    /// Null only when the sum has too many digits to be exact.
    pub cost: Option<String>,
    /// Null when a holding has no known price: a part would look like the whole.
    pub market_value: Option<String>,
    pub profit_loss: Option<String>,
}

/// Orders into a portfolio that may still be filled, or may have been without being known. None of them is in the holdings.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Pending)]
pub struct PendingBody {
    /// How many are at the vendor now.
    pub submitted: i64,
    /// How many may have been bought or not.
    pub unknown: i64,
    /// The newest of both, at most 100; `GET /v1/orders` lists all.
    pub items: Vec<PendingOrderBody>,
}

/// An order that is not settled.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PendingOrder)]
pub struct PendingOrderBody {
    pub id: Uuid,
    #[schema(example = "AAPL")]
    pub symbol: String,
    #[schema(example = "4.5")]
    pub quantity: String,
    #[schema(example = "150.25")]
    pub limit_price: String,
    /// `submitted` or `unknown`.
    #[schema(example = "unknown")]
    pub status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<&Pending> for PendingBody {
    fn from(pending: &Pending) -> Self {
        Self {
            submitted: pending.submitted,
            unknown: pending.unknown,
            items: pending.orders.iter().map(PendingOrderBody::from).collect(),
        }
    }
}

impl From<&PendingOrder> for PendingOrderBody {
    fn from(order: &PendingOrder) -> Self {
        Self {
            id: order.id,
            symbol: order.symbol.as_str().to_owned(),
            quantity: order.quantity.to_string(),
            limit_price: order.limit_price.to_string(),
            status: order.status.as_str(),
            created_at: order.created_at,
        }
    }
}

impl From<&Portfolio> for PortfolioSummary {
    fn from(portfolio: &Portfolio) -> Self {
        Self {
            id: portfolio.id,
            user_id: portfolio.user_id,
            name: portfolio.name.clone(),
            version: portfolio.version,
            created_at: portfolio.created_at,
            updated_at: portfolio.updated_at,
        }
    }
}

/// The 404 of a portfolio that is not there or not the caller's.
#[must_use]
pub fn not_found() -> ApiError {
    ApiError::new(
        Code::PortfolioNotFound,
        "There is no such portfolio, or it belongs to another user.",
    )
}

/// A holding and, where its price is known, what it is worth.
struct Valued<'a> {
    holding: &'a Holding,
    price: Option<(Price, Timestamp)>,
    value: Option<Amount>,
    profit_loss: Option<SignedAmount>,
}

impl<'a> Valued<'a> {
    fn new(holding: &'a Holding, snapshot: Option<&Snapshot>) -> Self {
        let quote = snapshot.and_then(|snapshot| snapshot.get(&holding.symbol));
        let value = quote.and_then(|quote| market_value(quote.price, holding.quantity));
        Self {
            holding,
            price: quote.map(|quote| (quote.price, quote.as_of)),
            value,
            profit_loss: value.and_then(|value| value.checked_sub(holding.cost).ok()),
        }
    }

    fn body(&self) -> HoldingBody {
        let holding = self.holding;
        let average = average_price(holding.cost, holding.quantity).ok();
        let percent = self
            .profit_loss
            .and_then(|gain| profit_loss_percent(holding.cost, gain));
        HoldingBody {
            symbol: holding.symbol.as_str().to_owned(),
            quantity: holding.quantity.to_string(),
            average_price: average.map(decimal_text),
            cost: holding.cost.to_string(),
            current_price: self.price.map(|(price, _)| price.to_string()),
            market_value: self.value.map(|value| value.to_string()),
            profit_loss: self.profit_loss.map(|gain| gain.to_string()),
            profit_loss_percent: percent.map(decimal_text),
            price_as_of: self.price.map(|(_, as_of)| as_of),
        }
    }
}

/// A value with too many digits to be exact is not shown rather than rounded.
fn market_value(price: Price, quantity: Quantity) -> Option<Amount> {
    price.times(quantity).ok()
}

/// Holdings with their values, and the sums.
#[must_use]
pub fn value(holdings: &[Holding], snapshot: Option<&Snapshot>) -> (Vec<HoldingBody>, TotalsBody) {
    let valued: Vec<Valued<'_>> = holdings
        .iter()
        .map(|holding| Valued::new(holding, snapshot))
        .collect();
    let cost = sum(valued.iter().map(|valued| Some(valued.holding.cost)));
    let value = sum(valued.iter().map(|valued| valued.value));
    let profit_loss = value
        .zip(cost)
        .and_then(|(value, cost)| value.checked_sub(cost).ok());
    let totals = TotalsBody {
        cost: cost.map(|cost| cost.to_string()),
        market_value: value.map(|value| value.to_string()),
        profit_loss: profit_loss.map(|gain| gain.to_string()),
    };
    (valued.iter().map(Valued::body).collect(), totals)
}

/// The exact sum; `None` when a part is not known.
fn sum(amounts: impl Iterator<Item = Option<Amount>>) -> Option<Amount> {
    let mut total = Amount::ZERO;
    for amount in amounts {
        let added: Result<Amount, AmountError> = total.checked_add(amount?);
        total = added.ok()?;
    }
    Some(total)
}
