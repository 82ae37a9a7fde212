//! The cache-refresher: one idempotent pass per tick, from the vendor into DynamoDB.
//!
//! What must stay true: passes never overlap; the pointer is moved only by a complete and newer crawl, so whatever goes
//! wrong leaves the last good snapshot in place; no dependency is needed to start, to become ready, or to go on.

mod report;
mod schedule;
mod settings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fuse_market::{L1, Pass, RefreshParts, Refresher, SnapshotStore, VendorClient, Wanted, patient};
use fuse_platform::aws::sdk_config;
use fuse_platform::{BoxError, Context};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

pub use settings::Settings;

use schedule::{Ended, Next, Schedule};

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
    let mut refresher = refresher(context, &settings).await?;
    let mut schedule = Schedule::new(settings.refresh.interval, Timestamp::now());
    loop {
        let (started_at, started) = (Timestamp::now(), Instant::now());
        let wanted = Wanted {
            younger_than: Some(schedule.younger_than()),
            wait: true,
        };
        let Some(pass) = refresher.pass(wanted, &stop).await else {
            return Ok(());
        };
        let next = schedule.next(ended(&pass, &refresher, started_at), started_at, Timestamp::now());
        let due = due(&pass, next, started, Instant::now());
        let wait = due.saturating_duration_since(Instant::now());
        report::log(&pass, started.elapsed(), wait);
        let shown = report::status(&pass, started_at, started.elapsed(), wait);
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
    let mut refresher = refresher(context, &settings).await?;
    let started = Instant::now();
    // Whoever asks for a pass means now, however young the prices are.
    let wanted = Wanted {
        younger_than: Some(Timestamp::now()),
        wait: true,
    };
    match refresher.pass(wanted, &context.shutdown.soft).await {
        None => Err("stopped before the pass was over".into()),
        Some(Pass::Failed(failure)) => Err(failure.into()),
        Some(pass) => {
            report::log(&pass, started.elapsed(), Duration::ZERO);
            Ok(())
        }
    }
}

async fn refresher(context: &Context, settings: &Settings) -> Result<Refresher, BoxError> {
    let metrics = &context.metrics;
    let sdk = sdk_config(&patient((&settings.dynamodb).into())).await;
    let parts = RefreshParts {
        vendor: VendorClient::new(&settings.vendor, metrics)?,
        store: SnapshotStore::new(&sdk, &settings.dynamodb, metrics),
        l1: L1::new(&settings.redis, &settings.dynamodb.table_prefix, metrics)?,
        limits: settings.limits.clone(),
        tells_current: true,
    };
    Ok(Refresher::new(parts, metrics))
}

/// A good pass that took longer than the wait is followed at once by one pass, never by a burst.
fn due(pass: &Pass, next: Next, started: Instant, ended: Instant) -> Instant {
    (if pass.succeeded() { started } else { ended }) + next.wait
}

fn ended(pass: &Pass, refresher: &Refresher, started_at: Timestamp) -> Ended {
    if pass.succeeded() {
        let current = refresher.current();
        Ended::Well {
            tick_at: current.map(|current| current.tick_at),
            taken_at: current.map_or(started_at, |current| current.taken_at),
        }
    } else {
        Ended::Failed {
            retry_after: pass.retry_after(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use fuse_market::Failure;

    use super::*;

    #[test]
    fn the_wait_after_a_failure_counts_from_its_end() {
        let (started, wait) = (Instant::now(), Duration::from_secs(5));
        let ended = started + Duration::from_secs(120);
        let next = Next {
            wait,
            younger_than: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(due(&Pass::Superseded, next, started, ended), started + wait);
        assert_eq!(
            due(&Pass::Failed(Failure::Fenced), next, started, ended),
            ended + wait
        );
    }
}
