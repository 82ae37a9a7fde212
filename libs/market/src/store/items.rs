//! The items of the table: how a snapshot is laid out in DynamoDB, and how it reads back.
//!
//! ```text
//! SNAPSHOT / CURRENT               pointer: id taken_at tick_at pages count previous_id previous_pages
//! SNAPSHOT#{id} / PAGE#{n}         quotes: JSON array, at most 300 KB
//! QUOTE#{symbol} / LATEST          the quote since its last change
//! HISTORY#{symbol}#{day} / {time}  price change expires_at
//! ```
//! Times of the pointer and of quotes are epoch milliseconds (numbers compare in conditions);
//! `expires_at` is epoch seconds, as DynamoDB's garbage collector wants it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use fuse_domain::{Price, Quote, Snapshot, Symbol};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::StoreError;
use super::lease::Fence;

pub(super) type Item = HashMap<String, AttributeValue>;

/// Largest `quotes` attribute of one page; DynamoDB's own limit is 400 KB an item.
pub(super) const PAGE_BYTES_MAX: usize = 300 * 1_000;
/// How long the pages of a superseded snapshot stay, so that walks in progress finish.
pub(super) const SUPERSEDED_PAGES_KEPT_SECS: i64 = 3_600;
const HISTORY_KEPT_SECS: i64 = 90 * 24 * 3_600;

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

/// The pages that a pointer left behind when it moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftBehind {
    pub id: Uuid,
    pub pages: usize,
}

