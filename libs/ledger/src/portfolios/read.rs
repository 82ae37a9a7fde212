//! A portfolio with what it holds and what is on its way to it, read at one moment.

use fuse_domain::{Amount, OrderStatus, Price, Quantity, Symbol};
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{Portfolio, portfolio_columns, portfolio_from};
use crate::{Ledger, LedgerError, row};

/// Open orders that are read with a portfolio, at most; the newest.
pub const PENDING_MAX: u16 = 100;

/// One position: the exact fold of the filled orders of a symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Which stock.
    pub symbol: Symbol,
    /// Shares, greater than zero.
    pub quantity: Quantity,
    /// What they cost together.
    pub cost: Amount,
    /// Grows with every fill of this symbol.
    pub version: i64,
    /// When it last grew.
    pub updated_at: Timestamp,
}

/// An order that may still be filled, or may have been without us knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingOrder {
    /// Which order.
    pub id: Uuid,
    /// What it buys.
    pub symbol: Symbol,
    /// How much of it.
    pub quantity: Quantity,
    /// For how much at most.
    pub limit_price: Price,
    /// `Submitted` or `Unknown`.
    pub status: OrderStatus,
    /// When it was placed.
    pub created_at: Timestamp,
}

/// The open orders of a portfolio.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    /// How many are submitted.
    pub submitted: i64,
    /// How many are unknown.
    pub unknown: i64,
    /// The newest of both, at most [`PENDING_MAX`], newest first.
    pub orders: Vec<PendingOrder>,
}

/// A portfolio, what it holds and what is pending. An order is in exactly one of the two, or in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortfolioHoldings {
    /// The portfolio.
    pub portfolio: Portfolio,
    /// Sorted by symbol.
    pub holdings: Vec<Holding>,
    /// Its open orders.
    pub pending: Pending,
}

// One statement, so that an order which is filled meanwhile is neither in both lists nor in none. The open orders come
// from the small index orders_open, however many orders the user has.
const PORTFOLIO: &str = concat!(
    "with own as (
         select ",
    portfolio_columns!(),
    " from portfolios p
         where p.portfolio_id = $2 and ($1::uuid is null or p.user_id = $1) and p.deleted_at is null
     ), open as (
         select own.user_id, o.order_id, o.symbol, o.quantity::text as quantity, o.limit_price::text as limit_price,
             o.status, o.created_at as order_created_at,
             count(*) filter (where o.status = 'submitted') over () as submitted,
             count(*) filter (where o.status = 'unknown') over () as unknown
         from own join orders o on o.user_id = own.user_id and o.portfolio_id = own.portfolio_id
         where o.status in ('submitted', 'unknown')
         order by o.order_id desc limit $3
     ), parts as (
         select own.*, h.symbol, h.quantity::text as quantity, h.cost::text as cost,
             h.version as holding_version, h.updated_at as holding_updated_at,
             null::uuid as order_id, null as limit_price, null as status, null::timestamptz as order_created_at,
             null::bigint as submitted, null::bigint as unknown
         from own left join holdings h using (user_id, portfolio_id)
         union all
         select own.*, o.symbol, o.quantity, null, null, null,
             o.order_id, o.limit_price, o.status, o.order_created_at, o.submitted, o.unknown
         from own join open o using (user_id)
     )
     select * from parts order by order_id desc nulls first, symbol collate \"C\""
);

impl Ledger {
    /// A portfolio with its holdings and open orders; `None` when there is none, or when it belongs to another user
    /// than the one given.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn portfolio(
        &self,
        user_id: Option<Uuid>,
        portfolio_id: Uuid,
    ) -> Result<Option<PortfolioHoldings>, LedgerError> {
        let query = sqlx::query(PORTFOLIO)
            .bind(user_id)
            .bind(portfolio_id)
            .bind(i64::from(PENDING_MAX));
        let rows = self.read("portfolio", query).await?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let mut read = PortfolioHoldings {
            portfolio: portfolio_from(first)?,
            holdings: Vec::new(),
            pending: Pending::default(),
        };
        for found in &rows {
            if row::get::<Option<Uuid>>(found, "order_id")?.is_some() {
                read.pending.submitted = row::get(found, "submitted")?;
                read.pending.unknown = row::get(found, "unknown")?;
                read.pending.orders.push(pending_from(found)?);
            } else {
                read.holdings.extend(holding_from(found)?);
            }
        }
        Ok(Some(read))
    }

    /// Whose portfolio this is or was: a repeat of an order gets its first answer also when its portfolio was deleted.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn owner_of_any_portfolio(&self, portfolio_id: Uuid) -> Result<Option<Uuid>, LedgerError> {
        let query = sqlx::query("select user_id from portfolios where portfolio_id = $1").bind(portfolio_id);
        let rows = self.read("portfolio_owner", query).await?;
        rows.first().map(|found| row::get(found, "user_id")).transpose()
    }

    /// Whose portfolio this is; `None` when there is none, or when it belongs to another user than the one given.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn portfolio_owner(
        &self,
        user_id: Option<Uuid>,
        portfolio_id: Uuid,
    ) -> Result<Option<Uuid>, LedgerError> {
        let query = sqlx::query(
            "select user_id from portfolios
             where portfolio_id = $2 and ($1::uuid is null or user_id = $1) and deleted_at is null",
        )
        .bind(user_id)
        .bind(portfolio_id);
        let rows = self.read("portfolio_owner", query).await?;
        rows.first().map(|found| row::get(found, "user_id")).transpose()
    }
}

/// `None` is the one row of a portfolio that holds nothing.
fn holding_from(found: &PgRow) -> Result<Option<Holding>, LedgerError> {
    let Some(symbol) = row::optional(found, "symbol", Symbol::parse)? else {
        return Ok(None);
    };
    Ok(Some(Holding {
        symbol,
        quantity: row::quantity(found, "quantity")?,
        cost: row::amount(found, "cost")?,
        version: row::get(found, "holding_version")?,
        updated_at: row::time(found, "holding_updated_at")?,
    }))
}

fn pending_from(found: &PgRow) -> Result<PendingOrder, LedgerError> {
    Ok(PendingOrder {
        id: row::get(found, "order_id")?,
        symbol: row::parsed(found, "symbol", Symbol::parse)?,
        quantity: row::quantity(found, "quantity")?,
        limit_price: row::price(found, "limit_price")?,
        status: row::parsed(found, "status", OrderStatus::parse)?,
        created_at: row::time(found, "order_created_at")?,
    })
}
