//! The checks that an order must pass before the vendor is called.

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::amount::Amount;
use crate::band::Tolerance;
use crate::money::{Price, Quantity, decimal_text};
use crate::order::Side;
use crate::reason::Reason;
use crate::symbol::Symbol;

/// What a client wants to buy, already parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRequest {
    pub symbol: Symbol,
    pub side: Side,
    pub quantity: Quantity,
    pub limit_price: Price,
}

/// The quote that an order was checked against; kept with the order so that the check can be repeated for
/// ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuoteUsed {
    pub price: Price,
    /// When a crawl fetched it; its age counts from here.
    pub as_of: Timestamp,
    pub snapshot_id: Uuid,
}

/// What the market says about the symbol of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuoteLookup<'a> {
    /// No snapshot was ever seen: nothing can be said about any symbol.
    NoMarketData,
    /// The current snapshot does not have it.
    UnknownSymbol,
    Found(&'a QuoteUsed),
}

/// Limits that an order must keep; configuration.
#[derive(Debug, Clone)]
pub struct OrderPolicy {
    pub tolerance: Tolerance,
    pub max_quote_age_secs: u64,
    /// Largest price times quantity.
    pub max_notional: Amount,
}

/// Why an order is refused before the vendor is called, with the figures that a client needs to do better.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("no stock with this symbol is known")]
    UnknownSymbol,
    #[error("the limit price must be from {} to {} (quote {quote})", decimal_text(*low), decimal_text(*high))]
    PriceOutOfBand {
        quote: Price,
        low: Decimal,
        high: Decimal,
    },
    #[error("the quote is {age_secs} s old, more than the {max_secs} s allowed")]
    QuoteStale { age_secs: u64, max_secs: u64 },
    #[error("there are no market data yet")]
    NoMarketData,
    #[error("price times quantity must not be more than {max}")]
    NotionalTooLarge { max: Amount },
}

impl Rejection {
    pub fn reason(&self) -> Reason {
        match self {
            Rejection::UnknownSymbol => Reason::UnknownSymbol,
            Rejection::PriceOutOfBand { .. } => Reason::PriceOutOfBand,
            Rejection::QuoteStale { .. } => Reason::QuoteStale,
            Rejection::NoMarketData => Reason::NoMarketData,
            Rejection::NotionalTooLarge { .. } => Reason::NotionalTooLarge,
        }
    }
}

/// Judges an order: `Ok` means that the vendor may be called.
///
/// The age is checked before the band, because a check against an old quote is worse than none. A quote from
/// the future by more than the allowed age is as useless as an old one (the clock jumped), so the distance in
/// time counts, whatever its sign.
pub fn judge(
    request: &OrderRequest,
    quote: QuoteLookup<'_>,
    now: Timestamp,
    policy: &OrderPolicy,
) -> Result<(), Rejection> {
    // A product with too many digits to be kept exactly can not be booked, whatever its size.
    let notional = request.limit_price.times(request.quantity);
    if notional.is_err() || notional.is_ok_and(|notional| notional > policy.max_notional) {
        return Err(Rejection::NotionalTooLarge {
            max: policy.max_notional,
        });
    }
    let quote = match quote {
        QuoteLookup::NoMarketData => return Err(Rejection::NoMarketData),
        QuoteLookup::UnknownSymbol => return Err(Rejection::UnknownSymbol),
        QuoteLookup::Found(quote) => quote,
    };
    let age = now.duration_since(quote.as_of).abs();
    let max_secs = policy.max_quote_age_secs;
    if age > SignedDuration::from_secs(i64::try_from(max_secs).unwrap_or(i64::MAX)) {
        return Err(Rejection::QuoteStale {
            age_secs: whole_secs_up(age),
            max_secs,
        });
    }
    if !policy.tolerance.accepts(quote.price, request.limit_price) {
        let (low, high) = policy.tolerance.allowed_range(quote.price);
        return Err(Rejection::PriceOutOfBand {
            quote: quote.price,
            low,
            high,
        });
    }
    Ok(())
}

/// Rounded up, so that a refused age never reads as one that is allowed.
fn whole_secs_up(age: SignedDuration) -> u64 {
    age.as_secs().unsigned_abs() + u64::from(age.subsec_nanos() != 0)
}
