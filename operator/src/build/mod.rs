//! Step 3: the manifests of all children. Pure: no client, no clock, no store; golden-tested as a whole.

use serde_json::{Value, json};

use crate::canonical;
use crate::facts::Kind;
use crate::names::Component;
use crate::validate::ValidatedService;

pub mod api;
pub mod config;
pub mod identity;
pub mod migration;
pub mod monitoring;
pub mod network;
pub mod pod;
pub mod refresher;
pub mod report;

/// All children, in any state: as manifests ([`Prepared`]) or as they came back ([`crate::apply::Applied`]).
///
/// Whoever takes it apart does so without `..`, so that a forgotten child does not compile.
#[derive(Debug, Clone)]
pub struct Children<T> {
    pub accounts: PerWorkload<T>,
    pub policies: Option<PerWorkload<T>>,
    pub service: T,
    pub metrics_service: Option<T>,
    pub migration_job: T,
    pub configs: Configs<T>,
    pub disruption_budget: Option<T>,
    pub api: T,
    pub refresher: T,
    pub autoscaler: Option<T>,
    pub report: Option<T>,
    pub ingress: Option<T>,
}

/// One of each workload.
#[derive(Debug, Clone)]
pub struct PerWorkload<T> {
    pub api: T,
    pub refresher: T,
    pub migration: T,
    pub report: Option<T>,
}

/// One of each workload that has settings.
#[derive(Debug, Clone)]
pub struct Configs<T> {
    pub api: T,
    pub refresher: T,
    pub report: Option<T>,
}

/// A manifest, ready to be applied.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub kind: Kind,
    pub name: String,
    /// In canonical form.
    pub manifest: Value,
    /// Hash of the manifest.
    pub hash: u64,
}

/// Builds all children. `completed` are the migrations that are known to have completed.
pub fn build(service: &ValidatedService, completed: &[String]) -> Children<Prepared> {
    let has_report = service.spec.report.is_some();
    let suspended = service.spec.suspended;
    Children {
        accounts: per_workload(has_report, |component| identity::account(service, component)),
        policies: service
            .spec
            .network_policy
            .enabled
            .then(|| per_workload(has_report, |component| network::policy(service, component))),
        service: api::service(service),
        metrics_service: monitoring::metrics_service(service),
        migration_job: migration::job(service),
        configs: Configs {
            api: config::config_map(service, Component::Api),
            refresher: config::config_map(service, Component::Refresher),
            report: has_report.then(|| config::config_map(service, Component::Report)),
        },
        disruption_budget: api::disruption_budget(service),
        api: api::deployment(service, completed),
        refresher: refresher::deployment(service),
        // An autoscaler would fight with the suspension.
        autoscaler: if suspended { None } else { api::autoscaler(service) },
        report: report::cron_job(service),
        ingress: api::ingress(service),
    }
}

fn per_workload<T>(has_report: bool, make: impl Fn(Component) -> T) -> PerWorkload<T> {
    PerWorkload {
        api: make(Component::Api),
        refresher: make(Component::Refresher),
        migration: make(Component::Migration),
        report: has_report.then(|| make(Component::Report)),
    }
}

/// Completes a manifest with its type and brings it into canonical form.
fn prepared(kind: Kind, name: String, manifest: Value) -> Prepared {
    let mut whole = json!({"apiVersion": kind.api_version(), "kind": kind.as_str()});
    if let (Some(whole), Value::Object(rest)) = (whole.as_object_mut(), manifest) {
        whole.extend(rest);
    }
    let manifest = canonical::canonical(whole);
    Prepared {
        kind,
        name,
        hash: canonical::hash(&manifest),
        manifest,
    }
}

impl<T> Children<T> {
    /// All there are, in the order in which they are applied.
    pub fn all(&self) -> Vec<&T> {
        let Self {
            accounts,
            policies,
            service,
            metrics_service,
            migration_job,
            configs,
            disruption_budget,
            api,
            refresher,
            autoscaler,
            report,
            ingress,
        } = self;
        let mut all = accounts.all();
        all.extend(policies.iter().flat_map(PerWorkload::all));
        all.push(service);
        all.extend(metrics_service);
        all.push(migration_job);
        all.extend(configs.all());
        all.extend(disruption_budget);
        all.extend([api, refresher]);
        all.extend(autoscaler);
        all.extend(report);
        all.extend(ingress);
        all
    }
}

impl<T> PerWorkload<T> {
    fn all(&self) -> Vec<&T> {
        let Self {
            api,
            refresher,
            migration,
            report,
        } = self;
        [api, refresher, migration].into_iter().chain(report).collect()
    }
}

impl<T> Configs<T> {
    fn all(&self) -> Vec<&T> {
        let Self {
            api,
            refresher,
            report,
        } = self;
        [api, refresher].into_iter().chain(report).collect()
    }
}
