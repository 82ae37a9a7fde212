//! One crawl: all pages of the vendor, merged with the previous snapshot into the next one.
//!
//! What must stay true: only a complete crawl gives a snapshot; a bad item costs its symbol nothing
//! but freshness (the last good quote stays, with its true age); a quote is never replaced by an
//! older one; endless paging ends.

mod merge;
mod shrunk;

use std::collections::HashSet;
use std::time::Duration;

use fuse_domain::Snapshot;
use jiff::Timestamp;

use crate::backoff::full_jitter;
use crate::vendor::{BadItem, ItemFault, VendorClient, VendorError, VendorItem, VendorPage};

/// More bad items than one in this many refuse the pass (5 %).
const ONE_BAD_OF: usize = 20;

/// What a crawl may take. Every limit refuses the whole pass.
#[derive(Debug, Clone)]
pub struct CrawlLimits {
    pub pages_max: usize,
    pub items_max: usize,
    pub bytes_max: usize,
    /// For all pages with their retries.
    pub deadline: Duration,
    /// Tries of one page, the first included.
    pub page_attempts_max: u32,
    pub backoff_base: Duration,
    pub backoff_cap: Duration,
    /// A `lastUpdated` further ahead than this, both of our clock and of what the vendor's other
    /// items say, is nonsense; accepting it would freeze the symbol until then.
    pub ahead_max: Duration,
}

impl CrawlLimits {
    /// Generous for a stock vendor, small for this process. Only the deadline depends on the place.
    pub fn with_deadline(deadline: Duration) -> Self {
        Self {
            pages_max: 1_000,
            items_max: 100_000,
            bytes_max: 64 * 1024 * 1024,
            deadline,
            page_attempts_max: 4,
            backoff_base: Duration::from_millis(200),
            backoff_cap: Duration::from_secs(5),
            ahead_max: Duration::from_secs(3_600),
        }
    }
}

/// A complete crawl.
#[derive(Debug, Clone)]
pub struct Crawl {
    pub snapshot: Snapshot,
    /// Items that were not used, with the reason.
    pub quarantined: Vec<BadItem>,
    /// Quotes taken over from the previous snapshot because of them.
    pub kept: usize,
    /// Items whose symbol had been listed already.
    pub duplicates: usize,
    pub pages: usize,
    pub bytes: usize,
}

/// Why a crawl gave no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum CrawlError {
    #[error("page {page} could not be read after {attempts} attempts: {source}")]
    Page {
        page: usize,
        attempts: u32,
        source: VendorError,
    },
    #[error("the crawl took longer than {deadline:?}")]
    Deadline { deadline: Duration },
    #[error("page {page} names a paging token that was used before")]
    TokenLoop { page: usize },
    #[error("the vendor lists more than {limit} {what}")]
    TooMuch { what: &'static str, limit: usize },
    #[error("{bad} of {seen} items are bad, more than one in {ONE_BAD_OF}")]
    TooManyBad { bad: usize, seen: usize },
    #[error("{missing} of {listed} stocks are not listed any more, more than one in {ONE_BAD_OF} at once")]
    TooManyMissing { missing: usize, listed: usize },
    #[error("the vendor lists no stock at all")]
    Empty,
}

/// Values of `CrawlError::payload_fault`, for the metric's labels.
pub const PASS_FAULTS: &[&str] = &[
    "unreadable",
    "token_loop",
    "too_many_pages",
    "too_many_items",
    "too_many_bytes",
    "too_many_bad_items",
    "too_many_missing",
    "empty",
];

impl CrawlError {
    /// Stable name of the reason, for logs and results.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Page { source, .. } => source.label(),
            Self::Deadline { .. } => "deadline",
            Self::TokenLoop { .. } => "token_loop",
            Self::TooMuch { what: "pages", .. } => "too_many_pages",
            Self::TooMuch { what: "items", .. } => "too_many_items",
            Self::TooMuch { .. } => "too_many_bytes",
            Self::TooManyBad { .. } => "too_many_bad_items",
            Self::TooManyMissing { .. } => "too_many_missing",
            Self::Empty => "empty",
        }
    }

    /// Whether the vendor's data is to blame, rather than its absence.
    pub fn is_bad_data(&self) -> bool {
        PASS_FAULTS.contains(&self.reason())
    }

    /// How long the vendor, or its breaker, asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Page { source, .. } => source.retry_after(),
            _ => None,
        }
    }
}

