//! Step 4, first half: the plan. Pure: what is applied, withheld, scaled and pruned follows from facts alone.
//!
//! The migration gate: ConfigMaps, Deployments and CronJob of a new version wait until its migration has completed;
//! until then the old version serves with its old configuration.

use std::collections::BTreeMap;

use fuse_crds::status::MigrationState;
use fuse_crds::v1alpha1::SecretKeyRef;
use sha2::{Digest, Sha256};

use crate::build::migration::{ARGS, BINARY};
use crate::build::{Children, Prepared, config};
use crate::dereference::Seen;
use crate::facts::{JobFact, Kind, ObjectId, Owner};
use crate::ledger::Ledger;
use crate::names::{Component, HASH_DIGITS};
use crate::validate::ValidatedService;

/// How many completed migrations are remembered: a rollback to one of them runs nothing.
const COMPLETED_MAX: usize = 10;
/// What the API server writes when nobody says how many replicas.
const REPLICAS_DEFAULT: i32 = 1;

/// Hash of a migration: image, command, trigger, and whose URL it uses where that is not the services': another owner has
/// to grant anew.
pub fn migration_hash(image: &str, trigger: &str, owner: Option<&SecretKeyRef>) -> String {
    let owner = owner.map(|url| [url.secret_name.as_str(), url.key.as_str()]);
    let mut hasher = Sha256::new();
    for part in [image, BINARY]
        .into_iter()
        .chain(ARGS.iter().copied())
        .chain([trigger])
        .chain(owner.into_iter().flatten())
    {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    digest
        .iter()
        .take(HASH_DIGITS / 2)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// How far the wanted migration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    pub hash: String,
    /// Name of its Job.
    pub job: String,
    pub state: MigrationState,
    /// Why it failed.
    pub failure: Option<String>,
    /// It had completed before: there is no Job to look at (any more).
    pub is_recorded: bool,
    /// All that are known to have completed, oldest first, this one included.
    pub completed: Vec<String>,
}

impl Migration {
    /// Whether the new version may be rolled out.
    pub fn is_open(&self) -> bool {
        self.state == MigrationState::Succeeded
    }
}

/// Reads the state of the migration off Job, status and Deployment annotation.
pub fn migration(service: &ValidatedService, seen: &Seen) -> Migration {
    let hash = service.migration_hash.clone();
    let job = service.names.migration_job(&hash);
    let mut completed = recorded(service, seen);
    let fact = seen.own_child(Kind::Job, &job).and_then(|fact| fact.job());
    let is_recorded = completed.contains(&hash);
    let mut failure = None;
    let state = match fact {
        Some(JobFact::Complete { .. }) => MigrationState::Succeeded,
        _ if is_recorded => MigrationState::Succeeded,
        Some(JobFact::Failed { message }) => {
            failure = Some(message.clone());
            MigrationState::Failed
        }
        Some(JobFact::Running) => MigrationState::Running,
        // A failed Job that its TTL removed stays failed: only a new image or trigger tries again.
        None if failed_before(seen, &hash) => {
            failure = Some("the Job failed and was removed".into());
            MigrationState::Failed
        }
        None => MigrationState::Pending,
    };
    if state == MigrationState::Succeeded && !is_recorded {
        completed.push(hash.clone());
    }
    let surplus = completed.len().saturating_sub(COMPLETED_MAX);
    completed.drain(..surplus);
    Migration {
        hash,
        job,
        state,
        failure,
        is_recorded: is_recorded && fact.is_none(),
        completed,
    }
}

/// Completed hashes from the status and from the Deployment annotation, each once.
fn recorded(service: &ValidatedService, seen: &Seen) -> Vec<String> {
    let status = seen.status().and_then(|status| status.migration.as_ref());
    let mut completed = status
        .map(|migration| migration.completed_hashes.clone())
        .unwrap_or_default();
    let api = seen.own_child(Kind::Deployment, &service.names.of(Component::Api));
    for hash in api
        .and_then(|fact| fact.deployment())
        .map(|fact| fact.completed_migrations.as_slice())
        .unwrap_or(&[])
    {
        if !completed.contains(hash) {
            completed.push(hash.clone());
        }
    }
    completed
}

fn failed_before(seen: &Seen, hash: &str) -> bool {
    let status = seen.status().and_then(|status| status.migration.as_ref());
    status.is_some_and(|migration| migration.hash == hash && migration.state == MigrationState::Failed)
}

/// What is to be done with one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is what it should be.
    Keep,
    /// It is not there, as far as the watch can see: look whether the name is free, then apply.
    Create,
    /// It differs, or may differ: apply to the object of this uid.
    Patch { uid: String },
    /// Not now, and not pruned either.
    Withhold(Withheld),
    /// The name belongs to somebody else.
    Conflict { owner: String },
}

