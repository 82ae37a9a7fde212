//! What write 1 would find, without any effect: for a preview. It may have changed a moment later.

use uuid::Uuid;

use crate::{Ledger, LedgerError, row};

/// Which order is thought of.
#[derive(Debug, Clone)]
pub struct OutlookOf {
    /// Its owner.
    pub user_id: Uuid,
    /// `None`: the user's default portfolio.
    pub portfolio_id: Option<Uuid>,
    /// The client's own name for it.
    pub client_order_id: Option<String>,
    /// The API key whose orders are counted, and the smallest UUIDv7 of the day; `None` when none are to be.
    pub counted: Option<(Uuid, Uuid)>,
}

/// What stands in its way or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderOutlook {
    /// Of the portfolio.
    pub version: i64,
    /// Another order of this user has this `client_order_id`.
    pub is_client_order_id_taken: bool,
    /// Orders of the key for this user since the day began, those that were rejected not counted.
    pub placed_today: i64,
}

// The same conditions as in place_orders.
const OUTLOOK: &str = "
    select p.version,
        exists (select from orders o where o.user_id = $1 and o.client_order_id = $3) as is_taken,
        (select count(*) from orders o
         where o.user_id = $1 and o.order_id >= $5 and o.key_id = $4 and o.status <> 'rejected') as placed_today
    from portfolios p
    where p.user_id = $1 and p.portfolio_id = $2 and p.deleted_at is null";

impl Ledger {
    /// What an order would find now; `None` when the user has no such portfolio.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn order_outlook(&self, of: &OutlookOf) -> Result<Option<OrderOutlook>, LedgerError> {
        let query = sqlx::query(OUTLOOK)
            .bind(of.user_id)
            .bind(of.portfolio_id.unwrap_or(of.user_id))
            .bind(of.client_order_id.clone())
            .bind(of.counted.map(|(key_id, _)| key_id))
            .bind(of.counted.map(|(_, day_begins)| day_begins));
        let rows = self.read("order_outlook", query).await?;
        let Some(found) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(OrderOutlook {
            version: row::get(found, "version")?,
            is_client_order_id_taken: row::get(found, "is_taken")?,
            placed_today: row::get(found, "placed_today")?,
        }))
    }
}
