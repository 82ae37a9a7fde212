use std::fmt;

use serde::{Deserialize, Serialize};

use crate::order::{OrderStatus, UnknownCode};

/// Why an order is rejected, failed or unknown. The codes are stable: they are stored, shown, counted and
/// documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No such symbol in the current snapshot.
    UnknownSymbol,
    /// The limit price is too far from the quote.
    PriceOutOfBand,
    /// The quote is too old to check a price against.
    QuoteStale,
    /// There is no snapshot at all.
    NoMarketData,
    /// Price times quantity is above the limit.
    NotionalTooLarge,
    /// The portfolio is not at the version that the client expected.
    PortfolioChanged,
    /// The key has placed as many orders today as it may.
    DailyLimitReached,
    /// The vendor answered with a clear refusal.
    VendorRejected,
    /// The vendor does not accept our key.
    VendorForbidden,
    /// The vendor refused because of too many calls.
    VendorThrottled,
    /// Provably not sent: breaker open, DNS, connect or TLS failure.
    VendorUnreachable,
    /// No answer in time after the request was sent.
    VendorTimeout,
    /// The connection broke after the request was sent.
    VendorReset,
    /// The vendor answered 5xx.
    VendorServerError,
    /// The answer could not be read.
    VendorUnreadable,
    /// The answer is about another order than ours.
    VendorMismatch,
    /// An answer that the contract does not know, such as a redirect.
    VendorUnexpected,
    /// Our process ended while the answer was awaited.
    Interrupted,
}

impl Reason {
    pub const ALL: [Reason; 18] = [
        Reason::UnknownSymbol,
        Reason::PriceOutOfBand,
        Reason::QuoteStale,
        Reason::NoMarketData,
        Reason::NotionalTooLarge,
        Reason::PortfolioChanged,
        Reason::DailyLimitReached,
        Reason::VendorRejected,
        Reason::VendorForbidden,
        Reason::VendorThrottled,
        Reason::VendorUnreachable,
        Reason::VendorTimeout,
        Reason::VendorReset,
        Reason::VendorServerError,
        Reason::VendorUnreadable,
        Reason::VendorMismatch,
        Reason::VendorUnexpected,
        Reason::Interrupted,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnknownSymbol => "unknown_symbol",
            Reason::PriceOutOfBand => "price_out_of_band",
            Reason::QuoteStale => "quote_stale",
            Reason::NoMarketData => "no_market_data",
            Reason::NotionalTooLarge => "notional_too_large",
            Reason::PortfolioChanged => "portfolio_changed",
            Reason::DailyLimitReached => "daily_limit_reached",
            Reason::VendorRejected => "vendor_rejected",
            Reason::VendorForbidden => "vendor_forbidden",
            Reason::VendorThrottled => "vendor_throttled",
            Reason::VendorUnreachable => "vendor_unreachable",
            Reason::VendorTimeout => "vendor_timeout",
            Reason::VendorReset => "vendor_reset",
            Reason::VendorServerError => "vendor_server_error",
            Reason::VendorUnreadable => "vendor_unreadable",
            Reason::VendorMismatch => "vendor_mismatch",
            Reason::VendorUnexpected => "vendor_unexpected",
            Reason::Interrupted => "interrupted",
        }
    }

    pub fn parse(text: &str) -> Result<Reason, UnknownCode> {
        let found = Reason::ALL.into_iter().find(|reason| reason.as_str() == text);
        found.ok_or_else(|| UnknownCode::new("an order reason", text))
    }

    /// The one status that a reason explains.
    pub fn status(self) -> OrderStatus {
        match self {
            Reason::UnknownSymbol
            | Reason::PriceOutOfBand
            | Reason::QuoteStale
            | Reason::NoMarketData
            | Reason::NotionalTooLarge
            | Reason::PortfolioChanged
            | Reason::DailyLimitReached => OrderStatus::Rejected,
            Reason::VendorRejected
            | Reason::VendorForbidden
            | Reason::VendorThrottled
            | Reason::VendorUnreachable => OrderStatus::Failed,
            Reason::VendorTimeout
            | Reason::VendorReset
            | Reason::VendorServerError
            | Reason::VendorUnreadable
            | Reason::VendorMismatch
            | Reason::VendorUnexpected
            | Reason::Interrupted => OrderStatus::Unknown,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
