//! The whole service in a cluster, as a platform team would have it: both charts, the Secrets, one FuseTradingService.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    image::Image,
    kubectl::Kubectl,
    progress::Progress,
    release::{Chart, Helm, wait_for_condition},
    stack::Addresses,
    wait,
};

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "fuse-system";
/// Namespace of the trading service.
pub const NAMESPACE: &str = "fuse";
/// Name of the FuseTradingService.
pub const NAME: &str = "trading";
/// Host of its Ingress. Names below `localhost` mean this machine to curl and to browsers.
pub const HOST: &str = "trading.localhost";
/// The labels that the operator puts on everything it makes, pods and Jobs of its children included.
const CHILDREN: &str = "app.kubernetes.io/name=fuse,app.kubernetes.io/instance=trading";
/// Kinds of everything that the operator makes, and what comes of it.
const CHILD_KINDS: &str = "serviceaccounts,configmaps,services,deployments,replicasets,pods,jobs,cronjobs,ingresses,\
     networkpolicies,poddisruptionbudgets,horizontalpodautoscalers";
/// A run that begins just before the cut waits for it, two minutes at most.
const REPORT_DEADLINE: Duration = Duration::from_secs(240);

/// A daily schedule, in UTC, that is hours away from `now` on both sides. A report run by hand soon after is then an interim
/// one, which holds every order until now; near its daily time the job takes it for the scheduled run instead, and just
/// after midnight that means yesterday's report.
#[must_use]
pub fn far_schedule(now: Timestamp) -> &'static str {
    match now.to_zoned(TimeZone::UTC).hour() {
        2..22 => "59 23 * * *",
        _ => "59 11 * * *",
    }
}

/// Where to install, and what.
#[derive(Debug)]
pub struct Deployment<'a> {
    pub kubectl: &'a Kubectl,
    pub helm: &'a Helm,
    /// The folder of the charts.
    pub charts: &'a Path,
    pub image: &'a Image,
    /// Backends as pods see them.
    pub addresses: &'a Addresses,
    /// The first admin key.
    pub admin_key: &'a str,
    /// Class of the Ingress; absent: none is made.
    pub ingress_class: Option<&'a str>,
    /// Seconds between two passes of the refresher.
    pub refresh_interval_secs: u32,
    /// When the report runs, as cron has it, in UTC.
    pub report_schedule: &'a str,
}

