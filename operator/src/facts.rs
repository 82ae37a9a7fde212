//! Objects cut to facts: what the operator needs of a child, and nothing else stays in memory.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{ApiResource, DynamicObject};
use serde_json::Value;

use crate::canonical;
use crate::labels::{COMPLETED_MIGRATIONS, DEPLOYMENT_REVISION, INSTANCE};

/// Kinds of children, in the order of the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    ConfigMap,
    CronJob,
    Deployment,
    HorizontalPodAutoscaler,
    Ingress,
    Job,
    NetworkPolicy,
    PodDisruptionBudget,
    Service,
    ServiceAccount,
}

impl Kind {
    /// Every kind; each has one watch.
    pub const ALL: &'static [Self] = &[
        Self::ConfigMap,
        Self::CronJob,
        Self::Deployment,
        Self::HorizontalPodAutoscaler,
        Self::Ingress,
        Self::Job,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::Service,
        Self::ServiceAccount,
    ];

    /// As in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::CronJob => "CronJob",
            Self::Deployment => "Deployment",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::Ingress => "Ingress",
            Self::Job => "Job",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Service => "Service",
            Self::ServiceAccount => "ServiceAccount",
        }
    }

    /// API group; empty for the core.
    pub fn group(self) -> &'static str {
        match self {
            Self::ConfigMap | Self::Service | Self::ServiceAccount => "",
            Self::Deployment => "apps",
            Self::CronJob | Self::Job => "batch",
            Self::HorizontalPodAutoscaler => "autoscaling",
            Self::Ingress | Self::NetworkPolicy => "networking.k8s.io",
            Self::PodDisruptionBudget => "policy",
        }
    }

    /// As in URLs and RBAC rules.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::CronJob => "cronjobs",
            Self::Deployment => "deployments",
            Self::HorizontalPodAutoscaler => "horizontalpodautoscalers",
            Self::Ingress => "ingresses",
            Self::Job => "jobs",
            Self::NetworkPolicy => "networkpolicies",
            Self::PodDisruptionBudget => "poddisruptionbudgets",
            Self::Service => "services",
            Self::ServiceAccount => "serviceaccounts",
        }
    }

    /// `apiVersion` in manifests.
    pub fn api_version(self) -> String {
        match (self.group(), self) {
            ("", _) => "v1".into(),
            (group, Self::HorizontalPodAutoscaler) => format!("{group}/v2"),
            (group, _) => format!("{group}/v1"),
        }
    }

    /// For a client of untyped objects.
    pub fn api_resource(self) -> ApiResource {
        let api_version = self.api_version();
        ApiResource {
            group: self.group().into(),
            version: api_version.rsplit('/').next().unwrap_or_default().into(),
            kind: self.as_str().into(),
            plural: self.plural().into(),
            api_version,
        }
    }
}

/// What one child is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

/// The controlling owner of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// One child as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildFact {
    pub uid: String,
    /// For comparing which of two facts is newer; not part of [`ChildFact::same`].
    pub resource_version: u64,
    /// Name of the service in its labels.
    pub instance: String,
    pub owner: Option<Owner>,
    pub is_deleting: bool,
    /// Hash of everything that somebody may have changed: labels, annotations, owners, and all but status.
    pub fingerprint: u64,
    pub state: ChildState,
}

/// What the status of a child tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildState {
    /// Of no interest beyond its being there.
    Plain,
    Deployment(DeploymentFact),
    Job(JobFact),
    CronJob(CronJobFact),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeploymentFact {
    /// `spec.replicas`.
    pub wanted: i32,
    pub replicas: i32,
    pub ready: i32,
    pub updated: i32,
    pub available: i32,
    /// The controller has seen the current spec.
    pub is_observed: bool,
    /// Condition `Available`; `None` before the controller wrote one.
    pub is_available: Option<bool>,
    /// Condition `Progressing` is false with the reason `ProgressDeadlineExceeded`.
    pub is_stuck: bool,
    pub image: String,
    /// From the annotation [`COMPLETED_MIGRATIONS`].
    pub completed_migrations: Vec<String>,
}

