//! One crawl: all pages of the vendor, merged with the previous snapshot into the next one.
//!
//! What must stay true: only a complete crawl gives a snapshot; a bad item costs its symbol nothing
//! but freshness (the last good quote stays, with its true age); a quote is never replaced by an
//! older one; endless paging ends.

mod merge;
mod shrunk;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fuse_domain::{Snapshot, Tolerance};
use fuse_platform::config::{Reader, VendorConfig};
use jiff::Timestamp;

use crate::backoff::full_jitter;
use crate::vendor::{BadItem, ItemFault, VendorClient, VendorError, VendorItem, VendorMetrics, VendorPage};

/// More bad items than one in this many refuse the pass (5 %).
const ONE_BAD_OF: usize = 20;

/// Room for 100,000 stocks and a quarter more.
const ITEMS_MAX: usize = 125_000;

/// More pages than `ITEMS_MAX` needs when they are as small as this are endless paging.
const PAGE_ITEMS_MIN: usize = 25;

/// A crawl that ran into its deadline is gone on with when the next begins within this.
const RESUME_WITHIN: Duration = Duration::from_secs(120);

/// What a crawl may take. Every limit refuses the whole pass.
#[derive(Debug, Clone)]
pub struct CrawlLimits {
    pub pages_max: usize,
    pub items_max: usize,
    pub bytes_max: usize,
    /// For all pages with their retries.
    pub deadline: Duration,
    /// A crawl that failed at a page is gone on with for so long after it began, then begun anew.
    pub resume_max: Duration,
    /// Tries of one page, the first included.
    pub page_attempts_max: u32,
    pub backoff_base: Duration,
    pub backoff_cap: Duration,
    /// A `lastUpdated` further ahead than this, both of our clock and of what the vendor's other
    /// items say, is nonsense; accepting it would freeze the symbol until then.
    pub item_ahead_max: Duration,
    /// Prices that we hold from further ahead of our clock than this give way to older ones.
    pub ahead_max: Duration,
    /// Prices may go back in time, all of them together, when the snapshot before is as old as this.
    pub back_after: Duration,
    /// A stock that is not listed any more stays in the snapshots for so long, marked.
    pub unlisted_kept: Duration,
    /// A price that moved by so much since the previous snapshot makes its stock a mover.
    pub mover_from: Tolerance,
}

impl CrawlLimits {
    /// As configured.
    pub fn read(reader: &mut Reader, vendor: &VendorConfig) -> Self {
        Self {
            mover_from: reader.parsed(
                "refresh.significant_change_percent",
                "2",
                "a percentage from 0 to 99.9999 with at most 4 decimals",
                "A price that moved by at least so many percent makes its stock a mover",
                Tolerance::parse,
            ),
            ..Self::with_deadline(vendor.crawl_timeout)
        }
    }

