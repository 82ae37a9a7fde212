//! Reading what was: a symbol's price history, and which symbols moved in a snapshot.

use fuse_domain::{Price, Symbol};
use jiff::Timestamp;

use super::SnapshotStore;
use super::error::StoreError;

/// Which part of a symbol's history is asked for. History is kept for 90 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRange {
    /// The first instant, included.
    pub from: Timestamp,
    /// The end, not included.
    pub to: Timestamp,
}

/// One price change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPoint {
    /// The vendor's own time of the price.
    pub at: Timestamp,
    pub price: Price,
    /// The vendor's figure as normalised text, as in a quote.
    pub change: String,
}

/// A part of a symbol's history, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// May be fewer than asked for, none even, while `next` is there: one call looks at a bounded number of days.
    pub points: Vec<HistoryPoint>,
    /// To be given as `after` for the next part; `None` at the end of the range.
    pub next: Option<Timestamp>,
}

impl SnapshotStore {
    /// At most `limit` price changes of `symbol` within `range`, oldest first, beginning behind `after`. Lines past
    /// their expiry are left out, collected or not. An unknown symbol has no history, which is no error.
    pub async fn history(
        &self,
        symbol: &Symbol,
        range: HistoryRange,
        after: Option<Timestamp>,
        limit: usize,
    ) -> Result<HistoryPage, StoreError> {
        let _ = (symbol, range, after, limit);
        todo!()
    }

    /// The symbols whose quotes were movers in the snapshot taken at `taken_at`, in order, from the sparse index: for
    /// a replica that holds no snapshot. Empty when the table has no such index (said once in the log).
    pub async fn movers(&self, taken_at: Timestamp) -> Result<Vec<Symbol>, StoreError> {
        let _ = taken_at;
        todo!()
    }
}
