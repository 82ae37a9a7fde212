//! The virtual price clock.

use jiff::{SignedDuration, Timestamp};

use crate::stocks::TICK_SECS;

/// Counts ticks; tells the virtual time of any tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    epoch: Timestamp,
    tick: i64,
}

impl Clock {
    pub(crate) fn new(epoch: Timestamp) -> Self {
        Self { epoch, tick: 0 }
    }

    pub(crate) fn tick(self) -> i64 {
        self.tick
    }

    pub(crate) fn advance(&mut self, by: u32) {
        self.tick += i64::from(by);
    }

    /// ISO 8601 in UTC with milliseconds, as the vendor writes it.
    pub(crate) fn last_updated(self, lag_ms: i64) -> String {
        let after = SignedDuration::from_secs(self.tick.saturating_mul(TICK_SECS))
            + SignedDuration::from_millis(lag_ms);
        let at = self.epoch.checked_add(after).unwrap_or(Timestamp::MAX);
        at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
    }
}
