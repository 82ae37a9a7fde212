//! Orders: written twice, once before the vendor is called ([`Ledger::place`]) and once after
//! ([`Ledger::settle`]), each time together with their event in one statement. What stays unknown is settled by a
//! resolution ([`Ledger::resolve`]).
//!
//! [`Ledger::place`]: crate::Ledger::place
//! [`Ledger::settle`]: crate::Ledger::settle
//! [`Ledger::resolve`]: crate::Ledger::resolve

mod outlook;
mod place;
pub(crate) mod read;
mod resolve;
mod settle;
mod writer;

use fuse_domain::{Amount, Fill, OrderRequest, OrderStatus, QuoteUsed, Reason};
use jiff::Timestamp;
use uuid::Uuid;

pub use self::outlook::{OrderOutlook, OutlookOf};
pub use self::place::{DailyLimit, Decision, ExpectedVersion, Placed, SubmitOrder};
pub use self::read::{OrderFilter, OrderPage, first_order_id};
pub use self::resolve::{Resolve, Resolved};
pub(crate) use self::settle::Change;
pub use self::settle::{Settle, Settled};
pub(crate) use self::writer::Writer;

/// A client's name for one attempt: 1 to 255 visible ASCII characters. Unique per user, kept for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// Why a text cannot be an [`IdempotencyKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 255 visible ASCII characters")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// The most characters it may have.
    pub const LENGTH_MAX: usize = 255;

    /// Reads what a client sent.
    ///
    /// # Errors
    /// When it is empty, too long, or holds anything but visible ASCII.
    pub fn parse(text: &str) -> Result<Self, IdempotencyKeyError> {
        let fits =
            (1..=Self::LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdempotencyKeyError)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The answer that a client got, kept so that a repeat gets the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status, 100 to 599.
    pub status: u16,
    /// The body as it was sent.
    pub body: String,
}

impl StoredAnswer {
    /// What is no HTTP status is refused by the schema.
    fn status_column(&self) -> i16 {
        i16::try_from(self.status).unwrap_or(i16::MAX)
    }
}

/// How an order that was unknown came to its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// Who told: `key:` and the id of an API key, or `service` when what it knew came late.
    pub actor: String,
    /// What they said.
    pub note: String,
}

/// One order as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// UUIDv7.
    pub id: Uuid,
    /// Its owner.
    pub user_id: Uuid,
    /// Where a fill is booked.
    pub portfolio_id: Uuid,
    /// The client's own name for it, unique per user.
    pub client_order_id: Option<String>,
    /// What was asked for; never changes.
    pub request: OrderRequest,
    /// The amount of money that the quantity was made from, if it was.
    pub notional: Option<Amount>,
    /// Where it stands.
    pub status: OrderStatus,
    /// Why, when rejected, failed or unknown.
    pub reason: Option<Reason>,
    /// What its price was checked against.
    pub quote: Option<QuoteUsed>,
    /// What was bought, exactly when filled.
    pub fill: Option<Fill>,
    /// One record per call of the vendor, as JSON.
    pub attempts: serde_json::Value,
    /// When it was unknown before.
    pub resolution: Option<Resolution>,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
}
