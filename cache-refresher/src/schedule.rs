//! When the next pass begins: just after the vendor's next tick, as far as its own times tell, else after the
//! configured interval.
//!
//! The vendor stamps its prices by its own clock, and may show them long after that. What is between a tick's stamp and
//! its being seen, by our clock, is its lag; it is learned, and may be negative.

mod lag;
#[cfg(test)]
mod simulated;

use std::time::Duration;

use jiff::Timestamp;

use lag::Lag;

/// First wait after a failure; doubles with each further one.
const RETRY_BASE: Duration = Duration::from_secs(5);
/// Longest wait after failures: one small request a minute harms nobody, and prices are back soon after the vendor.
const RETRY_CAP: Duration = Duration::from_secs(60);
/// Replicas and deployments that started together drift apart by up to this much each time.
const JITTER_MAX: Duration = Duration::from_secs(2);
/// Prices of one tick carry times that differ by some milliseconds, and the vendor needs a moment to have them all.
const AFTER_TICK: Duration = Duration::from_secs(2);
/// A pass that still saw the old tick is repeated after this, and after longer each time, up to a tenth of the
/// interval, so many times.
const LATE_TICK_RETRY: Duration = Duration::from_secs(5);
const LATE_TICK_RETRIES_MAX: u32 = 10;
/// From the end of a pass until the last replica shows its snapshot.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
/// Between two passes at the interval, however old the snapshot is that the last one found.
const PAUSE_MIN: Duration = Duration::from_secs(5);

/// What the schedule learns from the pass that just ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended {
    /// A snapshot as young as was wanted is there.
    Well {
        /// The vendor's time of its newest price, where we know it.
        tick_at: Option<Timestamp>,
        /// When its crawl began; by somebody else perhaps.
        taken_at: Timestamp,
    },
    /// `retry_after` is what the vendor, or its breaker, asks for.
    Failed { retry_after: Option<Duration> },
}

/// The next pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next {
    /// From the start of the pass that just ended when it ended well, so that a slow crawl does not stretch the interval;
    /// from its end when it failed, so that a slow failure is no reason to come back at once.
    pub(crate) wait: Duration,
    /// A snapshot taken after this makes the pass unnecessary: the tick that it is for, as far as is known.
    pub(crate) younger_than: Timestamp,
}

pub(crate) struct Schedule {
    interval: Duration,
    failures: u32,
    /// The tick that the last good pass saw.
    tick: Option<Timestamp>,
    lag: Lag,
    /// Passes in a row that saw no newer one although it was due.
    late: u32,
    /// What the last pass was for; a retry is for the same.
    younger_than: Timestamp,
}

/// A good pass, as its times tell it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    tick: Timestamp,
    taken_at: Timestamp,
    started_at: Timestamp,
    now: Timestamp,
}

impl Schedule {
    /// Before the first pass nothing is known of the ticks: a snapshot of the last interval is young enough.
    pub(crate) fn new(interval: Duration, now: Timestamp) -> Self {
        Self {
            interval,
            failures: 0,
            tick: None,
            lag: Lag::new(interval),
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
            Ended::Well { tick_at, taken_at } => {
                self.failures = 0;
                let seen = tick_at.map(|tick| Seen {
                    tick,
                    taken_at,
                    started_at,
                    now,
                });
                let took = Duration::try_from(now.duration_since(started_at)).unwrap_or_default();
                let age = Duration::try_from(started_at.duration_since(taken_at)).unwrap_or_default();
                let next = seen
                    .and_then(|seen| self.after_tick(seen))
                    .unwrap_or_else(|| self.after_interval(taken_at, age, took));
                let next = self.in_time(next, taken_at, age, took);
                self.younger_than = next.younger_than;
                next
            }
            Ended::Failed { retry_after } => Next {
                wait: self.backoff(retry_after),
                younger_than: self.younger_than,
            },
        }
    }

    /// Without a guide: so that the next snapshot is shown an interval after this one was taken, by whomever. `age` is
    /// how old it was when the pass began, `took` how long the pass took.
    fn after_interval(&self, taken_at: Timestamp, age: Duration, took: Duration) -> Next {
        let wait = self
            .interval
            .saturating_sub(age + took + self.shown_within() + self.jitter_max());
        Next {
            wait: wait.max(PAUSE_MIN.min(self.interval)) + self.jitter(),
            // Passes of others count when they began well after the snapshot.
            younger_than: plus(taken_at, self.interval / 2),
        }
    }

    /// No snapshot is to be older than an interval when the next one is shown. Ticks are an interval apart, and a crawl
    /// takes its time: so there is a pass half-way when the one after the tick would come too late for that.
    fn in_time(&self, next: Next, taken_at: Timestamp, age: Duration, took: Duration) -> Next {
        let is_in_time = age + next.wait + took + self.shown_within() <= self.interval;
        let half_way = took + next.wait.saturating_sub(took) / 2;
        if is_in_time || half_way < took + PAUSE_MIN.min(self.interval / 4) {
            return next;
        }
        Next {
            wait: half_way,
            younger_than: taken_at,
        }
    }

