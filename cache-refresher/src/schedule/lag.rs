//! How long after its own time a tick is shown.
//!
//! It lies between the last look that did not see a tick and the end of the first that did. It is taken for the most
//! that it may be, so that a crawl that begins after it sees the tick on all pages; and now and then a pass begins
//! earlier, to see whether it is less.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Ticks between two early looks: at first, and when they keep being in vain.
const EARLY_EVERY: u32 = 4;
const EARLY_EVERY_MAX: u32 = 32;
/// An early look was of use when the lag turned out to be less by this.
const OF_USE: SignedDuration = SignedDuration::from_secs(5);

pub(super) struct Lag {
    /// At most; by our clock, so negative when the vendor's is ahead.
    lag: SignedDuration,
    /// When the last good pass began.
    looked_at: Option<Timestamp>,
    /// How much earlier an early look is.
    earlier: Duration,
    /// Whether the next look is one.
    is_early: bool,
    early_every: u32,
    early_in: u32,
}

impl Lag {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            lag: SignedDuration::ZERO,
            looked_at: None,
            earlier: interval / 10,
            is_early: false,
            early_every: EARLY_EVERY,
            early_in: EARLY_EVERY,
        }
    }

    /// A pass that began and ended then saw no newer tick than the one before.
    pub(super) fn not_seen(&mut self, taken_at: Timestamp) {
        self.looked_at = Some(taken_at);
    }

    /// A pass that began and ended then saw a new tick. Says whether its first pages may be of the tick before.
    pub(super) fn seen(&mut self, tick: Timestamp, taken_at: Timestamp, now: Timestamp) -> bool {
        let before = self.lag;
        let at_most = now.duration_since(tick);
        let is_more = self
            .looked_at
            .is_some_and(|looked_at| looked_at.duration_since(tick) > before);
        self.lag = if is_more { at_most } else { before.min(at_most) };
        if self.lag < before - OF_USE {
            (self.early_every, self.early_in) = (1, 0);
        } else if self.is_early {
            self.early_every = (self.early_every * 2).min(EARLY_EVERY_MAX);
            self.early_in = self.early_every;
        }
        self.is_early = self.early_in == 0;
        self.early_in = self.early_in.saturating_sub(1);
        self.looked_at = Some(taken_at);
        is_more || taken_at.duration_since(tick) < before
    }

    /// When a tick is there for certain.
    pub(super) fn shown(&self, tick: Timestamp) -> Timestamp {
        tick.saturating_add(self.lag).unwrap_or(tick)
    }

    /// When to look for a tick.
    pub(super) fn expected(&self, tick: Timestamp) -> Timestamp {
        let earlier = if self.is_early {
            self.earlier
        } else {
            Duration::ZERO
        };
        let shown = self.shown(tick);
        shown.checked_sub(earlier).unwrap_or(shown)
    }
}
