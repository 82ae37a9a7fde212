//! Pure tests of `rollout` and `validate`: what follows from which facts.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use fuse_crds::FuseTradingService;
use fuse_crds::status::{FuseTradingServiceStatus, MigrationState, MigrationStatus};
use operator::build::{Children, Prepared, build};
use operator::dereference::{Secrets, Seen};
use operator::facts::{ChildFact, ChildState, DeploymentFact, JobFact, Kind, ObjectId, Owner};
use operator::ledger::Ledger;
use operator::rollout::{Decision, Migration, Plan, Scale, Withheld, migration, plan};
use operator::validate::{ValidatedService, validate};

use crate::build::service;
use crate::support::{FULL, MINIMAL};

/// A situation: a service and the facts about its children.
pub struct Scene {
    pub service: FuseTradingService,
    pub secrets: Secrets,
    pub children: BTreeMap<ObjectId, Arc<ChildFact>>,
}

impl Scene {
    pub fn new(manifest: &str) -> Result<Self> {
        Ok(Self {
            service: service(manifest)?,
            secrets: Secrets::NotWatched,
            children: BTreeMap::new(),
        })
    }

    fn uid(&self) -> String {
        self.service.metadata.uid.clone().unwrap_or_default()
    }

    pub fn with(mut self, kind: Kind, name: &str, state: ChildState) -> Self {
        let owner = Owner {
            kind: fuse_crds::KIND.into(),
            name: "trading".into(),
            uid: self.uid(),
        };
        self.put(kind, name, state, Some(owner));
        self
    }

    pub fn put(&mut self, kind: Kind, name: &str, state: ChildState, owner: Option<Owner>) {
        let fact = ChildFact {
            uid: format!("uid of {name}"),
            resource_version: 1,
            instance: "trading".into(),
            owner,
            is_deleting: false,
            fingerprint: 7,
            state,
        };
        self.children.insert(id(kind, name), Arc::new(fact));
    }

    pub fn with_deployment(self, wanted: i32) -> Self {
        let fact = DeploymentFact {
            wanted,
            ..DeploymentFact::default()
        };
        self.with(Kind::Deployment, "trading-api", ChildState::Deployment(fact))
    }

    pub fn with_job(self, fact: JobFact) -> Result<Self> {
        let job = self.validated()?;
        let name = job.names.migration_job(&job.migration_hash);
        Ok(self.with(Kind::Job, &name, ChildState::Job(fact)))
    }

    pub fn completed(self) -> Result<Self> {
        self.with_job(JobFact::Complete { at: None })
    }

    pub fn seen(&self) -> Seen {
        Seen::new(
            Arc::new(self.service.clone()),
            self.secrets.clone(),
            self.children.clone(),
        )
    }

    pub fn validated(&self) -> Result<ValidatedService> {
        Ok(validate(&self.seen())?)
    }

    pub fn migration(&self) -> Result<Migration> {
        Ok(migration(&self.validated()?, &self.seen()))
    }

    fn plan(&self) -> Result<(Plan, Children<Prepared>)> {
        let (service, seen) = (self.validated()?, self.seen());
        let migration = migration(&service, &seen);
        let children = build(&service, &migration.completed);
        Ok((
            plan(&service, &seen, &migration, &children, &Ledger::default()),
            children,
        ))
    }

    fn scales(&self) -> Result<Vec<Scale>> {
        Ok(self.plan()?.0.scales)
    }
}

fn id(kind: Kind, name: &str) -> ObjectId {
    ObjectId {
        kind,
        namespace: "fuse".into(),
        name: name.into(),
    }
}

fn scale(name: &str, replicas: i32) -> Scale {
    Scale {
        name: name.into(),
        replicas,
    }
}

