//! The shelves of this process: built as snapshots come in, found by walks.
//!
//! All answers to reads come from the newest shelf, never from a snapshot whose shelf is still being built: so nobody waits for the
//! building, and what one request has shown, the next one shows too. Only before the first shelf a request waits. Orders do not wait
//! either: they are checked against the newest snapshot itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_domain::Snapshot;
use fuse_market::{Market, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Shelf;
use super::held::Held;
use super::page::{Asked, Page};
use super::ready::Ready;
use crate::metrics::Metrics;
use crate::page_token::PageTokens;

/// How long a request waits for a shelf that is being built.
const BUILD_MAX: Duration = Duration::from_secs(10);
/// After the store was away for one walk, the others of this time are not sent there.
const AWAY_FOR: Duration = Duration::from_secs(1);

/// The snapshot of a walk is not to be had.
#[derive(Debug)]
pub enum Lost {
    /// It is no longer kept anywhere.
    Gone,
    /// Nobody can say now; with the private cause.
    Away(String),
}

impl From<StoreError> for Lost {
    fn from(error: StoreError) -> Self {
        Self::Away(error.to_string())
    }
}

/// Shared; clones see the same.
#[derive(Clone)]
pub struct Shelves(Arc<Inner>);

struct Inner {
    market: Market,
    held: watch::Sender<Held>,
    ready: Ready,
    /// Since when the store is away, if it is. Locked for a load: walks of one snapshot wait for one load.
    loading: tokio::sync::Mutex<Option<Instant>>,
}

impl Shelves {
    /// Nothing yet; [`Self::keep`] fills it.
    #[must_use]
    pub fn new(market: Market, tokens: PageTokens, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            market,
            held: watch::Sender::new(Held::default()),
            ready: Ready::new(tokens, metrics),
            loading: tokio::sync::Mutex::default(),
        }))
    }

    /// Builds the shelf of each new snapshot, until the stop. A snapshot that is overtaken while another is built is left out.
    pub async fn keep(self, until: CancellationToken) {
        let mut seen = None;
        loop {
            let snapshot = tokio::select! {
                () = until.cancelled() => return,
                snapshot = self.0.market.view().newer_than(seen) => snapshot,
            };
            seen = Some(snapshot.meta.id);
            let Some(shelf) = build(snapshot).await else {
                continue;
            };
            // Most walks begin here: the first page is there before the shelf is.
            let (ready, of) = (self.0.ready.clone(), Arc::clone(&shelf));
            let first = tokio::task::spawn_blocking(move || ready.prepare(&of, &Asked::default(), None));
            // Should it fail, the first request makes it.
            let _ = first.await;
            self.0.held.send_modify(|held| held.add(shelf));
            self.forget_what_is_not_held();
        }
    }

    /// The newest shelf; never waits.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Shelf>> {
        self.0.held.borrow().newest().cloned()
    }

    /// The newest shelf; before the first one waits while a first snapshot is being made anywhere. `None`: there is nothing.
    pub async fn current_or_wait(&self) -> Option<Arc<Shelf>> {
        if let Some(shelf) = self.current() {
            return Some(shelf);
        }
        self.0.market.current_or_wait().await?;
        self.wait(|held| held.newest().is_some()).await;
        self.current()
    }

    /// The movers alone, while there is no shelf at all: the same pages as from the whole snapshot, for questions that ask
    /// for movers only.
    pub async fn movers(&self) -> Option<Arc<Shelf>> {
        if self.current().is_some() {
            return None;
        }
        build(Arc::new(self.0.market.movers().await?)).await
    }

    /// The shelf of a walk's snapshot.
    ///
    /// # Errors
    /// See [`Lost`].
    pub async fn find(&self, id: Uuid) -> Result<Arc<Shelf>, Lost> {
        if let Some(shelf) = self.held(id) {
            return Ok(shelf);
        }
        let is_being_built = self
            .0
            .market
            .current()
            .is_some_and(|current| current.meta.id == id);
        if is_being_built {
            // Or overtaken by a newer one, and then built below.
            self.wait(|held| held.newest().is_some_and(|newest| newest.snapshot.meta.id >= id))
                .await;
        }
        match self.held(id) {
            Some(shelf) => Ok(shelf),
            None => self.load(id).await,
        }
    }

    /// A page, ready or made now. `after`: the place of the last stock that the client has.
    #[must_use]
    pub fn page(&self, shelf: &Shelf, asked: &Asked, after: Option<u32>, gzip: bool) -> Arc<Page> {
        self.0.ready.page(shelf, asked, after, gzip)
    }

    /// Sees to it that the page after this one is there before it is asked for. Does not wait.
    pub fn prepare_next(&self, shelf: &Arc<Shelf>, asked: &Asked, page: &Page) {
        self.0.ready.prepare_next(shelf, asked, page);
    }

    async fn load(&self, id: Uuid) -> Result<Arc<Shelf>, Lost> {
        let mut away_since = self.0.loading.lock().await;
        if let Some(shelf) = self.held(id) {
            return Ok(shelf);
        }
        if away_since.is_some_and(|since| since.elapsed() < AWAY_FOR) {
            return Err(Lost::Away("the store was away a moment ago".to_owned()));
        }
        let found = self.0.market.snapshot(id).await;
        // What is wrong with one snapshot says nothing about the others.
        let is_away = matches!(found, Err(StoreError::Unavailable { .. }));
        *away_since = is_away.then(Instant::now);
        let snapshot = found?.ok_or(Lost::Gone)?;
        let built = build(snapshot).await;
        let shelf = built.ok_or_else(|| Lost::Away("the shelf could not be built".to_owned()))?;
        self.0
            .held
            .send_modify(|held| held.add_loaded(Arc::clone(&shelf)));
        self.forget_what_is_not_held();
        Ok(shelf)
    }

    fn held(&self, id: Uuid) -> Option<Arc<Shelf>> {
        let (shelf, is_next_to_go) = {
            let held = self.0.held.borrow();
            (Arc::clone(held.find(id)?), held.is_next_to_go(id))
        };
        if is_next_to_go {
            // Nobody waits for an order of use.
            self.0.held.send_if_modified(|held| {
                held.touch(id);
                false
            });
        }
        Some(shelf)
    }

    async fn wait(&self, until: impl FnMut(&Held) -> bool) {
        let mut held = self.0.held.subscribe();
        // The sender lives in `self`; running out of time is the caller's to see.
        let _ = tokio::time::timeout(BUILD_MAX, held.wait_for(until))
            .await
            .is_ok();
    }

    fn forget_what_is_not_held(&self) {
        let held = self.0.held.borrow();
        self.0.ready.retain(|number| held.is_held(number));
    }
}

/// `None` only when it panicked, which the panic hook has logged.
async fn build(snapshot: Arc<Snapshot>) -> Option<Arc<Shelf>> {
    let (id, count) = (snapshot.meta.id, snapshot.meta.count);
    let began = Instant::now();
    let shelf = tokio::task::spawn_blocking(move || Arc::new(Shelf::build(snapshot)))
        .await
        .ok()?;
    tracing::debug!(
        snapshot.id = %id,
        snapshot.symbols = count,
        duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "shelf built"
    );
    Some(shelf)
}
