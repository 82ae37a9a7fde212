use std::cmp::Reverse;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::judge::QuoteUsed;
use crate::money::Price;
use crate::symbol::Symbol;

/// One stock as the vendor listed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    pub symbol: Symbol,
    /// Untrusted text.
    pub name: String,
    /// Untrusted text.
    pub sector: String,
    pub price: Price,
    /// The vendor's figure as normalised text (`number_text`); absolute or percent is not known, so it is
    /// only passed on.
    pub change: String,
    /// The vendor's own time of the price.
    pub last_updated: Timestamp,
    /// When a crawl fetched it; its age counts from here. Older than the snapshot when the item was bad in
    /// the last crawls.
    pub as_of: Timestamp,
    /// Its price moved by at least the configured percentage since the snapshot before this one.
    pub mover: bool,
    /// Whether the vendor still lists it. A stock that vanished from a complete crawl stays for a while with its last
    /// quote, so that its absence is seen; nobody can buy it.
    pub listed: bool,
}

/// What is known about a snapshot without its quotes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotMeta {
    pub id: Uuid,
    pub taken_at: Timestamp,
    /// The newest `last_updated` of its quotes; `taken_at` when it has none.
    pub tick_at: Timestamp,
    pub count: usize,
}

/// All quotes of one complete crawl, immutable: sorted by symbol, each symbol once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SnapshotParts")]
pub struct Snapshot {
    pub meta: SnapshotMeta,
    pub quotes: Vec<Quote>,
}

/// What is read back; order and figures are made anew, because binary search relies on them.
#[derive(Deserialize)]
struct SnapshotParts {
    meta: SnapshotMeta,
    quotes: Vec<Quote>,
}

impl From<SnapshotParts> for Snapshot {
    fn from(parts: SnapshotParts) -> Snapshot {
        Snapshot::new(parts.meta.id, parts.meta.taken_at, parts.quotes)
    }
}

impl Snapshot {
    /// Sorts, and keeps the newer `last_updated` of a symbol that occurs twice; `meta.count` says how many
    /// are left.
    pub fn new(id: Uuid, taken_at: Timestamp, mut quotes: Vec<Quote>) -> Snapshot {
        quotes.sort_by(|a, b| {
            let newest_first = Reverse((a.last_updated, a.as_of)).cmp(&Reverse((b.last_updated, b.as_of)));
            a.symbol.cmp(&b.symbol).then(newest_first)
        });
        quotes.dedup_by(|later, kept| later.symbol == kept.symbol);
        let tick_at = quotes
            .iter()
            .map(|quote| quote.last_updated)
            .max()
            .unwrap_or(taken_at);
        Snapshot {
            meta: SnapshotMeta {
                id,
                taken_at,
                tick_at,
                count: quotes.len(),
            },
            quotes,
        }
    }

    pub fn get(&self, symbol: &Symbol) -> Option<&Quote> {
        let index = self
            .quotes
            .binary_search_by(|quote| quote.symbol.cmp(symbol))
            .ok()?;
        self.quotes.get(index)
    }

    /// The quote in the form that an order keeps; `None` for what the vendor does not list.
    pub fn quote_used(&self, symbol: &Symbol) -> Option<QuoteUsed> {
        let quote = self.get(symbol).filter(|quote| quote.listed)?;
        Some(QuoteUsed {
            price: quote.price,
            as_of: quote.as_of,
            snapshot_id: self.meta.id,
        })
    }
}
