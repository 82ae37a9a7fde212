//! Which successful reads leave a line in the log: all of them up to a rate, a known share of them beyond it.
//!
//! Errors and writes do not come here: they always leave their line.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long one count lasts.
const WINDOW: Duration = Duration::from_secs(1);

/// Decides per read; shared by all requests.
pub struct ReadSample {
    lines_per_window: u64,
    window: Mutex<Window>,
}

struct Window {
    since: Instant,
    /// Every n-th read is written, so that a sample is spread over the whole window.
    every: u64,
    count: Share,
}

/// What became of the reads of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Successful reads.
    pub seen: u64,
    /// Of those, with a line.
    pub written: u64,
}

/// What to do with one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it leaves a line.
    pub write: bool,
    /// The window that just ended, when it left reads out: to be told once.
    pub sampled: Option<Share>,
}

impl ReadSample {
    /// At most so many lines a second.
    #[must_use]
    pub fn new(lines_per_sec: u64) -> Self {
        Self {
            lines_per_window: lines_per_sec.max(1),
            window: Mutex::new(Window {
                since: Instant::now(),
                every: 1,
                count: Share::default(),
            }),
        }
    }

    /// One more successful read.
    pub fn count(&self, now: Instant) -> Verdict {
        let mut window = self.lock();
        let sampled = self.turn(&mut window, now);
        let is_due = window.count.seen.is_multiple_of(window.every);
        // The rate may have grown since the share was reckoned; the bound holds all the same.
        let write = is_due && window.count.written < self.lines_per_window;
        window.count.seen += 1;
        window.count.written += u64::from(write);
        Verdict { write, sampled }
    }

    /// Begins a new window when the last one is over; gives that one when it left something out.
    fn turn(&self, window: &mut Window, now: Instant) -> Option<Share> {
        let passed = now.saturating_duration_since(window.since);
        if passed < WINDOW {
            return None;
        }
        let ended = window.count;
        // After a pause the last rate says nothing.
        let is_going_on = passed < 2 * WINDOW;
        *window = Window {
            since: now,
            every: if is_going_on {
                ended.seen.div_ceil(self.lines_per_window).max(1)
            } else {
                1
            },
            count: Share::default(),
        };
        (ended.written < ended.seen).then_some(ended)
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_reads_all_leave_a_line_and_many_a_known_share() {
        let sample = ReadSample::new(10);
        let start = Instant::now();
        // Reads spread over one second; gives lines written and what was told of the second before.
        let second = |number: u64, reads: u64| {
            let at = |read: u64| {
                start
                    + WINDOW * u32::try_from(number).expect("small")
                    + WINDOW / 1_000 * u32::try_from(read).expect("small")
            };
            let verdicts: Vec<_> = (0..reads).map(|read| sample.count(at(read))).collect();
            let written = verdicts.iter().filter(|verdict| verdict.write).count();
            let told = verdicts
                .iter()
                .filter_map(|verdict| verdict.sampled)
                .collect::<Vec<_>>();
            let last = verdicts.iter().rposition(|verdict| verdict.write);
            (written, told, last)
        };
        assert_eq!(second(0, 10), (10, vec![], Some(9)));
        assert_eq!(
            second(1, 100),
            (10, vec![], Some(9)),
            "the bound holds in a burst"
        );
        let share = |seen, written| Share { seen, written };
        assert_eq!(
            second(2, 100),
            (10, vec![share(100, 10)], Some(90)),
            "then it is spread"
        );
        assert_eq!(second(3, 5), (1, vec![share(100, 10)], Some(0)));
        assert_eq!(second(4, 5), (5, vec![share(5, 1)], Some(4)));
        assert_eq!(second(5, 200).0, 10);
        assert_eq!(
            second(9, 10),
            (10, vec![share(200, 10)], Some(9)),
            "nothing is left out after a pause"
        );
    }
}
