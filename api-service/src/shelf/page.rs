//! One page as bytes.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::HeaderValue;

use super::Shelf;
use super::filter::Filter;
use super::gzip::OpenGzip;
use super::order::Sort;
use crate::market_data::StockBody;
use crate::page_token::{FilterHash, PageTokens};

/// Changes whenever the bytes of the same page would: part of every `ETag`.
const RENDERING: &[u8] = b"stocks page 1";
/// About what one stock takes.
const ITEM_BYTES: usize = 240;
/// Stocks on a page when the client does not say.
pub const LIMIT_DEFAULT: u16 = 100;

/// What a client asks for, but for where its walk stands.
#[derive(Clone, Debug)]
pub struct Asked {
    filter: Filter,
    sort: Sort,
    hash: FilterHash,
    limit: u16,
}

impl Asked {
    /// A question.
    #[must_use]
    pub fn new(filter: Filter, sort: Sort, limit: u16) -> Self {
        Self {
            hash: filter.hash(sort),
            filter,
            sort,
            limit,
        }
    }

    /// What binds tokens to it.
    #[must_use]
    pub fn hash(&self) -> FilterHash {
        self.hash
    }

    /// What it selects.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(super) fn sort(&self) -> Sort {
        self.sort
    }

    pub(super) fn key(&self, shelf: &Shelf, after: Option<u32>) -> PageKey {
        PageKey {
            shelf: shelf.number,
            hash: self.hash,
            limit: self.limit,
            after,
        }
    }
}

impl Default for Asked {
    /// The first question of most: everything, by symbol.
    fn default() -> Self {
        Self::new(Filter::default(), Sort::default(), LIMIT_DEFAULT)
    }
}

/// Which page of which question on which shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PageKey {
    pub(super) shelf: u64,
    hash: FilterHash,
    limit: u16,
    after: Option<u32>,
}

/// A rendered page, all but its end.
pub struct Page {
    text: Bytes,
    gzip: Option<OpenGzip>,
    /// While fresh, and once stale.
    etags: [HeaderValue; 2],
    /// The place after which the next page begins; `None` on the last one.
    next: Option<u32>,
    /// Whether somebody saw to the next page already.
    next_is_prepared: AtomicBool,
}

impl Page {
    /// Renders the page after the stock at `after`, from places in order.
    pub(super) fn render(
        shelf: &Shelf,
        asked: &Asked,
        selected: &[u32],
        after: Option<u32>,
        tokens: &PageTokens,
    ) -> Self {
        let begin = after.map_or(0, |after| {
            selected.partition_point(|at| shelf.compare(asked.sort, *at, after).is_le())
        });
        let end = selected.len().min(begin + usize::from(asked.limit));
        let places = &selected[begin..end];
        let next = places.last().copied().filter(|_| end < selected.len());
        let mut text = Vec::with_capacity(places.len() * ITEM_BYTES + 256);
        text.extend_from_slice(b"{\"items\":[");
        for (number, at) in places.iter().enumerate() {
            if number > 0 {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, &StockBody::from(shelf.quote(*at)))
                .expect("texts and flags always serialize into memory");
        }
        text.push(b']');
        if let Some(last) = next {
            let id = shelf.snapshot.meta.id;
            let position = [id.as_bytes(), shelf.quote(last).symbol.as_str().as_bytes()].concat();
            let token = tokens.seal(asked.hash, &position);
            text.extend_from_slice(format!(",\"nextPageToken\":\"{token}\"").as_bytes());
        }
        text.extend_from_slice(format!(",\"total\":{}", selected.len()).as_bytes());
        text.shrink_to_fit();
        Self {
            text: Bytes::from(text),
            gzip: None,
            etags: etags(shelf, asked, after, tokens),
            next,
            next_is_prepared: AtomicBool::new(false),
        }
    }

    /// The same page with its compressed bytes.
    pub(super) fn with_gzip(&self) -> Self {
        Self {
            text: self.text.clone(),
            gzip: Some(OpenGzip::begin(&self.text)),
            etags: self.etags.clone(),
            next: self.next,
            next_is_prepared: AtomicBool::new(self.next_is_prepared.load(Ordering::Relaxed)),
        }
    }

    /// The JSON text up to the object that tells the snapshot.
    #[must_use]
    pub fn text(&self) -> Bytes {
        self.text.clone()
    }

    /// The compressed text, once it was asked for or prepared.
    #[must_use]
    pub fn gzip(&self) -> Option<&OpenGzip> {
        self.gzip.as_ref()
    }

    /// The tag of what it says now.
    #[must_use]
    pub fn etag(&self, is_stale: bool) -> &HeaderValue {
        &self.etags[usize::from(is_stale)]
    }

    pub(super) fn next(&self) -> Option<u32> {
        self.next
    }

    /// Whether the caller is the first who sees to the next page.
    pub(super) fn claim_next(&self) -> bool {
        self.next.is_some() && !self.next_is_prepared.swap(true, Ordering::Relaxed)
    }

    /// The claim came to nothing; another may try.
    pub(super) fn leave_next(&self) {
        self.next_is_prepared.store(false, Ordering::Relaxed);
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.text.len() + self.gzip.as_ref().map_or(0, OpenGzip::size) + 512
    }
}

fn etags(shelf: &Shelf, asked: &Asked, after: Option<u32>, tokens: &PageTokens) -> [HeaderValue; 2] {
    let meta = &shelf.snapshot.meta;
    let after = after.map_or("", |after| shelf.quote(after).symbol.as_str());
    [false, true].map(|is_stale| {
        let tag = tokens.tag(&[
            RENDERING,
            meta.id.as_bytes(),
            asked.hash.as_bytes(),
            &asked.limit.to_be_bytes(),
            after.as_bytes(),
            &[u8::from(is_stale)],
        ]);
        HeaderValue::from_str(&format!("W/\"{tag}\"")).expect("base 64 is visible ASCII")
    })
}
