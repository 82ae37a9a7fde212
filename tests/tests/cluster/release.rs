//! Charts and conditions, against an API server alone: no pod is needed for them.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use fuse_harness::{
    apiserver::ApiServer,
    progress::Progress,
    release::{Chart, Helm, wait_for_condition},
    tools::{Tool, Tools},
};

const TEMPLATE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made-by-chart}\ndata: {word: {{ .Values.word | quote }}}\n";
const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: default}\n\
    spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n";

#[test]
fn a_chart_is_installed_once_and_again_when_a_value_changes() -> Result<()> {
    let server = ApiServer::start()?;
    let tools = Tools::ensure(Tool::CLIENTS, &Progress::stderr())?;
    let helm = Helm::new(&tools, server.client())?;
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("templates"))?;
    fs::write(
        dir.path().join("Chart.yaml"),
        "apiVersion: v2\nname: sample\nversion: 0.1.0\n",
    )?;
    fs::write(dir.path().join("templates/map.yaml"), TEMPLATE)?;
    let install = |word: &str| {
        helm.install(&Chart {
            release: "sample",
            dir: dir.path(),
            namespace: "charts",
            values: &[("word", word.into())],
        })
    };
    ensure!(install("one, with a comma")?, "the first time");
    ensure!(!install("one, with a comma")?, "nothing has changed");
    let word = || {
        server.kubectl(&[
            "get",
            "configmap",
            "-n",
            "charts",
            "made-by-chart",
            "-o",
            "jsonpath={.data.word}",
        ])
    };
    ensure!(word()? == "one, with a comma");
    ensure!(install("two")?, "another value");
    ensure!(word()? == "two");
    helm.uninstall("sample", "charts")?;
    helm.uninstall("sample", "charts")?;
    ensure!(word().is_err(), "it is gone");
    Ok(())
}

#[test]
fn a_condition_is_waited_for_and_its_changes_are_told() -> Result<()> {
    let server = ApiServer::start()?;
    server.client().apply(DEPLOYMENT)?;
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let progress = Progress::new(move |line| {
        sink.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line.to_owned());
    });
    let wait = |deadline| {
        wait_for_condition(
            server.client(),
            "default",
            "deployment/web",
            "Available",
            deadline,
            &progress,
        )
    };
    let error = wait(Duration::ZERO).expect_err("nobody says that it is available");
    ensure!(error.to_string().contains("is not Available"), "{error:#}");
    let patch = r#"{"status":{"conditions":[{"type":"Available","status":"True","reason":"Enough","message":"all there"}]}}"#;
    server.kubectl(&[
        "patch",
        "deployment",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        patch,
    ])?;
    wait(Duration::from_secs(20))?;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        *told == ["deployment/web: Available=True Enough: all there"],
        "{told:?}"
    );
    Ok(())
}
