//! The exact requests, in order: no more than needed, and in the order in which children need each other.

use anyhow::Result;
use operator::facts::Kind;
use serde_json::json;

use crate::support::{MINIMAL, World};

/// Requests without namespace, versions and events: `PATCH deployments/trading-api as fuse-operator`.
fn short(requests: Vec<String>) -> Vec<String> {
    let short = |request: &String| {
        let (verb, rest) = request.split_once(' ')?;
        let (path, manager) = rest.split_once(" as ").unwrap_or((rest, ""));
        let name = path.split_once("/namespaces/")?.1.split_once('/')?.1;
        let manager = if manager.is_empty() {
            String::new()
        } else {
            format!(" as {manager}")
        };
        Some(format!("{verb} {name}{manager}"))
    };
    requests
        .iter()
        .filter_map(short)
        .filter(|request| !request.contains("events"))
        .collect()
}

/// Requests of one child that did not exist: a look whether the name is free, then one apply.
fn created(name: &str) -> [String; 2] {
    [format!("GET {name}"), format!("PATCH {name} as fuse-operator")]
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_ready() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.create_secrets().await?;
    world.kubectl_apply(MINIMAL)?;
    let job = world.job().await?;
    world.condition("Migrated", "False", "MigrationRunning").await?;
    let status = "PATCH fusetradingservices/trading/status as fuse-operator-status".to_owned();
    let mut expected = Vec::new();
    for plural in ["serviceaccounts", "networkpolicies"] {
        for name in ["trading-api", "trading-refresher", "trading-migrate"] {
            expected.extend(created(&format!("{plural}/{name}")));
        }
    }
    expected.extend(created("services/trading-api"));
    expected.extend(created(&format!("jobs/{job}")));
    expected.push(status.clone());
    assert_eq!(short(operator.requests.take()), expected);

    world.complete_job(&job).await?;
    world.replicas("trading-api", 2).await?;
    world.condition("Reconciling", "True", "RollingOut").await?;
    let mut expected = Vec::new();
    for name in ["configmaps/trading-api", "configmaps/trading-refresher"] {
        expected.extend(created(name));
    }
    for name in ["deployments/trading-api", "deployments/trading-refresher"] {
        expected.extend(created(name));
    }
    expected.push("PATCH deployments/trading-api as fuse-operator-scale".to_owned());
    // A pass that was under way when the Job completed may already have said so: one status more, before all else.
    let requests = short(operator.requests.take());
    let children: Vec<_> = requests.iter().filter(|request| **request != status).collect();
    assert_eq!(children, expected.iter().collect::<Vec<_>>());
    assert_eq!(requests.last(), Some(&status));
    assert!(requests.len() <= expected.len() + 2, "{requests:?}");

    world.settle().await?;
    world.condition("Ready", "True", "AllAvailable").await?;
    world.condition("Reconciling", "False", "Settled").await?;
    let requests = short(operator.requests.take());
    assert!(
        !requests.is_empty() && requests.iter().all(|request| *request == status),
        "{requests:?}"
    );
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_change_is_one_patch_per_changed_child() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.bring_up(MINIMAL).await?;
    operator.requests.take();
    world.change(json!({"priceTolerancePercent": "3"})).await?;
    let rolled = || async {
        let api = world.find(Kind::Deployment, "trading-api").await?;
        (api.metadata.generation > Some(2)).then_some(())
    };
    world.until("the rollout", rolled).await?;
    world.condition("Reconciling", "True", "RollingOut").await?;
    let expected = [
        "PATCH configmaps/trading-api as fuse-operator",
        "PATCH deployments/trading-api as fuse-operator",
        "PATCH fusetradingservices/trading/status as fuse-operator-status",
    ];
    assert_eq!(short(operator.requests.take()), expected);
    operator.stop().await
}
