//! Keeps the view at the snapshot that the store's pointer names: told by Redis at once, or by looking once a second.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::backoff::full_jitter;
use crate::l1::{Heard, Subscription};
use crate::market::Market;
use crate::refresh::{Failure, Pass, Wanted};
use crate::store::{Pointer, StoreError};
use crate::view::Cold;

/// While Redis is heard the pointer is looked at less often, in case a message was lost.
const POLLS_SAVED_BY_REDIS: u32 = 10;
/// While another replica makes the first crawl, its end is looked for after a part of the time that it has taken so
/// far: soon when crawls are quick, and seldom when they are not.
const COLD_POLL_PART: u32 = 20;
const COLD_POLL_MIN: Duration = Duration::from_millis(20);
const COLD_POLL_MAX: Duration = Duration::from_millis(500);
/// Between two first crawls of ours that failed.
const COLD_RETRY_BASE: Duration = Duration::from_secs(2);
const COLD_RETRY_CAP: Duration = Duration::from_secs(60);
/// A message that names a snapshot further ahead of our clock than this is not believed.
const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(60);

/// What the last look at the store showed; only a change is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    NotTried,
    Following,
    /// The store answers, and nothing was published yet.
    Nothing,
    Away(&'static str),
}

/// Follows until the market's stop. Whatever the store and Redis do, the view keeps what it has and the loop goes on;
/// its age says how old that is.
pub(crate) async fn follow(market: &Market) {
    let stop = market.stop();
    let mut follower = Follower {
        market,
        link: Link::NotTried,
        cold: ColdStart::default(),
    };
    let mut subscription = market.inner().l1.as_ref().map(|l1| l1.subscribe(stop.clone()));
    let mut due = Instant::now();
    loop {
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(due) => None,
            heard = next(&mut subscription) => Some(heard),
        };
        // A panic in here would leave this replica deaf for good, with nothing to show for it.
        let step = AssertUnwindSafe(follower.step(heard)).catch_unwind();
        let link = tokio::select! {
            () = stop.cancelled() => return,
            link = step => link.unwrap_or(Link::Away("panic")),
        };
        follower.now_is(link);
        let is_told = subscription.as_ref().is_some_and(Subscription::is_live);
        due = Instant::now() + follower.pause(is_told);
    }
}

async fn next(subscription: &mut Option<Subscription>) -> Heard {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

struct Follower<'a> {
    market: &'a Market,
    link: Link,
    cold: ColdStart,
}

/// How the first snapshot is being waited for.
#[derive(Default)]
struct ColdStart {
    /// Since when another process is at it.
    busy_since: Option<Instant>,
    failures: u32,
    /// The last one failed at the vendor. Readers do not wait for the next then: it may hang as this one did. They do
    /// after an outage of the store, which says nothing of the vendor.
    vendor_is_away: bool,
    /// No crawl of ours before this.
    not_before: Option<Instant>,
}

