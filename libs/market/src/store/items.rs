//! The items of the table: how a snapshot is laid out in DynamoDB, and how it reads back.
//!
//! ```text
//! SNAPSHOT / CURRENT               pointer: id taken_at tick_at pages count fence kept_until
//! SNAPSHOT#{id} / PAGE#{n}         quotes (compressed JSON array) taken_at pages count expires_at
//! HISTORY#{bucket}#{day} / …       blocks of price changes, see [`block`](super::block)
//! LEASE#{name} / LEASE             owner fence beat until
//! ```
//! The index `movers` (`mover_pk`, `mover_sk`) holds the blocks with movers only, and of them nothing but the movers:
//! `MOVERS` / `{taken_at ms}#{bucket}#{part}`.
//! Times of the pointer are epoch milliseconds (numbers compare in conditions); `expires_at` and `kept_until` are
//! epoch seconds, as DynamoDB's garbage collector wants them.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use fuse_domain::SnapshotMeta;
use jiff::Timestamp;
use uuid::Uuid;

use super::error::StoreError;
use super::lease::Fence;
use super::pages::EncodedPages;

pub(super) type Item = HashMap<String, AttributeValue>;

/// The sparse index of movers and its keys.
pub(super) const MOVERS_INDEX: &str = "movers";
pub(super) const MOVER_PK: &str = "mover_pk";
pub(super) const MOVER_SK: &str = "mover_sk";
pub(super) const MOVERS: &str = "MOVERS";

/// How long pages stay. Those of the current snapshot are kept for longer while nothing supersedes it, see
/// `keep_current`; for all others it is far more than a walk in progress needs. Storage is cheap and writes are
/// not: this way no page is ever written a second time in ordinary operation.
pub(super) const PAGES_KEPT_SECS: i64 = 48 * 3_600;

/// Which snapshot is the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    pub id: Uuid,
    pub taken_at: Timestamp,
    pub tick_at: Timestamp,
    pub pages: usize,
    pub count: usize,
    /// Of the lease that its publisher held.
    pub fence: Fence,
}

pub(super) fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn key(pk: impl Into<String>, sk: impl Into<String>) -> Item {
    // Room for what the items have besides, so that none grows twice.
    let mut item = HashMap::with_capacity(8);
    item.insert("pk".into(), string(pk));
    item.insert("sk".into(), string(sk));
    item
}

pub(super) fn pointer_key() -> Item {
    key("SNAPSHOT", "CURRENT")
}

pub(super) fn lease_key(name: &str) -> Item {
    key(format!("LEASE#{name}"), "LEASE")
}

pub(super) fn page_key(id: Uuid, page: usize) -> Item {
    key(pages_pk(id), format!("PAGE#{page:05}"))
}

pub(super) fn pages_pk(id: Uuid) -> String {
    format!("SNAPSHOT#{id}")
}

/// The page items of a snapshot. Each says what it is a part of, so that a walk finds a superseded snapshot whole.
pub(super) fn pages(meta: &SnapshotMeta, pages: &EncodedPages, expires_at: i64) -> Vec<Item> {
    let total = pages.count();
    let item = |(page, bytes): (usize, &Vec<u8>)| {
        let mut item = page_key(meta.id, page);
        item.insert("quotes".into(), AttributeValue::B(Blob::new(bytes.clone())));
        item.insert("taken_at".into(), number(meta.taken_at.as_millisecond()));
        item.insert("pages".into(), number(total));
        item.insert("count".into(), number(meta.count));
        item.insert("expires_at".into(), number(expires_at));
        item
    };
    pages.bytes().iter().enumerate().map(item).collect()
}

/// One page as it was read.
pub(super) struct Page {
    pub quotes: Vec<u8>,
    /// Of the snapshot that it belongs to.
    pub taken_at: Timestamp,
    pub pages: usize,
    pub count: usize,
}

/// `None` when the item is past its expiry and only not yet collected.
pub(super) fn page(mut item: Item, now: Timestamp) -> Result<Option<Page>, StoreError> {
    if expired(&item, now)? {
        return Ok(None);
    }
    let Some(AttributeValue::B(quotes)) = item.remove("quotes") else {
        return Err(StoreError::corrupt("a page without quotes"));
    };
    Ok(Some(Page {
        quotes: quotes.into_inner(),
        taken_at: time(&item, "taken_at")?,
        pages: size(&item, "pages")?,
        count: size(&item, "count")?,
    }))
}

/// Whether the item's time is over, whatever the garbage collector has done about it.
pub(super) fn expired(item: &Item, now: Timestamp) -> Result<bool, StoreError> {
    Ok(optional_integer(item, "expires_at")?.is_some_and(|at| at <= now.as_second()))
}

/// What the sort keys of a snapshot's movers begin with.
pub(super) fn movers_of(taken_at: Timestamp) -> String {
    format!("{:013}#", taken_at.as_millisecond())
}

pub(super) fn pointer(item: &Item) -> Result<Pointer, StoreError> {
    let id = text(item, "id")
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| StoreError::corrupt("a pointer with a bad id"))?;
    Ok(Pointer {
        id,
        taken_at: time(item, "taken_at")?,
        tick_at: time(item, "tick_at")?,
        pages: size(item, "pages")?,
        count: size(item, "count")?,
        fence: fence(item)?,
    })
}

/// That of an item; the lowest where none is written.
pub(super) fn fence(item: &Item) -> Result<Fence, StoreError> {
    let written = optional_integer(item, "fence")?.unwrap_or_default();
    u64::try_from(written)
        .map(Fence::new)
        .map_err(|_| StoreError::corrupt("an item with a bad fence"))
}

pub(super) fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)
        .and_then(|value| value.as_s().ok())
        .map(String::as_str)
}

fn time(item: &Item, name: &str) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(integer(item, name)?)
        .map_err(|_| StoreError::corrupt(format!("an item with a bad {name}")))
}

fn size(item: &Item, name: &str) -> Result<usize, StoreError> {
    usize::try_from(integer(item, name)?)
        .map_err(|_| StoreError::corrupt(format!("an item with a bad {name}")))
}

pub(super) fn integer(item: &Item, name: &str) -> Result<i64, StoreError> {
    optional_integer(item, name)?.ok_or_else(|| StoreError::corrupt(format!("an item without {name}")))
}

pub(super) fn optional_integer(item: &Item, name: &str) -> Result<Option<i64>, StoreError> {
    let Some(value) = item.get(name) else {
        return Ok(None);
    };
    value
        .as_n()
        .ok()
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or_else(|| StoreError::corrupt(format!("an item with a bad {name}")))
}
