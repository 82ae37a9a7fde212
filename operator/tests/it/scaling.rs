//! Replicas: the spec's, the autoscaler's, or none.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use operator::facts::Kind;
use serde_json::json;

use crate::support::{FULL, MINIMAL, World};

/// As an autoscaler or `kubectl scale` does.
async fn scale(world: &World, replicas: i32) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    api.patch_scale(
        "trading-api",
        &PatchParams::default(),
        &Patch::Merge(json!({"spec": {"replicas": replicas}})),
    )
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_the_spec_hold_without_autoscaler() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(MINIMAL).await?;
    scale(&world, 7).await?;
    world.replicas("trading-api", 2).await?;
    // The scale subresource of the resource itself.
    world.kubectl(&["scale", "fts/trading", "--replicas=4"])?;
    world.replicas("trading-api", 4).await?;
    world.roll_out("trading-api").await?;
    world.condition("Reconciling", "False", "Settled").await?;
    let scale = world.kubectl(&[
        "get",
        "--raw",
        &format!(
            "/apis/fuse.trading/v1alpha1/namespaces/{}/fusetradingservices/trading/scale",
            world.namespace
        ),
    ])?;
    assert!(
        scale.contains(r#""status":{"replicas":4,"selector":"app.kubernetes.io/component=api"#),
        "{scale}"
    );
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_autoscaler_wrote_stays() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(FULL).await?;
    let seen = operator.reconciles();
    scale(&world, 9).await?;
    operator.reconciled_since(seen).await?;
    let seen = operator.reconciles();
    world.change(json!({"maxQuoteAgeSeconds": 700})).await?;
    let rolled = || async {
        let config = world.find(Kind::ConfigMap, "trading-api").await?;
        (config.data["data"]["FUSE_ORDERS__MAX_QUOTE_AGE_SECS"] == "700").then_some(())
    };
    world.until("the change", rolled).await?;
    operator.reconciled_since(seen).await?;
    world.replicas("trading-api", 9).await?;
    assert_eq!(
        world.child(Kind::Deployment, "trading-api").await?.data["spec"]["replicas"],
        9
    );
    // Off again: the autoscaler goes, the replicas of the spec hold.
    world.change(json!({"api": {"autoscaling": null}})).await?;
    world.replicas("trading-api", 3).await?;
    let gone = || async {
        world
            .find(Kind::HorizontalPodAutoscaler, "trading-api")
            .await
            .is_none()
            .then_some(())
    };
    world.until("no autoscaler", gone).await?;
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_the_autoscaler_on_never_dips() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(MINIMAL).await?;
    world.change(json!({"api": {"replicas": 5}})).await?;
    world.replicas("trading-api", 5).await?;
    operator.requests.take();
    let seen = operator.reconciles();
    world
        .change(json!({"api": {"autoscaling": {"minReplicas": 3, "maxReplicas": 9}}}))
        .await?;
    world.child(Kind::HorizontalPodAutoscaler, "trading-api").await?;
    operator.reconciled_since(seen).await?;
    assert_eq!(
        world.child(Kind::Deployment, "trading-api").await?.data["spec"]["replicas"],
        5
    );
    let requests = operator.requests.take();
    assert!(
        !requests
            .iter()
            .any(|request| request.contains("fuse-operator-scale")),
        "{requests:?}"
    );
    operator.stop().await
}
