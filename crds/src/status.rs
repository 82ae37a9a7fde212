//! The status: conditions that `kubectl wait` understands, and their types and reasons as enums.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::date_time;

/// What the operator saw and did. Written only when more than time differs.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FuseTradingServiceStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Image that really serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Address behind the Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Replicas of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiStatus>,
    /// The schema migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationStatus>,
    /// The daily report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportStatus>,
    /// Secrets in use, when the operator watches them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl FuseTradingServiceStatus {
    /// The condition of this type, if it was written.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }
}

/// Replicas of the API.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ApiStatus {
    /// Pods there are.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// Ready of wanted, as `3/3`.
    pub ready: String,
    /// Label selector of the pods, for the scale subresource.
    pub selector: String,
}

/// The schema migration.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// Hash of image, command, trigger and, where it is set, `database.migrationUrl`.
    pub hash: String,
    /// How far it is.
    pub state: MigrationState,
    /// Name of its Job.
    pub job: String,
    /// When it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub completed_at: Option<Time>,
    /// The last ten hashes that completed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub completed_hashes: Vec<String>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MigrationState {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// The daily report, as the CronJob tells.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ReportStatus {
    /// Last start by schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub last_schedule_time: Option<Time>,
    /// Last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub last_successful_time: Option<Time>,
}

/// An object that the resource names and the operator watches.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Version that was seen.
    pub resource_version: String,
}

/// One condition.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionState,
    /// Generation of the spec that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` changed last.
    #[schemars(schema_with = "date_time")]
    pub last_transition_time: Time,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in a sentence.
    #[serde(default)]
    pub message: String,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionState {
    True,
    False,
    Unknown,
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in the status.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    ConditionType {
        Ready, Reconciling, Stalled, ReferencesResolved, Migrated, ApiAvailable, RefresherAvailable, ReportScheduled,
        MonitoringAvailable, Paused,
    }
}

words! {
    Reason {
        AllAvailable, InvalidSpec, NameConflict, Rejected, SecretNotFound, MigrationPending, MigrationRunning,
        MigrationFailed, ApiUnavailable, RefresherUnavailable, ReportNotScheduled, Suspended, Applying, RollingOut,
        WaitingForDeletion, Retrying, Settled, Paused, Stalled, NotStalled, Found, NotWatched, JobComplete,
        AlreadyCompleted, MinimumReplicasAvailable, ProgressDeadlineExceeded, TooFewReplicas, NotCreated, Running,
        NotRunning, Scheduled, Disabled, Applied, CRDMissing, NotSupported, PausedBySpec, Active,
    }
}
