//! Version `v1alpha1` of the resource: the spec, field by field, with its limits, defaults and CEL rules.
//!
//! Defaults that depend on the component (resource requests) are filled in by the operator; all others by the API
//! server, so that `kubectl get -o yaml` shows what is in force.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{DIGEST, DNS_SUBDOMAIN, REGION, REPOSITORY, SECRET_KEY, TABLE_PREFIX, TAG, label_map};
use crate::status::FuseTradingServiceStatus;

mod api;
mod report;

pub use api::{
    ApiSpec, AutoscalingSpec, DisruptionSpec, EnvVar, IngressSpec, ResourceValues, ResourcesSpec,
    TaintEffect, Toleration, TolerationOperator,
};
pub use report::{
    DeliverySpec, MonitoringSpec, NamespacePeer, NetworkPolicySpec, RefresherSpec, ReportSpec, SesSpec,
    SmtpSpec,
};

use std::collections::BTreeMap;

/// One stock trading service: its API, its price refresher and its daily report.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "fuse.trading",
    version = "v1alpha1",
    kind = "FuseTradingService",
    plural = "fusetradingservices",
    shortname = "fts",
    category = "fuse",
    namespaced,
    status = "FuseTradingServiceStatus",
    derive = "PartialEq",
    doc = "One stock trading service: REST API, price refresher and daily report.",
    validation = ("size(self.metadata.name) <= 40", "metadata.name: at most 40 characters, child names add up to 17"),
    validation = ("self.metadata.name.matches('^[a-z][-a-z0-9]*$')", "metadata.name: start with a letter, then only a-z, 0-9 and '-'"),
    scale(
        spec_replicas_path = ".spec.api.replicas",
        status_replicas_path = ".status.api.replicas",
        label_selector_path = ".status.api.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "API", type_ = "string", json_path = ".status.api.ready", description = "Ready of wanted API replicas"),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image", description = "What really serves"),
    printcolumn(name = "Migrated", type_ = "string", json_path = r#".status.conditions[?(@.type=="Migrated")].reason"#, priority = 1),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = (
    "self.maxQuoteAgeSeconds >= self.refresher.intervalSeconds",
    "maxQuoteAgeSeconds must not be below refresher.intervalSeconds"
))]
#[serde(rename_all = "camelCase")]
pub struct FuseTradingServiceSpec {
    /// The operator observes and reports, but writes no child.
    #[serde(default)]
    pub paused: bool,
    /// No pods: replicas 0, no reports, no autoscaler. Data and Service stay.
    #[serde(default)]
    pub suspended: bool,
    /// How far a limit price may be from the quote, in percent: a decimal from 0 to 99.9999 with at most four decimals.
    #[serde(default = "price_tolerance_percent")]
    #[schemars(length(max = 7))]
    #[x_kube(validation = (
        "self.matches('^(0|[1-9][0-9]?)([.][0-9]{1,4})?$')",
        "must be a decimal from 0 to 99.9999 with at most four decimals"
    ))]
    pub price_tolerance_percent: String,
    /// No order is placed on a quote older than this.
    #[serde(default = "max_quote_age_seconds")]
    #[schemars(range(min = 60, max = 86400))]
    pub max_quote_age_seconds: i32,
    /// The one image that holds all programs.
    pub image: ImageSpec,
    /// What the pods may do outside the cluster.
    #[serde(default, skip_serializing_if = "IdentitySpec::is_empty")]
    pub identity: IdentitySpec,
    /// The stock vendor.
    pub vendor: VendorSpec,
    /// The PostgreSQL database of orders and portfolios.
    pub database: DatabaseSpec,
    /// A shared cache; without it each replica reads DynamoDB itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSpec>,
    /// The table of price snapshots.
    pub dynamodb: DynamoDbSpec,
    /// The schema migration that runs before a new version serves.
    #[serde(default)]
    pub migration: MigrationSpec,
    /// The REST API.
    #[serde(default)]
    pub api: ApiSpec,
    /// The price refresher; always one replica.
    #[serde(default)]
    pub refresher: RefresherSpec,
    /// The daily report; absent: no report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportSpec>,
    /// Who may reach the pods, and what they may reach.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
    /// Objects for the Prometheus operator and Grafana.
    #[serde(default)]
    pub monitoring: MonitoringSpec,
}

fn price_tolerance_percent() -> String {
    "2".into()
}

fn max_quote_age_seconds() -> i32 {
    600
}

/// One key of a Secret in the namespace of the resource.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub secret_name: String,
    /// Key inside the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

