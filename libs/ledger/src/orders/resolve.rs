//! How an unknown order ends: by one recorded resolution.

use fuse_domain::{Fill, OrderStatus};
use jiff::Timestamp;
use uuid::Uuid;

use super::settle::{Change, Changed};
use super::{Order, Resolution};
use crate::{Ledger, LedgerError};

/// What somebody found out about an unknown order.
#[derive(Debug, Clone)]
pub struct Resolve {
    /// Which order, of whomever.
    pub order_id: Uuid,
    /// What was bought; `None` when nothing was.
    pub fill: Option<Fill>,
    /// Who says so, and how they know.
    pub told: Resolution,
    /// Now.
    pub at: Timestamp,
}

/// What became of [`Ledger::resolve`].
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved {
    /// Resolved, and by this call.
    Now(Box<Order>),
    /// It had this very outcome before; nothing was changed.
    Before(Box<Order>),
    /// It has another outcome, or none that a resolution may change.
    Conflict(Box<Order>),
    /// There is no such order.
    NotFound,
}

impl Ledger {
    /// Makes an unknown order filled or failed, and books what was bought, once. Repeating it changes nothing.
    ///
    /// # Errors
    /// As [`Ledger::settle`].
    pub async fn resolve(&self, resolve: Resolve) -> Result<Resolved, LedgerError> {
        let Some(order) = self.order(None, resolve.order_id).await? else {
            return Ok(Resolved::NotFound);
        };
        let fill = resolve.fill;
        let change = Change {
            user_id: order.user_id,
            order_id: order.id,
            status: if fill.is_some() {
                OrderStatus::Filled
            } else {
                OrderStatus::Failed
            },
            reason: None,
            fill,
            attempts: serde_json::Value::Array(Vec::new()),
            answer: None,
            at: resolve.at,
            is_resolution: true,
            told: resolve.told,
        };
        let status = change.status;
        let changed = self.settles.write(change).await?;
        let Some(order) = self.order(None, resolve.order_id).await? else {
            return Ok(Resolved::NotFound);
        };
        let order = Box::new(order);
        Ok(match changed {
            Changed::Resolved => Resolved::Now(order),
            _ if order.status == status && order.fill == fill => Resolved::Before(order),
            _ => Resolved::Conflict(order),
        })
    }
}
