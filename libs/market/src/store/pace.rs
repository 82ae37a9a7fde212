//! Keeps writes under a rate: units are handed out in advance, and whoever is ahead of the rate waits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What may be written at once after a pause.
const BURST: Duration = Duration::from_secs(1);

/// A rate that clones share.
#[derive(Clone)]
pub(super) struct Pace {
    unit: Duration,
    /// When the next unit is due; one second in the past at most, which is the burst.
    due: Arc<Mutex<Option<Instant>>>,
}

impl Pace {
    pub(super) fn new(units_per_sec: u32) -> Self {
        Self {
            unit: Duration::from_secs(1) / units_per_sec.max(1),
            due: Arc::default(),
        }
    }

    /// Waits until these units may be written. More than a second's worth is let through at once, too, and whoever
    /// comes after it waits the longer.
    pub(super) async fn take(&self, units: u64) {
        tokio::time::sleep_until(self.reserve(units)).await;
    }

    fn reserve(&self, units: u64) -> Instant {
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not used for longer than the burst is gone.
        let paused = |due: Instant| now.duration_since(due) > BURST;
        let starts = match *due {
            Some(due) if !paused(due) => due,
            // `now - BURST` need not exist on a machine that has just started.
            _ => now.checked_sub(BURST).unwrap_or(now),
        };
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        *due = Some(starts + self.unit.saturating_mul(units));
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_may_burst_and_then_the_rate_holds() {
        tokio::time::advance(Duration::from_secs(10)).await;
        let (pace, started) = (Pace::new(1_000), Instant::now());
        for _ in 0..10 {
            pace.take(100).await;
        }
        assert_eq!(started.elapsed().as_millis(), 0, "the burst");
        for _ in 0..20 {
            pace.take(100).await;
        }
        let took = started.elapsed().as_millis();
        assert!((1_899..=2_001).contains(&took), "{took} ms for 2,000 units more");

        tokio::time::advance(Duration::from_secs(60)).await;
        let again = Instant::now();
        for _ in 0..20 {
            pace.take(100).await;
        }
        let took = again.elapsed().as_millis();
        assert!(
            (899..=1_001).contains(&took),
            "a pause saves up one second: {took} ms"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_item_is_not_stuck_and_others_wait_for_it() {
        let (pace, started) = (Pace::new(100), Instant::now());
        pace.take(400).await;
        assert!(started.elapsed() < Duration::from_millis(10));
        pace.take(1).await;
        let took = started.elapsed().as_millis();
        assert!((2_999..=4_001).contains(&took), "{took} ms");
    }
}