    fn shown_within(&self) -> Duration {
        SHOWN_WITHIN.min(self.interval / 20)
    }

    fn jitter_max(&self) -> Duration {
        JITTER_MAX.min(self.interval / 20)
    }

    /// Just after the first tick that is still ahead; `None` when the vendor's times are no guide.
    fn after_tick(&mut self, seen: Seen) -> Option<Next> {
        let before = self.tick.replace(seen.tick);
        let age = seen.now.duration_since(seen.tick);
        if age.unsigned_abs() > self.interval * 2 {
            self.lag = Lag::new(self.interval);
            return None;
        }
        let is_new = before.is_none_or(|before| before < seen.tick);
        if is_new {
            self.late = 0;
            if self.lag.seen(seen.tick, seen.taken_at, seen.now) {
                // Its first prices would be a tick behind for a whole interval.
                return Some(self.soon(seen, AFTER_TICK.min(self.interval / 10)));
            }
        } else {
            self.lag.not_seen(seen.taken_at);
        }
        let expected = self.lag.expected(plus(seen.tick, self.interval));
        if !is_new && expected <= seen.started_at.max(seen.taken_at) {
            // The tick is overdue and was not there yet: look again soon, for a while.
            self.late += 1;
            let pause = (LATE_TICK_RETRY * self.late).min(self.interval / 10);
            return (self.late <= LATE_TICK_RETRIES_MAX).then(|| self.soon(seen, pause));
        }
        self.late = 0;
        // A slow crawl may have seen one tick begin and end.
        let due = expected.max(seen.now);
        let settle = AFTER_TICK.min(self.interval / 10) + self.jitter();
        let wait = Duration::try_from(due.duration_since(seen.started_at)).ok()? + settle;
        Some(Next {
            wait,
            younger_than: expected.max(seen.taken_at),
        })
    }

    /// A pass after a pause, for anything newer than what was seen.
    fn soon(&self, seen: Seen, pause: Duration) -> Next {
        let took = Duration::try_from(seen.now.duration_since(seen.started_at)).unwrap_or_default();
        Next {
            wait: took + pause + self.jitter(),
            younger_than: seen.taken_at.max(self.lag.shown(seen.tick)),
        }
    }

    fn jitter(&self) -> Duration {
        up_to(self.jitter_max())
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
            taken_at: at(started),
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
        // The pass after the next tick would show its prices when these are older than an interval.
        let (wait, younger_than) = well(&mut schedule, Some(300), 303, 310);
        assert!((152..=155).contains(&wait), "{wait}: half-way");
        assert_eq!(younger_than, 303);
        let (wait, for_tick) = well(&mut schedule, Some(300), 456, 460);
        assert!((146..=149).contains(&wait), "{wait}");
        assert_eq!(for_tick, 600);
    }

    #[test]
    fn a_tick_that_is_late_is_looked_for_again_and_then_left_to_the_interval() {
        let mut schedule = Schedule::new(INTERVAL, at(0));
        well(&mut schedule, Some(0), 40, 45);
        for (round, full) in [5, 10, 15, 20, 25, 30, 30, 30, 30, 30].into_iter().enumerate() {
            let (wait, for_tick) = well(&mut schedule, Some(0), 303, 304);
            // The pass took one second of it.
            assert!((full + 1..=full + 3).contains(&wait), "round {round}: {wait}");
            assert_eq!(for_tick, 303);
        }
        let (wait, _) = well(&mut schedule, Some(0), 340, 341);
        assert!((295..=297).contains(&wait), "{wait}");
    }

    #[test]
    fn a_crawl_that_may_have_seen_two_ticks_is_repeated_once() {
        let mut schedule = Schedule::new(INTERVAL, at(0));
        well(&mut schedule, Some(0), 40, 45);
        let (wait, younger_than) = well(&mut schedule, Some(300), 298, 310);
        assert!((14..=16).contains(&wait), "{wait}: soon after its end");
        assert!(younger_than >= 299, "what was taken then is not enough");
        let (wait, _) = well(&mut schedule, Some(300), 323, 330);
        assert!((278..=281).contains(&wait), "{wait}: at the next tick");
    }

    #[test]
    fn the_interval_counts_from_the_snapshot_that_was_found() {
        let mut schedule = Schedule::new(INTERVAL, at(0));
        for (taken_at, expected) in [(-200, 95), (-299, 5), (0, 295), (10, 295)] {
            let ended = Ended::Well {
                tick_at: None,
                taken_at: at(taken_at),
            };
            let wait = schedule.next(ended, at(0), at(1)).wait.as_secs();
            assert!((expected..=expected + 2).contains(&wait), "{taken_at}: {wait}");
        }
    }

    #[test]
    fn a_vendor_whose_clock_is_no_guide_is_asked_at_the_interval() {
        for tick in [None, Some(-700), Some(1_000_000)] {
            let mut schedule = Schedule::new(INTERVAL, at(0));
            for _ in 0..100 {
                let (wait, for_tick) = well(&mut schedule, tick, 0, 1);
                assert!((295..=297).contains(&wait), "{tick:?}: {wait}");
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
