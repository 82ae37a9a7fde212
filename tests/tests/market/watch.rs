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
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Id of the snapshot.
    pub snapshot: String,
    /// Its time.
    pub taken_at: Option<Timestamp>,
    /// Its age in the answer.
    pub age: u64,
    /// Whether the answer was marked.
    pub stale: bool,
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

/// Watches one replica until stopped. `before` is what was seen of it earlier: it must not fall behind that. Prices are
/// stale when they are older than `stale_after` seconds.
pub fn start(target: &Target, before: &Arc<Record>, stale_after: u64) -> Result<Running> {
    let record = Arc::clone(before);
    load::start(
        std::slice::from_ref(target),
        &Plan {
            connections: 1,
            pace: Pace::PerSecond(PER_SECOND),
            until: Until::Elapsed(LONGEST),
            inspect: Some(Arc::new(move |reply| look(reply, &record, stale_after))),
        },
    )
}

fn look(reply: &Reply<'_>, record: &Record, stale_after: u64) -> Result<(), String> {
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
    let seen = parse(snapshot).ok_or_else(|| format!("no age: {snapshot}"))?;
    let age_header = reply.header("age").and_then(|age| age.parse().ok());
    check(&seen, age_header, now, reply.waited, stale_after).map_err(|what| format!("{what}: {snapshot}"))?;
    let mut last = record.lock();
    follows(&last, &seen).map_err(|what| format!("{what}: {last:?}, then {snapshot}"))?;
    *last = seen;
    record.answers.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn parse(snapshot: &Value) -> Option<Seen> {
    Some(Seen {
        snapshot: snapshot["id"].as_str()?.to_owned(),
        taken_at: Some(snapshot["takenAt"].as_str()?.parse().ok()?),
        age: snapshot["ageSeconds"].as_u64()?,
        stale: snapshot["stale"].as_bool()?,
    })
}

/// The service's clock is ours: the age must be that of a moment between question and answer.
fn check(
    seen: &Seen,
    age_header: Option<u64>,
    now: Timestamp,
    waited: Duration,
    stale_after: u64,
) -> Result<(), &'static str> {
    let taken_at = seen.taken_at.ok_or("no time")?;
    let waited = SignedDuration::try_from(waited).map_err(|_| "waited for ever")?;
    let newest = now.duration_since(taken_at);
    let at_most = u64::try_from(newest.as_secs()).map_err(|_| "from the future")?;
    let at_least = u64::try_from((newest - waited).as_secs()).unwrap_or(0);
    if !(at_least..=at_most).contains(&seen.age) {
        return Err("a wrong age");
    }
    if seen.stale != (seen.age > stale_after) {
        return Err("a wrong stale mark");
    }
    if age_header != Some(seen.age) {
        return Err("the header Age says something else");
    }
    Ok(())
}

/// Snapshots only get newer, and the age of one only grows.
fn follows(last: &Seen, seen: &Seen) -> Result<(), &'static str> {
    if seen.taken_at < last.taken_at {
        return Err("an older snapshot after a newer one");
    }
    if seen.snapshot == last.snapshot && seen.age < last.age {
        return Err("the age went back");
    }
    Ok(())
}

#[test]
fn a_watch_sees_wrong_ages_and_marks() {
    let at = |text: &str| text.parse::<Timestamp>().expect("a time");
    let now = at("2026-01-01T00:00:10.5Z");
    let seen = |age, stale| Seen {
        snapshot: "a".into(),
        taken_at: Some(at("2026-01-01T00:00:00Z")),
        age,
        stale,
    };
    let verdict =
        |seen: &Seen, header, waited| check(seen, header, now, Duration::from_millis(waited), 10).err();
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
    assert!(follows(&seen(10, false), &seen(9, false)).is_err());
    let older = Seen {
        taken_at: Some(at("2025-12-31T00:00:00Z")),
        snapshot: "b".into(),
        ..seen(0, false)
    };
    assert!(follows(&seen(10, false), &older).is_err());
    assert!(follows(&older, &seen(0, false)).is_ok());
}
