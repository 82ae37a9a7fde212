//! What a pass tells: one line in the log, and the last one in `/status`.

use std::time::Duration;

use fuse_market::Pass;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::millis;

/// The one line of a pass.
pub(crate) fn log(pass: &Pass, took: Duration, next_in: Duration) {
    let (duration_ms, next_in_ms) = (millis(took), millis(next_in));
    match pass {
        Pass::Published(done) => tracing::info!(
            result = pass.result(),
            duration_ms,
            next_in_ms,
            snapshot.id = %done.id,
            snapshot.symbols = done.symbols,
            snapshot.pages = done.pages,
            snapshot.movers = done.movers,
            snapshot.unlisted = done.unlisted,
            crawl.pages = done.crawl_pages,
            crawl.quarantined = done.quarantined,
            crawl.kept = done.kept,
            crawl.duplicates = done.duplicates,
            history_written = done.history_written,
            write_units = done.write_units,
            "pass done"
        ),
        Pass::Superseded | Pass::NotNeeded | Pass::Busy => tracing::info!(
            result = pass.result(),
            duration_ms,
            next_in_ms,
            "pass done: the current snapshot is by somebody else"
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

/// The pass as `/status` shows it.
pub(crate) fn status(pass: &Pass, started_at: Timestamp, took: Duration, next_in: Duration) -> Value {
    let mut shown = json!({
        "startedAt": started_at.to_string(),
        "durationMs": millis(took),
        "result": pass.result(),
        "nextInMs": millis(next_in),
    });
    match pass {
        Pass::Published(done) => {
            shown["snapshotId"] = json!(done.id.to_string());
            shown["symbols"] = json!(done.symbols);
        }
        Pass::Failed(failure) => shown["error"] = json!(failure.to_string()),
        Pass::Superseded | Pass::NotNeeded | Pass::Busy => {}
    }
    shown
}
