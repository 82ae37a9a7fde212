//! Step 4, second half: carries the plan out. The only place that writes children.
//!
//! Server-side apply with force: what we send is ours, what others added stays. The uid in the manifest is a
//! precondition, so that an object which was replaced in the meantime is not touched.

use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::params::PropagationPolicy;
use serde_json::{Value, json};

use crate::build::{Children, Configs, PerWorkload, Prepared};
use crate::dereference::Seen;
use crate::error::{ApplyError, Retry, WriteError};
use crate::facts::{self, ChildFact, Kind, ObjectId};
use crate::labels::{MANAGER, SCALE_MANAGER};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::rollout::{Decision, Plan, Scale, Withheld, foreign};
use crate::stores::Stores;
use crate::validate::ValidatedService;

/// Deadline of each request; a hidden longer one could write after the operator has stopped.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A child after its turn.
#[derive(Debug, Clone)]
pub struct Applied {
    pub kind: Kind,
    pub name: String,
    pub outcome: Outcome,
}

/// What became of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Unchanged,
    Written,
    Withheld(Withheld),
    /// The name belongs to somebody else.
    Conflict {
        owner: String,
    },
    /// The API server refuses it as it is.
    Rejected {
        message: String,
    },
    /// An earlier request failed; this child waits for the retry.
    NotTried,
}

/// All children after their turn, and what went wrong.
#[derive(Debug)]
pub struct Application {
    pub children: Children<Applied>,
    /// Requests that changed something.
    pub writes: usize,
    /// The request at which everything stopped, to be tried again.
    pub halted: Option<ApplyError>,
}

/// The API server, for the few modules that may write to it.
#[derive(Clone)]
pub struct Cluster(pub(crate) kube::Client);

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

/// What apply works with.
pub struct Applier<'a> {
    pub cluster: &'a Cluster,
    pub stores: &'a Stores,
    pub ledger: &'a Ledger,
    pub metrics: &'a Metrics,
}

/// Carries out the plan, in the order in which children need each other.
pub async fn apply(
    applier: &Applier<'_>,
    service: &ValidatedService,
    seen: &Seen,
    plan: &Plan,
    prepared: Children<Prepared>,
) -> Application {
    let mut run = Run {
        applier,
        service,
        seen,
        plan,
        writes: 0,
        halted: None,
        is_blocked: false,
    };
    let Children {
        accounts,
        policies,
        service: clients_service,
        metrics_service,
        migration_job,
        configs,
        disruption_budget,
        api,
        refresher,
        autoscaler,
        report,
        ingress,
    } = prepared;
    let accounts = run.per_workload(accounts).await;
    let policies = match policies {
        Some(policies) => Some(run.per_workload(policies).await),
        None => None,
    };
    let children = Children {
        accounts,
        policies,
        service: run.child(clients_service).await,
        metrics_service: run.optional(metrics_service).await,
        migration_job: run.child(migration_job).await,
        configs: run.configs(configs).await,
        disruption_budget: run.optional(disruption_budget).await,
        api: run.child(api).await,
        refresher: run.child(refresher).await,
        // The autoscaler leaves a target at 0 alone, so replicas come first.
        autoscaler: {
            run.scale().await;
            run.optional(autoscaler).await
        },
        report: run.optional(report).await,
        ingress: run.optional(ingress).await,
    };
    run.prune().await;
    Application {
        children,
        writes: run.writes,
        halted: run.halted,
    }
}

struct Run<'a> {
    applier: &'a Applier<'a>,
    service: &'a ValidatedService,
    seen: &'a Seen,
    plan: &'a Plan,
    writes: usize,
    halted: Option<ApplyError>,
    /// An account, policy or ConfigMap could not be made: no workload may start without it, or with a foreign one.
    is_blocked: bool,
}

