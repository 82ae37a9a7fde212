//! What a key may order, beside what holds for every key.

use fuse_domain::Amount;
use sqlx::postgres::PgRow;

use crate::error::corrupt;
use crate::{LedgerError, row};

/// Limits of one key's own; `None`: there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Largest price times quantity of an order; greater than zero, at most 9 decimals.
    pub max_notional: Option<Amount>,
    /// Orders in one day in UTC, those that were rejected not counted; at least 1.
    pub max_orders_per_day: Option<u32>,
}

impl KeyLimits {
    pub(super) fn read(found: &PgRow) -> Result<Self, LedgerError> {
        let max_orders_per_day: Option<i32> = row::get(found, "max_orders_per_day")?;
        Ok(Self {
            max_notional: row::optional(found, "max_notional", Amount::parse)?,
            max_orders_per_day: max_orders_per_day
                .map(|max| u32::try_from(max).map_err(|error| corrupt("max_orders_per_day", error)))
                .transpose()?,
        })
    }
}
