//! What people are told to paste is accepted by a real API server with our definition.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use fuse_harness::{
    apiserver::ApiServer, progress::Progress, services::workspace_root, tools::Tool, tools::Tools, wait,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until the definition is served, and returns what the API server says of the manifest in a dry run.
fn dry_run(server: &ApiServer, manifest: &str) -> Result<String> {
    wait::until("the definition", DEADLINE, || {
        server.kubectl(&["get", "fts", "--all-namespaces"]).ok().map(drop)
    })?;
    server
        .client()
        .run_with_input(&["apply", "--dry-run=server", "--filename", "-"], manifest)
}

#[test]
fn the_sample_and_the_notes_resource_are_accepted() -> Result<()> {
    let root = workspace_root()?;
    let server = ApiServer::start()?;
    server
        .client()
        .apply(&fs::read_to_string(root.join("crds/fusetradingservices.yaml"))?)?;
    let sample = fs::read_to_string(root.join("docs/samples/trading.yaml"))?;
    ensure!(dry_run(&server, &sample)?.contains("created"), "the sample");

    let tools = Tools::ensure(Tool::CLIENTS, &Progress::stderr())?;
    let notes = Command::new(tools.path(Tool::Helm)?)
        .args([
            "install",
            "fuse-operator",
            "--dry-run=client",
            "--namespace=fuse-system",
        ])
        .arg(format!("--kubeconfig={}", server.kubeconfig().display()))
        .arg(root.join("charts/fuse-operator"))
        .output()?;
    let notes = String::from_utf8_lossy(&notes.stdout).into_owned() + &String::from_utf8_lossy(&notes.stderr);
    let pasted = notes
        .split_once("<<'RESOURCE'\n")
        .and_then(|(_, rest)| rest.split_once("RESOURCE"))
        .with_context(|| format!("no resource to paste in:\n{notes}"))?
        .0;
    let pasted: Vec<&str> = pasted
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line))
        .collect();
    ensure!(
        dry_run(&server, &pasted.join("\n"))?.contains("created"),
        "the resource in NOTES"
    );
    Ok(())
}