#[derive(Serialize, Deserialize)]
struct StoredQuote {
    symbol: String,
    name: String,
    sector: String,
    price: String,
    change: String,
    last_updated: i64,
    as_of: i64,
    #[serde(default, skip_serializing_if = "is_false")]
    mover: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    unlisted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

pub(super) fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn key(pk: impl Into<String>, sk: impl Into<String>) -> Item {
    HashMap::from([("pk".into(), string(pk)), ("sk".into(), string(sk))])
}

pub(super) fn pointer_key() -> Item {
    key("SNAPSHOT", "CURRENT")
}

pub(super) fn page_key(id: Uuid, page: usize) -> Item {
    key(pages_pk(id), format!("PAGE#{page:05}"))
}

pub(super) fn pages_pk(id: Uuid) -> String {
    format!("SNAPSHOT#{id}")
}

/// Splits a snapshot into page items. They carry an expiry until the pointer names them, so that
/// an abandoned publish leaves nothing behind for ever.
pub(super) fn pages(snapshot: &Snapshot) -> Result<Vec<Item>, StoreError> {
    let expires_at = snapshot.meta.taken_at.as_second() + SUPERSEDED_PAGES_KEPT_SECS;
    let mut texts = vec![String::from("[")];
    for quote in &snapshot.quotes {
        let text = encode(quote)?;
        let page = texts.last_mut().expect("there is always a page");
        if page.len() > 1 && page.len() + text.len() + 2 > PAGE_BYTES_MAX {
            texts.push(String::from("["));
        }
        let page = texts.last_mut().expect("there is always a page");
        if page.len() > 1 {
            page.push(',');
        }
        page.push_str(&text);
    }
    let item = |(number_of_page, mut text): (usize, String)| {
        text.push(']');
        let mut item = page_key(snapshot.meta.id, number_of_page);
        item.insert("quotes".into(), string(text));
        item.insert("expires_at".into(), number(expires_at));
        item
    };
    Ok(texts.into_iter().enumerate().map(item).collect())
}

fn encode(quote: &Quote) -> Result<String, StoreError> {
    let stored = StoredQuote {
        symbol: quote.symbol.as_str().into(),
        name: quote.name.clone(),
        sector: quote.sector.clone(),
        price: quote.price.to_string(),
        change: quote.change.clone(),
        last_updated: quote.last_updated.as_millisecond(),
        as_of: quote.as_of.as_millisecond(),
        mover: quote.mover,
        unlisted: !quote.listed,
    };
    serde_json::to_string(&stored).map_err(|_| StoreError::corrupt("a quote has no JSON form"))
}

/// The quotes of one page item; `None` when the item is past its expiry and only not yet collected.
pub(super) fn page_quotes(item: &Item, now: Timestamp) -> Result<Option<Vec<Quote>>, StoreError> {
    let expires_at = optional_integer(item, "expires_at")?;
    if expires_at.is_some_and(|at| at <= now.as_second()) {
        return Ok(None);
    }
    let text = item
        .get("quotes")
        .and_then(|value| value.as_s().ok())
        .ok_or_else(|| StoreError::corrupt("a page without quotes"))?;
    let stored: Vec<StoredQuote> =
        serde_json::from_str(text).map_err(|_| StoreError::corrupt("a page that is not JSON"))?;
    stored.into_iter().map(decode).collect::<Result<_, _>>().map(Some)
}

fn decode(stored: StoredQuote) -> Result<Quote, StoreError> {
    let corrupt = |what: &str| StoreError::corrupt(format!("a quote with a bad {what}"));
    Ok(Quote {
        symbol: Symbol::parse(&stored.symbol).map_err(|_| corrupt("symbol"))?,
        name: stored.name,
        sector: stored.sector,
        price: Price::parse(&stored.price).map_err(|_| corrupt("price"))?,
        change: stored.change,
        last_updated: millis(stored.last_updated).ok_or_else(|| corrupt("last_updated"))?,
        as_of: millis(stored.as_of).ok_or_else(|| corrupt("as_of"))?,
        mover: stored.mover,
        listed: !stored.unlisted,
    })
}

/// The quote item, written only when it is newer than the stored one.
pub(super) fn quote(quote: &Quote) -> Item {
    let mut item = key(format!("QUOTE#{}", quote.symbol.as_str()), "LATEST");
    item.insert("name".into(), string(&quote.name));
    item.insert("sector".into(), string(&quote.sector));
    item.insert("price".into(), string(quote.price.to_string()));
    item.insert("change".into(), string(&quote.change));
    item.insert("last_updated".into(), number(quote.last_updated.as_millisecond()));
    item.insert("as_of".into(), number(quote.as_of.as_millisecond()));
    item
}

/// One line of a symbol's price history. Writing it twice is the same line.
pub(super) fn history(quote: &Quote) -> Item {
    let day = quote.last_updated.to_zoned(TimeZone::UTC).date();
    let mut item = key(
        format!("HISTORY#{}#{day}", quote.symbol.as_str()),
        format!("{:.3}", quote.last_updated),
    );
    item.insert("price".into(), string(quote.price.to_string()));
    item.insert("change".into(), string(&quote.change));
    item.insert(
        "expires_at".into(),
        number(quote.last_updated.as_second() + HISTORY_KEPT_SECS),
    );
    item
}

pub(super) fn pointer(item: &Item) -> Result<Pointer, StoreError> {
    let time = |name| {
        millis(integer(item, name)?)
            .ok_or_else(|| StoreError::corrupt(format!("a pointer with a bad {name}")))
    };
    Ok(Pointer {
        id: uuid(item, "id")?,
        taken_at: time("taken_at")?,
        tick_at: time("tick_at")?,
        pages: size(item, "pages")?,
        count: size(item, "count")?,
        fence: Fence::NONE,
    })
}

/// What the pointer says about its predecessor, if it had one.
pub(super) fn left_behind(item: &Item) -> Result<Option<LeftBehind>, StoreError> {
    if !item.contains_key("previous_id") {
        return Ok(None);
    }
    let id = uuid(item, "previous_id")?;
    // The first pointer of a table names nobody.
    if id.is_nil() {
        return Ok(None);
    }
    Ok(Some(LeftBehind {
        id,
        pages: size(item, "previous_pages")?,
    }))
}

fn uuid(item: &Item, name: &str) -> Result<Uuid, StoreError> {
    item.get(name)
        .and_then(|value| value.as_s().ok())
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| StoreError::corrupt(format!("a pointer with a bad {name}")))
}

fn size(item: &Item, name: &str) -> Result<usize, StoreError> {
    usize::try_from(integer(item, name)?)
        .map_err(|_| StoreError::corrupt(format!("a pointer with a bad {name}")))
}

fn integer(item: &Item, name: &str) -> Result<i64, StoreError> {
    optional_integer(item, name)?.ok_or_else(|| StoreError::corrupt(format!("an item without {name}")))
}

fn optional_integer(item: &Item, name: &str) -> Result<Option<i64>, StoreError> {
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

fn millis(value: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(value).ok()
}
