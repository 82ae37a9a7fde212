//! One pass: table, lease, previous snapshot, crawl, publish, announce. Whoever makes it, passes do not overlap: each
//! is made under the lease `refresh`, and one that was overtaken is fenced out by the pointer.
//!
//! Each step can be done again without harm, and none is tried twice within a pass but a page of the crawl: the next
//! pass is the retry.

mod metrics;
mod pass;

use std::sync::Arc;
use std::time::Duration;

use fuse_domain::{Snapshot, Symbol};
use fuse_platform::Metrics;
use fuse_platform::aws::AwsConfig;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use pass::{Done, Failure, Pass};

use crate::crawl::{Crawl, CrawlLimits, Crawler};
use crate::l1::L1;
use crate::store::{Contender, EncodedPages, Lease, Pointer, Published, SnapshotStore, StoreError};
use crate::vendor::VendorClient;
use metrics::PassMetrics;

/// Name of the lease under which passes are made.
const LEASE: &str = "refresh";
/// A holder that does not renew it for so long is taken for dead.
const LEASE_TTL: Duration = Duration::from_secs(10);
/// Between two tries to take a lease that somebody holds.
const LEASE_RETRY: Duration = Duration::from_millis(250);
/// A snapshot further ahead of our clock than this was dated by a clock that is wrong, and is no reason to rest.
const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Writes are large and nobody waits for them, unlike the reads that the configured times are meant for.
const STORE_ATTEMPT_MIN: Duration = Duration::from_secs(3);
const STORE_OPERATION_MIN: Duration = Duration::from_secs(10);

/// The configured access to DynamoDB, with the patience that a pass needs.
#[must_use]
pub fn patient(mut aws: AwsConfig) -> AwsConfig {
    aws.attempt_timeout = aws.attempt_timeout.max(STORE_ATTEMPT_MIN);
    aws.operation_timeout = aws.operation_timeout.max(STORE_OPERATION_MIN);
    aws
}

/// What a pass is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Nothing is to be done when the current snapshot was taken after this; `None`: when there is any.
    pub younger_than: Option<Timestamp>,
    /// Whether to wait for somebody else who is at it, and to make the pass should he fail.
    pub wait: bool,
}

/// What passes are made with.
pub struct RefreshParts {
    pub vendor: VendorClient,
    pub store: SnapshotStore,
    /// Absent: without Redis.
    pub l1: Option<L1>,
    pub limits: CrawlLimits,
    /// Whether this process answers for the age of the current snapshot in its metrics.
    pub tells_current: bool,
}

/// Everything that outlives a pass.
pub struct Refresher {
    vendor: VendorClient,
    store: SnapshotStore,
    l1: Option<L1>,
    limits: CrawlLimits,
    metrics: PassMetrics,
    contender: Contender,
    crawler: Crawler,
    /// The table was seen to be there.
    table_is_there: bool,
    /// What the next crawl is compared with; the snapshot of the pointer as last seen.
    previous: Option<Arc<Snapshot>>,
    current: Option<Pointer>,
}

impl Refresher {
    /// Needs no network.
    pub fn new(parts: RefreshParts, metrics: &Metrics) -> Self {
        let RefreshParts {
            vendor,
            store,
            l1,
            limits,
            tells_current,
        } = parts;
        Self {
            vendor,
            l1,
            limits,
            metrics: PassMetrics::new(metrics, tells_current),
            contender: store.contender(LEASE, LEASE_TTL),
            store,
            crawler: Crawler::default(),
            table_is_there: false,
            previous: None,
            current: None,
        }
    }

    /// One pass. `None` when the process was asked to stop before the crawl was over; a publish that has begun is
    /// finished, as its steps are short.
    pub async fn pass(&mut self, wanted: Wanted, stop: &CancellationToken) -> Option<Pass> {
        let pass = match self.attempt(wanted, stop).await {
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

    /// The pointer as last seen.
    pub fn current(&self) -> Option<&Pointer> {
        self.current.as_ref()
    }

    /// The snapshot that was published or compared with last.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.previous.clone()
    }

    /// Gives back the snapshot that is kept for comparing, where passes are rare. What a failed crawl read stays, for
    /// the next to go on with.
    pub fn forget_previous(&mut self) {
        self.previous = None;
    }

    async fn attempt(&mut self, wanted: Wanted, stop: &CancellationToken) -> Result<Option<Pass>, Failure> {
        let entered = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            entered = self.enter(wanted) => entered,
        };
        let lease = match entered? {
            Entered::Lease(lease) => lease,
            Entered::Not(pass) => return Ok(Some(pass)),
        };
        let done = self.under(&lease, stop).await;
        lease.release().await;
        done
    }

    /// Takes the lease, unless the pass turns out not to be needed.
    async fn enter(&mut self, wanted: Wanted) -> Result<Entered, Failure> {
        let mut is_told = false;
        loop {
            if self.is_there(wanted).await? {
                return Ok(Entered::Not(Pass::NotNeeded));
            }
            if let Some(lease) = self.contender.try_take().await? {
                // Between our look and our turn somebody may have been through.
                if self.is_there(wanted).await? {
                    lease.release().await;
                    return Ok(Entered::Not(Pass::NotNeeded));
                }
                return Ok(Entered::Lease(lease));
            }
            if !wanted.wait {
                return Ok(Entered::Not(Pass::Busy));
            }
            if !is_told {
                is_told = true;
                tracing::info!(
                    lease.holder = self.contender.seen_holder(),
                    "another process is refreshing the prices, waiting for it"
                );
            }
            tokio::time::sleep(LEASE_RETRY).await;
        }
    }

