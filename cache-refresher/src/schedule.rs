//! When the next pass begins: just after the vendor's next tick, as far as its own times tell, else after the
//! configured interval.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// First wait after a failure; doubles with each further one.
const RETRY_BASE: Duration = Duration::from_secs(5);
/// Longest wait after failures: one small request a minute harms nobody, and prices are back soon after the vendor.
const RETRY_CAP: Duration = Duration::from_secs(60);
/// Replicas and deployments that started together drift apart by up to this much each time.
const JITTER_MAX: Duration = Duration::from_secs(2);
/// Prices of one tick carry times that differ by some milliseconds, and the vendor needs a moment to have them all.
const AFTER_TICK: Duration = Duration::from_secs(2);
/// A pass that still saw the old tick is repeated after this, a few times.
const LATE_TICK_RETRY: Duration = Duration::from_secs(5);
const LATE_TICK_RETRIES_MAX: u32 = 3;
/// The vendor's clock is believed when its newest price is not further ahead of ours than this.
const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(5);

/// What the schedule learns from the pass that just ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended {
    /// A snapshot as young as was wanted is there. `tick_at`: the vendor's time of its newest price, where we know it.
    Well { tick_at: Option<Timestamp> },
    /// `retry_after` is what the vendor, or its breaker, asks for.
    Failed { retry_after: Option<Duration> },
}

/// The next pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next {
    /// From the start of the pass that just ended.
    pub(crate) wait: Duration,
    /// A snapshot taken after this makes the pass unnecessary: the tick that it is for, as far as is known.
    pub(crate) younger_than: Timestamp,
}

pub(crate) struct Schedule {
    interval: Duration,
    failures: u32,
    /// The tick that the last good pass saw.
    tick: Option<Timestamp>,
    /// Passes in a row that saw no newer one although it was due.
    late: u32,
    /// What the last pass was for; a retry is for the same.
    younger_than: Timestamp,
}

impl Schedule {
    /// Before the first pass nothing is known of the ticks: a snapshot of the last interval is young enough.
    pub(crate) fn new(interval: Duration, now: Timestamp) -> Self {
        Self {
            interval,
            failures: 0,
            tick: None,
            late: 0,
            younger_than: now.checked_sub(interval).unwrap_or(Timestamp::MIN),
        }
    }

    /// A snapshot taken after this makes the coming pass unnecessary.
    pub(crate) fn younger_than(&self) -> Timestamp {
        self.younger_than
    }

    /// `started_at` is when the pass began that just `ended`, `now` is now.
    pub(crate) fn next(&mut self, ended: Ended, started_at: Timestamp, now: Timestamp) -> Next {
        match ended {
            Ended::Well { tick_at } => {
                self.failures = 0;
                let next = self.after_tick(tick_at, started_at, now).unwrap_or_else(|| Next {
                    wait: self.interval + up_to(JITTER_MAX.min(self.interval / 20)),
                    // Passes of others count when they began well after ours.
                    younger_than: plus(started_at, self.interval / 2),
                });
                self.younger_than = next.younger_than;
                next
            }
            Ended::Failed { retry_after } => Next {
                wait: self.backoff(retry_after),
                younger_than: self.younger_than,
            },
        }
    }

