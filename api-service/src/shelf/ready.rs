//! Ready pages of all shelves: kept as bytes while there is room, and made before they are asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::Shelf;
use super::bounded::Bounded;
use super::page::{Asked, Page, PageKey};
use crate::metrics::Metrics;
use crate::page_token::{FilterHash, PageTokens};

/// Ready pages of all shelves together; a walk over 10,000 stocks takes three megabytes in both forms, and those who walk together share it.
const PAGES_MAX: usize = 1_024;
const PAGES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Filtered selections of all shelves together, four bytes a stock.
const SELECTIONS_MAX: usize = 256;
const SELECTIONS_BYTES_MAX: usize = 1024 * 1024;
/// Pages made ahead at once; when all are busy, the next page is made when it is asked for.
const PREPARING_MAX: usize = 2;

/// Shared; clones see the same.
#[derive(Clone)]
pub(super) struct Ready(Arc<Inner>);

struct Inner {
    tokens: PageTokens,
    metrics: Arc<Metrics>,
    pages: Mutex<Bounded<PageKey, Arc<Page>>>,
    selections: Mutex<Selections>,
    preparing: Arc<Semaphore>,
}

/// By number of the shelf and question.
type Selections = Bounded<(u64, FilterHash), Arc<[u32]>>;

impl Ready {
    pub(super) fn new(tokens: PageTokens, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            tokens,
            metrics,
            pages: Mutex::new(Bounded::new(PAGES_MAX, PAGES_BYTES_MAX)),
            selections: Mutex::new(Bounded::new(SELECTIONS_MAX, SELECTIONS_BYTES_MAX)),
            preparing: Arc::new(Semaphore::new(PREPARING_MAX)),
        }))
    }

    pub(super) fn page(&self, shelf: &Shelf, asked: &Asked, after: Option<u32>, gzip: bool) -> Arc<Page> {
        let known = self.pages().get(&asked.key(shelf, after));
        match known {
            Some(page) if !gzip || page.gzip().is_some() => {
                self.0.metrics.stock_page("ready");
                page
            }
            known => {
                self.0.metrics.stock_page("made");
                self.make(shelf, asked, after, gzip, known.as_deref())
            }
        }
    }

    /// Makes a page in both forms, unless it is there.
    pub(super) fn prepare(&self, shelf: &Shelf, asked: &Asked, after: Option<u32>) {
        let known = self.pages().get(&asked.key(shelf, after));
        if known.as_ref().is_none_or(|page| page.gzip().is_none()) {
            self.make(shelf, asked, after, true, known.as_deref());
            self.0.metrics.stock_page("prepared");
        }
    }

    pub(super) fn prepare_next(&self, shelf: &Arc<Shelf>, asked: &Asked, page: &Page) {
        if !page.claim_next() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.0.preparing).try_acquire_owned() else {
            page.leave_next();
            return;
        };
        let (this, shelf, asked, after) = (self.clone(), Arc::clone(shelf), asked.clone(), page.next());
        tokio::task::spawn_blocking(move || {
            this.prepare(&shelf, &asked, after);
            drop(permit);
        });
    }

    /// Drops what belongs to shelves that are not kept.
    pub(super) fn retain(&self, is_held: impl Fn(u64) -> bool) {
        self.pages().retain(|key| is_held(key.shelf));
        self.selections().retain(|(number, _)| is_held(*number));
    }

    fn make(
        &self,
        shelf: &Shelf,
        asked: &Asked,
        after: Option<u32>,
        gzip: bool,
        known: Option<&Page>,
    ) -> Arc<Page> {
        let page = match known {
            Some(known) => known.with_gzip(),
            None if gzip => self.render(shelf, asked, after).with_gzip(),
            None => self.render(shelf, asked, after),
        };
        let page = Arc::new(page);
        let size = page.size();
        self.pages().put(asked.key(shelf, after), Arc::clone(&page), size);
        page
    }

    fn render(&self, shelf: &Shelf, asked: &Asked, after: Option<u32>) -> Page {
        if asked.filter().is_empty() {
            let order = shelf.order(asked.sort());
            return Page::render(shelf, asked, order, after, &self.0.tokens);
        }
        let selected = self.selected(shelf, asked);
        Page::render(shelf, asked, &selected, after, &self.0.tokens)
    }

    fn selected(&self, shelf: &Shelf, asked: &Asked) -> Arc<[u32]> {
        let key = (shelf.number, asked.hash());
        if let Some(known) = self.selections().get(&key) {
            return known;
        }
        let selected: Arc<[u32]> = asked.filter().select(shelf, asked.sort()).into();
        let bytes = size_of_val(&*selected) + 128;
        self.selections().put(key, Arc::clone(&selected), bytes);
        selected
    }

    fn pages(&self) -> MutexGuard<'_, Bounded<PageKey, Arc<Page>>> {
        self.0.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn selections(&self) -> MutexGuard<'_, Selections> {
        self.0.selections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