impl Deployment<'_> {
    /// Installs both charts; returns whether anything changed.
    ///
    /// # Errors
    /// When helm fails or the operator does not get ready.
    pub fn install_charts(&self) -> Result<bool> {
        self.ensure_namespace()?;
        let crds = self.helm.install(&Chart {
            release: "fuse-crds",
            dir: &self.charts.join("fuse-crds"),
            namespace: OPERATOR_NAMESPACE,
            values: &[],
        })?;
        let operator = self.helm.install(&Chart {
            release: "fuse-operator",
            dir: &self.charts.join("fuse-operator"),
            namespace: OPERATOR_NAMESPACE,
            values: &[
                ("image.repository", json!(self.image.repository)),
                ("image.tag", json!(self.image.tag)),
                ("watchNamespaces", json!([NAMESPACE])),
                ("secretRotation.enabled", json!(true)),
            ],
        })?;
        Ok(crds || operator)
    }

    /// Applies the Secrets and the resource; returns what kubectl said of each.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply(&self) -> Result<String> {
        let secrets = self.kubectl.apply(&list(&self.secrets()))?;
        let resource = self.kubectl.apply(&self.resource().to_string())?;
        Ok(format!("{secrets}{resource}"))
    }

    /// Waits until the resource is Ready, telling each condition that changes.
    ///
    /// # Errors
    /// When it is not Ready in time; the message holds its conditions.
    pub fn wait_ready(&self, deadline: Duration, progress: &Progress) -> Result<Value> {
        wait_for_condition(
            self.kubectl,
            NAMESPACE,
            &format!("fts/{NAME}"),
            "Ready",
            deadline,
            progress,
        )
    }

    /// Runs the report now, as a person would: a Job from the CronJob. Returns its log.
    ///
    /// # Errors
    /// When the Job fails or does not end in time; the message holds its log.
    pub fn run_report(&self, job: &str) -> Result<String> {
        let from = format!("--from=cronjob/{NAME}-report");
        self.kubectl
            .run(&["--namespace", NAMESPACE, "create", "job", job, &from])?;
        let finished = wait::until("the report's Job", REPORT_DEADLINE, || {
            let value = self
                .kubectl
                .get_json(&["--namespace", NAMESPACE, &format!("job/{job}")])
                .ok()?;
            let conditions = value["status"]["conditions"].as_array()?.clone();
            conditions
                .iter()
                .filter(|condition| condition["status"] == "True")
                .find_map(|condition| match condition["type"].as_str() {
                    Some("Complete") => Some(true),
                    Some("Failed") => Some(false),
                    _ => None,
                })
        });
        let log = self
            .kubectl
            .run(&[
                "--namespace",
                NAMESPACE,
                "logs",
                &format!("job/{job}"),
                "--tail=200",
            ])
            .unwrap_or_else(|error| format!("no log: {error:#}"));
        if !finished.with_context(|| log.clone())? {
            bail!("the report's Job failed:\n{log}");
        }
        Ok(log)
    }

    /// Deletes the resource and waits until nothing that came of it is left.
    ///
    /// # Errors
    /// When something is left after `deadline`; the message names it.
    pub fn delete(&self, deadline: Duration) -> Result<()> {
        let name = format!("fts/{NAME}");
        self.kubectl.run(&[
            "--namespace",
            NAMESPACE,
            "delete",
            &name,
            "--ignore-not-found",
            "--wait=true",
        ])?;
        let mut left = Vec::new();
        let gone = wait::until("the end of all children", deadline, || {
            left = self.children().ok()?;
            left.is_empty().then_some(())
        });
        gone.with_context(|| format!("left: {left:?}"))
    }

    /// What the operator made and what came of it, as `kind/name`.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn children(&self) -> Result<Vec<String>> {
        let args = [
            "--namespace",
            NAMESPACE,
            "get",
            CHILD_KINDS,
            "--selector",
            CHILDREN,
            "--output",
            "name",
        ];
        Ok(self.kubectl.run(&args)?.lines().map(str::to_owned).collect())
    }

    fn ensure_namespace(&self) -> Result<()> {
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": NAMESPACE,
                // What a careful team sets: our pods must run under it.
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        });
        self.kubectl.apply(&namespace.to_string()).map(drop)
    }

    fn secrets(&self) -> Vec<Value> {
        let owner = self.addresses.migration_url.as_deref();
        [
            ("vendor", "apiKey", self.addresses.vendor_key.as_str()),
            ("database", "url", &self.addresses.database_url),
            ("smtp", "url", &self.addresses.smtp_url),
            ("admin", "key", self.admin_key),
        ]
        .into_iter()
        .chain(owner.map(|url| ("database-owner", "url", url)))
        .map(|(name, key, value)| {
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "stringData": {key: value},
            })
        })
        .collect()
    }

    /// The resource; docs/samples/trading.yaml with the addresses of this machine.
    fn resource(&self) -> Value {
        let mut api = json!({
            "replicas": 2,
            "disruption": {"maxUnavailable": 1},
            "bootstrapAdminKey": {"secretName": "admin", "key": "key"},
        });
        let mut database = json!({
            "url": {"secretName": "database", "key": "url"},
            "port": port(&self.addresses.database_url),
        });
        if self.addresses.migration_url.is_some() {
            database["migrationUrl"] = json!({"secretName": "database-owner", "key": "url"});
        }
        if let Some(class) = self.ingress_class {
            api["ingress"] = json!({"className": class, "host": HOST});
        }
        json!({
            "apiVersion": "fuse.trading/v1alpha1",
            "kind": "FuseTradingService",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {
                "image": {"repository": self.image.repository, "tag": self.image.tag},
                "vendor": {
                    "baseUrl": self.addresses.vendor_url,
                    "allowHttp": true,
                    "apiKey": {"secretName": "vendor", "key": "apiKey"},
                },
                "database": database,
                "dynamodb": {
                    "region": "us-east-1",
                    "tablePrefix": "trading",
                    "endpoint": self.addresses.dynamodb_endpoint,
                },
                // The keys live and die with the data: an empty database is migrated again.
                "migration": {"trigger": trigger(self.admin_key)},
                "api": api,
                "refresher": {"intervalSeconds": self.refresh_interval_secs},
                "report": {
                    "schedule": self.report_schedule,
                    "recipients": ["ops@fuse.example"],
                    "delivery": {
                        "from": "report@fuse.example",
                        "smtp": {
                            "url": {"secretName": "smtp", "key": "url"},
                            "port": port(&self.addresses.smtp_url),
                        },
                    },
                },
            },
        })
    }
}

/// A short name for the data that goes with this key.
fn trigger(admin_key: &str) -> String {
    Sha256::digest(admin_key)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// The port at the end of a URL's authority.
fn port(url: &str) -> Option<u16> {
    let authority = url.split("://").nth(1)?.split('/').next()?;
    authority.rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_far_schedule_is_two_hours_away_at_every_minute() {
        let midnight: Timestamp = "2026-03-02T00:00:00Z".parse().expect("a time");
        for minute in 0..1440 {
            let now = midnight + jiff::SignedDuration::from_mins(minute);
            let at = match far_schedule(now) {
                "59 23 * * *" => 23 * 60 + 59,
                "59 11 * * *" => 11 * 60 + 59,
                other => panic!("{other}"),
            };
            let (since, until) = ((minute - at).rem_euclid(1440), (at - minute).rem_euclid(1440));
            assert!(since > 120 && until >= 120, "{now}: {since} since, {until} until");
        }
    }

    #[test]
    fn the_port_is_the_authoritys() {
        assert_eq!(port("postgres://a:b@10.0.0.1:5433/fuse"), Some(5433));
        assert_eq!(port("smtp://10.0.0.1:2525"), Some(2525));
        assert_eq!(port("smtp://mail.example.com"), None);
    }
}