    /// Just after the first tick that is still ahead; `None` when the vendor's times are no guide.
    fn after_tick(
        &mut self,
        tick_at: Option<Timestamp>,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Option<Next> {
        let tick = tick_at?;
        let age = now.duration_since(tick);
        let before = self.tick.replace(tick);
        if age < -AHEAD_MAX || age > SignedDuration::try_from(self.interval * 2).ok()? {
            return None;
        }
        let expected = plus(tick, self.interval);
        if expected <= started_at && before.is_none_or(|before| before >= tick) {
            // The tick is overdue and was not there yet: look again soon, for a while.
            self.late += 1;
            if self.late > LATE_TICK_RETRIES_MAX {
                return None;
            }
            return Some(Next {
                wait: (LATE_TICK_RETRY * self.late).min(self.interval)
                    + up_to(JITTER_MAX.min(self.interval / 20)),
                younger_than: started_at,
            });
        }
        self.late = 0;
        // A slow crawl may have seen one tick begin and end.
        let due = if expected <= now { now } else { expected };
        let settle = AFTER_TICK.min(self.interval / 10) + up_to(JITTER_MAX.min(self.interval / 20));
        let wait = Duration::try_from(due.duration_since(started_at)).ok()? + settle;
        Some(Next {
            wait,
            younger_than: expected.max(started_at),
        })
    }

    fn backoff(&mut self, retry_after: Option<Duration>) -> Duration {
        let cap = RETRY_CAP.min(self.interval);
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let backoff = RETRY_BASE.saturating_mul(factor).min(cap);
        // Half fixed, half random: never at once, never all together.
        let wait = backoff / 2 + up_to(backoff / 2);
        wait.max(retry_after.unwrap_or_default()).min(self.interval)
    }
}

fn plus(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn up_to(longest: Duration) -> Duration {
    Duration::from_millis(rand::random_range(0..=super::millis(longest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);
    const START: i64 = 1_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(START + second).expect("a time")
    }

    fn well(schedule: &mut Schedule, tick: Option<i64>, started: i64, now: i64) -> (u64, i64) {
        let ended = Ended::Well {
            tick_at: tick.map(at),
        };
        let next = schedule.next(ended, at(started), at(now));
        (next.wait.as_secs(), next.younger_than.as_second() - START)
    }

    fn failed(schedule: &mut Schedule, retry_after: Option<u64>) -> u64 {
        let retry_after = retry_after.map(Duration::from_secs);
        let next = schedule.next(Ended::Failed { retry_after }, at(0), at(1));
        next.wait.as_secs()
    }

    #[test]
    fn a_good_pass_is_followed_just_after_the_next_tick() {
        let mut schedule = Schedule::new(INTERVAL, at(0));
        for _ in 0..100 {
            let (wait, for_tick) = well(&mut schedule, Some(0), 40, 45);
            assert!(
                (262..=264).contains(&wait),
                "{wait}: tick at 300, pass at 302 to 304"
            );
            assert_eq!(for_tick, 300);
        }
        let (wait, _) = well(&mut schedule, Some(300), 303, 310);
        assert!((299..=301).contains(&wait), "{wait}");
    }

    #[test]
    fn a_tick_that_is_late_is_looked_for_again_and_then_left_to_the_interval() {
        let mut schedule = Schedule::new(INTERVAL, at(0));
        well(&mut schedule, Some(0), 40, 45);
        for (round, full) in [5, 10, 15].into_iter().enumerate() {
            let (wait, for_tick) = well(&mut schedule, Some(0), 303, 304);
            assert!((full..=full + 2).contains(&wait), "round {round}: {wait}");
            assert_eq!(for_tick, 303);
        }
        let (wait, _) = well(&mut schedule, Some(0), 340, 341);
        assert!((300..=302).contains(&wait), "{wait}");
        let (wait, _) = well(&mut schedule, Some(600), 640, 641);
        assert!((262..=264).contains(&wait), "a new tick is a guide again: {wait}");
    }

    #[test]
    fn a_vendor_whose_clock_is_no_guide_is_asked_at_the_interval() {
        for tick in [None, Some(-700), Some(1_000_000)] {
            let mut schedule = Schedule::new(INTERVAL, at(0));
            for _ in 0..100 {
                let (wait, for_tick) = well(&mut schedule, tick, 0, 1);
                assert!((300..=302).contains(&wait), "{tick:?}: {wait}");
                assert_eq!(for_tick, 150);
            }
        }
    }

    #[test]
    fn a_crawl_longer_than_a_tick_is_followed_at_once_by_one_pass() {
        let mut schedule = Schedule::new(INTERVAL, at(0));
        let (wait, _) = well(&mut schedule, Some(0), 10, 400);
        assert!((392..=394).contains(&wait), "{wait}: from the start of the pass");
    }

    #[test]
    fn a_retry_is_for_what_the_failed_pass_was_for() {
        let mut schedule = Schedule::new(INTERVAL, at(0));
        failed(&mut schedule, None);
        assert_eq!(schedule.younger_than(), at(-300));
        well(&mut schedule, Some(0), 40, 45);
        failed(&mut schedule, None);
        assert_eq!(schedule.younger_than(), at(300));
    }

    #[test]
    fn failures_are_followed_sooner_with_growing_waits() {
        let mut schedule = Schedule::new(INTERVAL, at(0));
        for full in [5, 10, 20, 40, 60, 60] {
            let wait = failed(&mut schedule, None);
            assert!((full / 2..=full).contains(&wait), "{wait} of {full}");
        }
        well(&mut schedule, None, 0, 1);
        assert!(failed(&mut schedule, None) <= 5, "a success forgets the failures");
    }

    #[test]
    fn no_wait_is_longer_than_the_interval_and_the_vendor_is_heard() {
        let mut schedule = Schedule::new(Duration::from_secs(1), at(0));
        assert!(failed(&mut schedule, None) <= 1);
        assert_eq!(failed(&mut schedule, Some(90)), 1);
        let mut schedule = Schedule::new(INTERVAL, at(0));
        assert_eq!(failed(&mut schedule, Some(90)), 90);
    }
}