#[test]
fn the_gate_holds_back_what_rolls() -> Result<()> {
    let (plan, children) = Scene::new(FULL)?.plan()?;
    assert_eq!(plan.decision(&children.service), Decision::Create);
    assert_eq!(plan.decision(&children.migration_job), Decision::Create);
    let gated = [&children.configs.api, &children.api, &children.refresher];
    let optional = [
        &children.report,
        &children.ingress,
        &children.autoscaler,
        &children.disruption_budget,
    ];
    for child in gated.into_iter().chain(optional.into_iter().flatten()) {
        assert_eq!(
            plan.decision(child),
            Decision::Withhold(Withheld::Gate),
            "{:?}",
            child.kind
        );
    }
    assert_eq!(plan.scales, []);
    let (plan, children) = Scene::new(FULL)?.completed()?.plan()?;
    assert!(children.all().iter().all(|child| match child.kind {
        Kind::Job => plan.decision(child) == Decision::Keep,
        _ => plan.decision(child) == Decision::Create,
    }));
    Ok(())
}

#[test]
fn a_new_image_leaves_the_old_version_alone_until_migrated() -> Result<()> {
    let mut scene = Scene::new(MINIMAL)?.completed()?.with_deployment(2);
    scene.service.spec.image.tag = Some("2.0.0".into());
    let (plan, children) = scene.plan()?;
    assert_eq!(plan.decision(&children.migration_job), Decision::Create);
    assert_eq!(plan.decision(&children.api), Decision::Withhold(Withheld::Gate));
    assert_eq!(plan.prune, [], "what the gate holds back is expected");
    Ok(())
}

#[test]
fn recorded_migrations_open_the_gate_without_a_job() -> Result<()> {
    let hash = Scene::new(MINIMAL)?.validated()?.migration_hash;
    let annotated = DeploymentFact {
        completed_migrations: vec!["aaaaaaaa".into(), hash.clone()],
        ..DeploymentFact::default()
    };
    let scene = Scene::new(MINIMAL)?.with(Kind::Deployment, "trading-api", ChildState::Deployment(annotated));
    let migration = scene.migration()?;
    assert!(migration.is_open() && migration.is_recorded);
    let (plan, children) = scene.plan()?;
    assert_eq!(
        plan.decision(&children.migration_job),
        Decision::Withhold(Withheld::NotNow)
    );
    assert!(matches!(plan.decision(&children.api), Decision::Patch { .. }));
    Ok(())
}

#[test]
fn ten_completed_migrations_are_remembered() -> Result<()> {
    let old: Vec<String> = (0..10).map(|number| format!("0000000{number}")).collect();
    let mut scene = Scene::new(MINIMAL)?.completed()?;
    let migration = MigrationStatus {
        completed_hashes: old.clone(),
        ..MigrationStatus::default()
    };
    scene.service.status = Some(FuseTradingServiceStatus {
        migration: Some(migration),
        ..FuseTradingServiceStatus::default()
    });
    let migration = scene.migration()?;
    assert_eq!(migration.completed.len(), 10);
    assert_eq!(migration.completed[..9], old[1..]);
    assert_eq!(migration.completed[9], migration.hash);
    Ok(())
}

#[test]
fn a_failed_migration_stays_failed_when_its_job_is_gone() -> Result<()> {
    let failed = Scene::new(MINIMAL)?
        .with_job(JobFact::Failed {
            message: "boom".into(),
        })?
        .migration()?;
    assert_eq!(
        (failed.state, failed.failure.as_deref()),
        (MigrationState::Failed, Some("boom"))
    );
    let mut scene = Scene::new(MINIMAL)?;
    let status = MigrationStatus {
        hash: failed.hash.clone(),
        state: MigrationState::Failed,
        ..MigrationStatus::default()
    };
    scene.service.status = Some(FuseTradingServiceStatus {
        migration: Some(status),
        ..FuseTradingServiceStatus::default()
    });
    assert_eq!(scene.migration()?.state, MigrationState::Failed);
    scene.service.spec.migration.trigger = "again".into();
    assert_eq!(
        scene.migration()?.state,
        MigrationState::Pending,
        "a new trigger is a new hash"
    );
    Ok(())
}

