//! Pure tests of `status` and `events`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use fuse_crds::FuseTradingService;
use fuse_crds::status::{ConditionState, ConditionType, FuseTradingServiceStatus, Reason};
use jiff::Timestamp;
use kube::ResourceExt as _;
use operator::apply::{Application, Applied, Outcome};
use operator::build::{Children, Configs, PerWorkload, Prepared, build};
use operator::dereference::Secrets;
use operator::events::notices;
use operator::facts::{ChildState, CronJobFact, DeploymentFact, JobFact, Kind};
use operator::rollout::Withheld;
use operator::status;
use operator::stores::{ServiceKey, Stores};
use operator::validate::Invalid;

use crate::plan::Scene;
use crate::support::FULL;

fn applied(children: Children<Prepared>, outcome: &impl Fn(&Prepared) -> Outcome) -> Application {
    let one = |child: Prepared| Applied {
        outcome: outcome(&child),
        kind: child.kind,
        name: child.name,
    };
    let per_workload = |all: PerWorkload<Prepared>| PerWorkload {
        api: one(all.api),
        refresher: one(all.refresher),
        migration: one(all.migration),
        report: all.report.map(one),
    };
    let children = Children {
        accounts: per_workload(children.accounts),
        policies: children.policies.map(per_workload),
        service: one(children.service),
        metrics_service: children.metrics_service.map(one),
        migration_job: one(children.migration_job),
        configs: Configs {
            api: one(children.configs.api),
            refresher: one(children.configs.refresher),
            report: children.configs.report.map(one),
        },
        disruption_budget: children.disruption_budget.map(one),
        api: one(children.api),
        refresher: one(children.refresher),
        autoscaler: children.autoscaler.map(one),
        report: children.report.map(one),
        ingress: children.ingress.map(one),
    };
    Application {
        children,
        writes: 0,
        halted: None,
    }
}

fn status_of(
    scene: &Scene,
    outcome: &impl Fn(&Prepared) -> Outcome,
    second: i64,
) -> Result<FuseTradingServiceStatus> {
    let (service, seen, migration) = (scene.validated()?, scene.seen(), scene.migration()?);
    let application = applied(build(&service, &migration.completed), outcome);
    Ok(status::of_applied(
        &service,
        &seen,
        &migration,
        &application,
        Timestamp::from_second(second)?,
    ))
}

fn unchanged(_: &Prepared) -> Outcome {
    Outcome::Unchanged
}

fn running(wanted: i32) -> ChildState {
    ChildState::Deployment(DeploymentFact {
        wanted,
        replicas: wanted,
        ready: wanted,
        updated: wanted,
        available: wanted,
        is_observed: true,
        is_available: Some(true),
        image: "registry.example.com/fuse/trading:1.4.2".into(),
        ..DeploymentFact::default()
    })
}

/// Everything runs.
fn well() -> Result<Scene> {
    let scene = Scene::new(FULL)?
        .completed()?
        .with(Kind::Deployment, "trading-api", running(3))
        .with(Kind::Deployment, "trading-refresher", running(1))
        .with(
            Kind::CronJob,
            "trading-report",
            ChildState::CronJob(CronJobFact::default()),
        );
    Ok(Scene {
        secrets: Secrets::Watched(BTreeMap::from([("vendor".to_owned(), Some("5".to_owned()))])),
        ..scene
    })
}

fn said(status: &FuseTradingServiceStatus, type_: ConditionType) -> Result<(ConditionState, Reason)> {
    let condition = status.condition(type_).with_context(|| type_.to_string())?;
    Ok((condition.status, condition.reason))
}

#[test]
fn everything_runs() -> Result<()> {
    let status = status_of(&well()?, &unchanged, 100)?;
    let types: Vec<ConditionType> = status
        .conditions
        .iter()
        .map(|condition| condition.type_)
        .collect();
    assert_eq!(types, ConditionType::ALL, "every condition, in order");
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(1))
    );
    assert_eq!(
        said(&status, ConditionType::Ready)?,
        (ConditionState::True, Reason::AllAvailable)
    );
    assert_eq!(
        said(&status, ConditionType::Reconciling)?,
        (ConditionState::False, Reason::Settled)
    );
    assert_eq!(status.url.as_deref(), Some("https://trading.example.com"));
    assert_eq!(
        status.image.as_deref(),
        Some("registry.example.com/fuse/trading:1.4.2")
    );
    assert_eq!(status.api.map(|api| api.ready).as_deref(), Some("3/3"));
    assert_eq!(status.references.len(), 1);
    Ok(())
}