impl Run<'_> {
    async fn per_workload(&mut self, children: PerWorkload<Prepared>) -> PerWorkload<Applied> {
        let PerWorkload {
            api,
            refresher,
            migration,
            report,
        } = children;
        PerWorkload {
            api: self.child(api).await,
            refresher: self.child(refresher).await,
            migration: self.child(migration).await,
            report: self.optional(report).await,
        }
    }

    async fn configs(&mut self, configs: Configs<Prepared>) -> Configs<Applied> {
        let Configs {
            api,
            refresher,
            report,
        } = configs;
        Configs {
            api: self.child(api).await,
            refresher: self.child(refresher).await,
            report: self.optional(report).await,
        }
    }

    async fn optional(&mut self, child: Option<Prepared>) -> Option<Applied> {
        match child {
            Some(child) => Some(self.child(child).await),
            None => None,
        }
    }

    async fn child(&mut self, child: Prepared) -> Applied {
        let outcome = self.outcome(&child).await;
        if matches!(outcome, Outcome::Conflict { .. } | Outcome::Rejected { .. }) {
            self.is_blocked |= is_prerequisite(child.kind);
        }
        self.applier.metrics.applied(child.kind, &outcome);
        Applied {
            kind: child.kind,
            name: child.name,
            outcome,
        }
    }

    async fn outcome(&mut self, child: &Prepared) -> Outcome {
        let decision = self.plan.decision(child);
        let writes = matches!(decision, Decision::Create | Decision::Patch { .. });
        if writes && self.halted.is_some() {
            return Outcome::NotTried;
        }
        if writes && self.is_blocked && is_workload(child.kind) {
            return Outcome::Withheld(Withheld::Prerequisite);
        }
        let uid = match decision {
            Decision::Keep => return Outcome::Unchanged,
            Decision::Withhold(why) => return Outcome::Withheld(why),
            Decision::Conflict { owner } => return Outcome::Conflict { owner },
            Decision::Patch { uid } => Some(uid),
            Decision::Create => match self.look_up(child).await {
                Ok(found) => match found {
                    Found::Nothing => None,
                    Found::Ours { uid } => Some(uid),
                    Found::Foreign(outcome) => return outcome,
                },
                Err(error) => return self.failed("get", child, error),
            },
        };
        let mut answer = self.patch(child, uid.clone()).await;
        if let (Err(WriteError::Rejected(_)), Kind::Service, Some(uid)) = (&answer, child.kind, &uid) {
            answer = match self.replace_ports(child, uid).await {
                Ok(()) => self.patch(child, Some(uid.clone())).await,
                Err(error) => Err(error),
            };
        }
        match answer {
            Ok(()) => {
                self.writes += 1;
                Outcome::Written
            }
            Err(error) => self.failed("apply", child, error),
        }
    }

    /// The watch sees only what carries our label: is there an object of this name without it?
    async fn look_up(&self, child: &Prepared) -> Result<Found, WriteError> {
        let api = self.api(child.kind);
        let Some(found) = bounded(api.get_metadata_opt(&child.name)).await? else {
            return Ok(Found::Nothing);
        };
        let owner = facts::owner(&found.metadata);
        let uid = found.metadata.uid.unwrap_or_default();
        if owner.as_ref().is_some_and(|owner| owner.uid == self.seen.uid) {
            return Ok(Found::Ours { uid });
        }
        Ok(Found::Foreign(match foreign(self.service, owner.as_ref()) {
            Decision::Conflict { owner } => Outcome::Conflict { owner },
            _ => Outcome::Withheld(Withheld::OwnedByPredecessor),
        }))
    }

    async fn patch(&self, child: &Prepared, uid: Option<String>) -> Result<(), WriteError> {
        let mut manifest = child.manifest.clone();
        if let Some(uid) = uid {
            manifest["metadata"]["uid"] = uid.into();
        }
        let fact = self.apply(child.kind, &child.name, MANAGER, &manifest).await?;
        if let Some(fact) = fact {
            let id = self.id(child.kind, &child.name);
            self.applier.ledger.record(id.clone(), child.hash, &fact);
            self.applier.stores.put_child(id, fact);
        }
        Ok(())
    }

    /// Ports are keyed by their number: somebody who edits the number makes a second port of the same name beside
    /// ours, and the API server refuses the pair. So the list is first put back as a whole.
    async fn replace_ports(&self, child: &Prepared, uid: &str) -> Result<(), WriteError> {
        let ports = child.manifest["spec"]["ports"].clone();
        let patch = json!({"metadata": {"uid": uid}, "spec": {"ports": ports}});
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        bounded(
            self.api(child.kind)
                .patch(&child.name, &params, &Patch::Merge(patch)),
        )
        .await?;
        Ok(())
    }

    async fn scale(&mut self) {
        for Scale { name, replicas } in &self.plan.scales {
            let id = self.id(Kind::Deployment, name);
            // Read anew: it may have been created a moment ago, or withheld.
            let fact = self.applier.stores.children(&self.seen.key).get(&id).cloned();
            let Some(fact) = fact.filter(|_| self.halted.is_none()) else {
                continue;
            };
            let manifest = json!({
                "apiVersion": Kind::Deployment.api_version(),
                "kind": Kind::Deployment.as_str(),
                "metadata": {"name": name, "namespace": self.service.namespace, "uid": fact.uid},
                "spec": {"replicas": replicas},
            });
            match self.apply(Kind::Deployment, name, SCALE_MANAGER, &manifest).await {
                Ok(answer) => {
                    self.writes += 1;
                    if let Some(answer) = answer {
                        self.applier.stores.put_child(id, answer);
                    }
                }
                Err(source) => {
                    self.halted = Some(ApplyError {
                        what: format!("scale Deployment {name}"),
                        source,
                    });
                }
            }
        }
    }

    async fn prune(&mut self) {
        for (id, uid) in &self.plan.prune {
            if self.halted.is_some() {
                return;
            }
            let params = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Background),
                preconditions: Some(Preconditions {
                    uid: Some(uid.clone()),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            let api = self.api(id.kind);
            match bounded(api.delete(&id.name, &params)).await {
                Ok(_) => {
                    self.writes += 1;
                    self.applier.ledger.forget(id);
                    self.mark_deleted(id);
                }
                Err(WriteError::NotFound(_)) => self.applier.ledger.forget(id),
                Err(source) => {
                    let what = format!("delete {} {}", id.kind.as_str(), id.name);
                    self.halted = Some(ApplyError { what, source });
                }
            }
        }
    }

    /// Until the watch says so: not deleted a second time.
    fn mark_deleted(&self, id: &ObjectId) {
        if let Some(fact) = self.applier.stores.children(&self.seen.key).get(id) {
            let fact = ChildFact {
                is_deleting: true,
                ..ChildFact::clone(fact)
            };
            self.applier.stores.put_child(id.clone(), fact);
        }
    }

    async fn apply(
        &self,
        kind: Kind,
        name: &str,
        manager: &str,
        manifest: &Value,
    ) -> Result<Option<ChildFact>, WriteError> {
        // Strict: a field that the API server does not know is a mistake in `build`, not something to drop.
        let params = PatchParams::apply(manager).force().validation_strict();
        let answer = bounded(self.api(kind).patch(name, &params, &Patch::Apply(manifest))).await?;
        Ok(ChildFact::of(kind, &answer))
    }

    fn failed(&mut self, verb: &str, child: &Prepared, error: WriteError) -> Outcome {
        self.applier.metrics.failed(error.category());
        if error.retry() == Retry::AwaitChange {
            return Outcome::Rejected {
                message: error.to_string(),
            };
        }
        let what = format!("{verb} {} {}", child.kind.as_str(), child.name);
        self.halted = Some(ApplyError { what, source: error });
        Outcome::NotTried
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.applier.cluster.0.clone(),
            &self.service.namespace,
            &kind.api_resource(),
        )
    }

    fn id(&self, kind: Kind, name: &str) -> ObjectId {
        ObjectId {
            kind,
            namespace: self.service.namespace.clone(),
            name: name.to_owned(),
        }
    }
}

enum Found {
    Nothing,
    Ours { uid: String },
    Foreign(Outcome),
}

fn is_prerequisite(kind: Kind) -> bool {
    matches!(kind, Kind::ServiceAccount | Kind::NetworkPolicy | Kind::ConfigMap)
}

fn is_workload(kind: Kind) -> bool {
    matches!(kind, Kind::Deployment | Kind::Job | Kind::CronJob)
}

/// A request with its deadline.
pub async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(WriteError::TimedOut(REQUEST_TIMEOUT)),
    }
}
