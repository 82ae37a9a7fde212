//! A missing Secret is named, holds the migration back, and heals by itself.

use anyhow::Result;
use operator::facts::Kind;

use crate::support::{MINIMAL, Operator, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_and_heals() -> Result<()> {
    let world = World::new().await?;
    let operator = world.operator().await?;
    world.kubectl_apply(MINIMAL)?;
    let message = world.condition("Ready", "False", "SecretNotFound").await?;
    assert_eq!(message, "Secrets database, vendor do not exist");
    let message = world.condition("Migrated", "False", "MigrationPending").await?;
    assert!(
        message.ends_with("has not started: Secret database does not exist"),
        "{message}"
    );

    world.create_secret("vendor").await?;
    world
        .until("only the other is missing", || async {
            let message = world
                .condition("ReferencesResolved", "False", "SecretNotFound")
                .await
                .ok()?;
            (message == "Secret database does not exist").then_some(())
        })
        .await?;
    assert!(!world.all().await?.keys().any(|name| name.starts_with("Job/")));

    let started = std::time::Instant::now();
    world.create_secret("database").await?;
    world.condition("ReferencesResolved", "True", "Found").await?;
    // The watch did it, not the resync of ten minutes.
    assert!(started.elapsed().as_secs() < 15, "{:?}", started.elapsed());
    let job = world.job().await?;
    world.complete_job(&job).await?;
    world.settle().await?;
    world.condition("Ready", "True", "AllAvailable").await?;
    let events = world.events().await?;
    let about_secrets = events.iter().filter(|reason| *reason == "SecretNotFound").count();
    assert_eq!(about_secrets, 2, "one per transition: {events:?}");

    // A Secret that vanishes later is told as well; what runs stays.
    world.kubectl(&["delete", "secret", "vendor"])?;
    world.condition("Ready", "False", "SecretNotFound").await?;
    world.child(Kind::Deployment, "trading-api").await?;
    world.create_secret("vendor").await?;
    world.condition("Ready", "True", "AllAvailable").await?;
    operator.stop().await
}

/// Without the permission nothing is claimed about Secrets, and nothing waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn unwatched_secrets_are_unknown() -> Result<()> {
    let world = World::new().await?;
    let settings = operator::config::ControllerSettings {
        watch_secrets: false,
        ..world.settings()
    };
    let operator = Operator::start(world.server.kubeconfig(), settings).await?;
    world.kubectl_apply(MINIMAL)?;
    world
        .condition("ReferencesResolved", "Unknown", "NotWatched")
        .await?;
    let job = world.job().await?;
    world.complete_job(&job).await?;
    world.settle().await?;
    world.condition("Ready", "True", "AllAvailable").await?;
    operator.stop().await
}
