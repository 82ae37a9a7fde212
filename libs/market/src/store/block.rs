//! Blocks of history: the price changes of one pass, put together by bucket of symbols and hour of the vendor's own
//! times.
//!
//! ```text
//! HISTORY#{bucket}#{day} / {hour}#{snapshot id}#{part}    points expires_at, and with movers: movers mover_pk mover_sk
//! ```
//! What must stay true:
//! * where a change lies depends on its symbol and its own time alone, never on when we heard of it: however late, early
//!   or out of order the vendor's times come, the blocks of an hour hold all changes of that hour;
//! * a pass never writes the same place twice, but with the same bytes. Two passes that tell the same change lie side by
//!   side, the later one behind, as ids of snapshots sort by time; a reader takes what comes last.
//!
//! `points` is text: of each change `;SYMBOL MILLISECOND PRICE CHANGE`, the millisecond counted from the hour's beginning.
//! Neither a symbol nor a normalised number holds a blank or a semicolon. It is not compressed: that would cost CPU time
//! to save parts of a write unit that is paid whole.

use std::fmt::Write as _;

use fuse_domain::{Price, Quote, SnapshotMeta, Symbol};
use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::history::HistoryPoint;
use super::items::{self, Item};

/// As many as make a block of a pass over 10,000 symbols about half a kilobyte: fewer would make it cost a second write
/// unit, more would be more items. Must not change: what is written lies where this number put it.
const BUCKETS: u64 = 512;
/// More becomes a second item. Far below DynamoDB's 400 KB, so that one read of 1 MB holds several.
const BLOCK_BYTES_MAX: usize = 64 * 1_024;
const HOUR_MILLIS: i64 = 3_600_000;
const HOURS_A_DAY: i64 = 24;

pub(super) const HISTORY_KEPT_DAYS: i64 = 90;
const HISTORY_KEPT_SECS: i64 = HISTORY_KEPT_DAYS * 24 * 3_600;

/// The attribute with the movers of a block: whole, so that it is all that their index needs to hold.
pub(super) const MOVERS_OF_BLOCK: &str = "movers";
const POINTS: &str = "points";
const BEFORE_POINT: char = ';';

/// What a symbol's lines begin with; no other symbol's do.
pub(super) fn line_start(symbol: &Symbol) -> String {
    format!("{BEFORE_POINT}{symbol} ")
}

pub(super) fn block_pk(symbol: &Symbol, day: Date) -> String {
    pk(bucket_of(symbol), day)
}

fn pk(bucket: u64, day: Date) -> String {
    format!("HISTORY#{bucket:03}#{day}")
}

/// The sort keys of a day's blocks from one hour to another, both included.
pub(super) fn block_sks(first_hour: i64, last_hour: i64) -> (String, String) {
    (format!("{first_hour:02}#"), format!("{last_hour:02}#~"))
}

/// Of the day, in UTC.
pub(super) fn hour_of(at: Timestamp) -> i64 {
    at.as_millisecond()
        .div_euclid(HOUR_MILLIS)
        .rem_euclid(HOURS_A_DAY)
}

/// The day in UTC, as history is kept by days.
pub(super) fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// When a change is no history any more.
pub(super) fn expires_at(at: Timestamp) -> i64 {
    at.as_second().saturating_add(HISTORY_KEPT_SECS)
}

/// FNV-1a, folded: its lower bits alone would see only the lower bits of the text.
fn bucket_of(symbol: &Symbol) -> u64 {
    let hash = symbol
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    (hash ^ (hash >> 32)) % BUCKETS
}

/// The blocks of a pass: the changes that these quotes are, first seen in the snapshot `meta`.
pub(super) fn blocks(changed: &[&Quote], meta: &SnapshotMeta) -> Vec<Item> {
    let mut placed: Vec<_> = changed.iter().map(|quote| (Place::of(quote), *quote)).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed
        .chunk_by(|(one, _), (other, _)| one == other)
        .flat_map(|together| items_of(together[0].0, together.iter().map(|(_, quote)| *quote), meta))
        .collect()
}

/// Where a change belongs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    bucket: u64,
    /// Since the epoch.
    hour: i64,
}

impl Place {
    fn of(quote: &Quote) -> Self {
        Self {
            bucket: bucket_of(&quote.symbol),
            hour: quote.last_updated.as_millisecond().div_euclid(HOUR_MILLIS),
        }
    }
}

/// One item, or several where they do not fit one.
fn items_of<'a>(place: Place, quotes: impl Iterator<Item = &'a Quote>, meta: &SnapshotMeta) -> Vec<Item> {
    let mut drafts: Vec<Draft> = Vec::with_capacity(1);
    for quote in quotes {
        let added = Draft::of(quote);
        match drafts.last_mut() {
            Some(last) if last.bytes() + added.bytes() <= BLOCK_BYTES_MAX => last.append(&added),
            _ => drafts.push(added),
        }
    }
    let finished = drafts.into_iter().enumerate();
    finished
        .map(|(part, draft)| draft.into_item(place, part, meta))
        .collect()
}

/// A block in the making.
struct Draft {
    points: String,
    /// JSON, without the brackets around all.
    movers: String,
    newest: Timestamp,
}

