//! What is hashed: one line of text for each event, with what its order asked for, its answer and its attempts, in a
//! form that depends on values only. Free text goes with its length, so that no two events have the same line.

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgRow;

use super::Position;
use crate::pool::PgQuery;
use crate::{LedgerError, row};

/// An event as it is hashed.
pub(super) struct Line {
    pub digest: [u8; 32],
    pub position: Position,
    /// For people: which row this is.
    pub name: String,
    pub at: jiff::Timestamp,
}

macro_rules! events_after {
    ($upper:literal) => {
        concat!(
            "select e.order_id::text || ' ' || e.status as name, e.txid::text as txid, e.seq, e.user_id, e.at,
                 concat_ws('|', e.user_id, e.order_id, coalesce(e.from_status, '-'), e.status, coalesce(e.reason, '-'),
                     coalesce(e.fill_price::text, '-'), coalesce(e.fill_quantity::text, '-'),
                     coalesce(e.fill_total::text, '-'), (extract(epoch from e.at) * 1000000)::bigint, e.txid, e.seq,
                     o.portfolio_id, encode(o.request_sha256, 'hex'), char_length(o.symbol), o.symbol, o.side, o.quantity, o.limit_price,
                     coalesce(o.notional::text, '-'), coalesce(o.key_id::text, '-'), coalesce(o.quote_price::text, '-'),
                     coalesce((extract(epoch from o.quote_as_of) * 1000000)::bigint::text, '-'),
                     coalesce(o.quote_snapshot_id::text, '-'), (extract(epoch from o.created_at) * 1000000)::bigint,
                     -- What never changes once the order has come to this event.
                     case when e.status <> 'submitted'
                         then o.answer_status || encode(sha256(convert_to(o.answer_body, 'UTF8')), 'hex') else '-' end,
                     case when e.status in ('rejected', 'filled', 'failed')
                         then encode(sha256(convert_to(o.attempts::text, 'UTF8')), 'hex') else '-' end,
                     char_length(o.idempotency_key), o.idempotency_key,
                     coalesce(char_length(o.client_order_id), -1), coalesce(o.client_order_id, ''),
                     coalesce(char_length(e.actor), -1), coalesce(e.actor, ''),
                     coalesce(char_length(e.note), -1), coalesce(e.note, '')) as line
             from order_events e cross join lateral (
                 -- One look at the key for each event: as a join it may be planned as a pass over all orders for some thousand events.
                 select * from orders o where o.user_id = e.user_id and o.order_id = e.order_id offset 0
             ) o
             where (e.txid, e.seq, e.user_id) > ($1::xid8, $2, $3) and ",
            $upper,
            " order by e.txid, e.seq, e.user_id"
        )
    };
}

/// Events behind `after` whose transactions and all before them have ended, at most `limit`.
pub(super) fn next_events(after: Position, limit: usize) -> PgQuery<'static> {
    sqlx::query(concat!(
        events_after!("e.txid < pg_snapshot_xmin(pg_current_snapshot())"),
        " limit $4"
    ))
    .bind(after.txid.to_string())
    .bind(after.seq)
    .bind(after.user_id)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
}

/// Events behind `after` up to and including `last`.
pub(super) fn events_until(after: Position, last: Position) -> PgQuery<'static> {
    sqlx::query(events_after!("(e.txid, e.seq, e.user_id) <= ($4::xid8, $5, $6)"))
        .bind(after.txid.to_string())
        .bind(after.seq)
        .bind(after.user_id)
        .bind(last.txid.to_string())
        .bind(last.seq)
        .bind(last.user_id)
}

pub(super) fn line_from(found: &PgRow) -> Result<Line, LedgerError> {
    Ok(Line {
        digest: Sha256::digest(row::get::<&str>(found, "line")?).into(),
        position: position_from(found, "txid", "seq", "user_id")?,
        name: row::get(found, "name")?,
        at: row::time(found, "at")?,
    })
}

pub(super) fn position_from(
    found: &PgRow,
    txid: &'static str,
    seq: &'static str,
    user_id: &'static str,
) -> Result<Position, LedgerError> {
    Ok(Position {
        txid: row::parsed(found, txid, str::parse)?,
        seq: row::get(found, seq)?,
        user_id: row::get(found, user_id)?,
    })
}
