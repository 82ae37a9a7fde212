//! What the ledger tells about itself. States that outlive a restart (open orders, the last report) are read
//! from the database by [`Ledger::observe`], which a process calls every few seconds; replicas show the same.

use std::time::Duration;

use fuse_platform::Metrics;
use fuse_platform::metrics::{COUNTS, LATENCY_SECONDS, observe_count};
use jiff::Timestamp;
use prometheus::{GaugeVec, Histogram, HistogramVec, IntCounterVec, IntGaugeVec};

use crate::{Invariant, Ledger, LedgerError, Placed, Verification, row};

#[derive(Clone)]
pub(crate) struct LedgerMetrics {
    connections: IntGaugeVec,
    wait: Histogram,
    queries: HistogramVec,
    retryable: IntCounterVec,
    idempotency: IntCounterVec,
    open: IntGaugeVec,
    open_oldest: GaugeVec,
    idle_in_transaction: prometheus::IntGauge,
    batches: HistogramVec,
    queue: IntGaugeVec,
    violations: IntGaugeVec,
    chain_valid: prometheus::IntGauge,
    pub(crate) chain_lag: prometheus::IntGauge,
    chain_verified_at: prometheus::IntGauge,
}

/// The statements that write batches.
const BATCHED: &[&str] = &["place", "settle"];

impl LedgerMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let wait = metrics.histogram_vec(
            "db_pool_wait_seconds",
            "Time until a pooled database connection was there; grows when the pool is too small or the database slow",
            &[("pool", &["main"])],
            LATENCY_SECONDS,
        );
        let metrics = Self {
            connections: metrics.gauge_vec(
                "db_pool_connections",
                "Open database connections",
                &[("pool", &["main"]), ("state", &["idle", "used"])],
            ),
            wait: wait.with_label_values(&["main"]),
            queries: metrics.histogram_vec(
                "db_query_duration_seconds",
                "Time of one named statement, without the wait for a connection",
                &[(
                    "query",
                    &["place", "settle", "order", "orders", "portfolio", "find_key"],
                )],
                LATENCY_SECONDS,
            ),
            retryable: metrics.counter_vec(
                "db_retryable_errors_total",
                "Statements that the database gave up and that may be repeated",
                &[(
                    "kind",
                    &["deadlock", "serialization", "lock_timeout", "statement_timeout"],
                )],
            ),
            idempotency: metrics.counter_vec(
                "idempotency_hits_total",
                "Orders whose idempotency key was seen before",
                &[("result", &["replay", "progress", "mismatch"])],
            ),
            open: metrics.gauge_vec(
                "orders_open",
                "Orders that are not settled; all replicas show the same figure",
                &[("state", &["submitted", "unknown"])],
            ),
            open_oldest: metrics.float_gauge_vec(
                "orders_open_oldest_seconds",
                "Age of the oldest order that is not settled; alert when it stays",
                &[("state", &["submitted", "unknown"])],
            ),
            idle_in_transaction: metrics.gauge(
                "db_idle_in_transaction_sessions",
                "Sessions of our database user that sit in an open transaction; any is a leak",
            ),
            batches: metrics.histogram_vec(
                "order_batch_size",
                "Orders that one statement wrote; grows with the load",
                &[("statement", BATCHED)],
                COUNTS,
            ),
            queue: metrics.gauge_vec(
                "order_queue_depth",
                "Orders that wait for their statement; alert when it keeps growing",
                &[("statement", BATCHED)],
            ),
            violations: metrics.gauge_vec(
                "ledger_invariant_violations",
                "Rows that break a rule of the ledger, by the last full verification; any is an alarm",
                &[("invariant", &Invariant::ALL.map(Invariant::as_str))],
            ),
            chain_valid: metrics.gauge(
                "ledger_chain_valid",
                "1 when the hash chain held at the last full verification, and before the first",
            ),
            chain_lag: metrics.gauge(
                "ledger_chain_lag_rows",
                "Order events that no link of the hash chain covers yet, counted up to 100,000",
            ),
            chain_verified_at: metrics.gauge(
                "ledger_chain_verified_timestamp_seconds",
                "When the last full verification ended, in seconds since 1970; 0 before the first",
            ),
        };
        metrics.chain_valid.set(1);
        metrics
    }

    pub(crate) fn verified(&self, found: &Verification) {
        for (invariant, bad) in &found.violations {
            let bad = i64::try_from(*bad).unwrap_or(i64::MAX);
            self.violations.with_label_values(&[invariant.as_str()]).set(bad);
            if *invariant == Invariant::Chain {
                self.chain_valid.set(i64::from(bad == 0));
            }
        }
        self.chain_verified_at.set(found.at.as_second());
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.wait.observe(time.as_secs_f64());
    }

    pub(crate) fn queried(&self, name: &'static str, time: Duration) {
        self.queries
            .with_label_values(&[name])
            .observe(time.as_secs_f64());
    }

    pub(crate) fn batched(&self, statement: &'static str, orders: usize) {
        observe_count(&self.batches.with_label_values(&[statement]), orders);
    }

    pub(crate) fn queued(&self, statement: &'static str, waiting: usize) {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.queue.with_label_values(&[statement]).set(waiting);
    }

    pub(crate) fn failed(&self, error: &LedgerError) {
        if let Some(kind) = error.retryable_kind() {
            self.retryable.with_label_values(&[kind]).inc();
        }
    }

    pub(crate) fn repeated(&self, placed: &Placed) {
        let result = match placed {
            Placed::Replay(_) => "replay",
            Placed::InFlight { .. } => "progress",
            Placed::KeyReused => "mismatch",
            Placed::New(_) | Placed::ClientOrderIdTaken | Placed::PortfolioNotFound => return,
        };
        self.idempotency.with_label_values(&[result]).inc();
    }

    fn pool(&self, size: u32, idle: usize) {
        let idle = i64::try_from(idle).unwrap_or(i64::MAX);
        self.connections.with_label_values(&["main", "idle"]).set(idle);
        self.connections
            .with_label_values(&["main", "used"])
            .set(i64::from(size).saturating_sub(idle));
    }
}

impl Ledger {
    /// Brings the gauges up to date: the pool from memory, open orders and leaked sessions from the database.
    ///
    /// # Errors
    /// `Unavailable` or `Conflict`; the gauges of the database then keep their last figures.
    pub async fn observe(&self, now: Timestamp) -> Result<(), LedgerError> {
        let (size, idle) = self.connections();
        self.metrics.pool(size, idle);
        let query = sqlx::query(
            "select state.name as state, count(o.order_id) as orders, min(o.created_at) as oldest,
                    (select count(*) from pg_stat_activity a
                     where a.datname = current_database() and a.usename = current_user
                       and a.state like 'idle in transaction%'
                       and a.state_change < now() - interval '5 seconds') as leaked
             from (values ('submitted'), ('unknown')) as state (name)
             left join orders o on o.status = state.name and o.status in ('submitted', 'unknown')
             group by state.name",
        );
        for found in &self.read("observe", query).await? {
            let state: &str = row::get(found, "state")?;
            let oldest = row::optional_time(found, "oldest")?;
            let age = oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64().max(0.0));
            self.metrics
                .open
                .with_label_values(&[state])
                .set(row::get(found, "orders")?);
            self.metrics.open_oldest.with_label_values(&[state]).set(age);
            self.metrics.idle_in_transaction.set(row::get(found, "leaked")?);
        }
        Ok(())
    }
}
