//! The program itself: configuration, readiness, metrics, and a quick stop.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fuse_harness::proc::Proc;

use crate::support::{DEADLINE, World};

const OPERATOR: &str = env!("CARGO_BIN_EXE_operator");

#[test]
fn prints_the_definition() -> Result<()> {
    let output = Command::new(OPERATOR).arg("crd").output()?;
    assert_eq!(String::from_utf8(output.stdout)?, fuse_crds::crd_yaml()?);
    let output = Command::new(OPERATOR).args(["crd", "--chart"]).output()?;
    assert_eq!(String::from_utf8(output.stdout)?, fuse_crds::chart_yaml()?);
    Ok(())
}

#[test]
fn names_every_mistake_of_its_configuration() -> Result<()> {
    let output = Command::new(OPERATOR)
        .env_clear()
        .env("FUSE_OPERATOR__WATCH_SECRETS", "perhaps")
        .env("FUSE_OPERATOR__CONCURRENCY", "0")
        .env("FUSE_OPERATOR__RESYNCH_SECS", "5")
        .output()?;
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr)?;
    for variable in [
        "FUSE_OPERATOR__WATCH_SECRETS",
        "FUSE_OPERATOR__CONCURRENCY",
        "FUSE_OPERATOR__RESYNCH_SECS",
    ] {
        assert!(said.contains(variable), "{variable} in {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gets_ready_serves_metrics_and_stops_at_once() -> Result<()> {
    let world = World::new().await?;
    let operator = Proc::build("operator", OPERATOR)
        .env("KUBECONFIG", world.server.kubeconfig())
        .env("FUSE_ADMIN__LISTEN", "127.0.0.1:0")
        .env("FUSE_OPERATOR__WATCH_NAMESPACES", &world.namespace)
        .start()?;
    let address = operator.wait_until("its admin port", DEADLINE, || {
        let log = operator.log();
        let line = log.lines().find(|line| line.contains("admin listening"))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["address"].as_str().map(str::to_owned)
    })?;
    operator.wait_for_http(&format!("http://{address}/readyz"), DEADLINE)?;
    operator.wait_for_http(&format!("http://{address}/metrics"), DEADLINE)?;
    let started = std::time::Instant::now();
    let status = operator.terminate(Duration::from_secs(10)).context("stop")?;
    assert!(status.success(), "{status}: {}", operator.log_tail());
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    Ok(())
}
