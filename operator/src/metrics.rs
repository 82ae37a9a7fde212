//! What the operator measures (names: metrics-and-alerts), and the layer that counts its requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use fuse_crds::status::{ConditionState, ConditionType, FuseTradingServiceStatus};
use fuse_platform::metrics::LATENCY_SECONDS;
use http::{Method, Request};
use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};
use tower::{Layer, Service};

use crate::apply::Outcome;
use crate::error::WriteError;
use crate::facts::Kind;
use crate::stores::ServiceKey;

/// States in which a service can be, each service in one.
const STATES: &[&str] = &["ready", "progressing", "stalled", "paused", "suspended"];
const STEPS: &[&str] = &["dereference", "validate", "build", "apply", "status"];
const OUTCOMES: &[&str] = &["ok", "failed"];
const RESULTS: &[&str] = &["written", "rejected", "conflict", "not_tried"];
/// Verbs that change something.
const VERBS: &[&str] = &["create", "delete", "patch", "update"];

/// All metrics of the operator. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    reconciles: IntCounterVec,
    reconcile_seconds: HistogramVec,
    steps: IntCounterVec,
    step_seconds: HistogramVec,
    applies: IntCounterVec,
    errors: IntCounterVec,
    writes: IntCounterVec,
    watch_restarts: IntCounterVec,
    resources: IntGaugeVec,
    /// 1 while this process is the one that writes.
    pub leader: IntGauge,
    /// Services that wait for a retry.
    pub backoff_resources: IntGauge,
    /// 1 while the custom resource definition is missing.
    pub crd_missing: IntGauge,
    states: Arc<Mutex<HashMap<ServiceKey, &'static str>>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Registers everything, each label value at zero.
    pub fn new(registry: &fuse_platform::Metrics) -> Self {
        let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let mut watched = kinds.clone();
        watched.extend([fuse_crds::KIND, "Secret"]);
        let own: &[&str] = &[fuse_crds::KIND];
        let m = registry;
        Self {
            reconciles: m.counter_vec(
                "operator_reconciles_total",
                "Reconciles; alert when errors go on",
                &[("kind", own), ("result", &["ok", "error"])],
            ),
            reconcile_seconds: m.histogram_vec(
                "operator_reconcile_duration_seconds",
                "Time of one reconcile, requests included",
                &[("kind", own)],
                LATENCY_SECONDS,
            ),
            steps: m.counter_vec(
                "operator_steps_total",
                "Steps of reconciles",
                &[("step", STEPS), ("outcome", OUTCOMES)],
            ),
            step_seconds: m.histogram_vec(
                "operator_step_duration_seconds",
                "Time of one step",
                &[("step", STEPS)],
                LATENCY_SECONDS,
            ),
            applies: m.counter_vec(
                "operator_apply_total",
                "Children by what became of them, when something did",
                &[("kind", &kinds), ("result", RESULTS)],
            ),
            errors: m.counter_vec(
                "operator_errors_total",
                "Failed requests by cause",
                &[("category", WriteError::CATEGORIES)],
            ),
            writes: m.counter_vec(
                "operator_api_writes_total",
                "Requests that change something; 0 when nothing changes",
                &[("verb", VERBS)],
            ),
            watch_restarts: m.counter_vec(
                "operator_watch_restarts_total",
                "Watches that failed and began anew; many mean trouble at the API server",
                &[("kind", &watched)],
            ),
            resources: m.gauge_vec(
                "operator_resources",
                "Resources by state",
                &[("kind", own), ("state", STATES)],
            ),
            leader: m.gauge("operator_leader", "1 while this process is the one that writes"),
            backoff_resources: m.gauge("operator_backoff_resources", "Resources that wait for a retry"),
            crd_missing: m.gauge(
                "operator_crd_missing",
                "1 while the custom resource definition is missing",
            ),
            states: Arc::default(),
        }
    }

    /// Counts a child, if anything became of it.
    pub fn applied(&self, kind: Kind, outcome: &Outcome) {
        let result = match outcome {
            Outcome::Unchanged | Outcome::Withheld(_) => return,
            Outcome::Written => "written",
            Outcome::Conflict { .. } => "conflict",
            Outcome::Rejected { .. } => "rejected",
            Outcome::NotTried => "not_tried",
        };
        self.applies.with_label_values(&[kind.as_str(), result]).inc();
    }

    /// Counts a failed request.
    pub fn failed(&self, category: &str) {
        self.errors.with_label_values(&[category]).inc();
    }

    /// Counts a watch that began anew.
    pub fn watch_restarted(&self, kind: &str) {
        self.watch_restarts.with_label_values(&[kind]).inc();
    }

    /// Starts measuring a step; an early return counts as a failure.
    pub fn step(&self, step: &'static str) -> Step<'_> {
        Step {
            metrics: self,
            step,
            started: Instant::now(),
            outcome: "failed",
        }
    }

    /// Counts a whole reconcile.
    pub fn reconciled(&self, started: Instant, is_ok: bool) {
        let result = if is_ok { "ok" } else { "error" };
        self.reconciles
            .with_label_values(&[fuse_crds::KIND, result])
            .inc();
        self.reconcile_seconds
            .with_label_values(&[fuse_crds::KIND])
            .observe(started.elapsed().as_secs_f64());
    }

    /// Notes the state of a service; `None` when it is gone.
    pub fn set_state(&self, key: &ServiceKey, status: Option<&FuseTradingServiceStatus>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let new = status.map(state);
        let old = match new {
            Some(new) => states.insert(key.clone(), new),
            None => states.remove(key),
        };
        for (state, change) in [(old, -1), (new, 1)] {
            if let Some(state) = state {
                self.resources
                    .with_label_values(&[fuse_crds::KIND, state])
                    .add(change);
            }
        }
    }

    /// A layer that counts writes; put it under the client.
    pub fn layer(&self) -> CountWrites {
        CountWrites(self.writes.clone())
    }
}

