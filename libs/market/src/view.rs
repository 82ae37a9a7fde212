//! The in-process view (L0): the current snapshot and the two before it, read without waiting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fuse_domain::Snapshot;
use fuse_platform::Metrics;
use jiff::{SignedDuration, Timestamp};
use prometheus::{Gauge, IntGauge};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

/// Snapshots held: walks that began up to two refreshes ago go on over the same snapshot.
const SNAPSHOTS_HELD: usize = 3;
/// A snapshot further ahead of our clock than this was dated by a clock that is wrong; whatever is published after it
/// replaces it.
const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(60);
/// No new snapshot for so many refresh intervals means that this replica, or the refresher, is deaf.
const DEAF_INTERVALS: u32 = 3;

/// Shared view of the market; clones see the same. Readers take an `Arc` and never block a refresh.
#[derive(Clone)]
pub struct MarketView {
    state: Arc<watch::Sender<State>>,
    interval: Duration,
    figures: Arc<Figures>,
}

struct Figures {
    age: Gauge,
    deaf: IntGauge,
}

struct State {
    /// Newest first.
    snapshots: VecDeque<Arc<Snapshot>>,
    tried: bool,
    /// While nothing is held: whether waiting makes sense.
    cold: Cold,
    /// When the last snapshot came, or this view was made; by the monotonic clock, so that a wrong clock hides nothing.
    heard: Instant,
}

/// What is being done about having nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cold {
    /// The first look or crawl goes on: something will be known soon.
    Underway,
    /// It failed; the next try is some time away.
    Failed,
}

/// How well this replica follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    /// Time since the last new snapshot came, or since the start.
    pub silent_for: Duration,
    /// Longer than one refresh interval: a new one should have come.
    pub is_late: bool,
    /// Longer than three refresh intervals.
    pub is_deaf: bool,
}

impl MarketView {
    /// An empty view. Its age is the metric `snapshot_age_seconds`: NaN while it holds nothing, so
    /// that no alert mistakes nothing for fresh. `interval` is how often snapshots are expected.
    pub fn new(metrics: &Metrics, interval: Duration) -> Self {
        let age = metrics.float_gauge(
            "snapshot_age_seconds",
            "Age of the snapshot that this replica holds, or how far it lies ahead of our clock; NaN while it holds none",
        );
        age.set(f64::NAN);
        let deaf = metrics.gauge(
            "snapshot_replica_deaf",
            "1 when no new snapshot reached this replica for three refresh intervals",
        );
        let state = State {
            snapshots: VecDeque::new(),
            tried: false,
            cold: Cold::Underway,
            heard: Instant::now(),
        };
        Self {
            state: Arc::new(watch::Sender::new(state)),
            interval,
            figures: Arc::new(Figures { age, deaf }),
        }
    }

    /// The newest snapshot; `None` before the first.
    pub fn current(&self) -> Option<Arc<Snapshot>> {
        self.state.borrow().snapshots.front().cloned()
    }

    /// A snapshot that is still held, for a walk that began on it.
    pub fn get(&self, id: Uuid) -> Option<Arc<Snapshot>> {
        self.state
            .borrow()
            .snapshots
            .iter()
            .find(|snapshot| snapshot.meta.id == id)
            .cloned()
    }

    /// Ids of what is held, newest first.
    pub fn held(&self) -> Vec<Uuid> {
        let state = self.state.borrow();
        state.snapshots.iter().map(|snapshot| snapshot.meta.id).collect()
    }

    /// Age of the current snapshot; zero if our clock is behind the writer's.
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        let current = self.current()?;
        Some(Duration::try_from(now.duration_since(current.meta.taken_at)).unwrap_or_default())
    }

    /// How long no new snapshot came.
    pub fn hearing(&self) -> Hearing {
        let silent_for = self.state.borrow().heard.elapsed();
        Hearing {
            silent_for,
            is_late: silent_for > self.interval,
            is_deaf: silent_for > self.interval * DEAF_INTERVALS,
        }
    }

    /// Whether the store was asked at least once, with whatever result. A replica is useful from
    /// then on: it can say truthfully that there is nothing.
    pub fn was_tried(&self) -> bool {
        self.state.borrow().tried
    }

    /// Waits until [`Self::was_tried`].
    pub async fn tried(&self) {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = state.wait_for(|state| state.tried).await;
    }

    /// The current snapshot; with none, waits for the first while somebody is at it. `None` when there is nothing and
    /// nothing is to be expected soon.
    pub async fn current_or_wait(&self, longest: Duration) -> Option<Arc<Snapshot>> {
        if let Some(current) = self.current() {
            return Some(current);
        }
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !state.snapshots.is_empty() || state.cold == Cold::Failed);
        // Out of time: whatever is there now.
        let _ = tokio::time::timeout(longest, settled).await;
        self.current()
    }

    /// Waits until another snapshot than `seen` is the current one, and gives it. For whoever
    /// prepares answers from it.
    pub async fn newer_than(&self, seen: Option<Uuid>) -> Arc<Snapshot> {
        let mut state = self.state.subscribe();
        loop {
            if let Some(current) = state.borrow_and_update().snapshots.front()
                && Some(current.meta.id) != seen
            {
                return current.clone();
            }
            let _ = state.changed().await;
        }
    }

    /// Whether a snapshot taken at this time would become the current one.
    pub fn wants(&self, taken_at: Timestamp, now: Timestamp) -> bool {
        self.state.borrow().wants(taken_at, now)
    }

    /// Puts a snapshot in front, unless one as new is held already. Says whether it did.
    pub fn offer(&self, snapshot: Arc<Snapshot>, now: Timestamp) -> bool {
        self.state.send_if_modified(|state| {
            if !state.wants(snapshot.meta.taken_at, now) {
                return false;
            }
            state.snapshots.push_front(snapshot);
            state.snapshots.truncate(SNAPSHOTS_HELD);
            state.heard = Instant::now();
            true
        })
    }

    pub(crate) fn mark_tried(&self) {
        self.state
            .send_if_modified(|state| !std::mem::replace(&mut state.tried, true));
    }

    pub(crate) fn cold_is(&self, cold: Cold) {
        self.state
            .send_if_modified(|state| std::mem::replace(&mut state.cold, cold) != cold);
    }

    pub(crate) fn measure(&self, now: Timestamp) {
        let age = self.current().map_or(f64::NAN, |current| {
            now.duration_since(current.meta.taken_at).abs().as_secs_f64()
        });
        self.figures.age.set(age);
        self.figures.deaf.set(i64::from(self.hearing().is_deaf));
    }
}

