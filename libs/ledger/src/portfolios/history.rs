//! What was bought for a portfolio, newest order first.

use fuse_domain::{Fill, Symbol};
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::error::corrupt;
use crate::orders::read::fill_from;
use crate::{Ledger, LedgerError, row};

/// One purchase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortfolioFill {
    /// The order that was filled.
    pub order_id: Uuid,
    /// What was bought.
    pub symbol: Symbol,
    /// How much of it, at what price.
    pub fill: Fill,
    /// When it was booked.
    pub at: Timestamp,
    /// The order was unknown before, and this was found out later.
    pub is_resolution: bool,
}

/// One page of purchases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortfolioHistory {
    /// At most the asked-for number.
    pub items: Vec<PortfolioFill>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Uuid>,
}

// From the primary key of orders, backwards; the event of each is found by its own.
const HISTORY: &str = "
    select o.order_id, o.symbol, o.fill_price::text as fill_price, o.fill_quantity::text as fill_quantity,
        o.fill_total::text as fill_total, e.at, e.from_status = 'unknown' as is_resolution
    from orders o
        join order_events e on e.user_id = o.user_id and e.order_id = o.order_id and e.status = 'filled'
    where o.user_id = $1 and o.portfolio_id = $2 and o.status = 'filled' and o.order_id < $3
    order by o.order_id desc limit $4";

impl Ledger {
    /// A page of at most `limit` purchases that come after `after` (the `next` of the page before).
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn portfolio_history(
        &self,
        user_id: Uuid,
        portfolio_id: Uuid,
        after: Option<Uuid>,
        limit: u16,
    ) -> Result<PortfolioHistory, LedgerError> {
        let query = sqlx::query(HISTORY)
            .bind(user_id)
            .bind(portfolio_id)
            // A bound for the first page too: the index is entered at the page, whichever plan is kept.
            .bind(after.unwrap_or(Uuid::max()))
            // One more than asked for tells whether a page follows.
            .bind(i64::from(limit) + 1);
        let rows = self.read("portfolio_history", query).await?;
        let mut items = rows.iter().map(fill_of).collect::<Result<Vec<_>, _>>()?;
        let has_more = items.len() > usize::from(limit);
        items.truncate(usize::from(limit));
        let next = items.last().filter(|_| has_more).map(|last| last.order_id);
        Ok(PortfolioHistory { items, next })
    }
}

fn fill_of(found: &PgRow) -> Result<PortfolioFill, LedgerError> {
    Ok(PortfolioFill {
        order_id: row::get(found, "order_id")?,
        symbol: row::parsed(found, "symbol", Symbol::parse)?,
        fill: fill_from(found)?.ok_or_else(|| corrupt("fill_price", "a filled order without a fill"))?,
        at: row::time(found, "at")?,
        is_resolution: row::get(found, "is_resolution")?,
    })
}
