//! Looks at every answer of one replica, in order: status, age, marks. One connection, so that the answers come in the
//! order in which they were made.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use fuse_harness::load::{self, Pace, Plan, Reply, Running, Target, Until};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Longer than any test; a watch is stopped by its test.
const LONGEST: Duration = Duration::from_secs(600);
const PER_SECOND: f64 = 50.0;

/// What was last seen, over all replicas that share it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Id of the snapshot.
    pub snapshot: String,
    /// Its time.
    pub taken_at: Option<Timestamp>,
    /// When the prices are expected to change next.
    pub next_tick_at: Option<Timestamp>,
    /// Its age in the answer.
    pub age: u64,
    /// Whether the answer was marked.
    pub stale: bool,
}

/// What is configured of the marks.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// Prices are stale when they are older than this.
    pub stale_after_secs: u64,
    /// Between two changes of the prices.
    pub interval_secs: u64,
}

/// What watches share: the newest view, and how many answers were looked at.
#[derive(Debug, Default)]
pub struct Record {
    seen: Mutex<Seen>,
    answers: AtomicU64,
}

impl Record {
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches one replica until stopped. `before` is what was seen of it earlier: it must not fall behind that.
pub fn start(target: &Target, before: &Arc<Record>, rhythm: Rhythm) -> Result<Running> {
    let record = Arc::clone(before);
    load::start(
        std::slice::from_ref(target),
        &Plan {
            connections: 1,
            pace: Pace::PerSecond(PER_SECOND),
            until: Until::Elapsed(LONGEST),
            inspect: Some(Arc::new(move |reply| look(reply, &record, rhythm))),
        },
    )
}

fn look(reply: &Reply<'_>, record: &Record, rhythm: Rhythm) -> Result<(), String> {
    let now = Timestamp::now();
    if reply.status != 200 {
        return Err(format!(
            "{}: {}",
            reply.status,
            String::from_utf8_lossy(reply.body)
        ));
    }
    let body: Value = serde_json::from_slice(reply.body).map_err(|error| error.to_string())?;
    let snapshot = &body["snapshot"];
    let seen = parse(snapshot).ok_or_else(|| format!("no age, mark or tick: {snapshot}"))?;
    let age_header = reply.header("age").and_then(|age| age.parse().ok());
    check(&seen, age_header, now, reply.waited, rhythm).map_err(|what| format!("{what}: {snapshot}"))?;
    let mut last = record.lock();
    follows(&last, &seen, rhythm).map_err(|what| format!("{what}: {last:?}, then {snapshot}"))?;
    *last = seen;
    record.answers.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn parse(snapshot: &Value) -> Option<Seen> {
    Some(Seen {
        snapshot: snapshot["id"].as_str()?.to_owned(),
        taken_at: Some(snapshot["takenAt"].as_str()?.parse().ok()?),
        next_tick_at: Some(snapshot["nextTickAt"].as_str()?.parse().ok()?),
        age: snapshot["ageSeconds"].as_u64()?,
        stale: snapshot["stale"].as_bool()?,
    })
}

/// The service's clock is ours: the age must be that of a moment between question and answer, and the next tick the first
/// one after it.
fn check(
    seen: &Seen,
    age_header: Option<u64>,
    now: Timestamp,
    waited: Duration,
    rhythm: Rhythm,
) -> Result<(), &'static str> {
    let taken_at = seen.taken_at.ok_or("no time")?;
    let waited = SignedDuration::try_from(waited).map_err(|_| "waited for ever")?;
    let newest = now.duration_since(taken_at);
    let at_most = u64::try_from(newest.as_secs()).map_err(|_| "from the future")?;
    let at_least = u64::try_from((newest - waited).as_secs()).unwrap_or(0);
    if !(at_least..=at_most).contains(&seen.age) {
        return Err("a wrong age");
    }
    if seen.stale != (seen.age > rhythm.stale_after_secs) {
        return Err("a wrong stale mark");
    }
    if age_header != Some(seen.age) {
        return Err("the header Age says something else");
    }
    let next_tick_at = seen.next_tick_at.ok_or("no next tick")?;
    // No answer from a snapshot is made before it is taken.
    if next_tick_at <= (now - waited).max(taken_at) || next_tick_at > now + interval(rhythm) {
        return Err("a wrong next tick");
    }
    Ok(())
}

fn interval(rhythm: Rhythm) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(rhythm.interval_secs).unwrap_or(i64::MAX))
}