/// Where the image comes from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = ("has(self.tag) != has(self.digest)", "set exactly one of tag and digest"))]
#[serde(rename_all = "camelCase")]
pub struct ImageSpec {
    /// Registry and path, without tag.
    #[schemars(length(min = 1, max = 255), regex(pattern = REPOSITORY))]
    pub repository: String,
    /// Tag; or set `digest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = TAG))]
    pub tag: Option<String>,
    /// `sha256:` and 64 hex digits; or set `tag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = DIGEST))]
    pub digest: Option<String>,
    /// When nodes pull it.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Secrets of the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub pull_secrets: Vec<PullSecret>,
}

impl ImageSpec {
    /// The reference as pods name it: `repository:tag` or `repository@digest`.
    pub fn reference(&self) -> String {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => format!("{}:{tag}", self.repository),
            (None, Some(digest)) => format!("{}@{digest}", self.repository),
            (None, None) => self.repository.clone(),
        }
    }
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// A Secret of type `kubernetes.io/dockerconfigjson`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PullSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
}

/// What the pods may do outside the cluster.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct IdentitySpec {
    /// Annotations of every ServiceAccount, such as `eks.amazonaws.com/role-arn`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_map")]
    pub service_account_annotations: BTreeMap<String, String>,
}

impl IdentitySpec {
    fn is_empty(&self) -> bool {
        self.service_account_annotations.is_empty()
    }
}

/// The stock vendor.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = (
    "self.baseUrl.matches('^https?://[^/@?#]+(/[^@?#]*)?$') && (self.allowHttp || self.baseUrl.startsWith('https:'))",
    "baseUrl must be https without user or query; http needs allowHttp"
))]
#[serde(rename_all = "camelCase")]
pub struct VendorSpec {
    /// Base of the vendor's API.
    #[schemars(length(min = 8, max = 2048))]
    pub base_url: String,
    /// Allow `http:` in `baseUrl`; for tests.
    #[serde(default)]
    pub allow_http: bool,
    /// The vendor's key.
    pub api_key: SecretKeyRef,
}

/// The PostgreSQL database.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = (
    "!has(self.migrationUrl) || self.migrationUrl.secretName != self.url.secretName || self.migrationUrl.key != self.url.key",
    "migrationUrl must name another key than url: it is of another role"
))]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSpec {
    /// Connection URL, `postgres://…`.
    pub url: SecretKeyRef,
    /// URL of the same database for the migration alone, as the role that owns the tables; absent: `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_url: Option<SecretKeyRef>,
    /// Port in these URLs, for the network policy.
    #[serde(default = "database_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

fn database_port() -> i32 {
    5432
}

/// The shared cache.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct RedisSpec {
    /// Connection URL, `redis://…`.
    pub url: SecretKeyRef,
    /// Port in that URL, for the network policy.
    #[serde(default = "redis_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

fn redis_port() -> i32 {
    6379
}

/// The table of price snapshots.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DynamoDbSpec {
    /// AWS region.
    #[schemars(length(min = 1, max = 32), regex(pattern = REGION))]
    pub region: String,
    /// Tables are named `{tablePrefix}-…`. Cannot be changed: another prefix is another history.
    #[schemars(length(min = 3, max = 32), regex(pattern = TABLE_PREFIX))]
    #[x_kube(validation = ("self == oldSelf", "tablePrefix is immutable"))]
    pub table_prefix: String,
    /// Another endpoint than AWS's own; for tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 8, max = 2048),
        regex(pattern = r"^https?://[^/@?#]+(/[^@?#]*)?$")
    )]
    pub endpoint: Option<String>,
}

/// The schema migration.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MigrationSpec {
    /// Any new value runs the migration again, also after a failure.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub trigger: String,
    /// Repeats of a failed migration pod.
    #[serde(default = "backoff_limit")]
    #[schemars(range(min = 0, max = 6))]
    pub backoff_limit: i32,
    /// Time limit of the whole migration.
    #[serde(default = "active_deadline_seconds")]
    #[schemars(range(min = 30, max = 3600))]
    pub active_deadline_seconds: i32,
}

impl Default for MigrationSpec {
    fn default() -> Self {
        Self {
            trigger: String::new(),
            backoff_limit: backoff_limit(),
            active_deadline_seconds: active_deadline_seconds(),
        }
    }
}

fn backoff_limit() -> i32 {
    2
}

fn active_deadline_seconds() -> i32 {
    600
}
