//! Start and stop: the definition may come later, the API server may go away in between.

use std::time::Duration;

use anyhow::Result;
use fuse_harness::apiserver::ApiServer;
use fuse_harness::wait;
use operator::config::ControllerSettings;
use serde_json::json;

use crate::support::{self, DEADLINE, MINIMAL, Operator, World};

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_the_definition_and_survives_the_api_server() -> Result<()> {
    let mut server = ApiServer::start()?;
    let settings = ControllerSettings {
        watch_namespaces: Vec::new(),
        watch_secrets: true,
        resync: Duration::from_secs(600),
        debounce: Duration::from_millis(20),
        concurrency: 4,
    };
    let operator = Operator::start(server.kubeconfig(), settings).await?;
    let missing = || async { (operator.metric("fuse_operator_crd_missing") == 1.0).then_some(()) };
    wait::until_async("a missing definition", DEADLINE, missing).await?;
    assert!(!operator.readiness.is_ready());
    assert_eq!(
        operator.readiness.report()["pending"][0]["condition"],
        "watches",
        "{}",
        operator.readiness.report()
    );
    support::install_definition(&server)?;
    let ready = || async { operator.readiness.is_ready().then_some(()) };
    wait::until_async("ready", DEADLINE, ready).await?;
    assert_eq!(operator.metric("fuse_operator_leader"), 1.0);

    server.kubectl(&["create", "namespace", "late"])?;
    let apply = ["apply", "--server-side", "-n", "late", "-f", "-"];
    server.client().run_with_input(&apply, MINIMAL)?;
    let kubectl = server.client().clone();
    let has = |what: &'static str| {
        let kubectl = kubectl.clone();
        move || {
            let kubectl = kubectl.clone();
            async move { kubectl.run(&["-n", "late", "get", what]).ok() }
        }
    };
    wait::until_async("the Service", DEADLINE, has("service/trading-api")).await?;

    // Changes made while the watches were away are not lost.
    server.restart()?;
    server.kubectl(&["-n", "late", "delete", "service", "trading-api"])?;
    wait::until_async("the Service again", DEADLINE, has("service/trading-api")).await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_at_once() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.kubectl_apply(MINIMAL)?;
    world.condition("Ready", "False", "SecretNotFound").await?;
    let started = std::time::Instant::now();
    operator.stop().await?;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    world.change(json!({"maxQuoteAgeSeconds": 700})).await?;
    Ok(())
}
