//! Installing things into a cluster and waiting for them: charts by helm, manifests by kubectl.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    kubectl::Kubectl,
    proc,
    progress::Progress,
    tools::{Tool, Tools},
};

/// Longest time for one helm command; it waits for Deployments to be ready.
const HELM_DEADLINE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(250);
/// In front of the hash in a release's description.
const STAMP: &str = "content ";

/// A chart to be installed.
#[derive(Clone, Copy, Debug)]
pub struct Chart<'a> {
    /// Name of the release.
    pub release: &'a str,
    /// Directory of the chart.
    pub dir: &'a Path,
    /// Namespace, made when it is missing.
    pub namespace: &'a str,
    /// Values as `path.to.key` and JSON: text is quoted.
    pub values: &'a [(&'a str, Value)],
}

/// helm, bound to one cluster.
#[derive(Clone, Debug)]
pub struct Helm {
    binary: PathBuf,
    kubectl: Kubectl,
}

impl Helm {
    /// # Errors
    /// When `tools` has no helm.
    pub fn new(tools: &Tools, kubectl: &Kubectl) -> Result<Self> {
        Ok(Self {
            binary: tools.path(Tool::Helm)?.to_path_buf(),
            kubectl: kubectl.clone(),
        })
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        self.kubectl.bind_helm(&mut command);
        command.args(args);
        let output = proc::run(&mut command, HELM_DEADLINE)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Installs or upgrades a chart and waits until its workloads are ready. Does nothing, and returns `false`, when the last
    /// revision is of the same chart and values.
    ///
    /// # Errors
    /// When helm fails; the message holds what it said.
    pub fn install(&self, chart: &Chart<'_>) -> Result<bool> {
        let description = format!("{STAMP}{}", content_hash(chart)?);
        if self.description(chart)?.as_deref() == Some(description.as_str()) {
            return Ok(false);
        }
        let dir = chart.dir.display().to_string();
        let timeout = format!("{}s", HELM_DEADLINE.as_secs() - 30);
        let values: Vec<String> = chart
            .values
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut args = vec![
            "upgrade",
            "--install",
            chart.release,
            &dir,
            "--namespace",
            chart.namespace,
        ];
        args.extend([
            "--create-namespace",
            "--wait",
            "--timeout",
            &timeout,
            "--description",
            &description,
        ]);
        for value in &values {
            args.extend(["--set-json", value]);
        }
        self.run(&args)
            .with_context(|| format!("install the chart {}", chart.release))?;
        Ok(true)
    }

    /// Description of the last revision, when that is deployed.
    fn description(&self, chart: &Chart<'_>) -> Result<Option<String>> {
        let args = [
            "history",
            chart.release,
            "--namespace",
            chart.namespace,
            "--max",
            "1",
            "-o",
            "json",
        ];
        // It fails for a release that was never installed.
        let Ok(text) = self.run(&args) else {
            return Ok(None);
        };
        let revisions: Value = serde_json::from_str(&text).context("helm's history")?;
        let last = revisions.as_array().and_then(|all| all.last());
        let text = |field: &str| last.and_then(|last| last.get(field)).and_then(Value::as_str);
        Ok(text("description")
            .filter(|_| text("status") == Some("deployed"))
            .map(str::to_owned))
    }

    /// Removes a release; fine when there is none.
    ///
    /// # Errors
    /// When helm fails.
    pub fn uninstall(&self, release: &str, namespace: &str) -> Result<()> {
        self.run(&[
            "uninstall",
            release,
            "--namespace",
            namespace,
            "--wait",
            "--ignore-not-found",
        ])
        .with_context(|| format!("uninstall {release}"))
        .map(drop)
    }
}

/// Hash of all files of the chart and of its values.
fn content_hash(chart: &Chart<'_>) -> Result<String> {
    let mut files = BTreeMap::new();
    collect(chart.dir, chart.dir, &mut files)?;
    let mut hash = Sha256::new();
    for (path, content) in files {
        for part in [path.as_bytes(), &content] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    for (key, value) in chart.values {
        hash.update(format!("\0{key}={value}").as_bytes());
    }
    Ok(hash
        .finalize()
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read the chart {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path);
            files.insert(name.display().to_string(), fs::read(&path)?);
        }
    }
    Ok(())
}

/// Waits until an object has the condition `kind` with status True, telling every change on the way. Returns the object.
///
/// `object` is kubectl's `type/name`.
///
/// # Errors
/// When `deadline` has passed; the message holds all conditions.
pub fn wait_for_condition(
    kubectl: &Kubectl,
    namespace: &str,
    object: &str,
    kind: &str,
    deadline: Duration,
    progress: &Progress,
) -> Result<Value> {
    let begun = Instant::now();
    let mut told = BTreeMap::new();
    loop {
        let answer = kubectl.get_json(&["--namespace", namespace, object]);
        if let Ok(value) = &answer {
            for condition in conditions(value) {
                if told.insert(condition.kind.clone(), condition.clone()).as_ref() != Some(&condition) {
                    progress.say(format!("{object}: {condition}"));
                }
            }
            if told
                .get(kind)
                .is_some_and(|condition| condition.status == "True" && condition.is_current)
            {
                return answer;
            }
        }
        if begun.elapsed() > deadline {
            let all: Vec<String> = told.values().map(ToString::to_string).collect();
            let last = answer.err().map(|error| format!("{error:#}")).unwrap_or_default();
            bail!(
                "{object} is not {kind} after {} s: {} {last}",
                deadline.as_secs(),
                all.join("; ")
            );
        }
        std::thread::sleep(PAUSE);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    kind: String,
    status: String,
    reason: String,
    message: String,
    /// Not about an older version of the object.
    is_current: bool,
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            status,
            reason,
            message,
            ..
        } = self;
        write!(f, "{kind}={status} {reason}")?;
        if message.is_empty() {
            Ok(())
        } else {
            write!(f, ": {message}")
        }
    }
}

fn conditions(object: &Value) -> Vec<Condition> {
    let generation = object
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    let list = object.pointer("/status/conditions").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .map(|condition| {
            let text = |field: &str| {
                condition
                    .get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let observed = condition.get("observedGeneration").and_then(Value::as_i64);
            Condition {
                kind: text("type"),
                status: text("status"),
                reason: text("reason"),
                message: text("message"),
                is_current: observed.is_none_or(|observed| observed >= generation),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_condition_about_an_older_version_is_not_current() {
        let object = json!({
            "metadata": {"generation": 2},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "reason": "Done", "observedGeneration": 1},
                {"type": "Stalled", "status": "False", "reason": "Fine", "message": "all well"},
            ]},
        });
        let found = conditions(&object);
        assert!(!found[0].is_current);
        assert!(found[1].is_current);
        assert_eq!(found[1].to_string(), "Stalled=False Fine: all well");
    }

    #[test]
    fn a_changed_file_or_value_changes_the_hash() -> Result<()> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("Chart.yaml"), "name: x")?;
        let (one, two) = ([("a", json!("1"))], [("a", json!("2"))]);
        let chart = |values| Chart {
            release: "x",
            dir: dir.path(),
            namespace: "n",
            values,
        };
        let first = content_hash(&chart(&one))?;
        assert_eq!(first, content_hash(&chart(&one))?);
        assert_ne!(first, content_hash(&chart(&two))?);
        fs::write(dir.path().join("Chart.yaml"), "name: y")?;
        assert_ne!(first, content_hash(&chart(&one))?);
        Ok(())
    }
}