#[test]
fn unchanged_facts_give_an_unchanged_status_at_any_time() -> Result<()> {
    let mut scene = well()?;
    let first = status_of(&scene, &unchanged, 100)?;
    scene.service.status = Some(first.clone());
    assert_eq!(status_of(&scene, &unchanged, 999)?, first);
    Ok(())
}

#[test]
fn time_of_a_transition_moves_with_the_status_only() -> Result<()> {
    let mut scene = well()?;
    scene.service.status = Some(status_of(&scene, &unchanged, 100)?);
    let scene = scene.with(
        Kind::Deployment,
        "trading-api",
        ChildState::Deployment(DeploymentFact {
            wanted: 3,
            ready: 1,
            ..DeploymentFact::default()
        }),
    );
    let status = status_of(&scene, &unchanged, 200)?;
    let since = |type_| {
        status
            .condition(type_)
            .map(|condition| condition.last_transition_time.0.as_second())
    };
    assert_eq!(
        said(&status, ConditionType::Ready)?,
        (ConditionState::False, Reason::ApiUnavailable)
    );
    assert_eq!(since(ConditionType::Ready), Some(200));
    assert_eq!(since(ConditionType::Migrated), Some(100));
    assert_eq!(
        said(&status, ConditionType::Reconciling)?,
        (ConditionState::True, Reason::RollingOut)
    );
    Ok(())
}

#[test]
fn ready_names_the_first_thing_to_look_at() -> Result<()> {
    let conflict = |child: &Prepared| match child.kind {
        Kind::Service => Outcome::Conflict {
            owner: "nobody".into(),
        },
        Kind::Ingress => Outcome::Rejected {
            message: "refused: no such class".into(),
        },
        _ => Outcome::Unchanged,
    };
    let rejected = |child: &Prepared| match child.kind {
        Kind::Ingress => Outcome::Rejected {
            message: "refused: no such class".into(),
        },
        _ => Outcome::Unchanged,
    };
    let failed = || -> Result<Scene> {
        let scene = Scene::new(FULL)?.with_job(JobFact::Failed {
            message: "BackoffLimitExceeded".into(),
        })?;
        Ok(scene.with(Kind::Deployment, "trading-api", running(3)))
    };
    let missing = || -> Result<Scene> {
        let names = BTreeMap::from([("a".to_owned(), None), ("vendor".to_owned(), None)]);
        Ok(Scene {
            secrets: Secrets::Watched(names),
            ..failed()?
        })
    };
    type Case<'a> = (Scene, &'a dyn Fn(&Prepared) -> Outcome, Reason, Reason);
    let cases: [Case<'_>; 5] = [
        (missing()?, &conflict, Reason::NameConflict, Reason::NameConflict),
        (missing()?, &rejected, Reason::Rejected, Reason::Rejected),
        (
            missing()?,
            &unchanged,
            Reason::SecretNotFound,
            Reason::MigrationFailed,
        ),
        (
            failed()?,
            &unchanged,
            Reason::MigrationFailed,
            Reason::MigrationFailed,
        ),
        (
            Scene::new(FULL)?,
            &unchanged,
            Reason::MigrationPending,
            Reason::NotStalled,
        ),
    ];
    for (scene, outcome, ready, stalled) in cases {
        let status = status_of(&scene, &outcome, 100)?;
        assert_eq!(
            said(&status, ConditionType::Ready)?,
            (ConditionState::False, ready)
        );
        assert_eq!(said(&status, ConditionType::Stalled)?.1, stalled);
    }
    let message = status_of(&missing()?, &unchanged, 100)?;
    let message = message
        .condition(ConditionType::Ready)
        .map(|condition| condition.message.clone());
    assert_eq!(message.as_deref(), Some("Secrets a, vendor do not exist"));
    Ok(())
}

#[test]
fn a_refused_spec_keeps_what_was_known() -> Result<()> {
    let mut scene = well()?;
    scene.service.status = Some(status_of(&scene, &unchanged, 100)?);
    let invalid = Invalid {
        field: "report.timeZone".into(),
        message: "must be an IANA name such as Etc/UTC".into(),
    };
    let status = status::of_invalid(&scene.seen(), &invalid, Timestamp::from_second(200)?);
    assert_eq!(
        said(&status, ConditionType::Ready)?,
        (ConditionState::False, Reason::InvalidSpec)
    );
    assert_eq!(
        said(&status, ConditionType::Stalled)?,
        (ConditionState::True, Reason::InvalidSpec)
    );
    assert_eq!(
        said(&status, ConditionType::ApiAvailable)?.0,
        ConditionState::True
    );
    assert!(status.image.is_some());
    Ok(())
}

