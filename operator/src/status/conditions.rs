//! The conditions, one function each.

use fuse_crds::status::{ConditionState, ConditionType, MigrationState, Reason};

use super::{Conditions, cron_job, deployment, is_withheld, retried, stalled};
use crate::apply::Application;
use crate::dereference::{Secrets, Seen};
use crate::facts::DeploymentFact;
use crate::names::Component;
use crate::rollout::{Migration, Withheld, missing_for_migration};
use crate::validate::ValidatedService;

/// A condition in the making.
struct Verdict {
    state: ConditionState,
    reason: Reason,
    message: String,
}

impl Verdict {
    fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            state: ConditionState::True,
            reason,
            message: message.into(),
        }
    }

    fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            state: ConditionState::False,
            reason,
            message: message.into(),
        }
    }

    fn holds(&self) -> bool {
        self.state == ConditionState::True
    }
}

/// Sets every condition.
pub(super) fn set_all(
    conditions: &mut Conditions<'_>,
    service: &ValidatedService,
    seen: &Seen,
    migration: &Migration,
    application: &Application,
) {
    let stalled = stalled(migration, application);
    let references = references(seen);
    let migrated = migrated(migration, seen, service);
    let api = api_available(service, seen);
    let refresher = refresher_available(service, seen);
    let report = report_scheduled(service, seen);
    let is_stalled = stalled.is_some();
    let ready = ready(
        service,
        &stalled,
        is_partial(application) && !conditions.was_ready(),
        [&references, &migrated, &api, &refresher, &report],
    );
    let reconciling = reconciling(service, seen, migration, application, is_stalled);
    let stalled = match stalled {
        Some((reason, message)) => Verdict::yes(reason, message),
        None => Verdict::no(Reason::NotStalled, ""),
    };
    for (type_, verdict) in [
        (ConditionType::Ready, ready),
        (ConditionType::Reconciling, reconciling),
        (ConditionType::Stalled, stalled),
        (ConditionType::ReferencesResolved, references),
        (ConditionType::Migrated, migrated),
        (ConditionType::ApiAvailable, api),
        (ConditionType::RefresherAvailable, refresher),
        (ConditionType::ReportScheduled, report),
        (ConditionType::MonitoringAvailable, monitoring(service)),
    ] {
        conditions.set(type_, verdict.state, verdict.reason, &verdict.message);
    }
    conditions.set_paused(service.spec.paused);
}

/// The first thing that is missing, in the order in which one would look for it.
fn ready(
    service: &ValidatedService,
    stalled: &Option<(Reason, String)>,
    is_incomplete: bool,
    [references, migrated, api, refresher, report]: [&Verdict; 5],
) -> Verdict {
    if let Some((reason, message)) = stalled
        .as_ref()
        .filter(|(reason, _)| *reason != Reason::MigrationFailed)
    {
        return Verdict::no(*reason, message.clone());
    }
    if references.state == ConditionState::False {
        return Verdict::no(references.reason, references.message.clone());
    }
    if !migrated.holds() {
        let reason = match migrated.reason {
            Reason::MigrationFailed => Reason::MigrationFailed,
            _ => Reason::MigrationPending,
        };
        return Verdict::no(reason, migrated.message.clone());
    }
    if service.spec.suspended {
        return Verdict::no(Reason::Suspended, "suspended by the spec: no pods");
    }
    let report_matters = report.reason != Reason::Disabled;
    for (verdict, reason, matters) in [
        (api, Reason::ApiUnavailable, true),
        (refresher, Reason::RefresherUnavailable, true),
        (report, Reason::ReportNotScheduled, report_matters),
    ] {
        if matters && !verdict.holds() {
            return Verdict::no(reason, verdict.message.clone());
        }
    }
    if is_incomplete {
        return Verdict::no(Reason::Applying, "not every child is applied yet");
    }
    Verdict::yes(Reason::AllAvailable, api.message.clone())
}

/// Whether a child was not written: the round ended early, or one of that name is still being deleted.
fn is_partial(application: &Application) -> bool {
    application.halted.is_some()
        || is_withheld(application, Withheld::Deleting)
        || is_withheld(application, Withheld::OwnedByPredecessor)
}

/// Whether the Deployment says that it is available, and says so of what it was asked for last: right after a change of replicas
/// its old word may not count.
fn is_up(fact: &DeploymentFact) -> bool {
    fact.is_available == Some(true) && (fact.is_observed || fact.available >= fact.wanted)
}

