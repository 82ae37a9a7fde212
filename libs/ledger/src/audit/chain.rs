//! Making the chain, in the background, by one process at a time (the schema refuses a second next link).

use fuse_domain::ChainHead;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgRow;

use super::line::{Line, line_from, next_events, position_from};
use super::{Link, Position};
use crate::error::corrupt;
use crate::{Ledger, LedgerError, row};

/// Events of one link, at most.
const EVENTS_MAX: usize = 1000;
/// A link with fewer is made when its first event is this old, so that few events do not make many links.
const MADE_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// Links of one call; the rest is for the next.
const LINKS_MAX: usize = 100;
/// Events behind the chain are counted up to this.
const LAG_COUNTED_MAX: i64 = 100_000;

macro_rules! link_columns {
    () => {
        "link, previous_hash, hash, events, total, last_txid::text as last_txid, last_seq, last_user_id, digests"
    };
}

impl Ledger {
    /// Adds links for what has happened since the last one. Returns how many events were added.
    ///
    /// # Errors
    /// `Unavailable` (a link may have been added: the next call goes on behind it), `Conflict`, or `Refused` when
    /// another process has added one at the same moment.
    pub async fn extend_chain(&self, now: Timestamp) -> Result<u64, LedgerError> {
        let mut added = 0;
        for _ in 0..LINKS_MAX {
            let last = self.last_link().await?;
            let after = last.as_ref().map_or(Position::START, |link| link.last);
            let found = self
                .read("unchained_events", next_events(after, EVENTS_MAX))
                .await?;
            let lines = found.iter().map(line_from).collect::<Result<Vec<_>, _>>()?;
            let is_due = lines.len() == EVENTS_MAX
                || lines
                    .first()
                    .is_some_and(|first| now.duration_since(first.at) >= MADE_AFTER);
            if !is_due {
                break;
            }
            self.add_link(last.as_ref(), &lines, now).await?;
            added += lines.len() as u64;
        }
        Ok(added)
    }

    /// The end of the chain; `None` while there is none.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn chain_head(&self) -> Result<Option<ChainHead>, LedgerError> {
        Ok(self.last_link().await?.map(|link| link.head))
    }

    async fn last_link(&self) -> Result<Option<Link>, LedgerError> {
        let query = sqlx::query(concat!(
            "select ",
            link_columns!(),
            " from order_event_chain order by link desc limit 1"
        ));
        self.read("last_link", query)
            .await?
            .first()
            .map(link_from)
            .transpose()
    }

    /// Links behind `after`, in their order.
    pub(super) async fn links(&self, after: i64, limit: i64) -> Result<Vec<Link>, LedgerError> {
        let query = sqlx::query(concat!(
            "select ",
            link_columns!(),
            " from order_event_chain where link > $1 order by link limit $2"
        ));
        self.read("links", query.bind(after).bind(limit))
            .await?
            .iter()
            .map(link_from)
            .collect()
    }

    async fn add_link(&self, last: Option<&Link>, lines: &[Line], now: Timestamp) -> Result<(), LedgerError> {
        let digests: Vec<u8> = lines.iter().flat_map(|line| line.digest).collect();
        let end = lines.last().ok_or_else(|| corrupt("link", "no events"))?.position;
        let previous = last.map_or([0; 32], |link| link.head.hash);
        let link = last.map_or(0, |link| link.head.link) + 1;
        let events = i32::try_from(lines.len()).unwrap_or(i32::MAX);
        let total = last.map_or(0, |link| link.head.events) + i64::from(events);
        let query = sqlx::query(
            "insert into order_event_chain (link, previous_hash, hash, events, total, last_txid, last_seq, last_user_id,
                 digests, made_at)
             values ($1, $2, $3, $4, $5, $6::xid8, $7, $8, $9, $10)",
        )
        .bind(link)
        .bind(previous.to_vec())
        .bind(link_hash(&previous, link, total, &digests).to_vec())
        .bind(events)
        .bind(total)
        .bind(end.txid.to_string())
        .bind(end.seq)
        .bind(end.user_id)
        .bind(digests)
        .bind(row::at(now));
        self.write("add_link", query).await.map(drop)
    }

    /// Counts the events that no link covers yet, for the metric.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`; the metric then keeps its last figure.
    pub async fn observe_chain(&self) -> Result<(), LedgerError> {
        let after = self.last_link().await?.map_or(Position::START, |link| link.last);
        let query = sqlx::query(
            "select count(*) as lag from (
                 select from order_events where (txid, seq, user_id) > ($1::xid8, $2, $3) limit $4
             ) unchained",
        )
        .bind(after.txid.to_string())
        .bind(after.seq)
        .bind(after.user_id)
        .bind(LAG_COUNTED_MAX);
        let rows = self.read("chain_lag", query).await?;
        let lag = row::get(row::only(&rows, "chain_lag")?, "lag")?;
        self.metrics.chain_lag.set(lag);
        Ok(())
    }
}

/// The hash of a link covers its place, all digests, and through the link before everything before.
pub(super) fn link_hash(previous: &[u8; 32], link: i64, total: i64, digests: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(link.to_be_bytes());
    hash.update(total.to_be_bytes());
    hash.update(digests);
    hash.finalize().into()
}

fn link_from(found: &PgRow) -> Result<Link, LedgerError> {
    let hash = |column| {
        let bytes: &[u8] = row::get(found, column)?;
        <[u8; 32]>::try_from(bytes).map_err(|error| corrupt(column, error))
    };
    Ok(Link {
        head: ChainHead {
            link: row::get(found, "link")?,
            events: row::get(found, "total")?,
            hash: hash("hash")?,
        },
        previous_hash: hash("previous_hash")?,
        events: usize::try_from(row::get::<i32>(found, "events")?).unwrap_or(0),
        last: position_from(found, "last_txid", "last_seq", "last_user_id")?,
        digests: row::get::<&[u8]>(found, "digests")?.to_vec(),
    })
}
