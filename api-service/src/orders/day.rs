//! Days as the limits of keys count them: in UTC, from midnight to midnight.

use jiff::Timestamp;
use uuid::Uuid;

const DAY_SECS: i64 = 86_400;

/// The day that a moment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    begins_at_secs: i64,
}

impl Day {
    /// The day of `at`.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        // Not as_second(): that cuts towards zero.
        let secs = at.as_millisecond().div_euclid(1000);
        Self {
            begins_at_secs: secs - secs.rem_euclid(DAY_SECS),
        }
    }

    /// When the next day begins; at the end of the calendar its last moment.
    #[must_use]
    pub fn ends_at(self) -> Timestamp {
        Timestamp::from_second(self.begins_at_secs + DAY_SECS).unwrap_or(Timestamp::MAX)
    }

    /// Whole seconds from `at` to the next day, rounded up.
    #[must_use]
    pub fn secs_left(self, at: Timestamp) -> u64 {
        let millis = self
            .ends_at()
            .as_millisecond()
            .saturating_sub(at.as_millisecond());
        u64::try_from(millis).unwrap_or(0).div_ceil(1000).max(1)
    }

    /// The smallest UUIDv7 of the day: ids of orders sort by time, so whatever was placed today is not below it.
    #[must_use]
    pub fn first_id(self) -> Uuid {
        fuse_ledger::first_order_id(Timestamp::from_second(self.begins_at_secs).unwrap_or(Timestamp::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_day_is_from_midnight_to_midnight_in_utc() {
        let noon = Day::of(at("2026-11-25T12:00:00.5Z"));
        assert_eq!(noon.ends_at(), at("2026-11-26T00:00:00Z"));
        assert_eq!(noon, Day::of(at("2026-11-25T00:00:00Z")));
        assert_eq!(noon, Day::of(at("2026-11-25T23:59:59.999999Z")));
        assert_ne!(noon, Day::of(at("2026-11-26T00:00:00Z")));
        assert_eq!(noon.secs_left(at("2026-11-25T12:00:00.5Z")), 43_200);
        assert_eq!(noon.secs_left(at("2026-11-25T23:59:59.999999Z")), 1);
        assert_eq!(noon.secs_left(at("2026-11-25T00:00:00Z")), 86_400);
    }

    #[test]
    fn ids_of_a_day_are_not_below_its_first() {
        let midnight = at("2026-11-25T00:00:00Z");
        let first = Day::of(midnight).first_id();
        let id = |millis: i64, random: u8| {
            let millis = u64::try_from(midnight.as_millisecond() + millis).expect("after 1970");
            uuid::Builder::from_unix_timestamp_millis(millis, &[random; 10]).into_uuid()
        };
        assert_eq!(first.to_string(), "01a21000-8800-7000-8000-000000000000");
        assert!(id(-1, 255) < first && first <= id(0, 0) && first < id(0, 255));
    }
}
