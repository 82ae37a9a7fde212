//! Waiting for a database that is away: for a while, with growing pauses, then with a clear error.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use fuse_ledger::LedgerError;

use crate::JobError;

/// A database that restarts or fails over is back within this.
const DATABASE_PATIENCE: Duration = Duration::from_secs(20);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Does a step in the ledger, again and again while it may succeed, but not beyond `until`. Every step of the
/// ledger is safe to repeat.
pub(crate) async fn patiently<T, F, Fut>(step: &'static str, until: Instant, call: F) -> Result<T, JobError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, LedgerError>>,
{
    let left = until
        .saturating_duration_since(Instant::now())
        .min(DATABASE_PATIENCE);
    let pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(PAUSE_MIN)
        .with_max_delay(PAUSE_MAX)
        .without_max_times()
        .with_total_delay(Some(left));
    let mut told = false;
    let outcome = call
        .retry(pauses)
        .when(LedgerError::retryable)
        .notify(|error, _| {
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(step, error = %error, "the database is not there; trying again");
            }
        })
        .await;
    outcome.map_err(|source| JobError::Ledger { step, source })
}
