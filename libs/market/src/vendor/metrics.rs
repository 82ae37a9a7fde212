//! Metrics of the vendor client; names and labels are the contract of the dashboards.

use std::time::Duration;

use fuse_domain::BreakerState;
use fuse_platform::Metrics;
use fuse_platform::metrics::LATENCY_SECONDS;
use prometheus::{GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::ItemFault;
use crate::crawl::PASS_FAULTS;

/// Which of the vendor's two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    List,
    Buy,
}

const OPS: &[&str] = &["list", "buy"];
const OUTCOMES: &[&str] = &[
    "ok",
    "refused",
    "forbidden",
    "throttled",
    "unreachable",
    "breaker_open",
    "timeout",
    "reset",
    "server_error",
    "unreadable",
    "mismatch",
    "unexpected",
];

impl Op {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Buy => "buy",
        }
    }
}

#[derive(Clone)]
pub(crate) struct VendorMetrics {
    up: IntGauge,
    requests: IntCounterVec,
    duration: HistogramVec,
    retries: IntCounterVec,
    budget: GaugeVec,
    breaker: IntGaugeVec,
    transitions: IntCounterVec,
    total_differs: IntCounter,
    rejected: IntCounterVec,
}

impl VendorMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let ops = ("op", OPS);
        let states = &BreakerState::NAMES[..];
        let mut payloads: Vec<[&str; 2]> = ItemFault::ALL
            .iter()
            .map(|fault| ["item", fault.as_str()])
            .collect();
        payloads.extend(PASS_FAULTS.iter().map(|reason| ["pass", reason]));
        let payloads: Vec<&[&str]> = payloads.iter().map(|pair| &pair[..]).collect();
        Self {
            up: metrics.dependency_up("vendor"),
            requests: metrics.counter_vec(
                "vendor_requests_total",
                "Attempts to call the vendor, by what came of them",
                &[ops, ("outcome", OUTCOMES)],
            ),
            duration: metrics.histogram_vec(
                "vendor_request_duration_seconds",
                "How long the vendor took, connecting included",
                &[ops],
                LATENCY_SECONDS,
            ),
            retries: metrics.counter_vec(
                "vendor_retries_total",
                "Pages asked for again, and buys that had provably not been sent",
                &[ops],
            ),
            budget: metrics.float_gauge_vec(
                "vendor_retry_budget_ratio",
                "Share of the retry budget that is left; at 0 nothing is retried",
                &[ops],
            ),
            breaker: metrics.gauge_vec(
                "vendor_breaker_state",
                "1 for the breaker's current state",
                &[ops, ("state", states)],
            ),
            transitions: metrics.counter_vec(
                "vendor_breaker_transitions_total",
                "Changes of the breaker's state",
                &[ops, ("to", states)],
            ),
            total_differs: metrics.counter(
                "vendor_buy_total_mismatches_total",
                "Filled buys whose total, as the vendor named it, is not price times quantity",
            ),
            rejected: metrics.counter_vec_of(
                "vendor_rejected_payloads_total",
                "Vendor data that was not used: single items, or a whole pass",
                &["scope", "reason"],
                &payloads,
            ),
        }
    }

    pub(super) fn requested(&self, op: Op, outcome: &str) {
        self.requests.with_label_values(&[op.as_str(), outcome]).inc();
    }

    pub(super) fn took(&self, op: Op, elapsed: Duration) {
        self.duration
            .with_label_values(&[op.as_str()])
            .observe(elapsed.as_secs_f64());
    }

    pub(super) fn retried(&self, op: Op) {
        self.retries.with_label_values(&[op.as_str()]).inc();
    }

    pub(super) fn budget_is(&self, op: Op, left: u32, of: u32) {
        self.budget
            .with_label_values(&[op.as_str()])
            .set(f64::from(left) / f64::from(of));
    }

    pub(super) fn vendor_is(&self, well: bool) {
        self.up.set(i64::from(well));
    }

    pub(super) fn breaker_is(&self, op: Op, now: BreakerState) {
        for state in BreakerState::NAMES {
            let current = i64::from(state == now.as_str());
            self.breaker.with_label_values(&[op.as_str(), state]).set(current);
        }
    }

    /// A filled buy with a total of the vendor's own making.
    pub(super) fn total_differs(&self) {
        self.total_differs.inc();
    }

    pub(super) fn breaker_moved(&self, op: Op, to: BreakerState) {
        self.breaker_is(op, to);
        self.transitions
            .with_label_values(&[op.as_str(), to.as_str()])
            .inc();
    }

    pub(crate) fn item_rejected(&self, fault: ItemFault) {
        self.rejected.with_label_values(&["item", fault.as_str()]).inc();
    }

    /// `reason` is one of `PASS_FAULTS`.
    pub(crate) fn pass_rejected(&self, reason: &str) {
        self.rejected.with_label_values(&["pass", reason]).inc();
    }
}
