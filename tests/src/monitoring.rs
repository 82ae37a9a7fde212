//! The scrape configuration that ships in the chart, made usable by a Prometheus outside of the cluster.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::services::workspace_root;

/// Where the shipped scrape configuration lies, from the project's root.
const SCRAPE_CONFIG: &str = "charts/fuse-operator/files/scrape/prometheus.yaml";
/// Discovery as the shipped file has it: from inside of the cluster, by the pod's own token.
const DISCOVERY: &str = "- role: pod";

/// The shipped configuration, with discovery by this kubeconfig.
///
/// # Errors
/// When the shipped file is missing or does not discover pods.
pub fn pod_scrape_config(kubeconfig: &Path) -> Result<String> {
    let file = workspace_root()?.join(SCRAPE_CONFIG);
    let shipped = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let mut config = String::new();
    let mut found = false;
    for line in shipped.lines() {
        config.push_str(line);
        config.push('\n');
        if let Some(indent) = line.strip_suffix(DISCOVERY) {
            found = true;
            config.push_str(&format!("{indent}  kubeconfig_file: {}\n", kubeconfig.display()));
        }
    }
    ensure!(found, "{SCRAPE_CONFIG} has no line `{DISCOVERY}`");
    Ok(config)
}