impl Draft {
    fn of(quote: &Quote) -> Self {
        let Quote {
            symbol,
            price,
            change,
            last_updated,
            ..
        } = quote;
        let millis = last_updated.as_millisecond().rem_euclid(HOUR_MILLIS);
        let mut points = line_start(symbol);
        write!(points, "{millis} {price} {change}").expect("a String takes any text");
        let movers = quote.mover.then(|| {
            let mover = StoredMover::from(quote);
            serde_json::to_string(&mover).expect("texts and a number have a JSON form")
        });
        Self {
            points,
            movers: movers.unwrap_or_default(),
            newest: *last_updated,
        }
    }

    fn bytes(&self) -> usize {
        self.points.len() + self.movers.len() + 1
    }

    fn append(&mut self, other: &Self) {
        self.points.push_str(&other.points);
        if !self.movers.is_empty() && !other.movers.is_empty() {
            self.movers.push(',');
        }
        self.movers.push_str(&other.movers);
        self.newest = self.newest.max(other.newest);
    }

    fn into_item(self, place: Place, part: usize, meta: &SnapshotMeta) -> Item {
        let hour = place.hour.rem_euclid(HOURS_A_DAY);
        let sk = format!("{hour:02}#{}#{part}", meta.id);
        let mut item = items::key(pk(place.bucket, day_of(self.newest)), sk);
        item.insert(POINTS.into(), items::string(self.points));
        item.insert("expires_at".into(), items::number(expires_at(self.newest)));
        if !self.movers.is_empty() {
            let key = format!("{}{:03}#{part}", items::movers_of(meta.taken_at), place.bucket);
            item.insert(items::MOVER_PK.into(), items::string(items::MOVERS));
            item.insert(items::MOVER_SK.into(), items::string(key));
            let movers = format!("[{}]", self.movers);
            item.insert(MOVERS_OF_BLOCK.into(), items::string(movers));
        }
        item
    }
}

/// The hour of the day that a block is of.
pub(super) fn hour(block: &Item) -> Result<i64, StoreError> {
    items::text(block, "sk")
        .and_then(|sk| sk.get(..2))
        .and_then(|hour| hour.parse().ok())
        .filter(|hour| (0..HOURS_A_DAY).contains(hour))
        .ok_or_else(|| StoreError::corrupt("a block of history with a bad key"))
}

/// What a block of this day says of a symbol, if anything.
pub(super) fn point(block: &Item, day: Date, symbol: &Symbol) -> Result<Option<HistoryPoint>, StoreError> {
    let corrupt = |what: &str| StoreError::corrupt(format!("a block of history with a bad {what}"));
    let points = items::text(block, POINTS).ok_or_else(|| corrupt("text"))?;
    let start = line_start(symbol);
    let Some((_, line)) = points.split_once(&start) else {
        return Ok(None);
    };
    let line = line.split(BEFORE_POINT).next().unwrap_or_default();
    let mut fields = line.split(' ');
    let [Some(millis), Some(price), Some(change), None] = [(); 4].map(|()| fields.next()) else {
        return Err(corrupt("line"));
    };
    Ok(Some(HistoryPoint {
        at: instant(day, hour(block)?, millis).ok_or_else(|| corrupt("time"))?,
        price: Price::parse(price).map_err(|_| corrupt("price"))?,
        change: change.to_owned(),
    }))
}

fn instant(day: Date, hour: i64, millis: &str) -> Option<Timestamp> {
    let millis: i64 = millis.parse().ok()?;
    let midnight = day.to_zoned(TimeZone::UTC).ok()?.timestamp();
    let since_midnight = hour.checked_mul(HOUR_MILLIS)?.checked_add(millis)?;
    Timestamp::from_millisecond(midnight.as_millisecond().checked_add(since_midnight)?).ok()
}

/// What a reader of the index needs to list a stock: a JSON array in this order.
#[derive(Serialize, Deserialize)]
struct StoredMover(Symbol, i64, Price, String, String, String);

impl From<&Quote> for StoredMover {
    fn from(quote: &Quote) -> Self {
        Self(
            quote.symbol.clone(),
            quote.last_updated.as_millisecond(),
            quote.price,
            quote.change.clone(),
            quote.name.clone(),
            quote.sector.clone(),
        )
    }
}

/// The movers of a block as the index holds it: quotes as they were in the snapshot in which they moved.
pub(super) fn movers(entry: &Item) -> Result<Vec<Quote>, StoreError> {
    let corrupt = |what: &str| StoreError::corrupt(format!("a block of movers with a bad {what}"));
    let as_of = items::text(entry, items::MOVER_SK)
        .and_then(|key| key.split_once('#'))
        .and_then(|(taken_at, _)| taken_at.parse().ok())
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .ok_or_else(|| corrupt("key"))?;
    let text = items::text(entry, MOVERS_OF_BLOCK).ok_or_else(|| corrupt("text"))?;
    let stored: Vec<StoredMover> = serde_json::from_str(text).map_err(|_| corrupt("text"))?;
    let quote = |StoredMover(symbol, millis, price, change, name, sector)| {
        Ok(Quote {
            symbol,
            name,
            sector,
            price,
            change,
            last_updated: Timestamp::from_millisecond(millis).map_err(|_| corrupt("time"))?,
            as_of,
            mover: true,
            listed: true,
        })
    };
    stored.into_iter().map(quote).collect()
}

#[cfg(test)]
mod tests;
