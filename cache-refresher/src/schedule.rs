//! When the next pass begins.

use std::time::Duration;

/// First wait after a failure; doubles with each further one.
const RETRY_BASE: Duration = Duration::from_secs(5);
/// Longest wait after failures: one small request a minute harms nobody, and prices are back soon after the vendor.
const RETRY_CAP: Duration = Duration::from_secs(60);
/// Replicas and deployments that started together drift apart by up to this much each time.
const JITTER_MAX: Duration = Duration::from_secs(2);

pub(crate) struct Schedule {
    interval: Duration,
    failures: u32,
}

impl Schedule {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            failures: 0,
        }
    }

    /// Time from the start of the pass that just ended to the start of the next one. `retry_after` is what the vendor,
    /// or its breaker, asks for.
    pub(crate) fn next(&mut self, succeeded: bool, retry_after: Option<Duration>) -> Duration {
        if succeeded {
            self.failures = 0;
            return self.interval + up_to(JITTER_MAX.min(self.interval / 20));
        }
        let cap = RETRY_CAP.min(self.interval);
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let backoff = RETRY_BASE.saturating_mul(factor).min(cap);
        // Half fixed, half random: never at once, never all together.
        let wait = backoff / 2 + up_to(backoff / 2);
        wait.max(retry_after.unwrap_or_default()).min(self.interval)
    }
}

fn up_to(longest: Duration) -> Duration {
    Duration::from_millis(rand::random_range(0..=super::millis(longest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    fn secs(duration: Duration) -> u64 {
        duration.as_secs()
    }

    #[test]
    fn a_good_pass_is_followed_after_the_interval() {
        let mut schedule = Schedule::new(INTERVAL);
        for _ in 0..100 {
            assert!((300..=302).contains(&secs(schedule.next(true, None))));
        }
    }

    #[test]
    fn failures_are_followed_sooner_with_growing_waits() {
        let mut schedule = Schedule::new(INTERVAL);
        for full in [5, 10, 20, 40, 60, 60] {
            let wait = secs(schedule.next(false, None));
            assert!((full / 2..=full).contains(&wait), "{wait} of {full}");
        }
        schedule.next(true, None);
        assert!(
            secs(schedule.next(false, None)) <= 5,
            "a success forgets the failures"
        );
    }

    #[test]
    fn no_wait_is_longer_than_the_interval_and_the_vendor_is_heard() {
        let mut schedule = Schedule::new(Duration::from_secs(1));
        assert!(schedule.next(false, None) <= Duration::from_secs(1));
        assert_eq!(secs(schedule.next(false, Some(Duration::from_secs(90)))), 1);
        let mut schedule = Schedule::new(INTERVAL);
        assert_eq!(secs(schedule.next(false, Some(Duration::from_secs(90)))), 90);
    }
}