/// Why a child is not applied now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// `spec.paused`.
    Paused,
    /// The migration has not completed.
    Gate,
    /// The migration has completed before, or waits for a Secret, or nothing new starts while suspended.
    NotNow,
    /// It is being deleted; it comes back afterwards.
    Deleting,
    /// Owned by an earlier service of this name, and about to be collected.
    OwnedByPredecessor,
    /// A child that it needs could not be applied.
    Prerequisite,
}

/// Replicas of one Deployment that `fuse-operator-scale` has to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    pub name: String,
    pub replicas: i32,
}

/// Everything that [`crate::apply`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    decisions: BTreeMap<(Kind, String), Decision>,
    pub scales: Vec<Scale>,
    /// Children that are no longer wanted, with their uid as precondition.
    pub prune: Vec<(ObjectId, String)>,
}

impl Plan {
    /// What to do with one child.
    pub fn decision(&self, child: &Prepared) -> Decision {
        let key = (child.kind, child.name.clone());
        self.decisions.get(&key).cloned().unwrap_or(Decision::Keep)
    }

    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        let writes = |decision: &Decision| matches!(decision, Decision::Create | Decision::Patch { .. });
        self.scales.is_empty() && self.prune.is_empty() && !self.decisions.values().any(writes)
    }
}

/// Makes the plan.
pub fn plan(
    service: &ValidatedService,
    seen: &Seen,
    migration: &Migration,
    children: &Children<Prepared>,
    ledger: &Ledger,
) -> Plan {
    let decide = |child: &&Prepared| {
        (
            (child.kind, child.name.clone()),
            decision(service, seen, migration, child, ledger),
        )
    };
    let is_paused = service.spec.paused;
    Plan {
        decisions: children.all().iter().map(decide).collect(),
        scales: if is_paused {
            Vec::new()
        } else {
            scales(service, seen, migration)
        },
        prune: if is_paused {
            Vec::new()
        } else {
            prune(seen, children)
        },
    }
}

fn decision(
    service: &ValidatedService,
    seen: &Seen,
    migration: &Migration,
    child: &Prepared,
    ledger: &Ledger,
) -> Decision {
    let fact = seen.child(child.kind, &child.name);
    if let Some(fact) = fact.filter(|fact| !seen.owns(fact)) {
        return foreign(service, fact.owner.as_ref());
    }
    if service.spec.paused {
        return Decision::Withhold(Withheld::Paused);
    }
    if let Some(why) = withheld(service, seen, migration, child, fact.is_some()) {
        return Decision::Withhold(why);
    }
    let id = ObjectId {
        kind: child.kind,
        namespace: service.namespace.clone(),
        name: child.name.clone(),
    };
    match fact {
        None => Decision::Create,
        Some(fact) if fact.is_deleting => Decision::Withhold(Withheld::Deleting),
        // Its template is immutable; its name says which one it is.
        Some(_) if child.kind == Kind::Job => Decision::Keep,
        Some(fact) if ledger.is_in_sync(&id, child.hash, fact) => Decision::Keep,
        Some(fact) => Decision::Patch {
            uid: fact.uid.clone(),
        },
    }
}

/// An object of a child's name that this service does not own.
pub fn foreign(service: &ValidatedService, owner: Option<&Owner>) -> Decision {
    match owner {
        Some(owner) if owner.kind == fuse_crds::KIND && owner.name == service.names.instance() => {
            Decision::Withhold(Withheld::OwnedByPredecessor)
        }
        Some(owner) => Decision::Conflict {
            owner: format!("{} {}", owner.kind, owner.name),
        },
        None => Decision::Conflict {
            owner: "nobody".into(),
        },
    }
}