#[test]
fn hash_depends_on_image_trigger_and_owner_only() -> Result<()> {
    let hash = |change: fn(&mut FuseTradingService)| -> Result<String> {
        let mut scene = Scene::new(MINIMAL)?;
        change(&mut scene.service);
        Ok(scene.validated()?.migration_hash)
    };
    let same = hash(|_| {})?;
    assert_eq!(same.len(), 8);
    assert_eq!(hash(|service| service.spec.max_quote_age_seconds = 700)?, same);
    assert_ne!(
        hash(|service| service.spec.image.tag = Some("1.4.3".into()))?,
        same
    );
    assert_ne!(hash(|service| service.spec.migration.trigger = "x".into())?, same);
    assert_eq!(
        hash(|service| service.spec.database.url.key = "other".into())?,
        same
    );
    let owned =
        hash(|service| service.spec.database.migration_url = Some(service.spec.vendor.api_key.clone()))?;
    assert_ne!(owned, same, "another owner grants anew");
    Ok(())
}

#[test]
fn no_job_starts_paused_suspended_or_without_its_secret() -> Result<()> {
    let decision = |change: fn(&mut Scene)| -> Result<Decision> {
        let mut scene = Scene::new(MINIMAL)?;
        change(&mut scene);
        let (plan, children) = scene.plan()?;
        Ok(plan.decision(&children.migration_job))
    };
    assert_eq!(decision(|_| {})?, Decision::Create);
    assert_eq!(
        decision(|scene| scene.service.spec.paused = true)?,
        Decision::Withhold(Withheld::Paused)
    );
    assert_eq!(
        decision(|scene| scene.service.spec.suspended = true)?,
        Decision::Withhold(Withheld::NotNow)
    );
    let missing = |name: &str| Secrets::Watched(BTreeMap::from([(name.to_owned(), None)]));
    let mut scene = Scene::new(MINIMAL)?;
    scene.secrets = missing("database");
    let (plan, children) = scene.plan()?;
    assert_eq!(
        plan.decision(&children.migration_job),
        Decision::Withhold(Withheld::NotNow)
    );
    scene.secrets = missing("vendor");
    let (plan, children) = scene.plan()?;
    assert_eq!(
        plan.decision(&children.migration_job),
        Decision::Create,
        "it does not need this one"
    );
    let mut scene = Scene::new(FULL)?;
    scene.secrets = missing("database-owner");
    let (plan, children) = scene.plan()?;
    assert_eq!(
        plan.decision(&children.migration_job),
        Decision::Withhold(Withheld::NotNow),
        "it migrates as the owner"
    );
    Ok(())
}

#[test]
fn replicas_follow_the_spec_or_the_autoscaler() -> Result<()> {
    let fixed = |wanted| -> Result<_> { Scene::new(MINIMAL)?.completed()?.with_deployment(wanted).scales() };
    assert_eq!(fixed(2)?, []);
    assert_eq!(fixed(7)?, [scale("trading-api", 2)]);
    assert_eq!(
        Scene::new(MINIMAL)?.completed()?.scales()?,
        [scale("trading-api", 2)],
        "created with one"
    );
    let autoscaled = |wanted, has_autoscaler| -> Result<_> {
        let scene = Scene::new(FULL)?.completed()?.with_deployment(wanted);
        let autoscaler = (Kind::HorizontalPodAutoscaler, "trading-api");
        let scene = if has_autoscaler {
            scene.with(autoscaler.0, autoscaler.1, ChildState::Plain)
        } else {
            scene
        };
        scene.scales()
    };
    assert_eq!(autoscaled(9, true)?, [], "the autoscaler's");
    assert_eq!(autoscaled(0, true)?, [], "switched off by hand");
    assert_eq!(autoscaled(5, false)?, [], "switching on never dips");
    assert_eq!(autoscaled(0, false)?, [scale("trading-api", 3)], "helped up once");
    Ok(())
}

