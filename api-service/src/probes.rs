//! A background look at the dependencies, for metrics only: nothing here makes the service ready or unready.

use std::time::Duration;

use fuse_ledger::{LedgerError, ReportStatus};
use fuse_market::SnapshotStore;
use fuse_platform::Metrics;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::state::AppState;

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// Looks at the dependencies.
pub struct Probes {
    state: AppState,
    store: SnapshotStore,
    reports: ReportStatus,
    postgres_was_up: Option<bool>,
}

impl Probes {
    /// Registers the figures of the report's run records.
    #[must_use]
    pub fn new(metrics: &Metrics, state: AppState, store: SnapshotStore) -> Self {
        Self {
            state,
            store,
            reports: ReportStatus::register(metrics),
            postgres_was_up: None,
        }
    }

    /// Looks every five seconds until the stop.
    pub async fn run(mut self, until: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = until.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // Reads only, each with its own deadline: cutting one at the stop harms nothing.
            tokio::select! {
                () = until.cancelled() => return,
                () = self.look() => {}
            }
        }
    }

    async fn look(&mut self) {
        // The store sets its own figure, by every answer: a table that is missing is no dependency that is down.
        let _ = self.store.current().await;
        let postgres = self.look_at_postgres().await;
        let is_up = postgres.is_ok();
        self.state.metrics.postgres_up.set(i64::from(is_up));
        if self.postgres_was_up != Some(is_up) {
            match postgres {
                Ok(()) => tracing::info!("the database answers"),
                Err(error) => {
                    tracing::warn!(error = %error, "the database cannot be used; orders and portfolios answer 503 until it is back")
                }
            }
            self.postgres_was_up = Some(is_up);
        }
    }

    async fn look_at_postgres(&self) -> Result<(), LedgerError> {
        let now = Timestamp::now();
        self.state.ledger.ping().await?;
        self.state.ledger.observe(now).await?;
        self.reports.observe(&self.state.ledger, now).await
    }
}
