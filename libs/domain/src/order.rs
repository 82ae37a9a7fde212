//! What an order is and may become.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::money::{AmountError, Price, Quantity};
use crate::reason::Reason;

/// A text that is none of an enum's codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct UnknownCode {
    pub expected: &'static str,
    pub text: String,
}

impl UnknownCode {
    pub(crate) fn new(expected: &'static str, text: &str) -> UnknownCode {
        // Bounded, because it ends up in logs.
        UnknownCode {
            expected,
            text: text.chars().take(64).collect(),
        }
    }
}

/// Where an order stands. It begins `rejected` or `submitted`; see [`OrderStatus::may_become`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Refused by us; the vendor was never called.
    Rejected,
    /// Committed, the vendor's answer is awaited.
    Submitted,
    /// Bought.
    Filled,
    /// Refused by the vendor, or provably never sent.
    Failed,
    /// May have been bought or not; leaves only by a recorded resolution.
    Unknown,
}

impl OrderStatus {
    pub const ALL: [OrderStatus; 5] = [
        OrderStatus::Rejected,
        OrderStatus::Submitted,
        OrderStatus::Filled,
        OrderStatus::Failed,
        OrderStatus::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            OrderStatus::Rejected => "rejected",
            OrderStatus::Submitted => "submitted",
            OrderStatus::Filled => "filled",
            OrderStatus::Failed => "failed",
            OrderStatus::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Result<OrderStatus, UnknownCode> {
        let found = OrderStatus::ALL
            .into_iter()
            .find(|status| status.as_str() == text);
        found.ok_or_else(|| UnknownCode::new("an order status", text))
    }

    /// A terminal order never changes.
    pub fn is_terminal(self) -> bool {
        match self {
            OrderStatus::Rejected | OrderStatus::Filled | OrderStatus::Failed => true,
            OrderStatus::Submitted | OrderStatus::Unknown => false,
        }
    }

    /// Whether a new order may be written in this status.
    pub fn may_begin(self) -> bool {
        matches!(self, OrderStatus::Rejected | OrderStatus::Submitted)
    }

    pub fn may_become(self, next: OrderStatus) -> bool {
        match self {
            OrderStatus::Submitted => {
                matches!(
                    next,
                    OrderStatus::Filled | OrderStatus::Failed | OrderStatus::Unknown
                )
            }
            OrderStatus::Unknown => matches!(next, OrderStatus::Filled | OrderStatus::Failed),
            OrderStatus::Rejected | OrderStatus::Filled | OrderStatus::Failed => false,
        }
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The vendor knows only buying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Buy,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Buy => "buy",
        }
    }

    pub fn parse(text: &str) -> Result<Side, UnknownCode> {
        match text {
            "buy" => Ok(Side::Buy),
            _ => Err(UnknownCode::new("an order side", text)),
        }
    }
}

/// What was bought; the total is the exact product of price and quantity, never the vendor's own figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    pub price: Price,
    pub quantity: Quantity,
    pub total: Amount,
}

impl Fill {
    /// The error is for a product that can not be kept exactly.
    pub fn new(price: Price, quantity: Quantity) -> Result<Fill, AmountError> {
        Ok(Fill {
            price,
            quantity,
            total: price.times(quantity)?,
        })
    }
}

/// What an attempt to buy settles to. The reason of `Failed` and `Unknown` must be one of that status:
/// [`Outcome::from_reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Filled(Fill),
    Failed(Reason),
    Unknown(Reason),
}

impl Outcome {
    /// The outcome that a reason belongs to; `None` for a reason of a rejection, which is no outcome of an
    /// attempt.
    pub fn from_reason(reason: Reason) -> Option<Outcome> {
        match reason.status() {
            OrderStatus::Failed => Some(Outcome::Failed(reason)),
            OrderStatus::Unknown => Some(Outcome::Unknown(reason)),
            OrderStatus::Rejected | OrderStatus::Submitted | OrderStatus::Filled => None,
        }
    }

    pub fn status(&self) -> OrderStatus {
        match self {
            Outcome::Filled(_) => OrderStatus::Filled,
            Outcome::Failed(_) => OrderStatus::Failed,
            Outcome::Unknown(_) => OrderStatus::Unknown,
        }
    }

    pub fn reason(&self) -> Option<Reason> {
        match self {
            Outcome::Filled(_) => None,
            Outcome::Failed(reason) | Outcome::Unknown(reason) => Some(*reason),
        }
    }

    pub fn fill(&self) -> Option<&Fill> {
        match self {
            Outcome::Filled(fill) => Some(fill),
            Outcome::Failed(_) | Outcome::Unknown(_) => None,
        }
    }
}
