//! Settings of each workload: a ConfigMap per workload with exactly what it reads, so that a change rolls only those
//! pods that see it; and the Secrets that it mounts as files.

use std::collections::BTreeMap;

use fuse_crds::v1alpha1::SecretKeyRef;
use serde_json::{Value, json};

use super::pod::{DRAIN_DEADLINE_SECS, SECRETS_DIR};
use super::{Prepared, prepared};
use crate::canonical;
use crate::facts::Kind;
use crate::labels;
use crate::names::Component;
use crate::validate::ValidatedService;

/// Port of the clients' API in the container.
pub const HTTP_PORT: i32 = 8080;
/// Port of metrics and probes in every container.
pub const ADMIN_PORT: i32 = 9090;

/// Everything that the operator may set itself, except `_FILE` forms.
const OPERATOR_VARIABLES: &[&str] = &[
    "FUSE_ADMIN__LISTEN",
    "FUSE_AUTH__BOOTSTRAP_ADMIN_KEY",
    "FUSE_DATABASE__MIGRATION_URL",
    "FUSE_DATABASE__URL",
    "FUSE_DYNAMODB__ENDPOINT",
    "FUSE_DYNAMODB__REGION",
    "FUSE_DYNAMODB__TABLE_PREFIX",
    "FUSE_HTTP__LISTEN",
    "FUSE_LIFECYCLE__DEADLINE_SECS",
    "FUSE_LIFECYCLE__DRAIN_DELAY_SECS",
    "FUSE_MAIL__FROM",
    "FUSE_MAIL__SES_REGION",
    "FUSE_MAIL__SMTP_URL",
    "FUSE_ORDERS__MAX_QUOTE_AGE_SECS",
    "FUSE_ORDERS__PRICE_TOLERANCE_PERCENT",
    "FUSE_REDIS__URL",
    "FUSE_REFRESH__INTERVAL_SECS",
    "FUSE_REPORT__RECIPIENTS",
    "FUSE_REPORT__TIME",
    "FUSE_REPORT__TIME_ZONE",
    "FUSE_VENDOR__API_KEY",
    "FUSE_VENDOR__BASE_URL",
];

/// Whether users may not set this variable, since it comes from a field of the spec.
pub fn is_set_by_operator(name: &str) -> bool {
    let name = name.strip_suffix("_FILE").unwrap_or(name);
    OPERATOR_VARIABLES.contains(&name)
}

/// Settings of one workload, not secret.
pub fn settings(service: &ValidatedService, component: Component) -> BTreeMap<&'static str, String> {
    let spec = &service.spec;
    let mut settings = BTreeMap::from([
        // The preStop pause comes first, so that the process need not wait once more.
        ("FUSE_LIFECYCLE__DRAIN_DELAY_SECS", "0".to_owned()),
        ("FUSE_LIFECYCLE__DEADLINE_SECS", DRAIN_DEADLINE_SECS.to_string()),
    ]);
    if matches!(component, Component::Api | Component::Refresher) {
        settings.insert("FUSE_ADMIN__LISTEN", format!("0.0.0.0:{ADMIN_PORT}"));
        settings.extend(market(service));
    }
    if component == Component::Api {
        settings.extend([
            ("FUSE_HTTP__LISTEN", format!("0.0.0.0:{HTTP_PORT}")),
            (
                "FUSE_ORDERS__PRICE_TOLERANCE_PERCENT",
                spec.price_tolerance_percent.clone(),
            ),
            (
                "FUSE_ORDERS__MAX_QUOTE_AGE_SECS",
                spec.max_quote_age_seconds.to_string(),
            ),
        ]);
    }
    let Some(report) = &spec.report else {
        return settings;
    };
    if matches!(component, Component::Api | Component::Report) {
        settings.insert("FUSE_REPORT__TIME_ZONE", report.time_zone.clone());
        settings.extend(
            service
                .report_time
                .clone()
                .map(|time| ("FUSE_REPORT__TIME", time)),
        );
    }
    if component == Component::Report {
        // A schedule that is not one time a day runs at hours that are nobody's hand.
        if service.report_time.is_none() {
            settings.insert("FUSE_REPORT__INTERIM", "false".to_owned());
        }
        settings.insert("FUSE_REPORT__RECIPIENTS", report.recipients.join(","));
        settings.insert("FUSE_MAIL__FROM", report.delivery.from.clone());
        let ses = report.delivery.ses.as_ref();
        settings.extend(ses.map(|ses| ("FUSE_MAIL__SES_REGION", ses.region.clone())));
    }
    settings
}

