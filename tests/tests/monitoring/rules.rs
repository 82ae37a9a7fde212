//! Alert and recording rules.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use fuse_harness::services::workspace_root;
use serde::Deserialize;

use crate::{files, files_with, none, promtool, read};

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// One rule; `alert` or `record` names it.
#[derive(Clone, Default, Deserialize)]
pub struct Rule {
    pub alert: Option<String>,
    pub record: Option<String>,
    pub expr: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<TestCase>,
}

#[derive(Deserialize)]
struct TestCase {
    alert_rule_test: Vec<Expectation>,
}

#[derive(Deserialize)]
struct Expectation {
    alertname: String,
    exp_alerts: Vec<serde_json::Value>,
}

pub fn all() -> Result<Vec<Rule>> {
    let file: RuleFile = serde_yaml_ng::from_str(&read(&files()?.join("rules/fuse.yaml"))?)?;
    Ok(file.groups.into_iter().flat_map(|group| group.rules).collect())
}

fn alerts() -> Result<Vec<(String, Rule)>> {
    let rules = all()?.into_iter();
    Ok(rules
        .filter_map(|rule| Some((rule.alert.clone()?, rule)))
        .collect())
}

/// What is wrong with one alert; `runbooks` is the text of the operations document.
fn findings(name: &str, rule: &Rule, runbooks: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !name.starts_with("Fuse") {
        found.push(format!("{name}: the name does not start with Fuse"));
    }
    let severity = rule.labels.get("severity").map(String::as_str);
    if !matches!(severity, Some("page" | "ticket")) {
        found.push(format!("{name}: the severity is neither page nor ticket"));
    }
    // A rule of several jobs keeps the label of its series instead of setting one.
    if !rule.labels.contains_key("job") && !rule.expr.contains("trading_service, job") {
        found.push(format!("{name}: no job"));
    }
    for key in ["summary", "description"] {
        if rule.annotations.get(key).is_none_or(|text| text.len() < 10) {
            found.push(format!("{name}: no {key}"));
        }
    }
    let anchor = format!("docs/operations.md#{}", name.to_lowercase());
    if rule.annotations.get("runbook") != Some(&anchor) {
        found.push(format!("{name}: the runbook is not {anchor}"));
    }
    let Some(section) = runbooks
        .split("\n### ")
        .find(|section| section.lines().next() == Some(name))
    else {
        found.push(format!("{name}: no runbook"));
        return found;
    };
    for part in ["**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Mitigation.**"] {
        if !section.contains(part) {
            found.push(format!("{name}: the runbook has no {part}"));
        }
    }
    found
}

#[test]
fn every_alert_is_complete_and_has_a_runbook() -> Result<()> {
    let runbooks = read(&workspace_root()?.join("docs/operations.md"))?;
    let found: Vec<String> = alerts()?
        .iter()
        .flat_map(|(name, rule)| findings(name, rule, &runbooks))
        .collect();
    none(&found)
}

#[test]
fn the_check_of_alerts_sees_each_mistake() -> Result<()> {
    let runbooks = read(&workspace_root()?.join("docs/operations.md"))?;
    let bare = findings("Invented", &Rule::default(), &runbooks);
    ensure!(bare.len() == 7, "{bare:#?}");
    let (name, rule) = alerts()?.into_iter().next().context("an alert")?;
    let without_impact = runbooks.replace("**Impact.**", "");
    ensure!(findings(&name, &rule, &without_impact) == [format!("{name}: the runbook has no **Impact.**")]);
    Ok(())
}

#[test]
fn every_runbook_has_its_alert() -> Result<()> {
    let names: BTreeSet<String> = alerts()?.into_iter().map(|(name, _)| name).collect();
    let runbooks = read(&workspace_root()?.join("docs/operations.md"))?;
    let stale = runbooks.lines().filter_map(|line| line.strip_prefix("### Fuse"));
    none(
        &stale
            .filter(|rest| !names.contains(&format!("Fuse{rest}")))
            .map(|rest| format!("a runbook of no alert: Fuse{rest}"))
            .collect::<Vec<_>>(),
    )
}

#[test]
fn every_alert_is_seen_firing_and_silent() -> Result<()> {
    let mut seen: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    for file in files_with(&files()?.join("rules"), "_test.yaml")? {
        let tests: TestFile =
            serde_yaml_ng::from_str(&read(&file)?).with_context(|| format!("{}", file.display()))?;
        for expectation in tests.tests.into_iter().flat_map(|test| test.alert_rule_test) {
            let is_silent = expectation.exp_alerts.is_empty();
            seen.entry(expectation.alertname).or_default()[usize::from(is_silent)] = true;
        }
    }
    let missing = alerts()?
        .into_iter()
        .filter_map(|(name, _)| match seen.get(&name) {
            Some([true, true]) => None,
            Some([false, _]) | None => Some(format!("{name} is not seen firing")),
            Some([true, false]) => Some(format!("{name} is not seen silent")),
        });
    none(&missing.collect::<Vec<_>>())
}

#[test]
fn promtool_finds_the_rules_right() -> Result<()> {
    let dir = files()?.join("rules");
    promtool(&dir, &["check", "rules", "fuse.yaml"])?;
    for file in files_with(&dir, "_test.yaml")? {
        promtool(&dir, &["test", "rules", &file.to_string_lossy()])?;
    }
    Ok(())
}

/// Debian's Prometheus is built without discovery through Kubernetes, so that part is left to the cluster's test.
#[test]
fn the_scrape_configuration_is_valid_but_for_its_discovery() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let shipped = read(&files()?.join("scrape/prometheus.yaml"))?;
    let discovery = "kubernetes_sd_configs:\n      - role: pod";
    ensure!(shipped.contains(discovery));
    let config = shipped.replace(discovery, "file_sd_configs:\n      - files: [targets.json]");
    std::fs::write(dir.path().join("prometheus.yml"), config)?;
    std::fs::write(dir.path().join("targets.json"), "[]")?;
    std::fs::copy(files()?.join("rules/fuse.yaml"), dir.path().join("fuse.yaml"))?;
    promtool(dir.path(), &["check", "config", "prometheus.yml"])
}
