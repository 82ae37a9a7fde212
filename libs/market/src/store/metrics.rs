//! Metrics of the snapshot store.

use fuse_platform::Metrics;
use prometheus::{IntCounter, IntCounterVec, IntGauge};

#[derive(Clone)]
pub(crate) struct StoreMetrics {
    up: IntGauge,
    unprocessed: IntCounter,
    oversize: IntCounter,
    reads: IntCounterVec,
}

/// Reads of snapshots by layer and result; the layers share the metric.
pub(crate) fn reads(metrics: &Metrics) -> IntCounterVec {
    metrics.counter_vec(
        "snapshot_reads_total",
        "Reads of snapshots, by the layer that answered",
        &[
            ("layer", &["l0", "l1", "l2"]),
            ("result", &["hit", "stale", "miss", "error"]),
        ],
    )
}

impl StoreMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            up: metrics.dependency_up("dynamodb"),
            unprocessed: metrics.counter(
                "snapshot_unprocessed_items_total",
                "Items that DynamoDB handed back unwritten; they are written again",
            ),
            oversize: metrics.counter(
                "snapshot_oversize_items_total",
                "Passes refused before writing because an item was larger than DynamoDB takes",
            ),
            reads: reads(metrics),
        }
    }

    pub(super) fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    pub(super) fn unprocessed(&self, items: usize) {
        self.unprocessed.inc_by(items as u64);
    }

    pub(super) fn oversize(&self) {
        self.oversize.inc();
    }

    pub(super) fn read(&self, result: &str) {
        self.reads.with_label_values(&["l2", result]).inc();
    }
}
