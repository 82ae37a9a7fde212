//! The in-process view (L0): the current snapshot and the two before it, read without waiting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fuse_domain::Snapshot;
use fuse_platform::Metrics;
use jiff::Timestamp;
use prometheus::Gauge;
use tokio::sync::watch;
use uuid::Uuid;

/// Snapshots held: walks that began up to two refreshes ago go on over the same snapshot.
const SNAPSHOTS_HELD: usize = 3;

/// Shared view of the market; clones see the same. Readers take an `Arc` and never block a refresh.
#[derive(Clone)]
pub struct MarketView {
    state: Arc<watch::Sender<State>>,
    age: Gauge,
}

#[derive(Default)]
struct State {
    /// Newest first.
    snapshots: VecDeque<Arc<Snapshot>>,
    tried: bool,
}

impl MarketView {
    /// An empty view. Its age is the metric `snapshot_age_seconds`: NaN while it holds nothing, so
    /// that no alert mistakes nothing for fresh.
    pub fn new(metrics: &Metrics) -> Self {
        let age = metrics.float_gauge(
            "snapshot_age_seconds",
            "Age of the snapshot that this replica holds; NaN while it holds none",
        );
        age.set(f64::NAN);
        Self {
            state: Arc::new(watch::Sender::new(State::default())),
            age,
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

    /// Age of the current snapshot; zero if our clock is behind the writer's.
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        let current = self.current()?;
        Some(Duration::try_from(now.duration_since(current.meta.taken_at)).unwrap_or_default())
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

    /// Puts a snapshot in front, unless one as new is held already. Says whether it did.
    pub fn offer(&self, snapshot: Snapshot) -> bool {
        self.state.send_if_modified(|state| {
            let newest = state.snapshots.front().map(|newest| newest.meta.taken_at);
            if newest.is_some_and(|newest| newest >= snapshot.meta.taken_at) {
                return false;
            }
            state.snapshots.push_front(Arc::new(snapshot));
            state.snapshots.truncate(SNAPSHOTS_HELD);
            true
        })
    }

    pub(crate) fn mark_tried(&self) {
        self.state
            .send_if_modified(|state| !std::mem::replace(&mut state.tried, true));
    }

    pub(crate) fn measure_age(&self, now: Timestamp) {
        self.age
            .set(self.age(now).map_or(f64::NAN, |age| age.as_secs_f64()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(second: i64) -> Snapshot {
        let taken_at = Timestamp::from_second(second).expect("a time");
        Snapshot::new(Uuid::now_v7(), taken_at, Vec::new())
    }

    #[test]
    fn the_newest_three_are_held_and_none_older_gets_in() {
        let view = MarketView::new(&Metrics::new());
        assert!(view.current().is_none());
        let snapshots: Vec<_> = (1..=4).map(snapshot).collect();
        for snapshot in &snapshots {
            assert!(view.offer(snapshot.clone()));
        }
        assert!(!view.offer(snapshots[3].clone()), "the same again");
        assert!(!view.offer(snapshot(2)), "an older one");
        assert_eq!(view.current().expect("current").meta.id, snapshots[3].meta.id);
        let held: Vec<_> = snapshots.iter().map(|s| view.get(s.meta.id).is_some()).collect();
        assert_eq!(held, [false, true, true, true]);
    }

    #[test]
    fn the_age_counts_from_the_crawl() {
        let metrics = Metrics::new();
        let view = MarketView::new(&metrics);
        let now = Timestamp::from_second(1_000).expect("a time");
        assert_eq!(view.age(now), None);
        view.offer(snapshot(940));
        assert_eq!(view.age(now), Some(Duration::from_secs(60)));
        view.measure_age(now);
        let text = String::from_utf8(metrics.encode()).expect("text");
        assert!(text.contains("fuse_snapshot_age_seconds 60"), "{text}");
    }
}
