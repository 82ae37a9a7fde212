//! The market as a replica of the API sees it: the view, what keeps it young, and what reaches beyond it.
//!
//! What must stay true: reading never waits for anything but the very first snapshot; whatever is away, the view keeps
//! what it has; DynamoDB's pointer is the truth, and Redis only saves time.

use std::sync::Arc;
use std::time::Duration;

use fuse_domain::{Snapshot, Symbol};
use fuse_platform::Metrics;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::crawl::CrawlLimits;
use crate::l1::L1;
use crate::older::Older;
use crate::refresh::{Pass, RefreshParts, Refresher, Wanted};
use crate::store::{HistoryPage, HistoryRange, SnapshotStore, StoreError};
use crate::vendor::VendorClient;
use crate::view::{Hearing, MarketView};

/// What a market is made of.
pub struct MarketParts {
    pub vendor: VendorClient,
    /// For reads that somebody waits for.
    pub store: SnapshotStore,
    /// The same table, with the patience that writing a snapshot needs.
    pub pass_store: SnapshotStore,
    /// Absent: without Redis.
    pub l1: Option<L1>,
    pub limits: CrawlLimits,
    /// How often the vendor's prices change.
    pub interval: Duration,
    /// How often the pointer is looked at while Redis does not tell.
    pub poll: Duration,
    /// How long a reader waits for the very first snapshot.
    pub cold_wait: Duration,
    /// Prices that are younger than this are not fetched again because the vendor refused one of them; and a replica
    /// tries no more often than this.
    pub early_pass_every: Duration,
}

/// Shared; clones see the same.
#[derive(Clone)]
pub struct Market(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) view: MarketView,
    pub(crate) store: SnapshotStore,
    pub(crate) l1: Option<L1>,
    pub(crate) poll: Duration,
    cold_wait: Duration,
    early_pass_every: Duration,
    older: Older,
    refresher: Mutex<Refresher>,
    early: std::sync::Mutex<Option<Instant>>,
    stop: CancellationToken,
}

impl Market {
    /// Needs no network. `stop` ends what it does in the background.
    pub fn new(parts: MarketParts, metrics: &Metrics, stop: CancellationToken) -> Self {
        let MarketParts {
            vendor,
            store,
            pass_store,
            l1,
            limits,
            interval,
            poll,
            cold_wait,
            early_pass_every,
        } = parts;
        let refresh = RefreshParts {
            vendor,
            store: pass_store,
            l1: l1.clone(),
            limits,
            tells_current: false,
        };
        Self(Arc::new(Inner {
            view: MarketView::new(metrics, interval),
            store,
            l1,
            poll,
            cold_wait,
            early_pass_every,
            older: Older::default(),
            refresher: Mutex::new(Refresher::new(refresh, metrics)),
            early: std::sync::Mutex::new(None),
            stop,
        }))
    }

    /// Follows what is published until the stop; makes the first crawl itself when nobody has.
    pub async fn run(&self) {
        crate::follow::follow(self).await;
    }

    /// What is held.
    pub fn view(&self) -> &MarketView {
        &self.0.view
    }

    /// The newest snapshot; `None` before the first.
    pub fn current(&self) -> Option<Arc<Snapshot>> {
        self.0.view.current()
    }

    /// As [`Market::current`], but waits for the first one while somebody is crawling.
    pub async fn current_or_wait(&self) -> Option<Arc<Snapshot>> {
        self.0.view.current_or_wait(self.0.cold_wait).await
    }

    /// A snapshot by its id, for a walk that began on it: held here, or read back. `None` when it is kept nowhere.
    ///
    /// # Errors
    /// When it is not held and the store cannot be read.
    pub async fn snapshot(&self, id: Uuid) -> Result<Option<Arc<Snapshot>>, StoreError> {
        if let Some(held) = self.0.view.get(id) {
            return Ok(Some(held));
        }
        self.0.older.get(id, self.0.l1.as_ref(), &self.0.store).await
    }

    /// Price changes of one symbol, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn history(
        &self,
        symbol: &Symbol,
        range: HistoryRange,
        after: Option<Timestamp>,
        limit: usize,
    ) -> Result<HistoryPage, StoreError> {
        self.0.store.history(symbol, range, after, limit).await
    }

    /// The movers of the current snapshot alone, out of the store's index: for as long as this replica has no snapshot
    /// to read them from. `None` when the index knows of none, which may as well mean that there is no index.
    pub async fn movers(&self) -> Option<Snapshot> {
        let pointer = self.0.store.current().await.ok()??;
        let movers = self.0.store.movers(pointer.taken_at).await.ok()?;
        if movers.is_empty() {
            return None;
        }
        let mut snapshot = Snapshot::new(pointer.id, pointer.taken_at, movers);
        snapshot.meta.tick_at = pointer.tick_at;
        Some(snapshot)
    }

    /// How well this replica follows.
    pub fn hearing(&self) -> Hearing {
        self.0.view.hearing()
    }

    /// The vendor refused a price that our quote allowed, so our quote is old: fetches the prices anew, in the
    /// background, unless they are young or this was done just now. Says whether it does.
    pub fn quote_refused(&self) -> bool {
        let age = self.0.view.age(Timestamp::now());
        if age.is_none_or(|age| age < self.0.early_pass_every) || !self.takes_early_turn() {
            return false;
        }
        tracing::info!("the vendor refused a price that our quote allowed: fetching the prices early");
        let market = self.clone();
        tokio::spawn(async move {
            let now = Timestamp::now();
            let wanted = Wanted {
                younger_than: Some(now),
                wait: false,
            };
            market.pass(wanted).await;
        });
        true
    }

    fn takes_early_turn(&self) -> bool {
        let mut last = self
            .0
            .early
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < self.0.early_pass_every) {
            return false;
        }
        *last = Some(Instant::now());
        true
    }

    /// One pass by this replica. `None` when the process stops, or is at one already.
    pub(crate) async fn pass(&self, wanted: Wanted) -> Option<Pass> {
        let mut refresher = self.0.refresher.try_lock().ok()?;
        let pass = refresher.pass(wanted, &self.0.stop).await?;
        if let (Pass::Published(_), Some(snapshot)) = (&pass, refresher.snapshot()) {
            self.0.view.offer(snapshot, Timestamp::now());
        }
        // Passes are rare here; a snapshot held for the next comparison would be memory for nothing.
        refresher.forget_previous();
        match &pass {
            Pass::Published(done) => tracing::info!(
                result = pass.result(),
                snapshot.id = %done.id,
                snapshot.symbols = done.symbols,
                crawl.pages = done.crawl_pages,
                "pass done by this replica"
            ),
            Pass::Failed(failure) => {
                tracing::warn!(result = pass.result(), error = %failure, "pass by this replica failed");
            }
            _ => tracing::debug!(result = pass.result(), "pass by this replica was not needed"),
        }
        Some(pass)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }
}
