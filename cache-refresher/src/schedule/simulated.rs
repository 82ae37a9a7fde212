//! Two days of ticks by a clock that the test holds.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Ended, Schedule};

const INTERVAL_MS: i64 = 300_000;
const TICKS: i64 = 600;
/// By then the lag is known.
const LEARNED: i64 = 100;
/// A crawl takes this long.
const CRAWL_MS: i64 = 4_000;

#[derive(Debug)]
struct Run {
    passes_per_interval: f64,
    /// How long after it was shown the newest tick was served at last, once the lag was known, at most and on average.
    behind_max: i64,
    behind_mean: i64,
    /// The age of what is served, at most.
    age_max: i64,
}

/// `stamp` gives the vendor's time of a tick that is shown at a time; both in milliseconds.
fn run(interval_ms: u64, first_at: i64, stamp: impl Fn(i64) -> i64) -> Run {
    let at = |ms: i64| Timestamp::from_millisecond(1_000_000_000_000 + ms).expect("a time");
    let mut schedule = Schedule::new(Duration::from_millis(interval_ms), at(first_at));
    let (mut now, mut passes, mut served) = (first_at, 0, 0);
    let (mut behind_max, mut behind_sum) = (0, 0);
    let (mut taken_at, mut age_max) = (first_at, 0);
    while now < TICKS * INTERVAL_MS {
        let started = now;
        now += CRAWL_MS;
        passes += 1;
        age_max = age_max.max(now - taken_at);
        taken_at = started;
        // The prices of a crawl are only all of the tick that was there when it began.
        let (whole, newest) = (started.div_euclid(INTERVAL_MS), now.div_euclid(INTERVAL_MS));
        if whole > served {
            if whole > LEARNED {
                let behind = now - whole * INTERVAL_MS;
                behind_max = behind_max.max(behind);
                behind_sum += behind;
            }
            assert!(whole <= served + 2, "ticks {served} to {whole} were missed");
            served = whole;
        }
        let ended = Ended::Well {
            tick_at: Some(at(stamp(newest * INTERVAL_MS))),
            taken_at: at(started),
        };
        let next = schedule.next(ended, at(started), at(now));
        let wait = SignedDuration::try_from(next.wait).expect("short");
        now = now.max(started + i64::try_from(wait.as_millis()).expect("short"));
    }
    Run {
        passes_per_interval: f64::from(passes) / TICKS as f64,
        behind_max,
        behind_mean: behind_sum / (TICKS - LEARNED),
        age_max,
    }
}

#[test]
fn ticks_are_served_soon_whatever_the_vendors_clock_says() {
    for lag_ms in [0, 20_000, 100_000, 290_000, -60_000, -200_000] {
        for first_at in [1_000, 70_000, 150_000, 250_000, 299_000] {
            let run = run(300_000, first_at, |shown| shown - lag_ms);
            println!("lag {lag_ms}, first {first_at}: {run:?}");
            assert!(run.passes_per_interval < 2.5, "{lag_ms} {first_at}: {run:?}");
            assert!(run.behind_max <= 30_000, "{lag_ms} {first_at}: {run:?}");
            assert!(run.behind_mean <= 20_000, "{lag_ms} {first_at}: {run:?}");
            assert!(run.age_max <= 300_000, "{lag_ms} {first_at}: {run:?}");
        }
    }
}

#[test]
fn times_that_stand_still_or_jump_cost_few_passes() {
    let frozen = run(300_000, 70_000, |_| 0);
    assert!(frozen.passes_per_interval < 1.1, "{frozen:?}");
    assert!(frozen.age_max <= 300_000, "{frozen:?}");
    // A lag that changes for good, in either direction, is learned again.
    for (before, after) in [(0, 120_000), (120_000, 0), (-60_000, 30_000)] {
        let jumped = run(300_000, 70_000, |shown| {
            shown - if shown < 50 * INTERVAL_MS { before } else { after }
        });
        println!("{before} to {after}: {jumped:?}");
        assert!(jumped.passes_per_interval < 2.5, "{jumped:?}");
        assert!(jumped.behind_max <= 30_000, "{before} to {after}: {jumped:?}");
    }
}

#[test]
fn an_interval_shorter_than_the_vendors_keeps_the_age_within_the_vendors() {
    for first_at in [1_000, 70_000, 299_000] {
        let run = run(240_000, first_at, |shown| shown);
        println!("{run:?}");
        assert!(run.age_max <= 300_000, "{run:?}");
        assert!(run.behind_max <= 40_000, "{run:?}");
        assert!(run.passes_per_interval < 8.0, "{run:?}");
    }
}
