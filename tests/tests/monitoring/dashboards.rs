//! The lint of the dashboards.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::names::{family, used_in};
use crate::{files, files_with, none, promtool, read};

/// Units of Grafana that our panels use.
const UNITS: [&str; 6] = ["reqps", "ops", "s", "short", "bytes", "dateTimeAsIso"];
const SOURCE: &str = "${datasource}";
const MATCHERS: &str = "namespace=~\"$namespace\",job=~\"$job\",instance=~\"$instance\"";

/// One query of one panel.
pub struct Query {
    panel: String,
    pub expr: String,
}

fn all() -> Result<Vec<Value>> {
    let files = files_with(&files()?.join("dashboards"), ".json")?;
    ensure!(!files.is_empty(), "no dashboard");
    files
        .iter()
        .map(|file| Ok(serde_json::from_str(&read(file)?)?))
        .collect()
}

/// All queries of all dashboards, with Grafana's variables in them.
pub fn queries() -> Result<Vec<Query>> {
    Ok(all()?.iter().flat_map(panels).flat_map(queries_of).collect())
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = list(&dashboard["panels"]).iter();
    panels.filter(|panel| text(panel, "type") != "row").collect()
}

fn queries_of(panel: &Value) -> Vec<Query> {
    let query = |target| Query {
        panel: text(panel, "title").to_owned(),
        expr: text(target, "expr").to_owned(),
    };
    list(&panel["targets"]).iter().map(query).collect()
}

fn findings(dashboard: &Value) -> Vec<String> {
    let mut found = variables(dashboard);
    if dashboard["editable"] != json!(false) {
        found.push("the dashboard is not read-only".to_owned());
    }
    let panels = panels(dashboard);
    let titles: BTreeSet<&str> = panels.iter().map(|panel| text(panel, "title")).collect();
    if titles.len() != panels.len() {
        found.push("two panels have one title".to_owned());
    }
    for panel in panels {
        found.extend(panel_findings(panel));
    }
    found
}

fn variables(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let variables = list(&dashboard["templating"]["list"]);
    for name in ["datasource", "namespace", "job", "instance"] {
        let Some(variable) = variables.iter().find(|variable| text(variable, "name") == name) else {
            found.push(format!("no variable {name}"));
            continue;
        };
        if name == "datasource" {
            if text(variable, "type") != "datasource" || text(variable, "query") != "prometheus" {
                found.push("the data source is not a Prometheus to choose".to_owned());
            }
            continue;
        }
        let query = text(&variable["query"], "query");
        if !query.starts_with("label_values(fuse_build_info")
            || !query.ends_with(&format!(", {name})")) && !query.ends_with(&format!("}}, {name})"))
        {
            found.push(format!("variable {name}: no valid query"));
        }
        if variable["refresh"] != json!(2) {
            found.push(format!("variable {name}: does not reload on time change"));
        }
        if text(&variable["datasource"], "uid") != SOURCE {
            found.push(format!("variable {name}: another data source"));
        }
    }
    found
}

fn panel_findings(panel: &Value) -> Vec<String> {
    let title = text(panel, "title");
    let mut found = Vec::new();
    let mut say = |what: &str| found.push(format!("{title}: {what}"));
    if title.is_empty() {
        say("no title");
    }
    if text(panel, "description").is_empty() {
        say("no description");
    }
    if !UNITS.contains(&text(&panel["fieldConfig"]["defaults"], "unit")) {
        say("no valid unit");
    }
    let targets = list(&panel["targets"]);
    if targets.is_empty() {
        say("no query");
    }
    let sources = targets
        .iter()
        .chain([panel])
        .map(|part| text(&part["datasource"], "uid"));
    if sources.into_iter().any(|uid| uid != SOURCE) {
        say("another data source");
    }
    for query in queries_of(panel) {
        query_findings(&query.expr).iter().for_each(|what| say(what));
    }
    found
}

