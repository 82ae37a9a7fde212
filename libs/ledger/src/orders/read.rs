//! Reading orders: one, or pages of them, newest first.

use fuse_domain::{Amount, Fill, OrderRequest, OrderStatus, QuoteUsed, Reason, Side, Symbol};
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::{Order, Resolution, StoredAnswer};
use crate::error::corrupt;
use crate::{Ledger, LedgerError, row};

/// The columns that [`order_from`] reads, of whatever the statement calls `orders`.
macro_rules! order_columns {
    () => {
        "user_id, order_id, portfolio_id, client_order_id, symbol, side, quantity::text as quantity, \
         limit_price::text as limit_price, notional::text as notional, status, reason, quote_price::text as quote_price, quote_as_of, \
         quote_snapshot_id, fill_price::text as fill_price, fill_quantity::text as fill_quantity, \
         fill_total::text as fill_total, attempts::text as attempts, answer_status, answer_body, created_at, updated_at, \
         case when status in ('filled', 'failed') then ( \
             select json_build_array(e.actor, e.note)::text from order_events e \
             where e.user_id = orders.user_id and e.order_id = orders.order_id and e.from_status = 'unknown') \
         end as resolution"
    };
}

/// An order's id and its time of creation are taken one after the other: between them the clock may be set.
const ID_SLACK_MILLIS: i64 = 60_000;
/// A UUIDv7 begins with 48 bits of milliseconds.
const ID_MILLIS_MAX: u64 = (1 << 48) - 1;

/// The smallest id of an order that is placed at this moment: ids are UUIDv7, so they sort by time. Before 1970 it is that of
/// 1970.
#[must_use]
pub fn first_order_id(at: Timestamp) -> Uuid {
    first_id_of(at.as_millisecond())
}

fn first_id_of(millis: i64) -> Uuid {
    let millis = u64::try_from(millis).unwrap_or(0).min(ID_MILLIS_MAX);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

/// Which orders to list; everything is optional and combined with "and".
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    /// Of one user; `None` lists everybody's, for an administrator.
    pub user_id: Option<Uuid>,
    /// In this state.
    pub status: Option<OrderStatus>,
    /// Of this stock.
    pub symbol: Option<Symbol>,
    /// Of this portfolio.
    pub portfolio_id: Option<Uuid>,
    /// With this name.
    pub client_order_id: Option<String>,
    /// Placed at or after.
    pub created_from: Option<Timestamp>,
    /// Placed before.
    pub created_before: Option<Timestamp>,
    /// Changed at or after.
    pub updated_from: Option<Timestamp>,
}

/// One page, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderPage {
    /// At most the asked-for number.
    pub items: Vec<Order>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Uuid>,
}

impl Ledger {
    /// One order; `None` when there is none, or when it belongs to another user than the one given.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn order(&self, user_id: Option<Uuid>, order_id: Uuid) -> Result<Option<Order>, LedgerError> {
        let sql = concat!(
            "select ",
            order_columns!(),
            " from orders where order_id = $2 and ($1::uuid is null or user_id = $1)"
        );
        let rows = self
            .read("order", sqlx::query(sql).bind(user_id).bind(order_id))
            .await?;
        rows.first().map(order_from).transpose()
    }

    /// A page of at most `limit` orders that come after `after` (the `next` of the page before).
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn orders(
        &self,
        filter: &OrderFilter,
        after: Option<Uuid>,
        limit: u16,
    ) -> Result<OrderPage, LedgerError> {
        let mut sql = conditions(filter);
        if let Some(after) = after {
            sql.push(" and order_id < ").push_bind(after);
        }
        // Ids are UUIDv7, so they sort by time; one more than asked for tells whether a page follows.
        sql.push(" order by order_id desc limit ")
            .push_bind(i64::from(limit) + 1);
        // Planned for these very values: whether few or many orders have changed since decides which index serves.
        let query = sql.build().persistent(filter.updated_from.is_none());
        let rows = self.read("orders", query).await?;
        let mut items = rows.iter().map(order_from).collect::<Result<Vec<_>, _>>()?;
        let more = items.len() > usize::from(limit);
        items.truncate(usize::from(limit));
        let next = items.last().filter(|_| more).map(|order| order.id);
        Ok(OrderPage { items, next })
    }

    /// Orders that have been submitted since before `before`, oldest first: whoever placed them has surely given up.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn submitted_before(&self, before: Timestamp, limit: u16) -> Result<Vec<Order>, LedgerError> {
        let sql = concat!(
            "select ",
            order_columns!(),
            " from orders where status = 'submitted' and created_at < $1 order by created_at limit $2"
        );
        let query = sqlx::query(sql).bind(row::at(before)).bind(i64::from(limit));
        let rows = self.read("submitted_before", query).await?;
        // One that cannot be read must not keep the others from being given up.
        let readable = |found| {
            order_from(found)
                .inspect_err(|error| tracing::error!(error = %error, "a submitted order cannot be read"))
                .ok()
        };
        Ok(rows.iter().filter_map(readable).collect())
    }

    pub(super) async fn order_and_answer(
        &self,
        user_id: Uuid,
        order_id: Uuid,
    ) -> Result<Option<(Order, Option<StoredAnswer>)>, LedgerError> {
        let sql = concat!(
            "select ",
            order_columns!(),
            " from orders where user_id = $1 and order_id = $2"
        );
        let rows = self
            .read("order", sqlx::query(sql).bind(user_id).bind(order_id))
            .await?;
        rows.first()
            .map(|found| {
                Ok((
                    order_from(found)?,
                    answer_from(found, "answer_status", "answer_body")?,
                ))
            })
            .transpose()
    }
}

