//! The part of the spec about the REST API.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;
use crate::quantity::{DNS_SUBDOMAIN, ENV_NAME, QUANTITY, label_map};

/// The REST API.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = (
    "!has(self.disruption) || !has(self.disruption.minAvailable) || self.disruption.minAvailable < (has(self.autoscaling) ? self.autoscaling.minReplicas : self.replicas)",
    "disruption.minAvailable must be below the replica count, or drains never finish"
))]
#[serde(rename_all = "camelCase")]
pub struct ApiSpec {
    /// Replicas; ignored under autoscaling. For zero use `suspended`.
    #[serde(default = "replicas")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,
    /// Scale by CPU use; absent: `replicas` holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingSpec>,
    /// Limits evictions; absent: no disruption budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<DisruptionSpec>,
    /// The way in from outside the cluster; absent: Service only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// The first administrator's API key, created when the API starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_admin_key: Option<SecretKeyRef>,
    /// CPU and memory of one replica. Defaults: requests 100m and 64Mi, memory limit 128Mi.
    #[serde(default, skip_serializing_if = "ResourcesSpec::is_empty")]
    pub resources: ResourcesSpec,
    /// More environment variables. Names that the operator sets itself are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 50),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<EnvVar>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_map")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
}

impl Default for ApiSpec {
    fn default() -> Self {
        Self {
            replicas: replicas(),
            autoscaling: None,
            disruption: None,
            ingress: None,
            bootstrap_admin_key: None,
            resources: ResourcesSpec::default(),
            env: Vec::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        }
    }
}

fn replicas() -> i32 {
    2
}

/// Scaling by CPU use.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = ("self.minReplicas <= self.maxReplicas", "minReplicas must not exceed maxReplicas"))]
#[serde(rename_all = "camelCase")]
pub struct AutoscalingSpec {
    /// Never fewer.
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: i32,
    /// Never more.
    #[schemars(range(min = 1, max = 500))]
    pub max_replicas: i32,
    /// Wanted CPU use in percent of the request.
    #[serde(default = "target_cpu_utilization", rename = "targetCPUUtilization")]
    #[schemars(range(min = 10, max = 95))]
    pub target_cpu_utilization: i32,
}

fn target_cpu_utilization() -> i32 {
    70
}

/// Limit of evictions; set exactly one field.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = (
    "has(self.minAvailable) != has(self.maxUnavailable)",
    "set exactly one of minAvailable and maxUnavailable"
))]
#[serde(rename_all = "camelCase")]
pub struct DisruptionSpec {
    /// Replicas that stay up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub min_available: Option<i32>,
    /// Replicas that may go at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub max_unavailable: Option<i32>,
}

/// The Ingress.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IngressSpec {
    /// IngressClass; absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub class_name: Option<String>,
    /// Host name that clients use.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub host: String,
    /// Secret with the certificate; absent: plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub tls_secret_name: Option<String>,
    /// Annotations for the ingress controller.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_map")]
    pub annotations: BTreeMap<String, String>,
}

/// CPU and memory; each absent value has a default.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct ResourcesSpec {
    /// Guaranteed.
    #[serde(default, skip_serializing_if = "ResourceValues::is_empty")]
    pub requests: ResourceValues,
    /// Not exceeded. A CPU limit is not set by default: it throttles.
    #[serde(default, skip_serializing_if = "ResourceValues::is_empty")]
    pub limits: ResourceValues,
}

impl ResourcesSpec {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty()
    }
}

/// CPU and memory.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct ResourceValues {
    /// Cores, such as `100m` or `0.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = QUANTITY))]
    pub cpu: Option<String>,
    /// Bytes, such as `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = QUANTITY))]
    pub memory: Option<String>,
}

impl ResourceValues {
    fn is_empty(&self) -> bool {
        self.cpu.is_none() && self.memory.is_none()
    }
}

/// One environment variable.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Name.
    #[schemars(length(min = 1, max = 128), regex(pattern = ENV_NAME))]
    pub name: String,
    /// Value, not secret.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// A taint that the pods tolerate, as in a pod.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Taint key; absent with `Exists`: every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 316))]
    pub key: Option<String>,
    /// How the value is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Taint value, for `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Which effect is tolerated; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long a `NoExecute` taint is tolerated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TolerationOperator {
    Exists,
    Equal,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}
