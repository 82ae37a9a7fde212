//! What the chart ships for monitoring, made usable by a Prometheus on this machine.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{kubectl::Kubectl, services::workspace_root};

/// Where the shipped files lie, from the project's root.
const FILES: &str = "charts/fuse-operator/files";
/// Discovery as the shipped file has it: by the API server.
const DISCOVERY: &str = "    kubernetes_sd_configs:\n      - role: pod\n";
const SCRAPE_INTERVAL: &str = "scrape_interval: 15s";
const SCRAPE_TIMEOUT: &str = "scrape_timeout: 10s";

/// The shipped scrape configuration, with the pods from `targets` instead of the API server: Debian's Prometheus has no discovery
/// by Kubernetes. `interval` in whole seconds replaces the shipped one.
///
/// # Errors
/// When the shipped file is missing or has another form.
pub fn pod_scrape_config(targets: &PodTargets, interval: Option<Duration>) -> Result<String> {
    let shipped = read("scrape/prometheus.yaml")?;
    ensure!(
        shipped.contains(DISCOVERY),
        "the shipped scrape configuration does not discover pods as expected"
    );
    let by_file = format!(
        "    file_sd_configs:\n      - files: [\"{}\"]\n        refresh_interval: 5s\n",
        targets.file.display()
    );
    let mut config = shipped.replace(DISCOVERY, &by_file);
    if let Some(interval) = interval {
        ensure!(config.contains(SCRAPE_INTERVAL), "no `{SCRAPE_INTERVAL}`");
        let seconds = interval.as_secs();
        config = config.replace(SCRAPE_INTERVAL, &format!("scrape_interval: {seconds}s"));
        config = config.replace(SCRAPE_TIMEOUT, &format!("scrape_timeout: {seconds}s"));
    }
    Ok(config)
}

/// A file with the pods of a cluster and the labels that discovery by the API server gives them, so that the shipped relabelling
/// runs unchanged.
#[derive(Debug, Clone)]
pub struct PodTargets {
    kubectl: Kubectl,
    file: PathBuf,
}

impl PodTargets {
    /// Nothing is written before the first [`PodTargets::refresh`].
    #[must_use]
    pub fn new(kubectl: Kubectl, file: PathBuf) -> Self {
        Self { kubectl, file }
    }

    /// Reads the pods that are ours and writes the file when they are others than before.
    ///
    /// # Errors
    /// When the API server does not answer or the file cannot be written.
    pub fn refresh(&self) -> Result<()> {
        let pods = self.kubectl.get_json(&[
            "pods",
            "--all-namespaces",
            "--selector",
            "app.kubernetes.io/name in (fuse, fuse-operator)",
        ])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let targets: Vec<Value> = pods.iter().flat_map(targets_of).collect();
        let text = serde_json::to_vec_pretty(&targets)?;
        if fs::read(&self.file).is_ok_and(|before| before == text) {
            return Ok(());
        }
        let scratch = self.file.with_extension("new");
        fs::write(&scratch, text)?;
        fs::rename(&scratch, &self.file).with_context(|| format!("write {}", self.file.display()))
    }
}

fn targets_of(pod: &Value) -> Vec<Value> {
    let text = |pointer: &str| {
        pod.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let address = text("/status/podIP");
    if address.is_empty() {
        return Vec::new();
    }
    let mut labels = BTreeMap::from([
        (
            "__meta_kubernetes_namespace".to_owned(),
            text("/metadata/namespace"),
        ),
        ("__meta_kubernetes_pod_name".to_owned(), text("/metadata/name")),
        ("__meta_kubernetes_pod_phase".to_owned(), text("/status/phase")),
    ]);
    for (name, value) in pod
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        labels.insert(
            format!("__meta_kubernetes_pod_label_{name}"),
            value.as_str().unwrap_or_default().to_owned(),
        );
    }
    let containers = pod
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let ports = containers.flat_map(|container| container["ports"].as_array().cloned().unwrap_or_default());
    ports
        .map(|port| {
            let mut labels = labels.clone();
            let name = port["name"].as_str().unwrap_or_default().to_owned();
            labels.insert("__meta_kubernetes_pod_container_port_name".to_owned(), name);
            json!({"targets": [format!("{address}:{}", port["containerPort"])], "labels": labels})
        })
        .collect()
}

/// The shipped alert and recording rules.
///
/// # Errors
/// When there is no workspace above.
pub fn rules_file() -> Result<PathBuf> {
    Ok(workspace_root()?.join(FILES).join("rules/fuse.yaml"))
}

/// Every query of every shipped dashboard as (panel, PromQL), with Grafana's variables filled in.
///
/// # Errors
/// When a dashboard cannot be read.
pub fn dashboard_queries(variables: &BTreeMap<&str, &str>) -> Result<Vec<(String, String)>> {
    let dir = workspace_root()?.join(FILES).join("dashboards");
    let mut queries = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let dashboard: Value = serde_json::from_slice(&fs::read(entry?.path())?)?;
        for panel in dashboard["panels"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap_or("?").to_owned();
            for target in panel["targets"].as_array().into_iter().flatten() {
                let mut query = target["expr"]
                    .as_str()
                    .unwrap_or_default()
                    .replace("$__rate_interval", "1m");
                for (name, value) in variables {
                    query = query.replace(&format!("${name}"), value);
                }
                queries.push((title.clone(), query));
            }
        }
    }
    Ok(queries)
}

fn read(name: &str) -> Result<String> {
    let file = workspace_root()?.join(FILES).join(name);
    fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
}
