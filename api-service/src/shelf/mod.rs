//! A shelf: one snapshot, laid out for being listed.
//!
//! It is built once per snapshot, away from requests: the orders are sorted and the texts lowered. What is asked then is a slice of
//! something that is there. Pages are kept as ready bytes, identity and gzip; serving one prepares the next. Items are not kept as texts
//! beside the pages: that would double the memory of a snapshot to save a twentieth of a millisecond where a page is made.
//!
//! What must stay true: a page depends on its snapshot, filter, order, limit and position alone, so that every replica serves the same
//! bytes, but for the age at the end. What a page of everything costs does not depend on the number of stocks; a filter looks at every
//! stock once per snapshot, and its pages are slices of what it found.

mod body;
mod bounded;
mod filter;
mod gzip;
mod held;
mod moment;
mod order;
mod page;
mod ready;
mod shelves;
mod text;

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Memory};

use fuse_domain::{Quote, Snapshot, Symbol};

pub use body::TwoParts;
pub use filter::Filter;
pub use gzip::OpenGzip;
pub use moment::Moment;
pub use order::Sort;
pub use page::{Asked, LIMIT_DEFAULT, Page};
pub use shelves::{Lost, Shelves};

use moment::Moments;
use text::{Texts, place};

/// Tells shelves of one process apart: a snapshot may be forgotten and brought back.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// One snapshot, ready to be listed.
pub struct Shelf {
    number: u64,
    snapshot: Arc<Snapshot>,
    texts: Texts,
    /// Places by each order of [`Sort::ALL`].
    orders: [Box<[u32]>; Sort::ALL.len()],
    moments: Moments,
}

impl Shelf {
    /// Sorts: some ten milliseconds of CPU for 10,000 stocks, so not on a thread that answers requests.
    #[must_use]
    pub fn build(snapshot: Arc<Snapshot>) -> Self {
        let texts = Texts::of(&snapshot);
        let orders = Sort::ALL.map(|sort| {
            let mut order: Box<[u32]> = (0..place(snapshot.quotes.len())).collect();
            if sort != Sort::SymbolUp {
                order.sort_unstable_by(|a, b| sort.compare(&snapshot, &texts, *a, *b));
            }
            order
        });
        Self {
            number: NUMBER.fetch_add(1, Memory::Relaxed),
            moments: Moments::new(snapshot.meta.clone()),
            texts,
            orders,
            snapshot,
        }
    }

    /// What it was built from.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// What every answer says about the snapshot now.
    #[must_use]
    pub fn moment(&self, freshness: crate::market_data::Freshness, now: jiff::Timestamp) -> Arc<Moment> {
        self.moments.at(freshness, now)
    }

    fn order(&self, sort: Sort) -> &[u32] {
        &self.orders[sort as usize]
    }

    fn compare(&self, sort: Sort, a: u32, b: u32) -> Ordering {
        sort.compare(&self.snapshot, &self.texts, a, b)
    }

    fn quote(&self, at: u32) -> &Quote {
        &self.snapshot.quotes[at as usize]
    }

    /// Where a symbol stands in the snapshot.
    pub(crate) fn place_of(&self, symbol: &Symbol) -> Option<u32> {
        let found = self
            .snapshot
            .quotes
            .binary_search_by(|quote| quote.symbol.cmp(symbol));
        found.ok().map(place)
    }
}
