//! What the chart ships for monitoring, made usable by a Prometheus on this machine.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::services::workspace_root;

/// Where the shipped files lie, from the project's root.
const FILES: &str = "charts/fuse-operator/files";
/// Discovery as the shipped file has it: from inside of the cluster, by the pod's own token.
const DISCOVERY: &str = "- role: pod";
const SCRAPE_INTERVAL: &str = "scrape_interval: 15s";
const SCRAPE_TIMEOUT: &str = "scrape_timeout: 10s";

/// The shipped scrape configuration, with discovery by this kubeconfig; `interval` in whole seconds replaces the shipped one.
///
/// # Errors
/// When the shipped file is missing or has another form.
pub fn pod_scrape_config(kubeconfig: &Path, interval: Option<Duration>) -> Result<String> {
    let mut config = String::new();
    let mut found = false;
    for line in read("scrape/prometheus.yaml")?.lines() {
        config.push_str(line);
        config.push('\n');
        if let Some(indent) = line.strip_suffix(DISCOVERY) {
            found = true;
            config.push_str(&format!("{indent}  kubeconfig_file: {}\n", kubeconfig.display()));
        }
    }
    ensure!(found, "the shipped scrape configuration has no line `{DISCOVERY}`");
    if let Some(interval) = interval {
        ensure!(config.contains(SCRAPE_INTERVAL), "no `{SCRAPE_INTERVAL}`");
        let seconds = interval.as_secs();
        config = config.replace(SCRAPE_INTERVAL, &format!("scrape_interval: {seconds}s"));
        config = config.replace(SCRAPE_TIMEOUT, &format!("scrape_timeout: {seconds}s"));
    }
    Ok(config)
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
                let mut query = target["expr"].as_str().unwrap_or_default().replace("$__rate_interval", "1m");
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