    /// Where things stand: the table is there, the current snapshot is known and its pages are kept. Says whether that
    /// one is young enough.
    async fn is_there(&mut self, wanted: Wanted) -> Result<bool, Failure> {
        if !self.table_is_there {
            self.store.ensure_table().await?;
            self.table_is_there = true;
        }
        let Some(pointer) = self.store.current().await? else {
            self.previous = None;
            return Ok(false);
        };
        self.current_is(&pointer);
        let is_young = match wanted.younger_than {
            Some(bound) => {
                pointer.taken_at > bound && pointer.taken_at.duration_since(Timestamp::now()) <= AHEAD_MAX
            }
            None => self.load_previous(&pointer).await?,
        };
        Ok(is_young)
    }

    fn current_is(&mut self, pointer: &Pointer) {
        self.metrics.current_is(pointer.taken_at, pointer.count);
        self.current = Some(*pointer);
    }

    async fn under(&mut self, lease: &Lease, stop: &CancellationToken) -> Result<Option<Pass>, Failure> {
        self.compare_with_current().await?;
        let started = Instant::now();
        let previous = self.previous.clone();
        let crawled = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            () = lease.lost() => return Err(Failure::Fenced),
            crawled = self.crawler.crawl(&self.vendor, &self.limits, previous.as_deref(), Timestamp::now()) => crawled,
        };
        self.metrics.took("crawl", started.elapsed());
        self.publish(crawled?, lease).await.map(Some)
    }

    /// Gets the snapshot of the pointer, to compare with.
    async fn compare_with_current(&mut self) -> Result<(), Failure> {
        let Some(pointer) = self.store.current().await? else {
            self.previous = None;
            return Ok(());
        };
        // Should this be the last pass that succeeds for long, its prices must outlast the outage.
        self.store.keep_current().await?;
        self.load_previous(&pointer).await.map(|_| ())
    }

    /// Whether it could be read.
    async fn load_previous(&mut self, pointer: &Pointer) -> Result<bool, Failure> {
        if self
            .previous
            .as_ref()
            .is_some_and(|previous| previous.meta.id == pointer.id)
        {
            return Ok(true);
        }
        match self.store.load(pointer).await {
            Ok(snapshot) => {
                self.previous = Some(Arc::new(snapshot));
                Ok(true)
            }
            // It cannot be compared with any more; a new crawl is what mends it.
            Err(error @ (StoreError::Incomplete { .. } | StoreError::Corrupt { .. })) => {
                tracing::warn!(%error, "the current snapshot cannot be read; every price will count as changed");
                self.previous = None;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn publish(&mut self, crawl: Crawl, lease: &Lease) -> Result<Pass, Failure> {
        let Crawl {
            snapshot,
            quarantined,
            kept,
            unlisted,
            duplicates,
            pages: crawl_pages,
            ..
        } = crawl;
        if lease.is_lost() {
            return Err(Failure::Fenced);
        }
        let started = Instant::now();
        let published = self
            .store
            .publish(&snapshot, self.previous.as_deref(), lease.fence())
            .await;
        self.metrics.took("l2", started.elapsed());
        let (pages, history_written, write_units) = match published? {
            Published::Older => return Ok(Pass::Superseded),
            Published::Fenced => return Err(Failure::Fenced),
            Published::Flipped {
                pages,
                history_written,
                write_units,
            } => (pages, history_written, write_units),
        };
        let pointer = Pointer {
            id: snapshot.meta.id,
            taken_at: snapshot.meta.taken_at,
            tick_at: snapshot.meta.tick_at,
            pages: pages.count(),
            count: snapshot.meta.count,
            fence: lease.fence(),
        };
        self.current_is(&pointer);
        let movers: Vec<Symbol> = snapshot
            .quotes
            .iter()
            .filter(|quote| quote.mover)
            .map(|quote| quote.symbol.clone())
            .collect();
        self.announce(&pointer, &pages, &movers).await;
        let done = Done {
            id: pointer.id,
            taken_at: pointer.taken_at,
            tick_at: pointer.tick_at,
            symbols: pointer.count,
            pages: pointer.pages,
            crawl_pages,
            quarantined: quarantined.len(),
            kept,
            unlisted,
            duplicates,
            movers: movers.len(),
            history_written,
            write_units,
        };
        self.previous = Some(Arc::new(snapshot));
        Ok(Pass::Published(done))
    }

    /// Tells the replicas through Redis, which only saves them the next look at the pointer.
    async fn announce(&self, pointer: &Pointer, pages: &EncodedPages, movers: &[Symbol]) {
        let Some(l1) = &self.l1 else { return };
        let started = Instant::now();
        l1.put(pointer, pages).await;
        l1.announce(pointer, movers).await;
        self.metrics.took("l1", started.elapsed());
    }
}

enum Entered {
    Lease(Lease),
    Not(Pass),
}
