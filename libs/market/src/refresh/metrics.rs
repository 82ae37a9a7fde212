//! Metrics of the passes.

use std::time::{Duration, SystemTime};

use fuse_platform::Metrics;
use fuse_platform::metrics::LATENCY_SECONDS;
use jiff::Timestamp;
use prometheus::{Gauge, HistogramVec, IntCounterVec, IntGauge};

use super::pass::results;

pub(super) struct PassMetrics {
    refreshes: IntCounterVec,
    duration: HistogramVec,
    current: Option<Current>,
}

/// What the refresher says about the current snapshot. An api replica makes passes too, but it must not answer for a
/// refresher that is gone.
struct Current {
    last_success: Gauge,
    symbols: IntGauge,
}

impl PassMetrics {
    pub(super) fn new(metrics: &Metrics, tells_current: bool) -> Self {
        let mut buckets = LATENCY_SECONDS.to_vec();
        buckets.extend([30.0, 60.0, 120.0, 300.0]);
        Self {
            refreshes: metrics.counter_vec(
                "snapshot_refreshes_total",
                "Passes, by what came of them",
                &[("result", &results())],
            ),
            duration: metrics.histogram_vec(
                "snapshot_refresh_duration_seconds",
                "How long the phases of a pass took",
                &[("phase", &["crawl", "l2", "l1"])],
                &buckets,
            ),
            current: tells_current.then(|| Current::new(metrics)),
        }
    }

    pub(super) fn ended(&self, result: &str) {
        self.refreshes.with_label_values(&[result]).inc();
    }

    pub(super) fn took(&self, phase: &str, elapsed: Duration) {
        self.duration
            .with_label_values(&[phase])
            .observe(elapsed.as_secs_f64());
    }

    /// Also said by the pointer that is found at the start, so that a restart forgets nothing.
    pub(super) fn current_is(&self, taken_at: Timestamp, symbols: usize) {
        let Some(current) = &self.current else { return };
        current
            .last_success
            .set(Duration::from_millis(taken_at.as_millisecond().unsigned_abs()).as_secs_f64());
        current.symbols.set(i64::try_from(symbols).unwrap_or(i64::MAX));
    }
}

impl Current {
    fn new(metrics: &Metrics) -> Self {
        let last_success = metrics.float_gauge(
            "snapshot_last_success_timestamp_seconds",
            "When the current snapshot was crawled; the start of this process until one is known",
        );
        // Zero would read as a crawl in 1970 and alert at every start.
        let started = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        last_success.set(started.as_secs_f64());
        Self {
            last_success,
            symbols: metrics.gauge("snapshot_symbols", "Symbols in the current snapshot"),
        }
    }
}