fn query_findings(expr: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    let names = used_in(expr);
    if names.is_empty() {
        found.push("a query without a metric");
    }
    for name in &names {
        for (before, after) in places(expr, name) {
            if !after.starts_with(&format!("{{{MATCHERS}")) {
                found.push("a selector without the matchers of namespace, job and instance");
            }
            let is_counter = name.ends_with("_total") || family(name) != name;
            let is_in_rate = ["rate(", "irate(", "increase("]
                .iter()
                .any(|function| before.ends_with(function));
            if is_counter != is_in_rate {
                found.push("a counter outside of a rate, or a gauge in one");
            }
        }
    }
    let ranges: Vec<&str> = expr.split('[').skip(1).collect();
    if ranges.iter().any(|range| !range.starts_with("$__rate_interval]")) {
        found.push("a range that is not $__rate_interval");
    }
    found
}

/// Text before and after each place of a name.
fn places<'e>(expr: &'e str, name: &str) -> Vec<(&'e str, &'e str)> {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    expr.match_indices(name)
        .map(|(at, _)| (&expr[..at], &expr[at + name.len()..]))
        .filter(|(_, after)| ends(after))
        .collect()
}

#[test]
fn dashboards_have_what_they_must() -> Result<()> {
    let found: Vec<String> = all()?.iter().flat_map(findings).collect();
    none(&found)
}

/// promtool knows no bare expressions, but recording rules are made of them.
#[test]
fn every_query_is_promql() -> Result<()> {
    check_promql(&queries()?)?;
    let broken = Query {
        panel: "broken".to_owned(),
        expr: "sum(rate(fuse_http_requests_total[$__rate_interval])".to_owned(),
    };
    ensure!(check_promql(&[broken]).is_err(), "a missing bracket was not seen");
    Ok(())
}

fn check_promql(queries: &[Query]) -> Result<()> {
    let rule = |(index, query): (usize, &Query)| {
        let expr = query.expr.replace("$__rate_interval", "1m");
        // The label keeps queries apart that happen to be equal, and names the panel in promtool's complaint.
        json!({"record": format!("query:{index}"), "expr": expr, "labels": {"panel": query.panel}})
    };
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    let dir = tempfile::tempdir()?;
    let groups = json!({"groups": [{"name": "queries", "rules": rules}]});
    std::fs::write(dir.path().join("queries.yaml"), serde_json::to_vec(&groups)?)?;
    promtool(dir.path(), &["check", "rules", "queries.yaml"])
}

/// Breaks a copy of a dashboard at one place, and wants that finding.
fn broken(pointer: &str, value: Value, finding: &str) -> Result<()> {
    let mut dashboard = all()?.swap_remove(0);
    *dashboard
        .pointer_mut(pointer)
        .with_context(|| format!("no {pointer}"))? = value;
    let found = findings(&dashboard);
    ensure!(
        found.iter().any(|text| text.contains(finding)),
        "{pointer}: {found:?}"
    );
    Ok(())
}

#[test]
fn the_lint_sees_each_mistake() -> Result<()> {
    broken("/editable", json!(true), "not read-only")?;
    broken(
        "/templating/list/0/name",
        json!("source"),
        "no variable datasource",
    )?;
    broken(
        "/templating/list/2/refresh",
        json!(1),
        "variable job: does not reload",
    )?;
    broken(
        "/templating/list/3/query/query",
        json!("up"),
        "variable instance: no valid query",
    )?;
    broken("/panels/1/title", json!(""), "no title")?;
    broken("/panels/1/description", json!(""), "no description")?;
    broken(
        "/panels/1/fieldConfig/defaults/unit",
        json!("furlongs"),
        "no valid unit",
    )?;
    broken("/panels/1/targets", json!([]), "no query")?;
    broken("/panels/1/datasource/uid", json!("fixed"), "another data source")?;
    let matched = format!("{{{MATCHERS}}}");
    for (expr, finding) in [
        (
            format!("fuse_requests_total{matched}"),
            "a counter outside of a rate",
        ),
        (
            format!("rate(fuse_snapshot_symbols{matched}[$__rate_interval])"),
            "a gauge in one",
        ),
        (
            format!("rate(fuse_http_requests_total{matched}[5m])"),
            "not $__rate_interval",
        ),
        (
            "fuse_snapshot_symbols{job=~\"$job\"}".to_owned(),
            "without the matchers",
        ),
        ("vector(1)".to_owned(), "without a metric"),
    ] {
        broken("/panels/1/targets/0/expr", json!(expr), finding)?;
    }
    Ok(())
}