/// Crawls all pages and merges them with `previous`. `now` becomes the snapshot's `taken_at` and the
/// `as_of` of every quote in it: the start of the crawl, so that no price looks younger than it is.
///
/// # Errors
/// Everything but a complete crawl; nothing of it is used then.
pub async fn crawl(
    vendor: &VendorClient,
    limits: &CrawlLimits,
    previous: Option<&Snapshot>,
    now: Timestamp,
) -> Result<Crawl, CrawlError> {
    let pages = tokio::time::timeout(limits.deadline, fetch_all(vendor, limits)).await;
    let crawled = match pages {
        Ok(Ok(listing)) => merge::merge(listing, limits, previous, now),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(CrawlError::Deadline {
            deadline: limits.deadline,
        }),
    };
    let metrics = vendor.metrics();
    match &crawled {
        Ok(crawl) => {
            crawl
                .quarantined
                .iter()
                .for_each(|bad| metrics.item_rejected(bad.fault));
            (0..crawl.duplicates).for_each(|_| metrics.item_rejected(ItemFault::DuplicateSymbol));
        }
        Err(error) if error.is_bad_data() => metrics.pass_rejected(error.reason()),
        Err(_) => {}
    }
    crawled
}

/// Everything that the vendor listed, before any judgement.
#[derive(Debug, Default)]
struct Listing {
    items: Vec<Result<VendorItem, BadItem>>,
    pages: usize,
    bytes: usize,
}

async fn fetch_all(vendor: &VendorClient, limits: &CrawlLimits) -> Result<Listing, CrawlError> {
    let mut listing = Listing::default();
    let mut seen = HashSet::new();
    let mut token: Option<String> = None;
    loop {
        let page = fetch_page(vendor, limits, token.as_deref(), listing.pages + 1).await?;
        let VendorPage {
            mut items,
            next_token,
            bytes,
        } = page;
        listing.pages += 1;
        listing.bytes += bytes;
        tracing::info!(
            page = listing.pages,
            page.items = items.len(),
            page.bytes = bytes,
            page.last = next_token.is_none(),
            "page read"
        );
        listing.items.append(&mut items);
        let too_much = |what, limit| Err(CrawlError::TooMuch { what, limit });
        if listing.items.len() > limits.items_max {
            return too_much("items", limits.items_max);
        }
        if listing.bytes > limits.bytes_max {
            return too_much("bytes", limits.bytes_max);
        }
        let Some(next) = next_token else {
            return Ok(listing);
        };
        if !seen.insert(next.clone()) {
            return Err(CrawlError::TokenLoop { page: listing.pages });
        }
        if listing.pages >= limits.pages_max {
            return too_much("pages", limits.pages_max);
        }
        token = Some(next);
    }
}

/// One page, asked for again with full-jitter backoff while that may help and the budget lasts.
async fn fetch_page(
    vendor: &VendorClient,
    limits: &CrawlLimits,
    token: Option<&str>,
    page: usize,
) -> Result<VendorPage, CrawlError> {
    vendor.page_needed();
    let mut attempts = 1;
    loop {
        let error = match vendor.list_page(token).await {
            Ok(page) => return Ok(page),
            Err(error) => error,
        };
        let again = error.retryable() && attempts < limits.page_attempts_max;
        if !again || !vendor.may_retry_list() {
            return Err(CrawlError::Page {
                page,
                attempts,
                source: error,
            });
        }
        let wait = full_jitter(limits.backoff_base, limits.backoff_cap, attempts - 1);
        let wait = wait.max(error.retry_after().unwrap_or_default());
        tracing::warn!(
            page,
            attempts,
            reason = error.label(),
            "page failed, asking again"
        );
        tokio::time::sleep(wait).await;
        attempts += 1;
    }
}
