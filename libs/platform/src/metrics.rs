//! One registry per process, injected; names get the prefix `fuse_`, label values stand at zero from the start.
//!
//! Asking again for the same name and type gives the same metric, so that two parts of a process can share one.
//! Label values are bounded: route templates, outcomes, reasons; never an id, a symbol or an error text.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Buckets for jobs that take seconds, or minutes when something hangs.
pub const JOB_SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0];

/// Buckets of numbers of things, such as the rows of a statement.
pub const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Observes a number of things, for whoever has no floats.
pub fn observe_count(histogram: &prometheus::Histogram, count: usize) {
    histogram.observe(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}

/// Buckets from 1 ms to 10 s, with edges at the objectives (0.1 s for reads, 0.25 s for buys).
pub const LATENCY_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Buckets for ages of prices, with an edge at the objective (300 s).
pub const AGE_SECONDS: &[f64] = &[
    1.0, 5.0, 15.0, 60.0, 120.0, 300.0, 330.0, 600.0, 900.0, 1800.0, 3600.0,
];

/// Labels with all values each can have: every combination stands at zero from the start. A label whose values are
/// only known later (a route template) has none here, and then none are made.
pub type Labels<'a> = &'a [(&'a str, &'a [&'a str])];

/// The registry, and constructors on it. Cheap to clone.
///
/// The constructors panic on a name or label that Prometheus does not allow and on a name used for two types: both
/// are mistakes in the code that every test of the process shows at once.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Default)]
struct Inner {
    registry: Registry,
    made: Mutex<HashMap<String, Box<dyn Any + Send + Sync>>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// An empty registry, for tests and libraries' own tests.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry with `fuse_build_info` and the usual `process_*` metrics.
    #[must_use]
    pub fn for_process() -> Self {
        let metrics = Self::new();
        metrics
            .gauge_vec(
                "build_info",
                "1, with what was built",
                &[("version", &[crate::VERSION]), ("revision", &[crate::REVISION])],
            )
            .with_label_values(&[crate::VERSION, crate::REVISION])
            .set(1);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        metrics
            .0
            .registry
            .register(Box::new(process))
            .expect("a new registry has no process collector");
        metrics
    }

    /// The registry itself, for collectors of one's own.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        debug_assert!(name.ends_with("_total"), "the counter {name} ends in _total");
        self.make(name, |name| IntCounter::new(name, help))
    }

    pub fn counter_vec(&self, name: &str, help: &str, labels: Labels<'_>) -> IntCounterVec {
        debug_assert!(name.ends_with("_total"), "the counter {name} ends in _total");
        let vec = self.make(name, |name| {
            IntCounterVec::new(Opts::new(name, help), &names(labels))
        });
        for values in combinations(labels) {
            vec.with_label_values(&values);
        }
        vec
    }

    /// A counter whose labels do not combine freely (state and reason): only `combinations` stand at zero.
    pub fn counter_vec_of(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        combinations: &[&[&str]],
    ) -> IntCounterVec {
        debug_assert!(name.ends_with("_total"), "the counter {name} ends in _total");
        let vec = self.make(name, |name| IntCounterVec::new(Opts::new(name, help), labels));
        for values in combinations {
            vec.with_label_values(values);
        }
        vec
    }

    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.make(name, |name| IntGauge::new(name, help))
    }

    pub fn gauge_vec(&self, name: &str, help: &str, labels: Labels<'_>) -> IntGaugeVec {
        let vec = self.make(name, |name| {
            IntGaugeVec::new(Opts::new(name, help), &names(labels))
        });
        for values in combinations(labels) {
            vec.with_label_values(&values);
        }
        vec
    }

    /// A gauge with fractions: seconds, ratios.
    pub fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.make(name, |name| Gauge::new(name, help))
    }

    /// As [`Metrics::float_gauge`], with labels.
    pub fn float_gauge_vec(&self, name: &str, help: &str, labels: Labels<'_>) -> GaugeVec {
        let vec = self.make(name, |name| GaugeVec::new(Opts::new(name, help), &names(labels)));
        for values in combinations(labels) {
            vec.with_label_values(&values);
        }
        vec
    }

    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.make(name, |name| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
        })
    }

    pub fn histogram_vec(&self, name: &str, help: &str, labels: Labels<'_>, buckets: &[f64]) -> HistogramVec {
        let vec = self.make(name, |name| {
            HistogramVec::new(
                HistogramOpts::new(name, help).buckets(buckets.to_vec()),
                &names(labels),
            )
        });
        for values in combinations(labels) {
            vec.with_label_values(&values);
        }
        vec
    }

    /// `fuse_dependency_up` of one dependency: 1 if the last use of it worked. At 0 until the first use.
    pub fn dependency_up(&self, dependency: &str) -> IntGauge {
        let vec = self.gauge_vec(
            "dependency_up",
            "1 if the last use of the dependency worked",
            &[("dependency", &[])],
        );
        vec.with_label_values(&[dependency])
    }

    /// Everything in the text format.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.0.registry.gather(), &mut text) {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics not encoded");
        }
        text
    }

    fn make<C>(&self, name: &str, new: impl FnOnce(String) -> prometheus::Result<C>) -> C
    where
        C: Collector + Clone + Any + Send + Sync,
    {
        let name = format!("fuse_{name}");
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(&name) {
            return known
                .downcast_ref::<C>()
                .unwrap_or_else(|| panic!("the metric {name} is made as two types"))
                .clone();
        }
        let metric =
            new(name.clone()).unwrap_or_else(|error| panic!("the metric {name} cannot be made: {error}"));
        self.0
            .registry
            .register(Box::new(metric.clone()))
            .unwrap_or_else(|error| panic!("the metric {name} cannot be registered: {error}"));
        made.insert(name, Box::new(metric.clone()));
        metric
    }
}

fn names<'a>(labels: Labels<'a>) -> Vec<&'a str> {
    labels.iter().map(|(name, _)| *name).collect()
}

fn combinations<'a>(labels: Labels<'a>) -> Vec<Vec<&'a str>> {
    labels.iter().fold(vec![Vec::new()], |rows, (_, values)| {
        rows.iter()
            .flat_map(|row| {
                values.iter().map(move |value| {
                    let mut row = row.clone();
                    row.push(*value);
                    row
                })
            })
            .collect()
    })
}