    /// Generous for a stock vendor, small for this process. Only the deadline depends on the place.
    pub fn with_deadline(deadline: Duration) -> Self {
        Self {
            pages_max: ITEMS_MAX / PAGE_ITEMS_MIN,
            items_max: ITEMS_MAX,
            bytes_max: 64 * 1024 * 1024,
            deadline,
            resume_max: deadline.saturating_add(RESUME_WITHIN),
            page_attempts_max: 4,
            backoff_base: Duration::from_millis(200),
            backoff_cap: Duration::from_secs(5),
            item_ahead_max: Duration::from_secs(60),
            ahead_max: Duration::from_secs(3_600),
            back_after: Duration::from_secs(240),
            unlisted_kept: Duration::from_secs(24 * 3_600),
            mover_from: Tolerance::default(),
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
    /// Stocks that the vendor listed before and does not list now, still in the snapshot.
    pub unlisted: usize,
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
    Crawler::default().crawl(vendor, limits, previous, now).await
}

/// Crawls, and remembers how far a crawl got that failed at one page: the next one goes on there instead of asking for
/// everything again.
#[derive(Debug, Default)]
pub struct Crawler {
    partial: Option<Partial>,
}

/// The pages that were read before one failed.
#[derive(Debug)]
struct Partial {
    /// Of the first page: no quote of it is younger.
    began_at: Timestamp,
    began: Instant,
    listing: Listing,
}

impl Crawler {
    /// As [`crawl`]. A crawl that is resumed keeps the time at which it began.
    ///
    /// # Errors
    /// As [`crawl`].
    pub async fn crawl(
        &mut self,
        vendor: &VendorClient,
        limits: &CrawlLimits,
        previous: Option<&Snapshot>,
        now: Timestamp,
    ) -> Result<Crawl, CrawlError> {
        // As exact as the store keeps it, so that whoever reads the snapshot back sees the same time.
        let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        let mut partial = self.resumable(limits, now);
        let pages =
            tokio::time::timeout(limits.deadline, fetch_all(vendor, limits, &mut partial.listing)).await;
        let crawled = match pages {
            Ok(Ok(())) => {
                let Partial {
                    listing, began_at, ..
                } = partial;
                merge::merge(listing, limits, previous, began_at)
            }
            Ok(Err(error)) => {
                self.keep(partial, &error);
                Err(error)
            }
            Err(_) => {
                let error = CrawlError::Deadline {
                    deadline: limits.deadline,
                };
                self.keep(partial, &error);
                Err(error)
            }
        };
        count(vendor.metrics(), &crawled);
        crawled
    }

    /// What the last crawl left, if it is young enough to be worth it; else nothing. Its prices may be of the tick before:
    /// who makes the passes sees that by the time at which it began.
    fn resumable(&mut self, limits: &CrawlLimits, now: Timestamp) -> Partial {
        let left = self
            .partial
            .take()
            .filter(|left| left.began.elapsed() < limits.resume_max && left.began_at <= now);
        if let Some(left) = &left {
            tracing::info!(
                page = left.listing.pages + 1,
                "going on with the crawl that failed there"
            );
        }
        left.unwrap_or_else(|| Partial {
            began_at: now,
            began: Instant::now(),
            listing: Listing::default(),
        })
    }

    /// Keeps the pages only when the vendor was away: what it refused or garbled is asked for from the start.
    fn keep(&mut self, partial: Partial, error: &CrawlError) {
        let is_away = match error {
            CrawlError::Page { source, .. } => {
                source.retryable() || matches!(source, VendorError::BreakerOpen { .. })
            }
            CrawlError::Deadline { .. } => true,
            _ => false,
        };
        self.partial = (is_away && partial.listing.next.is_some()).then_some(partial);
    }
}

fn count(metrics: &VendorMetrics, crawled: &Result<Crawl, CrawlError>) {
    match crawled {
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
}

/// Everything that the vendor listed so far, before any judgement.
#[derive(Debug, Default)]
struct Listing {
    items: Vec<Result<VendorItem, BadItem>>,
    pages: usize,
    bytes: usize,
    /// Tokens of the pages so far.
    seen: HashSet<String>,
    /// Token of the page to read next; absent for the first.
    next: Option<String>,
}

/// Reads pages until the last one. Whatever stops it, `listing` holds whole pages and the token of the next.
async fn fetch_all(
    vendor: &VendorClient,
    limits: &CrawlLimits,
    listing: &mut Listing,
) -> Result<(), CrawlError> {
    loop {
        let page = fetch_page(vendor, limits, listing.next.as_deref(), listing.pages + 1).await?;
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
            listing.next = None;
            return Ok(());
        };
        if !listing.seen.insert(next.clone()) {
            return Err(CrawlError::TokenLoop { page: listing.pages });
        }
        if listing.pages >= limits.pages_max {
            return too_much("pages", limits.pages_max);
        }
        listing.next = Some(next);
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
        // A long wait belongs between two passes, where no lease is held and no deadline runs.
        let asked = error.retry_after().unwrap_or_default();
        let again = error.retryable() && attempts < limits.page_attempts_max && asked <= limits.backoff_cap;
        if !again || !vendor.may_retry_list() {
            return Err(CrawlError::Page {
                page,
                attempts,
                source: error,
            });
        }
        let wait = full_jitter(limits.backoff_base, limits.backoff_cap, attempts - 1);
        let wait = wait.max(asked);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crawl_that_ran_into_its_deadline_is_young_enough_to_be_gone_on_with() {
        for secs in [1, 120, 3_600] {
            let limits = CrawlLimits::with_deadline(Duration::from_secs(secs));
            let mut crawler = Crawler::default();
            // The longest rest of the schedule later.
            let began = Instant::now().checked_sub(limits.deadline + Duration::from_secs(60));
            crawler.partial = Some(Partial {
                began_at: Timestamp::UNIX_EPOCH,
                began: began.expect("the machine runs for longer"),
                listing: Listing {
                    pages: 3,
                    ..Listing::default()
                },
            });
            let left = crawler.resumable(&limits, Timestamp::now());
            assert_eq!(left.listing.pages, 3, "{secs}");
        }
    }
}
