//! The parts of the spec about refresher, report, network and monitoring.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ResourcesSpec, SecretKeyRef};
use crate::quantity::{CIDR, DNS_LABEL, MAIL_ADDRESS, REGION, label_map};

/// The price refresher.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RefresherSpec {
    /// Time between two passes when the vendor's own tick is not known.
    #[serde(default = "interval_seconds")]
    #[schemars(range(min = 60, max = 3600))]
    pub interval_seconds: i32,
    /// CPU and memory. Defaults: requests 50m and 32Mi, memory limit 128Mi.
    #[serde(default, skip_serializing_if = "ResourcesSpec::is_empty")]
    pub resources: ResourcesSpec,
}

impl Default for RefresherSpec {
    fn default() -> Self {
        Self {
            interval_seconds: interval_seconds(),
            resources: ResourcesSpec::default(),
        }
    }
}

fn interval_seconds() -> i32 {
    300
}

/// The daily report.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ReportSpec {
    /// When it is made, in cron format.
    #[serde(default = "schedule")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = ("!self.contains('TZ=')", "schedule must not contain TZ=; set timeZone"))]
    pub schedule: String,
    /// Time zone of the schedule and of the report's day.
    #[serde(default = "time_zone")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = (
        "self.matches('^[A-Za-z0-9_+/-]+$') && self != 'Local'",
        "must be an IANA name such as Etc/UTC"
    ))]
    pub time_zone: String,
    /// Who gets it.
    #[schemars(
        length(min = 1, max = 20),
        inner(length(min = 3, max = 254), regex(pattern = MAIL_ADDRESS)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub recipients: Vec<String>,
    /// How it is sent.
    pub delivery: DeliverySpec,
}

fn schedule() -> String {
    "59 23 * * *".into()
}

fn time_zone() -> String {
    "Etc/UTC".into()
}

/// How the report is sent; set exactly one of `ses` and `smtp`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = ("has(self.ses) != has(self.smtp)", "set exactly one of ses and smtp"))]
pub struct DeliverySpec {
    /// Sender.
    #[schemars(length(min = 3, max = 254), regex(pattern = MAIL_ADDRESS))]
    pub from: String,
    /// By Amazon SES.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ses: Option<SesSpec>,
    /// By an SMTP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpSpec>,
}

/// Amazon SES.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SesSpec {
    /// AWS region.
    #[schemars(length(min = 1, max = 32), regex(pattern = REGION))]
    pub region: String,
}

/// An SMTP server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SmtpSpec {
    /// Connection URL, `smtp://…` or `smtps://…`, with user and password.
    pub url: SecretKeyRef,
    /// Port in that URL, for the network policy.
    #[serde(default = "smtp_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

fn smtp_port() -> i32 {
    587
}

/// Who may reach the pods, and what they may reach.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// Make the policies.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Namespaces whose pods may call the API; empty: everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub ingress_from: Vec<NamespacePeer>,
    /// Namespaces whose pods may read metrics; empty: every pod of the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub metrics_from: Vec<NamespacePeer>,
    /// Addresses that the pods may call, at the ports that this resource names; empty: everything but the cloud's
    /// metadata address. DNS is always allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 3, max = 43), regex(pattern = CIDR)))]
    pub egress_cidrs: Vec<String>,
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self {
            enabled: enabled(),
            ingress_from: Vec::new(),
            metrics_from: Vec::new(),
            egress_cidrs: Vec::new(),
        }
    }
}

fn enabled() -> bool {
    true
}

/// All pods of one namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NamespacePeer {
    /// Name of the namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub namespace: String,
}

/// Objects for the Prometheus operator and Grafana.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringSpec {
    /// A ServiceMonitor, and a headless Service that covers all pods.
    #[serde(default)]
    pub service_monitor: bool,
    /// A PrometheusRule with the alerts.
    #[serde(default)]
    pub prometheus_rule: bool,
    /// ConfigMaps with the dashboards.
    #[serde(default)]
    pub dashboards: bool,
    /// Labels by which the Prometheus operator finds the objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_map")]
    pub labels: BTreeMap<String, String>,
}