fn state(status: &FuseTradingServiceStatus) -> &'static str {
    let holds = |type_| {
        status
            .condition(type_)
            .is_some_and(|condition| condition.status == ConditionState::True)
    };
    let is_suspended = status
        .condition(ConditionType::ApiAvailable)
        .is_some_and(|condition| condition.reason == fuse_crds::Reason::Suspended);
    if holds(ConditionType::Stalled) {
        "stalled"
    } else if holds(ConditionType::Paused) {
        "paused"
    } else if is_suspended {
        "suspended"
    } else if holds(ConditionType::Ready) {
        "ready"
    } else {
        "progressing"
    }
}

/// Measures a step until it is dropped.
pub struct Step<'a> {
    metrics: &'a Metrics,
    step: &'static str,
    started: Instant,
    outcome: &'static str,
}

impl Step<'_> {
    /// The step did what it should.
    pub fn ok(mut self) {
        self.outcome = "ok";
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.metrics
            .steps
            .with_label_values(&[self.step, self.outcome])
            .inc();
        self.metrics
            .step_seconds
            .with_label_values(&[self.step])
            .observe(self.started.elapsed().as_secs_f64());
    }
}

/// Counts requests that change something, by verb.
#[derive(Clone, Debug)]
pub struct CountWrites(IntCounterVec);

impl<S> Layer<S> for CountWrites {
    type Service = CountedWrites<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountedWrites {
            writes: self.0.clone(),
            inner,
        }
    }
}

/// See [`CountWrites`].
#[derive(Clone, Debug)]
pub struct CountedWrites<S> {
    writes: IntCounterVec,
    inner: S,
}

impl<S, B> Service<Request<B>> for CountedWrites<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let verb = match *request.method() {
            Method::POST => Some("create"),
            Method::PATCH => Some("patch"),
            Method::PUT => Some("update"),
            Method::DELETE => Some("delete"),
            _ => None,
        };
        if let Some(verb) = verb {
            self.writes.with_label_values(&[verb]).inc();
        }
        self.inner.call(request)
    }
}