fn market(service: &ValidatedService) -> Vec<(&'static str, String)> {
    let spec = &service.spec;
    let mut settings = vec![
        ("FUSE_DYNAMODB__REGION", spec.dynamodb.region.clone()),
        ("FUSE_DYNAMODB__TABLE_PREFIX", spec.dynamodb.table_prefix.clone()),
        (
            "FUSE_REFRESH__INTERVAL_SECS",
            spec.refresher.interval_seconds.to_string(),
        ),
        ("FUSE_VENDOR__BASE_URL", spec.vendor.base_url.clone()),
    ];
    if let Some(endpoint) = &spec.dynamodb.endpoint {
        settings.push(("FUSE_DYNAMODB__ENDPOINT", endpoint.clone()));
        // A stand-in takes any credentials, but the SDK wants some; with an identity it has its own.
        if spec.identity.service_account_annotations.is_empty() {
            settings.push(("AWS_ACCESS_KEY_ID", "local".to_owned()));
            settings.push(("AWS_SECRET_ACCESS_KEY", "local".to_owned()));
        }
    }
    settings
}

/// Name of the ConfigMap of a workload.
pub fn config_map(service: &ValidatedService, component: Component) -> Prepared {
    let name = service.names.of(component);
    let manifest = json!({
        "metadata": labels::metadata(&service.names, &service.namespace, &service.uid, &name, Some(component)),
        "data": settings(service, component),
    });
    prepared(Kind::ConfigMap, name, manifest)
}

/// Hash of the settings of a workload, for the annotation that rolls its pods.
pub fn checksum(service: &ValidatedService, component: Component) -> String {
    let settings: serde_json::Map<String, Value> = settings(service, component)
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    format!("{:016x}", canonical::hash(&Value::Object(settings)))
}

/// One key of a Secret, mounted as one file.
pub struct SecretFile<'a> {
    /// Name of the volume and of its directory.
    pub volume: &'static str,
    /// Variable that names the file.
    pub variable: &'static str,
    pub secret: &'a SecretKeyRef,
}

impl SecretFile<'_> {
    /// Where it is mounted.
    pub fn directory(&self) -> String {
        format!("{SECRETS_DIR}/{}", self.volume)
    }

    /// The file itself; its name does not depend on the key, which may hold any character.
    pub fn path(&self) -> String {
        format!("{}/value", self.directory())
    }
}

/// The Secrets that a workload mounts.
pub fn secrets(service: &ValidatedService, component: Component) -> Vec<SecretFile<'_>> {
    let spec = &service.spec;
    let file = |volume, variable, secret| SecretFile {
        volume,
        variable,
        secret,
    };
    let vendor = || {
        file(
            "vendor-api-key",
            "FUSE_VENDOR__API_KEY_FILE",
            &spec.vendor.api_key,
        )
    };
    let database = || file("database-url", "FUSE_DATABASE__URL_FILE", &spec.database.url);
    let owner = || {
        let url = spec.database.migration_url.as_ref();
        url.map(|url| file("database-migration-url", "FUSE_DATABASE__MIGRATION_URL_FILE", url))
    };
    let redis = || {
        spec.redis
            .as_ref()
            .map(|redis| file("redis-url", "FUSE_REDIS__URL_FILE", &redis.url))
    };
    let admin_key = || {
        let key = spec.api.bootstrap_admin_key.as_ref();
        key.map(|key| file("bootstrap-admin-key", "FUSE_AUTH__BOOTSTRAP_ADMIN_KEY_FILE", key))
    };
    let smtp = || {
        let smtp = spec
            .report
            .as_ref()
            .and_then(|report| report.delivery.smtp.as_ref());
        smtp.map(|smtp| file("smtp-url", "FUSE_MAIL__SMTP_URL_FILE", &smtp.url))
    };
    match component {
        Component::Api => [Some(vendor()), Some(database()), redis(), admin_key()]
            .into_iter()
            .flatten()
            .collect(),
        Component::Refresher => [Some(vendor()), redis()].into_iter().flatten().collect(),
        Component::Report => [Some(database()), smtp()].into_iter().flatten().collect(),
        // It needs the services' URL, too: it grants to that role.
        Component::Migration => [Some(database()), owner()].into_iter().flatten().collect(),
    }
}
