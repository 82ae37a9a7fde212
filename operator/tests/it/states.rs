//! Paused, suspended, refused, deleted; and what `kubectl` shows of it.

use anyhow::Result;
use operator::facts::Kind;
use serde_json::json;

use crate::support::{FULL, MINIMAL, World};

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_wait_and_get_tell_how_it_is() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(FULL).await?;
    world.kubectl(&["wait", "--for=condition=Ready", "fts/trading", "--timeout=10s"])?;
    let table = world.kubectl(&["get", "fts", "-o", "wide"])?;
    for word in [
        "True",
        "AllAvailable",
        "3/3",
        "registry.example.com/fuse/trading:1.4.2",
        "JobComplete",
        "https://trading.example.com",
    ] {
        assert!(table.contains(word), "{word} in {table}");
    }
    // The short manifest is the whole truth: defaults are no difference.
    let diff = [
        "diff",
        "--server-side",
        "--force-conflicts",
        "-n",
        &world.namespace,
        "-f",
        "-",
    ];
    world.server.client().run_with_input(&diff, FULL)?;
    // A change of the spec makes the old condition stale at once.
    world.change(json!({"image": {"tag": "2.0.0"}})).await?;
    assert!(
        world
            .kubectl(&["wait", "--for=condition=Ready", "fts/trading", "--timeout=1s"])
            .is_err()
    );
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_children_are_observed_not_written() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(MINIMAL).await?;
    world.change(json!({"paused": true})).await?;
    world.condition("Paused", "True", "PausedBySpec").await?;
    world.condition("Reconciling", "False", "Paused").await?;
    let versions = world.versions().await?;
    operator.requests.take();
    world.change(json!({"priceTolerancePercent": "4"})).await?;
    world.condition("Paused", "True", "PausedBySpec").await?;
    assert_eq!(world.versions().await?, versions);
    let requests = operator.requests.take();
    assert!(
        requests.iter().all(|request| request.contains("/status")),
        "{requests:?}"
    );
    let seen = operator.reconciles();
    world.kubectl(&["delete", "service", "trading-api"])?;
    operator.reconciled_since(seen).await?;
    assert!(
        world.find(Kind::Service, "trading-api").await.is_none(),
        "not while paused"
    );
    world.change(json!({"paused": false})).await?;
    world.child(Kind::Service, "trading-api").await?;
    let config = || async {
        let config = world.find(Kind::ConfigMap, "trading-api").await?;
        (config.data["data"]["FUSE_ORDERS__PRICE_TOLERANCE_PERCENT"] == "4").then_some(())
    };
    world.until("the setting made meanwhile", config).await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_runs_nothing_and_resumes() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(FULL).await?;
    world.change(json!({"suspended": true})).await?;
    world.replicas("trading-api", 0).await?;
    world.replicas("trading-refresher", 0).await?;
    world.condition("Ready", "False", "Suspended").await?;
    let off = || async {
        let report = world.find(Kind::CronJob, "trading-report").await?;
        let autoscaler = world.find(Kind::HorizontalPodAutoscaler, "trading-api").await;
        (report.data["spec"]["suspend"] == true && autoscaler.is_none()).then_some(())
    };
    world.until("report and autoscaler off", off).await?;
    assert!(
        world.find(Kind::Service, "trading-api").await.is_some(),
        "the Service keeps its address"
    );
    world.change(json!({"suspended": false})).await?;
    world.replicas("trading-refresher", 1).await?;
    world.settle().await?;
    world.child(Kind::HorizontalPodAutoscaler, "trading-api").await?;
    world.condition("Ready", "True", "AllAvailable").await?;
    let events = world.events().await?;
    let counted = |wanted: &str| events.iter().filter(|reason| *reason == wanted).count();
    assert_eq!((counted("Suspended"), counted("Resumed")), (1, 1), "{events:?}");
    operator.stop().await
}

/// What no schema can say is refused by the operator, in a sentence that names the field; nothing else is touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_spec_says_why_and_heals() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(MINIMAL).await?;
    let versions = world.versions().await?;
    world
        .change(json!({"api": {"env": [{"name": "FUSE_DATABASE__URL", "value": "x"}]}}))
        .await?;
    let message = world.condition("Stalled", "True", "InvalidSpec").await?;
    assert_eq!(
        message,
        "api.env[FUSE_DATABASE__URL]: this variable is set by the operator; use the field of the spec"
    );
    world.condition("Ready", "False", "InvalidSpec").await?;
    assert_eq!(world.versions().await?, versions);
    world.change(json!({"api": {"env": []}})).await?;
    world.condition("Ready", "True", "AllAvailable").await?;
    operator.stop().await
}

/// The API server refuses a child: told with its sentence, the rest goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_child_is_told() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(FULL).await?;
    world
        .change(
            json!({"report": {"schedule": "99 99 * * *"}, "api": {"ingress": {"host": "other.example.com"}}}),
        )
        .await?;
    let message = world.condition("Stalled", "True", "Rejected").await?;
    assert!(
        message.starts_with("CronJob trading-report: refused:") && message.contains("spec.schedule"),
        "{message}"
    );
    let ingress = world.child(Kind::Ingress, "trading-api").await?;
    assert_eq!(ingress.data["spec"]["rules"][0]["host"], "other.example.com");
    world
        .change(json!({"report": {"schedule": "59 23 * * *"}}))
        .await?;
    world.condition("Stalled", "False", "NotStalled").await?;
    operator.stop().await
}

/// Kubernetes collects the children; the operator does nothing more about them.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_resource_is_let_go() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(MINIMAL).await?;
    operator.requests.take();
    world.kubectl(&["delete", "fts", "trading"])?;
    assert!(
        world.services().get_opt("trading").await?.is_none(),
        "no finalizer holds it"
    );
    let versions = world.versions().await?;
    let forgotten = || async {
        let line = r#"fuse_operator_resources{kind="FuseTradingService",state="ready"}"#;
        (operator.metric(line) == 0.0).then_some(())
    };
    world.until("forgotten", forgotten).await?;
    world.kubectl(&["delete", "service", "trading-api"])?;
    assert_eq!(operator.requests.take(), Vec::<String>::new());
    assert_eq!(versions.len(), world.versions().await?.len() + 1);

    // A new one of the same name waits until the old children are collected, and then owns its own.
    world.kubectl_apply(MINIMAL)?;
    world
        .condition("Reconciling", "True", "WaitingForDeletion")
        .await?;
    for (name, _) in world.all().await? {
        world.kubectl(&[
            "delete",
            &name.replace('/', ".").to_lowercase().replacen('.', "/", 1),
            "--ignore-not-found",
        ])?;
    }
    let job = world.job().await?;
    world.complete_job(&job).await?;
    world.settle().await?;
    world.condition("Ready", "True", "AllAvailable").await?;
    operator.stop().await
}