impl Follower<'_> {
    async fn step(&mut self, heard: Option<Heard>) -> Link {
        if let Some(Heard::Announced(announcement)) = heard
            && self.take(&announcement.pointer).await
        {
            return Link::Following;
        }
        let looked = self.look().await;
        // Before any crawl: how long the vendor takes is no reason to be unready.
        self.market.view().mark_tried();
        match looked {
            Ok(true) => Link::Following,
            Ok(false) => self.start_cold().await,
            Err(error) => {
                tracing::debug!(%error, "snapshot store not read");
                if self.look_at_redis().await {
                    return Link::Following;
                }
                // A pass makes the table, and a crawl mends pages that are gone, when there is nothing else to serve.
                let is_mended_by_a_pass = matches!(
                    error,
                    StoreError::TableMissing { .. }
                        | StoreError::Incomplete { .. }
                        | StoreError::Corrupt { .. }
                );
                if is_mended_by_a_pass && self.market.current().is_none() {
                    return self.start_cold().await;
                }
                // The texts of one kind differ by operation, which is no transition worth a line.
                Link::Away(error.code())
            }
        }
    }

    /// Whether there is a snapshot to follow.
    async fn look(&self) -> Result<bool, StoreError> {
        let inner = self.market.inner();
        let Some(pointer) = inner.store.current().await? else {
            return Ok(false);
        };
        let now = Timestamp::now();
        if !inner.view.wants(pointer.taken_at, now) {
            return Ok(true);
        }
        if self.take_from_redis(&pointer).await {
            return Ok(true);
        }
        // Should the pointer move on while we read, the next look finds the newer one.
        let snapshot = inner.store.load(&pointer).await?;
        if inner.view.offer(Arc::new(snapshot), now) {
            loaded(&pointer, "l2");
        }
        Ok(true)
    }

    /// What Redis announced: its pages from Redis, else from the store. Says whether the view has it now.
    async fn take(&self, pointer: &Pointer) -> bool {
        let inner = self.market.inner();
        let now = Timestamp::now();
        if pointer.taken_at.duration_since(now) > AHEAD_MAX {
            return false;
        }
        if !inner.view.wants(pointer.taken_at, now) {
            return true;
        }
        self.take_from_redis(pointer).await
    }

    /// With the store away, Redis may still know of a newer snapshot than ours, or of any at all.
    async fn look_at_redis(&self) -> bool {
        let Some(l1) = &self.market.inner().l1 else {
            return false;
        };
        match l1.current().await {
            Some(pointer) => {
                let is_newer = self
                    .market
                    .current()
                    .is_none_or(|held| held.meta.taken_at < pointer.taken_at);
                is_newer && self.take(&pointer).await
            }
            None => false,
        }
    }

    async fn take_from_redis(&self, pointer: &Pointer) -> bool {
        let inner = self.market.inner();
        let Some(l1) = &inner.l1 else { return false };
        let Some(snapshot) = l1.load(pointer).await else {
            return false;
        };
        if inner.view.offer(Arc::new(snapshot), Timestamp::now()) {
            loaded(pointer, "l1");
        }
        true
    }

    /// Nothing was ever published: one process crawls, and all others wait for it.
    async fn start_cold(&mut self) -> Link {
        if self.market.current().is_some() {
            return Link::Nothing;
        }
        if self.cold.not_before.is_some_and(|at| Instant::now() < at) {
            return Link::Nothing;
        }
        let wanted = Wanted {
            younger_than: None,
            wait: false,
        };
        if !self.cold.vendor_is_away {
            self.market.view().cold_is(Cold::Underway);
        }
        match self.market.pass(wanted).await {
            Some(Pass::Published(_)) => {
                self.cold = ColdStart::default();
                return Link::Following;
            }
            Some(Pass::Failed(failure)) => {
                let wait = full_jitter(COLD_RETRY_BASE, COLD_RETRY_CAP, self.cold.failures);
                let (vendor_is_away, asked) = match &failure {
                    Failure::Crawl(error) => (true, error.retry_after()),
                    Failure::Store(_) | Failure::Fenced => (false, None),
                };
                let wait = wait.max(COLD_RETRY_BASE).max(asked.unwrap_or_default());
                self.cold = ColdStart {
                    busy_since: None,
                    failures: self.cold.failures.saturating_add(1),
                    vendor_is_away,
                    not_before: Some(Instant::now() + wait),
                };
                self.market.view().cold_is(Cold::Failed);
            }
            // Somebody else is at it, or just was: look again soon.
            Some(_) => {
                self.cold.busy_since.get_or_insert_with(Instant::now);
            }
            None => {}
        }
        Link::Nothing
    }

    fn now_is(&mut self, link: Link) {
        let view = self.market.view();
        if matches!(link, Link::Away(_)) && view.current().is_none() {
            view.cold_is(Cold::Failed);
        }
        view.measure(Timestamp::now());
        if link != self.link {
            self.report(link);
            self.link = link;
        }
    }

    fn pause(&self, is_told: bool) -> Duration {
        let poll = self.market.inner().poll;
        match (self.link, self.cold.busy_since) {
            (Link::Nothing, Some(since)) => (since.elapsed() / COLD_POLL_PART)
                .clamp(COLD_POLL_MIN, COLD_POLL_MAX.min(poll).max(COLD_POLL_MIN)),
            // Heard, but silent longer than it should be: perhaps nobody announces.
            (Link::Following, _) if is_told && !self.market.hearing().is_late => poll * POLLS_SAVED_BY_REDIS,
            _ => poll,
        }
    }

    fn report(&self, link: Link) {
        let dynamodb_table = self.market.inner().store.table();
        let held = self
            .market
            .current()
            .map(|current| current.meta.taken_at.to_string());
        match link {
            Link::NotTried => {}
            Link::Following => tracing::info!(dynamodb_table, "following the snapshot store"),
            Link::Nothing => tracing::info!(dynamodb_table, "no snapshot published yet"),
            Link::Away(reason) => tracing::warn!(
                dynamodb_table,
                reason,
                held_since = held,
                "snapshot store not readable; serving what is held, trying on"
            ),
        }
    }
}

fn loaded(pointer: &Pointer, layer: &'static str) {
    tracing::info!(
        snapshot.id = %pointer.id,
        snapshot.symbols = pointer.count,
        snapshot.taken_at = %pointer.taken_at,
        layer,
        "snapshot loaded"
    );
}
