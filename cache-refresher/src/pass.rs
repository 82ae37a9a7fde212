//! One pass: table, previous snapshot, crawl, publish. Each step can be done again without harm, and none is tried
//! twice within a pass but a page of the crawl: the next pass is the retry.

use std::time::Duration;

use fuse_domain::Snapshot;
use fuse_market::{
    Crawl, CrawlError, CrawlLimits, Pointer, Published, SnapshotStore, StoreError, VendorClient, crawl,
};
use fuse_platform::aws::{AwsConfig, sdk_config};
use fuse_platform::{BoxError, Metrics};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::metrics::PassMetrics;
use crate::settings::Settings;

/// Values of `snapshot_refreshes_total{result}`.
pub(crate) const RESULTS: &[&str] = &[
    "published",
    "superseded",
    // The vendor did not give all pages.
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
    // The vendor's data was refused.
    "unreadable",
    "token_loop",
    "too_many_pages",
    "too_many_items",
    "too_many_bytes",
    "too_many_bad_items",
    "empty",
    // DynamoDB.
    "store_unavailable",
    "store_not_allowed",
    "store_other",
];

/// Writes are large and nobody waits for them, unlike the reads that the configured times are meant for.
const STORE_ATTEMPT_MIN: Duration = Duration::from_secs(3);
const STORE_OPERATION_MIN: Duration = Duration::from_secs(10);

/// What a pass came to.
pub(crate) enum Pass {
    Published(Done),
    /// Somebody else published a newer crawl meanwhile.
    Superseded,
    Failed(Failure),
}

/// Figures of a published pass.
pub(crate) struct Done {
    pub id: Uuid,
    pub symbols: usize,
    pub pages: usize,
    pub crawl_pages: usize,
    pub quarantined: usize,
    pub kept: usize,
    pub duplicates: usize,
    pub quotes_written: usize,
    pub history_written: usize,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Crawl(#[from] CrawlError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Failure {
    /// Whether it goes on until somebody changes something: a key, a permission, a table.
    pub(crate) fn needs_a_person(&self) -> bool {
        match self {
            Self::Crawl(error) => error.reason() == "forbidden",
            Self::Store(error) => !error.retryable(),
        }
    }
}

impl Pass {
    pub(crate) fn result(&self) -> &'static str {
        match self {
            Self::Published(_) => "published",
            Self::Superseded => "superseded",
            Self::Failed(Failure::Crawl(error)) => error.reason(),
            Self::Failed(Failure::Store(StoreError::Unavailable { .. })) => "store_unavailable",
            Self::Failed(Failure::Store(StoreError::NotAllowed { .. })) => "store_not_allowed",
            Self::Failed(Failure::Store(_)) => "store_other",
        }
    }

    pub(crate) fn succeeded(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed(Failure::Crawl(error)) => error.retry_after(),
            _ => None,
        }
    }

    /// The pass as `/status` shows it.
    pub(crate) fn shown(&self, started_at: Timestamp, took: Duration, next_in: Duration) -> Value {
        let mut shown = json!({
            "startedAt": started_at.to_string(),
            "durationMs": super::millis(took),
            "result": self.result(),
            "nextInMs": super::millis(next_in),
        });
        match self {
            Self::Published(done) => {
                shown["snapshotId"] = json!(done.id.to_string());
                shown["symbols"] = json!(done.symbols);
            }
            Self::Superseded => {}
            Self::Failed(failure) => shown["error"] = json!(failure.to_string()),
        }
        shown
    }
}

/// Everything that outlives a pass.
pub(crate) struct Refresher {
    vendor: VendorClient,
    store: SnapshotStore,
    limits: CrawlLimits,
    metrics: PassMetrics,
    /// The table was seen to be there.
    table_is_there: bool,
    /// What the next crawl is compared with; the snapshot of the pointer as last seen.
    previous: Option<Snapshot>,
    /// The snapshot whose pages are known to be kept.
    kept: Option<Uuid>,
}