fn withheld(
    service: &ValidatedService,
    seen: &Seen,
    migration: &Migration,
    child: &Prepared,
    exists: bool,
) -> Option<Withheld> {
    let is_open = migration.is_open();
    let is_suspended = service.spec.suspended;
    let serves = seen
        .own_child(Kind::Deployment, &service.names.of(Component::Api))
        .is_some();
    match child.kind {
        Kind::Job => {
            let may_start =
                migration.state == MigrationState::Pending && !is_suspended && !lacks_database(service, seen);
            (!exists && !may_start).then_some(Withheld::NotNow)
        }
        Kind::ConfigMap => (!is_open).then_some(Withheld::Gate),
        // A Deployment that does not exist would start with one pod before it can be scaled to none.
        Kind::Deployment if is_suspended && !exists => Some(Withheld::NotNow),
        Kind::Deployment => (!is_open).then_some(Withheld::Gate),
        // A suspended CronJob runs nothing, so it need not wait; and it must be suspended now.
        Kind::CronJob => (!(is_open || is_suspended && exists)).then_some(Withheld::Gate),
        // About a Deployment: without it they would only complain; beside an old version they go on working.
        Kind::HorizontalPodAutoscaler | Kind::PodDisruptionBudget | Kind::Ingress => {
            (!is_open && !serves).then_some(Withheld::Gate)
        }
        Kind::NetworkPolicy | Kind::Service | Kind::ServiceAccount => None,
    }
}

/// The migration would wait for its Secret until its deadline, and then count as failed.
fn lacks_database(service: &ValidatedService, seen: &Seen) -> bool {
    missing_for_migration(service, seen).is_some()
}

/// The first Secret that the migration mounts and that does not exist.
pub fn missing_for_migration<'a>(service: &'a ValidatedService, seen: &Seen) -> Option<&'a str> {
    let missing = seen.secrets.missing();
    config::secrets(service, Component::Migration)
        .into_iter()
        .map(|file| file.secret.secret_name.as_str())
        .find(|name| missing.contains(name))
}

fn scales(service: &ValidatedService, seen: &Seen, migration: &Migration) -> Vec<Scale> {
    let api = service.names.of(Component::Api);
    let refresher = service.names.of(Component::Refresher);
    let has_autoscaler = seen.own_child(Kind::HorizontalPodAutoscaler, &api).is_some();
    let wanted = [
        (
            api.clone(),
            wanted_replicas(service, current(seen, &api), has_autoscaler),
        ),
        (refresher, Some(if service.spec.suspended { 0 } else { 1 })),
    ];
    let scale = |(name, replicas): (String, Option<i32>)| {
        let replicas = replicas?;
        let fact = seen.child(Kind::Deployment, &name);
        let can_be = match fact {
            Some(fact) => seen.owns(fact) && !fact.is_deleting,
            None => migration.is_open() && !service.spec.suspended,
        };
        (can_be && current(seen, &name) != replicas).then_some(Scale { name, replicas })
    };
    wanted.into_iter().filter_map(scale).collect()
}

/// Replicas that the Deployment has, or will have once it is created.
fn current(seen: &Seen, name: &str) -> i32 {
    let fact = seen
        .own_child(Kind::Deployment, name)
        .and_then(|fact| fact.deployment());
    fact.map_or(REPLICAS_DEFAULT, |fact| fact.wanted)
}

/// Replicas of the API that we have to see to; `None`: the autoscaler does.
pub fn wanted_replicas(service: &ValidatedService, current: i32, has_autoscaler: bool) -> Option<i32> {
    if service.spec.suspended {
        return Some(0);
    }
    let Some(autoscaling) = &service.spec.api.autoscaling else {
        return Some(service.spec.api.replicas);
    };
    // An autoscaler leaves a target at 0 alone: on creation and on resuming it is helped up to its minimum, once.
    (!has_autoscaler && current < autoscaling.min_replicas).then_some(autoscaling.min_replicas)
}

/// Our own children that are not expected; what the gate holds back is expected. Jobs go by their TTL.
fn prune(seen: &Seen, children: &Children<Prepared>) -> Vec<(ObjectId, String)> {
    let expected: Vec<(Kind, &str)> = children
        .all()
        .into_iter()
        .map(|child| (child.kind, child.name.as_str()))
        .collect();
    seen.own_children()
        .filter(|(id, fact)| {
            id.kind != Kind::Job && !fact.is_deleting && !expected.contains(&(id.kind, id.name.as_str()))
        })
        .map(|(id, fact)| (id.clone(), fact.uid.clone()))
        .collect()
}