impl State {
    fn wants(&self, taken_at: Timestamp, now: Timestamp) -> bool {
        let is_ahead = |at: Timestamp| at.duration_since(now) > AHEAD_MAX;
        self.snapshots.front().is_none_or(|held| {
            let held = held.meta.taken_at;
            held < taken_at || (is_ahead(held) && held != taken_at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn snapshot(second: i64) -> Arc<Snapshot> {
        Arc::new(Snapshot::new(Uuid::now_v7(), at(second), Vec::new()))
    }

    #[test]
    fn the_newest_three_are_held_and_none_older_gets_in() {
        let view = MarketView::new(&Metrics::new(), INTERVAL);
        assert!(view.current().is_none());
        let snapshots: Vec<_> = (1..=4).map(snapshot).collect();
        for snapshot in &snapshots {
            assert!(view.offer(snapshot.clone(), at(5)));
        }
        assert!(!view.offer(snapshots[3].clone(), at(5)), "the same again");
        assert!(!view.offer(snapshot(2), at(5)), "an older one");
        assert_eq!(view.current().expect("current").meta.id, snapshots[3].meta.id);
        let held: Vec<_> = snapshots.iter().map(|s| view.get(s.meta.id).is_some()).collect();
        assert_eq!(held, [false, true, true, true]);
    }

    #[test]
    fn a_snapshot_from_the_future_gives_way() {
        let view = MarketView::new(&Metrics::new(), INTERVAL);
        view.offer(snapshot(4_600), at(1_000));
        assert!(!view.wants(at(4_600), at(1_000)), "the same again");
        assert!(view.offer(snapshot(1_000), at(1_000)));
        assert_eq!(view.age(at(1_060)), Some(Duration::from_secs(60)));
    }

    #[test]
    fn the_age_counts_from_the_crawl_in_either_direction() {
        let metrics = Metrics::new();
        let view = MarketView::new(&metrics, INTERVAL);
        let shows = |line: &str| {
            let text = String::from_utf8(metrics.encode()).expect("text");
            assert!(text.contains(line), "{line}: {text}");
        };
        assert_eq!(view.age(at(1_000)), None);
        view.offer(snapshot(940), at(1_000));
        assert_eq!(view.age(at(1_000)), Some(Duration::from_secs(60)));
        view.measure(at(1_000));
        shows("fuse_snapshot_age_seconds 60");
        view.measure(at(340));
        shows("fuse_snapshot_age_seconds 600");
    }

    #[tokio::test(start_paused = true)]
    async fn three_intervals_of_silence_are_deafness() {
        let metrics = Metrics::new();
        let view = MarketView::new(&metrics, INTERVAL);
        tokio::time::advance(INTERVAL * 3).await;
        assert!(!view.hearing().is_deaf);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(view.hearing().is_deaf);
        view.measure(at(0));
        let text = String::from_utf8(metrics.encode()).expect("text");
        assert!(text.contains("fuse_snapshot_replica_deaf 1"), "{text}");
        view.offer(snapshot(1), at(1));
        assert!(!view.hearing().is_deaf);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cold_reader_waits_only_while_somebody_is_at_it() {
        let view = MarketView::new(&Metrics::new(), INTERVAL);
        let longest = Duration::from_secs(10);
        let began = Instant::now();
        assert!(view.current_or_wait(longest).await.is_none());
        assert_eq!(began.elapsed(), longest);

        view.cold_is(Cold::Failed);
        let began = Instant::now();
        assert!(view.current_or_wait(longest).await.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);

        view.cold_is(Cold::Underway);
        let waiting = tokio::spawn({
            let view = view.clone();
            async move { view.current_or_wait(longest).await }
        });
        tokio::task::yield_now().await;
        view.offer(snapshot(1), at(1));
        assert!(waiting.await.expect("no panic").is_some());
    }
}