fn reconciling(
    service: &ValidatedService,
    seen: &Seen,
    migration: &Migration,
    application: &Application,
    is_stalled: bool,
) -> Verdict {
    if service.spec.paused {
        return Verdict::no(Reason::Paused, "");
    }
    if let Some(message) = retried(application) {
        return Verdict::yes(Reason::Retrying, message);
    }
    if application.halted.is_some() {
        return Verdict::yes(Reason::Applying, "children changed meanwhile");
    }
    if is_stalled {
        return Verdict::no(Reason::Stalled, "");
    }
    let waits = is_withheld(application, Withheld::OwnedByPredecessor)
        || is_withheld(application, Withheld::Deleting);
    if waits {
        return Verdict::yes(
            Reason::WaitingForDeletion,
            "a child is being deleted and comes back afterwards",
        );
    }
    match migration.state {
        MigrationState::Running => {
            return Verdict::yes(
                Reason::MigrationRunning,
                format!("Job {} is running", migration.job),
            );
        }
        MigrationState::Pending if !service.spec.suspended => {
            return Verdict::yes(Reason::Applying, "the migration has not started");
        }
        _ => {}
    }
    let unsettled: Vec<&str> = [Component::Api, Component::Refresher]
        .into_iter()
        .filter(|component| deployment(seen, service, *component).is_some_and(|fact| !fact.is_settled()))
        .map(Component::as_str)
        .collect();
    if unsettled.is_empty() {
        Verdict::no(Reason::Settled, "")
    } else {
        Verdict::yes(
            Reason::RollingOut,
            format!("pods of {} are changing", unsettled.join(" and ")),
        )
    }
}

fn references(seen: &Seen) -> Verdict {
    if seen.secrets == Secrets::NotWatched {
        return Verdict {
            state: ConditionState::Unknown,
            reason: Reason::NotWatched,
            message: "the operator may not look at Secrets; see secretRotation.enabled of its chart".into(),
        };
    }
    match seen.secrets.missing().as_slice() {
        [] => Verdict::yes(Reason::Found, ""),
        [one] => Verdict::no(Reason::SecretNotFound, format!("Secret {one} does not exist")),
        many => Verdict::no(
            Reason::SecretNotFound,
            format!("Secrets {} do not exist", many.join(", ")),
        ),
    }
}

fn migrated(migration: &Migration, seen: &Seen, service: &ValidatedService) -> Verdict {
    match migration.state {
        MigrationState::Succeeded if migration.is_recorded => Verdict::yes(
            Reason::AlreadyCompleted,
            format!("migration {} completed before", migration.hash),
        ),
        MigrationState::Succeeded => {
            Verdict::yes(Reason::JobComplete, format!("Job {} completed", migration.job))
        }
        MigrationState::Running => Verdict::no(
            Reason::MigrationRunning,
            format!("Job {} is running", migration.job),
        ),
        MigrationState::Failed => {
            let why = migration.failure.as_deref().unwrap_or("it failed");
            Verdict::no(Reason::MigrationFailed, format!("Job {}: {why}", migration.job))
        }
        MigrationState::Pending => {
            let why = if service.spec.paused {
                "the spec is paused".to_owned()
            } else if service.spec.suspended {
                "the spec is suspended".to_owned()
            } else if let Some(secret) = missing_for_migration(service, seen) {
                format!("Secret {secret} does not exist")
            } else {
                "it is about to start".to_owned()
            };
            Verdict::no(
                Reason::MigrationPending,
                format!("Job {} has not started: {why}", migration.job),
            )
        }
    }
}

fn api_available(service: &ValidatedService, seen: &Seen) -> Verdict {
    if service.spec.suspended {
        return Verdict::no(Reason::Suspended, "suspended by the spec");
    }
    let Some(fact) = deployment(seen, service, Component::Api) else {
        return Verdict::no(Reason::NotCreated, "the API's Deployment does not exist");
    };
    let replicas = format!("{}/{} API replicas ready", fact.ready, fact.wanted);
    if fact.is_stuck {
        return Verdict::no(
            Reason::ProgressDeadlineExceeded,
            format!("the rollout does not get on: {replicas}"),
        );
    }
    if is_up(fact) {
        Verdict::yes(Reason::MinimumReplicasAvailable, replicas)
    } else {
        Verdict::no(Reason::TooFewReplicas, replicas)
    }
}

fn refresher_available(service: &ValidatedService, seen: &Seen) -> Verdict {
    if service.spec.suspended {
        return Verdict::no(Reason::Suspended, "suspended by the spec");
    }
    match deployment(seen, service, Component::Refresher) {
        None => Verdict::no(Reason::NotCreated, "the refresher's Deployment does not exist"),
        Some(fact) if is_up(fact) => Verdict::yes(Reason::Running, ""),
        Some(_) => Verdict::no(Reason::NotRunning, "the refresher's pod is not ready"),
    }
}

fn report_scheduled(service: &ValidatedService, seen: &Seen) -> Verdict {
    let Some(report) = &service.spec.report else {
        return Verdict::no(Reason::Disabled, "the spec has no report");
    };
    if service.spec.suspended {
        return Verdict::no(Reason::Suspended, "suspended by the spec");
    }
    match cron_job(seen, service) {
        None => Verdict::no(Reason::NotCreated, "the report's CronJob does not exist"),
        Some(fact) if fact.is_suspended => Verdict::no(Reason::Suspended, "the CronJob is suspended"),
        Some(_) => Verdict::yes(
            Reason::Scheduled,
            format!("{} {}", report.schedule, report.time_zone),
        ),
    }
}

fn monitoring(service: &ValidatedService) -> Verdict {
    let monitoring = &service.spec.monitoring;
    if monitoring.service_monitor || monitoring.prometheus_rule || monitoring.dashboards {
        let message = "this version makes the headless metrics Service only; the operator's chart ships rules and dashboards";
        return Verdict::no(Reason::NotSupported, message);
    }
    Verdict::no(Reason::Disabled, "")
}
