//! What a pass came to.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::crawl::{CrawlError, PASS_FAULTS};
use crate::store::StoreError;

/// Values of `snapshot_refreshes_total{result}`.
pub(super) fn results() -> Vec<&'static str> {
    [OUTCOMES, VENDOR_AWAY, PASS_FAULTS, STORE_FAULTS].concat()
}

const OUTCOMES: &[&str] = &["published", "superseded", "not_needed", "busy", "fenced"];
/// The vendor did not give all pages.
const VENDOR_AWAY: &[&str] = &[
    "unreachable",
    "timeout",
    "reset",
    "refused",
    "forbidden",
    "throttled",
    "server_error",
    "unexpected",
    "breaker_open",
    "deadline",
];
const STORE_FAULTS: &[&str] = &["store_unavailable", "store_not_allowed", "store_other"];

/// What a pass came to.
#[derive(Debug)]
pub enum Pass {
    /// The pointer names our crawl now.
    Published(Done),
    /// Somebody else published a newer crawl meanwhile.
    Superseded,
    /// The current snapshot is as young as was wanted, thanks to somebody else.
    NotNeeded,
    /// Somebody else is at it, and we did not want to wait.
    Busy,
    /// The last good snapshot stays.
    Failed(Failure),
}

/// Figures of a published pass.
#[derive(Debug, Clone)]
pub struct Done {
    /// The snapshot.
    pub id: Uuid,
    /// When its crawl began.
    pub taken_at: Timestamp,
    /// The vendor's time of its newest price.
    pub tick_at: Timestamp,
    pub symbols: usize,
    /// Pages of the snapshot in the store.
    pub pages: usize,
    /// Pages that the vendor listed.
    pub crawl_pages: usize,
    pub quarantined: usize,
    /// Last good quotes taken over in their place.
    pub kept: usize,
    /// Stocks that the vendor does not list any more.
    pub unlisted: usize,
    pub duplicates: usize,
    pub movers: usize,
    pub history_written: usize,
    /// Write units that it took, by our own reckoning.
    pub write_units: u64,
}

/// Why a pass published nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Crawl(#[from] CrawlError),
    #[error("{0}")]
    Store(#[from] StoreError),
    /// We were too slow, or stood still: somebody else has the lease.
    #[error("the lease was lost in the middle of the pass; whoever has it now goes on")]
    Fenced,
}

impl Failure {
    /// Whether it goes on until somebody changes something: a key, a permission, a table.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Crawl(error) => error.reason() == "forbidden",
            Self::Store(error) => !error.retryable(),
            Self::Fenced => false,
        }
    }
}

impl Pass {
    /// Label value of the metric, and the word in logs.
    pub fn result(&self) -> &'static str {
        match self {
            Self::Published(_) => "published",
            Self::Superseded => "superseded",
            Self::NotNeeded => "not_needed",
            Self::Busy => "busy",
            Self::Failed(Failure::Crawl(error)) => error.reason(),
            Self::Failed(Failure::Store(StoreError::Unavailable { .. })) => "store_unavailable",
            Self::Failed(Failure::Store(StoreError::NotAllowed { .. })) => "store_not_allowed",
            Self::Failed(Failure::Store(_)) => "store_other",
            Self::Failed(Failure::Fenced) => "fenced",
        }
    }

    /// Whether a snapshot as young as was wanted is there, whoever made it.
    pub fn succeeded(&self) -> bool {
        matches!(self, Self::Published(_) | Self::Superseded | Self::NotNeeded)
    }

    /// How long the vendor, or its breaker, asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed(Failure::Crawl(error)) => error.retry_after(),
            _ => None,
        }
    }
}
