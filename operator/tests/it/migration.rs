//! The migration gate: Job first, then the new version; failures hold, rollbacks and restarts run nothing again.

use anyhow::{Context as _, Result};
use kube::api::{DeleteParams, ListParams};
use operator::facts::Kind;
use serde_json::json;

use crate::support::{MINIMAL, World};

async fn image(world: &World) -> Result<String> {
    let api = world.child(Kind::Deployment, "trading-api").await?;
    let image = api.data.pointer("/spec/template/spec/containers/0/image");
    Ok(image
        .and_then(|image| image.as_str())
        .context("an image")?
        .to_owned())
}

async fn wait_for_image(world: &World, tag: &str) -> Result<()> {
    let wanted = format!("registry.example.com/fuse/trading:{tag}");
    world
        .until(&wanted, || async {
            (image(world).await.ok()? == wanted).then_some(())
        })
        .await
}

async fn jobs(world: &World) -> Result<usize> {
    Ok(world
        .api(Kind::Job)
        .list(&ListParams::default())
        .await?
        .items
        .len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_image_runs_its_migration_first() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.create_secrets().await?;
    world.kubectl_apply(MINIMAL)?;
    let first = world.job().await?;
    world.condition("Migrated", "False", "MigrationRunning").await?;
    assert!(
        world.find(Kind::Deployment, "trading-api").await.is_none(),
        "the gate is closed"
    );
    assert!(world.find(Kind::ConfigMap, "trading-api").await.is_none());
    world.complete_job(&first).await?;
    world.settle().await?;
    world.condition("Ready", "True", "AllAvailable").await?;
    assert_eq!(
        world.status().await["image"],
        "registry.example.com/fuse/trading:1.4.2"
    );

    // The old version serves with its old settings until the Job of the new one is done.
    world
        .change(json!({"image": {"tag": "2.0.0"}, "priceTolerancePercent": "5"}))
        .await?;
    let second = world.job_but(&[&first]).await?;
    world.condition("Ready", "False", "MigrationPending").await?;
    assert_eq!(image(&world).await?, "registry.example.com/fuse/trading:1.4.2");
    let config = world.child(Kind::ConfigMap, "trading-api").await?;
    assert_eq!(config.data["data"]["FUSE_ORDERS__PRICE_TOLERANCE_PERCENT"], "2");
    world.complete_job(&second).await?;
    wait_for_image(&world, "2.0.0").await?;
    world.condition("Reconciling", "True", "RollingOut").await?;
    world.settle().await?;
    world.condition("Reconciling", "False", "Settled").await?;
    assert_eq!(
        world.status().await["image"],
        "registry.example.com/fuse/trading:2.0.0"
    );

    // Back to the first: recorded, so at once and without a Job.
    let before = jobs(&world).await?;
    world.change(json!({"image": {"tag": "1.4.2"}})).await?;
    wait_for_image(&world, "1.4.2").await?;
    assert_eq!(jobs(&world).await?, before);
    let events = world.events().await?;
    let counted = |wanted: &str| events.iter().filter(|reason| *reason == wanted).count();
    assert_eq!(
        (counted("MigrationStarted"), counted("MigrationSucceeded")),
        (2, 2),
        "{events:?}"
    );
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_works_while_the_gate_is_closed() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(MINIMAL).await?;
    world
        .change(json!({"image": {"tag": "2.0.0"}, "api": {"replicas": 4}}))
        .await?;
    world.replicas("trading-api", 4).await?;
    assert_eq!(image(&world).await?, "registry.example.com/fuse/trading:1.4.2");
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_migration_stalls_until_a_new_trigger() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(MINIMAL).await?;
    let first = world.job().await?;
    world.change(json!({"image": {"tag": "2.0.0"}})).await?;
    let second = world.job_but(&[&first]).await?;
    world.fail_job(&second).await?;
    let message = world.condition("Stalled", "True", "MigrationFailed").await?;
    assert!(
        message.contains("Job has reached the specified backoff limit"),
        "{message}"
    );
    world.condition("Ready", "False", "MigrationFailed").await?;
    assert_eq!(image(&world).await?, "registry.example.com/fuse/trading:1.4.2");
    let seen = operator.reconciles();

    // Its TTL removes the Job: that alone starts nothing.
    world
        .api(Kind::Job)
        .delete(&second, &DeleteParams::background())
        .await?;
    let gone = || async { world.find(Kind::Job, &second).await.is_none().then_some(()) };
    world.until("the Job gone", gone).await?;
    operator.reconciled_since(seen).await?;
    world.condition("Stalled", "True", "MigrationFailed").await?;
    assert_eq!(jobs(&world).await?, 1);

    world.change(json!({"migration": {"trigger": "again"}})).await?;
    let third = world.job_but(&[&first, &second]).await?;
    world.complete_job(&third).await?;
    wait_for_image(&world, "2.0.0").await?;
    world.condition("Stalled", "False", "NotStalled").await?;
    let events = world.events().await?;
    assert_eq!(
        events
            .iter()
            .filter(|reason| *reason == "MigrationFailed")
            .count(),
        1,
        "{events:?}"
    );
    operator.stop().await
}

/// Neither the TTL of the Job, nor a restart of the operator, nor a restore without status runs it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_completed_migration_never_runs_again() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(MINIMAL).await?;
    let job = world.job().await?;
    operator.stop().await?;
    world
        .api(Kind::Job)
        .delete(&job, &DeleteParams::background())
        .await?;
    let gone = || async { world.find(Kind::Job, &job).await.is_none().then_some(()) };
    world.until("the Job gone", gone).await?;
    world.kubectl(&[
        "patch",
        "fts/trading",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status": null}"#,
    ])?;
    let operator = world.operator().await?;
    world.condition("Migrated", "True", "AlreadyCompleted").await?;
    world.condition("Ready", "True", "AllAvailable").await?;
    assert_eq!(jobs(&world).await?, 0);
    operator.stop().await
}