impl DeploymentFact {
    /// The rollout is over: every wanted pod is of the current template and available.
    pub fn is_settled(&self) -> bool {
        self.is_observed
            && self.updated == self.wanted
            && self.replicas == self.wanted
            && self.available == self.wanted
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobFact {
    Running,
    Complete { at: Option<Time> },
    Failed { message: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CronJobFact {
    pub is_suspended: bool,
    pub last_schedule: Option<Time>,
    pub last_success: Option<Time>,
}

impl ChildFact {
    /// Cuts an object to its facts. `None` when it has no uid or version, which no served object lacks.
    pub fn of(kind: Kind, object: &DynamicObject) -> Option<Self> {
        let meta = &object.metadata;
        Some(Self {
            uid: meta.uid.clone()?,
            resource_version: meta.resource_version.as_deref()?.parse().ok()?,
            instance: label(meta, INSTANCE),
            owner: owner(meta),
            is_deleting: meta.deletion_timestamp.is_some(),
            fingerprint: fingerprint(kind, object),
            state: state(kind, object),
        })
    }

    /// Equal in everything that could call for work.
    pub fn same(&self, other: &Self) -> bool {
        Self {
            resource_version: 0,
            ..self.clone()
        } == Self {
            resource_version: 0,
            ..other.clone()
        }
    }

    /// The facts of a Deployment, if it is one.
    pub fn deployment(&self) -> Option<&DeploymentFact> {
        match &self.state {
            ChildState::Deployment(fact) => Some(fact),
            _ => None,
        }
    }

    /// The facts of a Job, if it is one.
    pub fn job(&self) -> Option<&JobFact> {
        match &self.state {
            ChildState::Job(fact) => Some(fact),
            _ => None,
        }
    }

    /// The facts of a CronJob, if it is one.
    pub fn cron_job(&self) -> Option<&CronJobFact> {
        match &self.state {
            ChildState::CronJob(fact) => Some(fact),
            _ => None,
        }
    }
}

/// The controlling owner.
pub fn owner(meta: &ObjectMeta) -> Option<Owner> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(Owner {
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
}

fn label(meta: &ObjectMeta, key: &str) -> String {
    meta.labels
        .as_ref()
        .and_then(|labels| labels.get(key))
        .cloned()
        .unwrap_or_default()
}

fn fingerprint(kind: Kind, object: &DynamicObject) -> u64 {
    let mut annotations = object.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(DEPLOYMENT_REVISION);
    let mut hasher = canonical::Hasher::new();
    hasher.text("labels").serialized(&object.metadata.labels);
    hasher.text("annotations").serialized(&annotations);
    hasher
        .text("owners")
        .serialized(&object.metadata.owner_references);
    let Some(fields) = object.data.as_object() else {
        return hasher.finish();
    };
    for (field, value) in fields {
        match (kind, field.as_str()) {
            (_, "status") => {}
            // Replicas have their own field manager, and an autoscaler may write them.
            (Kind::Deployment, "spec") => {
                let mut spec = value.clone();
                if let Some(spec) = spec.as_object_mut() {
                    spec.remove("replicas");
                }
                hasher.text(field).value(&spec);
            }
            _ => {
                hasher.text(field).value(value);
            }
        }
    }
    hasher.finish()
}

fn state(kind: Kind, object: &DynamicObject) -> ChildState {
    match kind {
        Kind::Deployment => ChildState::Deployment(deployment(object)),
        Kind::Job => ChildState::Job(job(object)),
        Kind::CronJob => ChildState::CronJob(cron_job(object)),
        _ => ChildState::Plain,
    }
}

fn deployment(object: &DynamicObject) -> DeploymentFact {
    let data = &object.data;
    let number = |pointer: &str| {
        data.pointer(pointer)
            .and_then(Value::as_i64)
            .and_then(|n| i32::try_from(n).ok())
            .unwrap_or(0)
    };
    let annotations = object.metadata.annotations.as_ref();
    let completed = annotations
        .and_then(|all| all.get(COMPLETED_MIGRATIONS))
        .map_or("", String::as_str);
    DeploymentFact {
        wanted: number("/spec/replicas"),
        replicas: number("/status/replicas"),
        ready: number("/status/readyReplicas"),
        updated: number("/status/updatedReplicas"),
        available: number("/status/availableReplicas"),
        is_observed: data.pointer("/status/observedGeneration").and_then(Value::as_i64)
            >= object.metadata.generation,
        is_available: condition(data, "Available").map(|condition| condition["status"] == "True"),
        is_stuck: condition(data, "Progressing").is_some_and(|condition| {
            condition["status"] == "False" && condition["reason"] == "ProgressDeadlineExceeded"
        }),
        image: text(data, "/spec/template/spec/containers/0/image"),
        completed_migrations: completed
            .split(',')
            .filter(|hash| !hash.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}

fn job(object: &DynamicObject) -> JobFact {
    let is_true = |kind| condition(&object.data, kind).filter(|condition| condition["status"] == "True");
    if let Some(failed) = is_true("Failed") {
        let message = failed["message"].as_str().unwrap_or("the Job failed").to_owned();
        return JobFact::Failed { message };
    }
    match is_true("Complete") {
        Some(_) => JobFact::Complete {
            at: time(&object.data, "/status/completionTime"),
        },
        None => JobFact::Running,
    }
}

fn cron_job(object: &DynamicObject) -> CronJobFact {
    CronJobFact {
        is_suspended: object
            .data
            .pointer("/spec/suspend")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        last_schedule: time(&object.data, "/status/lastScheduleTime"),
        last_success: time(&object.data, "/status/lastSuccessfulTime"),
    }
}

fn condition<'a>(data: &'a Value, kind: &str) -> Option<&'a Value> {
    data.pointer("/status/conditions")?
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)
}

fn text(data: &Value, pointer: &str) -> String {
    data.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn time(data: &Value, pointer: &str) -> Option<Time> {
    data.pointer(pointer)?.as_str()?.parse().ok().map(Time)
}
