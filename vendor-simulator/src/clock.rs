//! The price clock: counts ticks and tells the time of any of them, virtual or real.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::stocks::{LAG_MS_MAX, TICK_SECS};

/// What the ticks' times are.
#[derive(Debug, Clone, Copy)]
enum Times {
    /// Five virtual minutes apart; no real clock is read.
    Virtual { epoch: Timestamp },
    /// The real time at which the current tick began; earlier ones lie `every_ms` apart.
    Wall { tick_at: Timestamp, every_ms: i64 },
}

/// Counts ticks; tells the time of any tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    times: Times,
    tick: i64,
}

impl Clock {
    pub(crate) fn new(epoch: Timestamp) -> Self {
        Self {
            times: Times::Virtual { epoch },
            tick: 0,
        }
    }

    /// Tick 0 began at the last boundary before `now`.
    pub(crate) fn on_the_wall(every: Duration, now: Timestamp) -> Self {
        let tick_at = Boundaries::new(every).last(now);
        Self {
            times: Times::Wall {
                tick_at,
                every_ms: millis(every),
            },
            tick: 0,
        }
    }

    pub(crate) fn tick(&self) -> i64 {
        self.tick
    }

    /// `now` is asked for by a clock on the wall only: the tick began so shortly before it that no item's time lies ahead.
    pub(crate) fn advance(&mut self, by: u32, now: impl FnOnce() -> Timestamp) {
        self.tick += i64::from(by);
        if let Times::Wall { tick_at, .. } = &mut self.times
            && by > 0
        {
            *tick_at = plus_ms(now(), -LAG_MS_MAX).max(*tick_at);
        }
    }

    /// The next tick, which began at this boundary.
    pub(crate) fn advance_to(&mut self, boundary: Timestamp) {
        self.advance(1, || plus_ms(boundary, LAG_MS_MAX));
    }

    /// When a tick began, so many ticks ago.
    pub(crate) fn began(&self, ticks_ago: i64) -> Timestamp {
        match self.times {
            Times::Virtual { epoch } => {
                let tick = self.tick.saturating_sub(ticks_ago);
                plus_ms(epoch, tick.saturating_mul(TICK_SECS * 1000))
            }
            Times::Wall { tick_at, every_ms } => plus_ms(tick_at, -ticks_ago.saturating_mul(every_ms)),
        }
    }

    /// ISO 8601 in UTC with milliseconds, as the vendor writes it.
    pub(crate) fn last_updated(&self, ticks_ago: i64, lag_ms: i64) -> String {
        let at = plus_ms(self.began(ticks_ago), lag_ms);
        at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
    }
}

/// The whole multiples of an interval on the real clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Boundaries {
    every_ms: i64,
}

impl Boundaries {
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every_ms: millis(every),
        }
    }

    /// The last one whose tick is in force at `now`: the items' times follow a boundary by up to the longest lag, so it takes effect after
    /// that.
    pub(crate) fn last(self, now: Timestamp) -> Timestamp {
        let ms = now.as_millisecond().saturating_sub(LAG_MS_MAX);
        Timestamp::from_millisecond(ms - ms.rem_euclid(self.every_ms)).unwrap_or(now)
    }

    /// The one after it, and how long until it takes effect.
    pub(crate) fn next(self, now: Timestamp) -> (Timestamp, Duration) {
        let next = plus_ms(self.last(now), self.every_ms);
        let wait = plus_ms(next, LAG_MS_MAX).duration_since(now);
        (next, Duration::try_from(wait).unwrap_or(Duration::ZERO))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1)
}

fn plus_ms(at: Timestamp, ms: i64) -> Timestamp {
    let limit = if ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    at.checked_add(SignedDuration::from_millis(ms)).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    const EVERY: Duration = Duration::from_secs(300);

    #[test]
    fn virtual_ticks_are_five_minutes_apart() {
        let mut clock = Clock::new(time("2026-01-05T14:30:00Z"));
        clock.advance(2, || panic!("no real clock is read"));
        assert_eq!(clock.last_updated(0, 7), "2026-01-05T14:40:00.007Z");
        assert_eq!(clock.last_updated(1, 0), "2026-01-05T14:35:00.000Z");
    }

    #[test]
    fn a_clock_on_the_wall_starts_at_the_boundary_that_is_in_force() {
        let clock = Clock::on_the_wall(EVERY, time("2026-01-05T14:33:20Z"));
        assert_eq!(clock.last_updated(0, 0), "2026-01-05T14:30:00.000Z");
        // The items' times of 14:35 reach up to 14:35:00.899.
        let clock = Clock::on_the_wall(EVERY, time("2026-01-05T14:35:00.500Z"));
        assert_eq!(clock.last_updated(0, 0), "2026-01-05T14:30:00.000Z");
    }

    #[test]
    fn ticks_take_effect_when_no_item_is_ahead_of_the_clock() {
        let boundaries = Boundaries::new(EVERY);
        let (boundary, wait) = boundaries.next(time("2026-01-05T14:33:20Z"));
        assert_eq!(boundary, time("2026-01-05T14:35:00Z"));
        assert_eq!(wait, Duration::from_millis(100_900));
        let (boundary, wait) = boundaries.next(time("2026-01-05T14:35:00.900Z"));
        assert_eq!(boundary, time("2026-01-05T14:40:00Z"));
        assert_eq!(wait, Duration::from_secs(300));
    }

    #[test]
    fn a_tick_by_command_is_as_old_as_the_command() {
        let mut clock = Clock::on_the_wall(EVERY, time("2026-01-05T14:33:20Z"));
        clock.advance(1, || time("2026-01-05T14:34:00.900Z"));
        assert_eq!((clock.tick(), clock.began(0)), (1, time("2026-01-05T14:34:00Z")));
        clock.advance_to(time("2026-01-05T14:35:00Z"));
        assert_eq!((clock.tick(), clock.began(0)), (2, time("2026-01-05T14:35:00Z")));
        clock.advance(0, || panic!("nothing happens"));
    }
}