impl Refresher {
    pub(crate) async fn new(settings: &Settings, metrics: &Metrics) -> Result<Self, BoxError> {
        let mut aws = AwsConfig::from(&settings.dynamodb);
        aws.attempt_timeout = aws.attempt_timeout.max(STORE_ATTEMPT_MIN);
        aws.operation_timeout = aws.operation_timeout.max(STORE_OPERATION_MIN);
        let sdk = sdk_config(&aws).await;
        Ok(Self {
            vendor: VendorClient::new(&settings.vendor, metrics)?,
            store: SnapshotStore::new(&sdk, &settings.dynamodb.table_prefix, metrics),
            limits: CrawlLimits::with_deadline(settings.vendor.crawl_timeout),
            metrics: PassMetrics::new(metrics),
            table_is_there: false,
            previous: None,
            kept: None,
        })
    }

    /// One pass. `None` when the process was asked to stop before the crawl was over; a publish that has begun is
    /// finished, as its steps are short.
    pub(crate) async fn pass(&mut self, now: Timestamp, stop: &CancellationToken) -> Option<Pass> {
        let pass = match self.attempt(now, stop).await {
            Ok(pass) => pass?,
            Err(failure) => {
                if matches!(failure, Failure::Store(StoreError::TableMissing { .. })) {
                    self.table_is_there = false;
                }
                Pass::Failed(failure)
            }
        };
        self.metrics.ended(pass.result());
        Some(pass)
    }

    async fn attempt(&mut self, now: Timestamp, stop: &CancellationToken) -> Result<Option<Pass>, Failure> {
        let found = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            found = self.look() => found,
        };
        found?;
        let started = Instant::now();
        let crawled = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            crawled = crawl(&self.vendor, &self.limits, self.previous.as_ref(), now) => crawled,
        };
        self.metrics.took("crawl", started.elapsed());
        self.publish(crawled?).await.map(Some)
    }

    /// Where things stand: the table is there, the current snapshot is known and its pages are kept.
    async fn look(&mut self) -> Result<(), Failure> {
        if !self.table_is_there {
            self.store.ensure_table().await?;
            self.table_is_there = true;
        }
        let Some(pointer) = self.store.current().await? else {
            self.previous = None;
            return Ok(());
        };
        self.metrics.current_is(pointer.taken_at, pointer.count);
        if self.kept != Some(pointer.id) {
            self.store.keep_current().await?;
            self.kept = Some(pointer.id);
        }
        self.load_previous(&pointer).await
    }

    async fn load_previous(&mut self, pointer: &Pointer) -> Result<(), Failure> {
        if self
            .previous
            .as_ref()
            .is_some_and(|previous| previous.meta.id == pointer.id)
        {
            return Ok(());
        }
        match self.store.load(pointer).await {
            Ok(snapshot) => self.previous = Some(snapshot),
            // It cannot be compared with any more; a new crawl is what mends it.
            Err(error @ (StoreError::Incomplete { .. } | StoreError::Corrupt { .. })) => {
                tracing::warn!(%error, "the current snapshot cannot be read, all quotes will be written anew");
                self.previous = None;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn publish(&mut self, crawl: Crawl) -> Result<Pass, Failure> {
        let Crawl {
            snapshot,
            quarantined,
            kept,
            duplicates,
            pages: crawl_pages,
            ..
        } = crawl;
        let started = Instant::now();
        let published = self.store.publish(&snapshot, self.previous.as_ref()).await;
        self.metrics.took("l2", started.elapsed());
        match published? {
            Published::Older => Ok(Pass::Superseded),
            Published::Flipped {
                pages,
                quotes_written,
                history_written,
            } => {
                self.metrics
                    .current_is(snapshot.meta.taken_at, snapshot.meta.count);
                let done = Done {
                    id: snapshot.meta.id,
                    symbols: snapshot.meta.count,
                    pages,
                    crawl_pages,
                    quarantined: quarantined.len(),
                    kept,
                    duplicates,
                    quotes_written,
                    history_written,
                };
                self.previous = Some(snapshot);
                Ok(Pass::Published(done))
            }
        }
    }
}
