//! Pauses between retries of one service: doubled from a second to five minutes, jittered, reset by success or by a
//! new spec.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(300);

/// The pauses of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    generation: i64,
}

impl Backoff {
    /// The next pause after a failure about this generation of the spec. `permille` (0..1000) is the dice: it takes up
    /// to half of the pause away, so that many services do not come back together.
    pub fn next(&mut self, generation: i64, permille: u32) -> Duration {
        if self.generation != generation {
            *self = Self {
                failures: 0,
                generation,
            };
        }
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        doubled - doubled / 2 * permille.min(999) / 1000
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the last attempt failed.
    pub fn is_waiting(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_five_minutes_and_starts_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..11).map(|_| backoff.next(1, 0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff.next(2, 0), Duration::from_secs(1), "a new spec");
        backoff.reset();
        assert!(!backoff.is_waiting());
        assert_eq!(backoff.next(2, 0), Duration::from_secs(1), "after a success");
    }

    #[test]
    fn jitter_takes_up_to_half() {
        let mut backoff = Backoff::default();
        let pause = backoff.next(1, 999);
        assert!(
            pause > Duration::from_millis(500) && pause < Duration::from_millis(502),
            "{pause:?}"
        );
    }
}