#[test]
fn suspension_scales_to_none_and_prunes_the_autoscaler() -> Result<()> {
    let mut scene = Scene::new(FULL)?
        .completed()?
        .with_deployment(3)
        .with(
            Kind::Deployment,
            "trading-refresher",
            ChildState::Deployment(DeploymentFact {
                wanted: 1,
                ..DeploymentFact::default()
            }),
        )
        .with(Kind::HorizontalPodAutoscaler, "trading-api", ChildState::Plain);
    scene.service.spec.suspended = true;
    let (plan, _) = scene.plan()?;
    assert_eq!(
        plan.scales,
        [scale("trading-api", 0), scale("trading-refresher", 0)]
    );
    let pruned: Vec<Kind> = plan.prune.iter().map(|(id, _)| id.kind).collect();
    assert_eq!(pruned, [Kind::HorizontalPodAutoscaler]);
    Ok(())
}

#[test]
fn only_our_own_unexpected_children_are_pruned() -> Result<()> {
    let mut scene = Scene::new(MINIMAL)?
        .completed()?
        .with(Kind::Ingress, "trading-api", ChildState::Plain)
        .with(
            Kind::Job,
            "trading-migrate-00000000",
            ChildState::Job(JobFact::Running),
        );
    scene.put(Kind::PodDisruptionBudget, "trading-api", ChildState::Plain, None);
    let (plan, _) = scene.plan()?;
    assert_eq!(
        plan.prune,
        [(id(Kind::Ingress, "trading-api"), "uid of trading-api".to_owned())]
    );
    Ok(())
}

#[test]
fn foreign_objects_are_not_touched() -> Result<()> {
    let mut scene = Scene::new(MINIMAL)?.completed()?;
    scene.put(Kind::Service, "trading-api", ChildState::Plain, None);
    let helm = Owner {
        kind: "HelmRelease".into(),
        name: "other".into(),
        uid: "x".into(),
    };
    scene.put(Kind::ConfigMap, "trading-api", ChildState::Plain, Some(helm));
    let earlier = Owner {
        kind: fuse_crds::KIND.into(),
        name: "trading".into(),
        uid: "earlier".into(),
    };
    scene.put(
        Kind::ServiceAccount,
        "trading-api",
        ChildState::Plain,
        Some(earlier),
    );
    let (plan, children) = scene.plan()?;
    assert_eq!(
        plan.decision(&children.service),
        Decision::Conflict {
            owner: "nobody".into()
        }
    );
    assert_eq!(
        plan.decision(&children.configs.api),
        Decision::Conflict {
            owner: "HelmRelease other".into()
        }
    );
    assert_eq!(
        plan.decision(&children.accounts.api),
        Decision::Withhold(Withheld::OwnedByPredecessor)
    );
    Ok(())
}

#[test]
fn refused_specs_name_the_field() -> Result<()> {
    let refused = |change: fn(&mut FuseTradingService)| -> Result<(String, String)> {
        let mut scene = Scene::new(FULL)?;
        change(&mut scene.service);
        let invalid = validate(&scene.seen()).err().context("refused")?;
        Ok((invalid.field, invalid.message))
    };
    let (field, message) = refused(|service| service.spec.image.digest = Some("sha256:0".into()))?;
    assert_eq!(
        (field.as_str(), message.as_str()),
        ("image", "set exactly one of tag and digest")
    );
    let (field, _) = refused(|service| service.spec.api.resources.requests.memory = Some("1Gi".into()))?;
    assert_eq!(field, "api.resources.memory");
    let (field, _) =
        refused(|service| service.spec.network_policy.egress_cidrs = vec!["10.0.0.0/99".into()])?;
    assert_eq!(field, "networkPolicy.egressCidrs[0]");
    let (field, message) = refused(|service| {
        if let Some(report) = &mut service.spec.report {
            report.time_zone = "Etc/Nowhere".into();
        }
    })?;
    assert_eq!(
        (field.as_str(), message.as_str()),
        ("report.timeZone", "must be an IANA name such as Etc/UTC")
    );
    let (field, _) = refused(|service| service.metadata.name = Some("a".repeat(41)))?;
    assert_eq!(field, "metadata.name");
    Ok(())
}
