//! What api-service reports. Labels are bounded: route templates, methods, status classes, codes; never an id, a symbol or a path.
//! Every known label value exists at 0 from the start, so that the first event is an increase.

use std::time::Duration;

use fuse_domain::{OrderStatus, Reason};
use fuse_platform::metrics::{AGE_SECONDS, LATENCY_SECONDS};
use http::StatusCode;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use crate::http::routes_and_methods;
use crate::problem::Fault;

/// Reasons of `fuse_auth_failures_total`.
pub const AUTH_FAILURES: &[&str] = &[
    "missing",
    "malformed",
    "unknown",
    "mismatch",
    "revoked",
    "expired",
    "scope",
];

/// All metrics of this process that the libraries do not make themselves.
pub struct Metrics {
    http_requests: IntCounterVec,
    http_duration: HistogramVec,
    /// Requests being answered now.
    pub http_in_flight: IntGauge,
    http_shed: IntCounterVec,
    /// Successful reads that left no line in the log because there were too many.
    pub http_unlogged: IntCounter,
    auth_failures: IntCounterVec,
    orders: IntCounterVec,
    /// Orders that were rejected because their portfolio had moved on.
    pub order_conflicts: IntCounter,
    order_duration: HistogramVec,
    /// Outcomes that wait for the database to come back.
    pub settlements_waiting: IntGauge,
    /// Answers of the vendor that the ledger's outcome contradicts.
    pub order_contradictions: IntCounter,
    snapshot_age: Histogram,
    snapshot_reads: IntCounterVec,
    stock_pages: IntCounterVec,
    /// 1 when the last probe of PostgreSQL succeeded.
    pub postgres_up: IntGauge,
    /// 1 when the last probe of DynamoDB succeeded.
    pub dynamodb_up: IntGauge,
}

impl Metrics {
    /// Registers everything; a metric that a library made already is shared with it.
    #[must_use]
    pub fn new(make: &fuse_platform::Metrics) -> Self {
        let metrics = Self {
            http_requests: make.counter_vec_of(
                "http_requests_total",
                "Requests by route template, method, status class and whose fault a failure was",
                &["route", "method", "status", "fault"],
                &[&["unmatched", "GET", "4xx", "none"]],
            ),
            http_duration: make.histogram_vec(
                "http_request_duration_seconds",
                "Time to answer by route template and method",
                &[("route", &[]), ("method", &[])],
                LATENCY_SECONDS,
            ),
            http_in_flight: make.gauge("http_in_flight_requests", "Requests being answered now"),
            http_shed: make.counter_vec(
                "http_shed_total",
                "Requests refused because there were too many",
                &[("reason", &["concurrency"])],
            ),
            http_unlogged: make.counter(
                "http_requests_unlogged_total",
                "Successful reads that left no log line because there were too many (log.read_sample_per_sec)",
            ),
            auth_failures: make.counter_vec(
                "auth_failures_total",
                "Requests without a valid key or scope",
                &[("reason", AUTH_FAILURES)],
            ),
            orders: make.counter_vec_of(
                "orders_total",
                "Orders that entered a state, by reason",
                &["state", "reason"],
                &[&["submitted", "none"], &["filled", "none"]],
            ),
            order_conflicts: make.counter(
                "order_conflicts_total",
                "Orders rejected because their portfolio was not at the version that the client expected (If-Match)",
            ),
            order_duration: make.histogram_vec(
                "order_duration_seconds",
                "Time of an order by phase; own is the total less the vendor's part",
                &[("phase", &["quote", "vendor", "commit", "own"])],
                LATENCY_SECONDS,
            ),
            settlements_waiting: make.gauge(
                "order_settlements_waiting",
                "Outcomes kept in memory until the database takes them; alert when it stays above 0",
            ),
            order_contradictions: make.counter(
                "order_contradictions_total",
                "Answers of the vendor that contradict an outcome recorded by hand; each needs a person",
            ),
            snapshot_age: make.histogram(
                "snapshot_served_age_seconds",
                "Age of market data when it was served",
                AGE_SECONDS,
            ),
            snapshot_reads: make.counter_vec(
                "snapshot_reads_total",
                "Reads of market data by layer and result",
                &[("layer", &["l0"]), ("result", &["hit", "stale", "miss", "error"])],
            ),
            stock_pages: make.counter_vec(
                "stock_pages_total",
                "Pages of stocks: ready when asked for, made for the request, or prepared before it",
                &[("result", &["made", "prepared", "ready"])],
            ),
            postgres_up: make.dependency_up("postgres"),
            dynamodb_up: make.dependency_up("dynamodb"),
        };
        metrics.zero();
        metrics
    }

    fn zero(&self) {
        for (route, method) in routes_and_methods() {
            for (status, fault) in [
                ("2xx", "none"),
                ("4xx", "none"),
                ("5xx", "own"),
                ("5xx", "vendor"),
            ] {
                self.http_requests
                    .with_label_values(&[route.as_str(), method, status, fault]);
            }
            if method == "GET" {
                self.http_requests
                    .with_label_values(&[route.as_str(), method, "3xx", "none"]);
            }
            self.http_duration.with_label_values(&[route.as_str(), method]);
        }
        for reason in Reason::ALL {
            self.orders
                .with_label_values(&[reason.status().as_str(), reason.as_str()]);
        }
    }

    /// One answered request.
    pub fn request(&self, route: &str, method: &str, status: StatusCode, fault: Fault, seconds: f64) {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let labels = [route, method, class, fault.as_str()];
        self.http_requests.with_label_values(&labels).inc();
        self.http_duration
            .with_label_values(&[route, method])
            .observe(seconds);
    }

    /// One request refused because there were too many.
    pub fn shed(&self, reason: &'static str) {
        self.http_shed.with_label_values(&[reason]).inc();
    }

    /// One request without a valid key or scope; `reason` is one of [`AUTH_FAILURES`].
    pub fn auth_failure(&self, reason: &'static str) {
        self.auth_failures.with_label_values(&[reason]).inc();
    }

    /// An order entered a state.
    pub fn order(&self, state: OrderStatus, reason: Option<Reason>) {
        let reason = reason.map_or("none", |reason| reason.as_str());
        self.orders.with_label_values(&[state.as_str(), reason]).inc();
    }

    /// Time that one phase of an order took.
    pub fn order_phase(&self, phase: &'static str, time: Duration) {
        self.order_duration
            .with_label_values(&[phase])
            .observe(time.as_secs_f64());
    }

    /// A page of stocks was ready, made or prepared.
    pub fn stock_page(&self, result: &'static str) {
        self.stock_pages.with_label_values(&[result]).inc();
    }

    /// Market data could not be read.
    pub fn snapshot_unreadable(&self) {
        self.snapshot_reads.with_label_values(&["l0", "error"]).inc();
    }

    /// Market data was served at this age, or (`None`) there was none.
    pub fn snapshot_read(&self, age_secs: Option<u64>, is_stale: bool) {
        let result = match age_secs {
            None => "miss",
            Some(_) if is_stale => "stale",
            Some(_) => "hit",
        };
        self.snapshot_reads.with_label_values(&["l0", result]).inc();
        if let Some(age_secs) = age_secs.and_then(|age| u32::try_from(age).ok()) {
            self.snapshot_age.observe(f64::from(age_secs));
        }
    }
}