#[test]
fn one_notice_per_transition() -> Result<()> {
    let reasons =
        |old: Option<&FuseTradingServiceStatus>, new: &FuseTradingServiceStatus| -> Vec<&'static str> {
            notices(old, new).iter().map(|notice| notice.reason).collect()
        };
    let running_job = status_of(&Scene::new(FULL)?.with_job(JobFact::Running)?, &unchanged, 100)?;
    assert_eq!(reasons(None, &running_job), ["MigrationStarted"]);
    assert_eq!(reasons(Some(&running_job), &running_job), Vec::<&str>::new());
    let well = status_of(&well()?, &unchanged, 200)?;
    assert_eq!(
        reasons(Some(&running_job), &well),
        ["MigrationSucceeded", "Applied"]
    );
    let missing = |names: &[&str]| -> Result<_> {
        let names = names.iter().map(|name| ((*name).to_owned(), None)).collect();
        status_of(
            &Scene {
                secrets: Secrets::Watched(names),
                ..self::well()?
            },
            &unchanged,
            300,
        )
    };
    let (one, other) = (missing(&["vendor"])?, missing(&["smtp"])?);
    assert_eq!(reasons(Some(&well), &one), ["SecretNotFound"]);
    assert_eq!(reasons(Some(&one), &one), Vec::<&str>::new(), "told already");
    assert_eq!(
        reasons(Some(&one), &other),
        ["SecretNotFound"],
        "the note changed"
    );
    assert_eq!(reasons(Some(&other), &well), Vec::<&str>::new());
    Ok(())
}

#[test]
fn ready_waits_for_every_child_and_a_later_repair_does_not_take_it_back() -> Result<()> {
    let one_waits = |child: &Prepared| match child.kind {
        Kind::Ingress => Outcome::Withheld(Withheld::Deleting),
        _ => Outcome::Unchanged,
    };
    let mut scene = well()?;
    let status = status_of(&scene, &one_waits, 100)?;
    let waits = (ConditionState::False, Reason::Applying);
    assert_eq!(said(&status, ConditionType::Ready)?, waits);
    scene.service.status = Some(status_of(&scene, &unchanged, 100)?);
    let status = status_of(&scene, &one_waits, 200)?;
    let stays = (ConditionState::True, Reason::AllAvailable);
    assert_eq!(said(&status, ConditionType::Ready)?, stays);
    Ok(())
}

#[test]
fn what_a_deployment_said_before_it_was_scaled_up_does_not_count() -> Result<()> {
    let scene = well()?.with(
        Kind::Deployment,
        "trading-api",
        ChildState::Deployment(DeploymentFact {
            wanted: 3,
            is_observed: false,
            is_available: Some(true),
            ..DeploymentFact::default()
        }),
    );
    let status = status_of(&scene, &unchanged, 100)?;
    let waits = (ConditionState::False, Reason::ApiUnavailable);
    assert_eq!(said(&status, ConditionType::Ready)?, waits);
    Ok(())
}

#[test]
fn a_late_answer_does_not_bring_a_deleted_service_back() -> Result<()> {
    let stores = Stores::default();
    let key = ServiceKey {
        namespace: "fuse".into(),
        name: "trading".into(),
    };
    let version = |version: &str| -> Result<FuseTradingService> {
        let mut service = crate::build::service(FULL)?;
        service.metadata.resource_version = Some(version.into());
        Ok(service)
    };
    let held = |stores: &Stores| {
        stores
            .service(&key)
            .and_then(|service| service.resource_version())
    };
    stores.put_service(key.clone(), version("5")?);
    stores.replace_service(&key, version("4")?);
    assert_eq!(
        held(&stores).as_deref(),
        Some("5"),
        "an older one changes nothing"
    );
    stores.replace_service(&key, version("6")?);
    assert_eq!(held(&stores).as_deref(), Some("6"));
    stores.remove_service(&key);
    stores.replace_service(&key, version("7")?);
    assert_eq!(held(&stores), None);
    Ok(())
}