/// Snapshots only get newer, the age of one only grows, and its next tick moves on by whole intervals.
fn follows(last: &Seen, seen: &Seen, rhythm: Rhythm) -> Result<(), &'static str> {
    if seen.taken_at < last.taken_at {
        return Err("an older snapshot after a newer one");
    }
    if seen.snapshot != last.snapshot {
        return Ok(());
    }
    if seen.age < last.age {
        return Err("the age went back");
    }
    let (Some(before), Some(next)) = (last.next_tick_at, seen.next_tick_at) else {
        return Err("no next tick");
    };
    let moved = next.duration_since(before).as_nanos();
    if moved < 0 || moved % interval(rhythm).as_nanos() != 0 {
        return Err("the next tick left its grid");
    }
    Ok(())
}

mod tests {
    use super::*;

    const RHYTHM: Rhythm = Rhythm {
        stale_after_secs: 10,
        interval_secs: 4,
    };

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// An answer at [`now`].
    fn seen(age: u64, stale: bool) -> Seen {
        Seen {
            snapshot: "a".into(),
            taken_at: Some(at("2026-01-01T00:00:00Z")),
            next_tick_at: Some(at("2026-01-01T00:00:12Z")),
            age,
            stale,
        }
    }

    fn now() -> Timestamp {
        at("2026-01-01T00:00:10.5Z")
    }

    fn verdict(seen: &Seen, header: Option<u64>, waited_ms: u64) -> Option<&'static str> {
        check(seen, header, now(), Duration::from_millis(waited_ms), RHYTHM).err()
    }

    #[test]
    fn a_watch_sees_wrong_ages_and_marks() {
        assert_eq!(verdict(&seen(10, false), Some(10), 5), None);
        assert_eq!(verdict(&seen(9, false), Some(9), 5), Some("a wrong age"));
        assert_eq!(
            verdict(&seen(9, false), Some(9), 600),
            None,
            "it was 9 when it was asked"
        );
        assert_eq!(verdict(&seen(11, true), Some(11), 5), Some("a wrong age"));
        assert_eq!(verdict(&seen(10, true), Some(10), 5), Some("a wrong stale mark"));
        assert!(verdict(&seen(10, false), Some(9), 5).is_some(), "another header");
        assert!(verdict(&seen(10, false), None, 5).is_some(), "no header");
    }

    #[test]
    fn a_watch_sees_wrong_ticks() {
        let next = |text: &str| Seen {
            next_tick_at: Some(at(text)),
            ..seen(10, false)
        };
        let wrong = Some("a wrong next tick");
        let check = |text: &str, waited_ms, expected: Option<&str>| {
            assert_eq!(verdict(&next(text), Some(10), waited_ms), expected, "{text}");
        };
        check("2026-01-01T00:00:14.5Z", 5, None);
        check("2026-01-01T00:00:14.6Z", 5, wrong);
        check("2026-01-01T00:00:10.4Z", 5, wrong);
        // It was still ahead when it was asked.
        check("2026-01-01T00:00:10.4Z", 200, None);
        assert_eq!(
            parse(&serde_json::json!({
                "id": "a", "takenAt": "2026-01-01T00:00:00Z", "ageSeconds": 1, "stale": false,
            })),
            None,
            "absent"
        );
    }

    #[test]
    fn a_watch_sees_what_goes_back() {
        let goes_on = |last: &Seen, seen: &Seen| follows(last, seen, RHYTHM).is_ok();
        assert!(goes_on(&Seen::default(), &seen(0, false)));
        assert!(!goes_on(&seen(10, false), &seen(9, false)));
        let older = Seen {
            taken_at: Some(at("2025-12-31T00:00:00Z")),
            snapshot: "b".into(),
            ..seen(0, false)
        };
        assert!(!goes_on(&seen(10, false), &older));
        assert!(goes_on(&older, &seen(0, false)));
        let tick = |second| Seen {
            next_tick_at: seen(10, false)
                .next_tick_at
                .map(|tick| tick + SignedDuration::from_secs(second)),
            ..seen(10, false)
        };
        assert!(goes_on(&seen(10, false), &tick(0)));
        assert!(goes_on(&seen(10, false), &tick(8)), "two intervals");
        assert!(!goes_on(&seen(10, false), &tick(3)));
        assert!(!goes_on(&seen(10, false), &tick(-4)));
    }
}
