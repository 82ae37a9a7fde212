//! The cache-refresher: one idempotent pass per tick, from the vendor into DynamoDB.
//!
//! What must stay true: passes never overlap; the pointer is moved only by a complete and newer crawl, so whatever goes
//! wrong leaves the last good snapshot in place; no dependency is needed to start, to become ready, or to go on.

mod metrics;
mod pass;
mod schedule;
mod settings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fuse_platform::{BoxError, Context};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

pub use settings::Settings;

use pass::{Pass, Refresher};
use schedule::Schedule;

/// Runs passes until the process is asked to stop.
///
/// # Errors
/// The admin port cannot be bound, or the clients cannot be made.
pub async fn run(context: &Context, settings: Settings) -> Result<(), BoxError> {
    let last = Arc::new(Mutex::new(Value::Null));
    let shown = Arc::clone(&last);
    context
        .serve_admin(
            &settings.admin,
            move || json!({ "lastPass": *shown.lock().unwrap_or_else(PoisonError::into_inner) }),
        )
        .await?;
    let stop = context.shutdown.soft.clone();
    let mut refresher = Refresher::new(&settings, &context.metrics).await?;
    let mut schedule = Schedule::new(settings.refresh.interval);
    loop {
        let (started_at, started) = (Timestamp::now(), Instant::now());
        let Some(pass) = refresher.pass(started_at, &stop).await else {
            return Ok(());
        };
        // From the start of the pass, so that a slow crawl does not stretch the interval; a pass that took longer
        // than that is followed at once by one pass, never by a burst.
        let due = started + schedule.next(pass.succeeded(), pass.retry_after());
        let wait = due.saturating_duration_since(Instant::now());
        report(&pass, started.elapsed(), wait);
        let shown = pass.shown(started_at, started.elapsed(), wait);
        *last.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep_until(due) => {}
        }
    }
}

/// Runs one pass, without the admin port.
///
/// # Errors
/// Why no complete crawl was published; a newer snapshot by somebody else is no error.
pub async fn run_once(context: &Context, settings: Settings) -> Result<(), BoxError> {
    let mut refresher = Refresher::new(&settings, &context.metrics).await?;
    let started = Instant::now();
    match refresher.pass(Timestamp::now(), &context.shutdown.soft).await {
        None => Err("stopped before the pass was over".into()),
        Some(Pass::Failed(failure)) => Err(failure.into()),
        Some(pass) => {
            report(&pass, started.elapsed(), Duration::ZERO);
            Ok(())
        }
    }
}

/// The one line of a pass.
fn report(pass: &Pass, took: Duration, next_in: Duration) {
    let (duration_ms, next_in_ms) = (millis(took), millis(next_in));
    match pass {
        Pass::Published(done) => tracing::info!(
            result = pass.result(),
            duration_ms,
            next_in_ms,
            snapshot.id = %done.id,
            snapshot.symbols = done.symbols,
            snapshot.pages = done.pages,
            crawl.pages = done.crawl_pages,
            crawl.quarantined = done.quarantined,
            crawl.kept = done.kept,
            crawl.duplicates = done.duplicates,
            quotes_written = done.quotes_written,
            history_written = done.history_written,
            "pass done"
        ),
        Pass::Superseded => tracing::info!(
            result = pass.result(),
            duration_ms,
            next_in_ms,
            "pass done: a newer snapshot is current already"
        ),
        Pass::Failed(failure) if failure.needs_a_person() => tracing::error!(
            result = pass.result(),
            error = %failure,
            duration_ms,
            next_in_ms,
            "pass failed; the last good snapshot stays"
        ),
        Pass::Failed(failure) => tracing::warn!(
            result = pass.result(),
            error = %failure,
            duration_ms,
            next_in_ms,
            "pass failed; the last good snapshot stays"
        ),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
