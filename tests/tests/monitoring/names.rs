//! Names of metrics: what the code exports, and what rules, dashboards and documents use.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use fuse_harness::services::workspace_root;

use crate::{dashboards, files_with, none, read, rules};

/// Constructors of the platform's registry that take a metric's name first.
const CONSTRUCTORS: [&str; 8] = [
    ".counter(",
    ".counter_vec(",
    ".counter_vec_of(",
    ".gauge(",
    ".gauge_vec(",
    ".float_gauge(",
    ".float_gauge_vec(",
    ".histogram",
];
/// Code that makes metrics.
const SOURCES: [&str; 6] = [
    "libs/platform/src",
    "libs/market/src",
    "libs/ledger/src",
    "api-service/src",
    "cache-refresher/src",
    "operator/src",
];
/// What the `process` collector of the prometheus crate exports, and Prometheus itself about each target.
const FOREIGN: [&str; 7] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
    "up",
];

/// Every `fuse_` metric that some constructor call in the code makes.
fn exported() -> Result<BTreeSet<String>> {
    let root = workspace_root()?;
    let mut names = BTreeSet::new();
    for dir in SOURCES {
        for file in files_with(&root.join(dir), ".rs")? {
            let text = read(&file)?;
            // Tests beside the code make metrics that no process exports.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            names.extend(made_in(code));
        }
    }
    ensure!(names.len() > 30, "only {} constructor calls found", names.len());
    Ok(names)
}

fn made_in(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for constructor in CONSTRUCTORS {
        for call in code.split(constructor).skip(1) {
            let argument = call
                .trim_start_matches("_vec")
                .trim_start_matches('(')
                .trim_start();
            if let Some(name) = argument.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                names.push(format!("fuse_{name}"));
            }
        }
    }
    names
}

/// Names of metrics in PromQL: of ours, recorded ones, and of the processes. Text in quotes and comments is left out.
pub fn used_in(promql: &str) -> BTreeSet<String> {
    let code: String = promql
        .lines()
        .map(|line| line.split(" #").next().unwrap_or_default())
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let outside_quotes: String = code.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    outside_quotes
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| {
            word.starts_with("fuse_")
                || word.starts_with("fuse:")
                || word.starts_with("process_")
                || *word == "up"
        })
        .map(str::to_owned)
        .collect()
}

/// The metric that a series belongs to: histograms have three kinds of series.
pub fn family(name: &str) -> &str {
    ["_bucket", "_count", "_sum"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

fn unknown(used: &BTreeSet<String>, exported: &BTreeSet<String>, recorded: &BTreeSet<String>) -> Vec<String> {
    let is_known = |name: &str| {
        exported.contains(name)
            || exported.contains(family(name))
            || recorded.contains(name)
            || FOREIGN.contains(&name)
    };
    used.iter()
        .filter(|name| !is_known(name))
        .map(|name| format!("nobody exports {name}"))
        .collect()
}

#[test]
fn every_metric_in_use_is_exported() -> Result<()> {
    let rules = rules::all()?;
    let recorded = rules.iter().filter_map(|rule| rule.record.clone()).collect();
    let mut used = BTreeSet::new();
    for rule in &rules {
        used.extend(used_in(&rule.expr));
    }
    for query in dashboards::queries()? {
        used.extend(used_in(&query.expr));
    }
    let exported = exported()?;
    none(&unknown(&used, &exported, &recorded))?;
    // The check itself: a name that nobody exports is seen.
    let invented = used_in("rate(fuse_invented_total{job=\"fuse_quoted\"}[5m]) > 0 # fuse_comment");
    ensure!(unknown(&invented, &exported, &recorded) == ["nobody exports fuse_invented_total"]);
    Ok(())
}

#[test]
fn the_document_lists_what_is_exported() -> Result<()> {
    let text = read(&workspace_root()?.join("docs/metrics.md"))?;
    let listed: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("fuse_"))
        .map(str::to_owned)
        .collect();
    let exported = exported()?;
    let missing = exported
        .difference(&listed)
        .map(|name| format!("docs/metrics.md lacks {name}"));
    let invented = listed
        .difference(&exported)
        .map(|name| format!("docs/metrics.md invents {name}"));
    none(&missing.chain(invented).collect::<Vec<_>>())
}