/// Each condition also in a form for which there is an index, so that the page is found without a pass over all orders. A symbol
/// has none: one that nobody bought is looked for in every order of the user, or of all.
fn conditions(filter: &OrderFilter) -> QueryBuilder<Postgres> {
    let mut sql =
        QueryBuilder::<Postgres>::new(concat!("select ", order_columns!(), " from orders where true"));
    if let Some(user_id) = filter.user_id {
        sql.push(" and user_id = ").push_bind(user_id);
    }
    if let Some(status) = filter.status {
        // Written out: an index that holds some states only is of no use to a plan for any state.
        sql.push(format_args!(" and status = '{}'", status.as_str()));
    }
    if let Some(symbol) = &filter.symbol {
        sql.push(" and symbol = ").push_bind(symbol.as_str().to_owned());
    }
    if let Some(portfolio_id) = filter.portfolio_id {
        sql.push(" and portfolio_id = ").push_bind(portfolio_id);
        if filter.user_id.is_none() {
            // Of one owner, whom the index of portfolios knows; a list over all users would be looked through instead.
            sql.push(" and user_id = (select p.user_id from portfolios p where p.portfolio_id = ")
                .push_bind(portfolio_id)
                .push(" limit 1)");
        }
    }
    if let Some(client_order_id) = &filter.client_order_id {
        sql.push(" and client_order_id = ")
            .push_bind(client_order_id.clone());
    }
    if let Some(from) = filter.created_from {
        sql.push(" and created_at >= ").push_bind(row::at(from));
        sql.push(" and order_id >= ")
            .push_bind(first_id_of(from.as_millisecond() - ID_SLACK_MILLIS));
    }
    if let Some(before) = filter.created_before {
        sql.push(" and created_at < ").push_bind(row::at(before));
        sql.push(" and order_id < ")
            .push_bind(first_id_of(before.as_millisecond() + ID_SLACK_MILLIS));
    }
    if let Some(from) = filter.updated_from {
        // An order was last changed when its latest event was.
        sql.push(" and updated_at >= ").push_bind(row::at(from));
        sql.push(
            " and (user_id, order_id) in (select e.user_id, e.order_id from order_events e where e.at >= ",
        )
        .push_bind(row::at(from))
        .push(")");
    }
    sql
}

/// The stored answer of an order, absent while it is at the vendor.
pub(super) fn answer_from(
    found: &PgRow,
    status_column: &'static str,
    body_column: &'static str,
) -> Result<Option<StoredAnswer>, LedgerError> {
    let status: Option<i16> = row::get(found, status_column)?;
    let body: Option<String> = row::get(found, body_column)?;
    let Some((status, body)) = status.zip(body) else {
        return Ok(None);
    };
    let status = u16::try_from(status).map_err(|error| corrupt(status_column, error))?;
    Ok(Some(StoredAnswer { status, body }))
}

pub(super) fn order_from(found: &PgRow) -> Result<Order, LedgerError> {
    let attempts: &str = row::get(found, "attempts")?;
    Ok(Order {
        id: row::get(found, "order_id")?,
        user_id: row::get(found, "user_id")?,
        portfolio_id: row::get(found, "portfolio_id")?,
        client_order_id: row::get(found, "client_order_id")?,
        request: OrderRequest {
            symbol: row::parsed(found, "symbol", Symbol::parse)?,
            side: row::parsed(found, "side", Side::parse)?,
            quantity: row::quantity(found, "quantity")?,
            limit_price: row::price(found, "limit_price")?,
        },
        notional: row::optional(found, "notional", Amount::parse)?,
        status: row::parsed(found, "status", OrderStatus::parse)?,
        reason: row::optional(found, "reason", Reason::parse)?,
        quote: quote_from(found)?,
        fill: fill_from(found)?,
        attempts: serde_json::from_str(attempts).map_err(|error| corrupt("attempts", error))?,
        resolution: resolution_from(found)?,
        created_at: row::time(found, "created_at")?,
        updated_at: row::time(found, "updated_at")?,
    })
}

fn resolution_from(found: &PgRow) -> Result<Option<Resolution>, LedgerError> {
    let Some(text) = row::get::<Option<&str>>(found, "resolution")? else {
        return Ok(None);
    };
    let (actor, note): (String, String) =
        serde_json::from_str(text).map_err(|error| corrupt("resolution", error))?;
    Ok(Some(Resolution { actor, note }))
}

fn quote_from(found: &PgRow) -> Result<Option<QuoteUsed>, LedgerError> {
    let Some(snapshot_id) = row::get::<Option<Uuid>>(found, "quote_snapshot_id")? else {
        return Ok(None);
    };
    Ok(Some(QuoteUsed {
        price: row::price(found, "quote_price")?,
        as_of: row::time(found, "quote_as_of")?,
        snapshot_id,
    }))
}

/// Also of an event, which has the same three columns.
pub(crate) fn fill_from(found: &PgRow) -> Result<Option<Fill>, LedgerError> {
    if row::get::<Option<&str>>(found, "fill_price")?.is_none() {
        return Ok(None);
    }
    Ok(Some(Fill {
        price: row::price(found, "fill_price")?,
        quantity: row::quantity(found, "fill_quantity")?,
        total: row::amount(found, "fill_total")?,
    }))
}
