//! Step 5, first half: the status that follows from what was seen and done. Pure.
//!
//! Compatible with kstatus: `Reconciling` and `Stalled` say whether waiting helps. Nothing here moves by itself, and
//! messages are sorted, so that an unchanged world gives an unchanged status, which is then not written.

use fuse_crds::status::{
    ApiStatus, Condition, ConditionState, ConditionType, FuseTradingServiceStatus, MigrationState,
    MigrationStatus, Reason, Reference, ReportStatus,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::apply::{Application, Applied, Outcome};
use crate::build::api;
use crate::dereference::{Secrets, Seen};
use crate::error::Retry;
use crate::facts::{CronJobFact, DeploymentFact, JobFact, Kind};
use crate::labels;
use crate::names::Component;
use crate::rollout::{Migration, Withheld};
use crate::validate::{Invalid, ValidatedService};

mod conditions;

/// The status of a service whose spec is refused: what was known of its children stays.
pub fn of_invalid(seen: &Seen, invalid: &Invalid, now: Timestamp) -> FuseTradingServiceStatus {
    let mut status = seen.status().cloned().unwrap_or_default();
    status.observed_generation = Some(seen.generation);
    let mut conditions = Conditions::new(seen, now);
    let message = invalid.to_string();
    conditions.set(
        ConditionType::Ready,
        ConditionState::False,
        Reason::InvalidSpec,
        &message,
    );
    conditions.set(
        ConditionType::Reconciling,
        ConditionState::False,
        Reason::Stalled,
        &message,
    );
    conditions.set(
        ConditionType::Stalled,
        ConditionState::True,
        Reason::InvalidSpec,
        &message,
    );
    conditions.set_paused(seen.spec().paused);
    status.conditions = conditions.over(status.conditions);
    status
}

/// The status of a service whose children were applied; `seen` is read after that.
pub fn of_applied(
    service: &ValidatedService,
    seen: &Seen,
    migration: &Migration,
    application: &Application,
    now: Timestamp,
) -> FuseTradingServiceStatus {
    let old = seen.status();
    let api_fact = deployment(seen, service, Component::Api);
    let is_serving = api_fact.is_some_and(DeploymentFact::is_settled);
    let image = api_fact.filter(|_| is_serving).map(|fact| fact.image.clone());
    let mut conditions = Conditions::new(seen, now);
    conditions::set_all(&mut conditions, service, seen, migration, application);
    FuseTradingServiceStatus {
        observed_generation: Some(seen.generation),
        image: image.or_else(|| old.and_then(|status| status.image.clone())),
        url: api::url(service),
        api: Some(api_status(service, api_fact)),
        migration: Some(migration_status(seen, migration)),
        report: report_status(service, seen),
        references: references(seen),
        conditions: conditions.over(Vec::new()),
    }
}

pub(crate) fn deployment<'a>(
    seen: &'a Seen,
    service: &ValidatedService,
    component: Component,
) -> Option<&'a DeploymentFact> {
    seen.own_child(Kind::Deployment, &service.names.of(component))
        .and_then(|fact| fact.deployment())
}

pub(crate) fn cron_job<'a>(seen: &'a Seen, service: &ValidatedService) -> Option<&'a CronJobFact> {
    seen.own_child(Kind::CronJob, &service.names.of(Component::Report))
        .and_then(|fact| fact.cron_job())
}

fn api_status(service: &ValidatedService, fact: Option<&DeploymentFact>) -> ApiStatus {
    let (replicas, ready_replicas) = fact.map_or((0, 0), |fact| (fact.replicas, fact.ready));
    ApiStatus {
        replicas,
        ready_replicas,
        ready: format!(
            "{ready_replicas}/{}",
            fact.map_or_else(|| wanted(service), |fact| fact.wanted)
        ),
        selector: labels::selector_text(&service.names, Component::Api),
    }
}

fn wanted(service: &ValidatedService) -> i32 {
    let api = &service.spec.api;
    if service.spec.suspended {
        return 0;
    }
    api.autoscaling
        .as_ref()
        .map_or(api.replicas, |autoscaling| autoscaling.min_replicas)
}

fn migration_status(seen: &Seen, migration: &Migration) -> MigrationStatus {
    let job = seen
        .own_child(Kind::Job, &migration.job)
        .and_then(|fact| fact.job());
    let old = seen.status().and_then(|status| status.migration.as_ref());
    let completed_at = match job {
        Some(JobFact::Complete { at }) => at.clone(),
        _ => old
            .filter(|old| old.hash == migration.hash)
            .and_then(|old| old.completed_at.clone()),
    };
    MigrationStatus {
        hash: migration.hash.clone(),
        state: migration.state,
        job: migration.job.clone(),
        completed_at: completed_at.filter(|_| migration.state == MigrationState::Succeeded),
        completed_hashes: migration.completed.clone(),
    }
}

fn report_status(service: &ValidatedService, seen: &Seen) -> Option<ReportStatus> {
    service.spec.report.as_ref()?;
    let fact = cron_job(seen, service)?;
    Some(ReportStatus {
        last_schedule_time: fact.last_schedule.clone(),
        last_successful_time: fact.last_success.clone(),
    })
}

fn references(seen: &Seen) -> Vec<Reference> {
    let Secrets::Watched(known) = &seen.secrets else {
        return Vec::new();
    };
    let reference = |(name, version): (&String, &Option<String>)| {
        Some(Reference {
            kind: "Secret".into(),
            name: name.clone(),
            resource_version: version.clone()?,
        })
    };
    known.iter().filter_map(reference).collect()
}

/// Collects conditions; the time of a transition moves only with the status of the condition.
pub(crate) struct Conditions<'a> {
    seen: &'a Seen,
    now: Timestamp,
    set: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    fn new(seen: &'a Seen, now: Timestamp) -> Self {
        Self {
            seen,
            now,
            set: Vec::new(),
        }
    }

    pub(crate) fn set(&mut self, type_: ConditionType, state: ConditionState, reason: Reason, message: &str) {
        let old = self.seen.status().and_then(|status| status.condition(type_));
        let since = old
            .filter(|old| old.status == state)
            .map(|old| old.last_transition_time.clone());
        // Whole seconds: that is what metav1.Time keeps, and a status must read back as it was written.
        let now = Timestamp::from_second(self.now.as_second()).unwrap_or(self.now);
        self.set.push(Condition {
            type_,
            status: state,
            observed_generation: Some(self.seen.generation),
            last_transition_time: since.unwrap_or(Time(now)),
            reason,
            message: message.to_owned(),
        });
    }

    /// Whether the service was Ready in its present generation: a hitch in a later repair does not take that back.
    pub(crate) fn was_ready(&self) -> bool {
        let old = self
            .seen
            .status()
            .and_then(|status| status.condition(ConditionType::Ready));
        old.is_some_and(|old| {
            old.status == ConditionState::True && old.observed_generation == Some(self.seen.generation)
        })
    }

    pub(crate) fn set_paused(&mut self, is_paused: bool) {
        let (state, reason, message) = if is_paused {
            (
                ConditionState::True,
                Reason::PausedBySpec,
                "children are observed, not written",
            )
        } else {
            (ConditionState::False, Reason::Active, "")
        };
        self.set(ConditionType::Paused, state, reason, message);
    }

    /// These conditions, and of `others` those of other types; in the order of the types.
    fn over(self, others: Vec<Condition>) -> Vec<Condition> {
        let mut all = self.set;
        for other in others {
            if !all.iter().any(|condition| condition.type_ == other.type_) {
                all.push(other);
            }
        }
        all.sort_by_key(|condition| condition.type_);
        all
    }
}

/// The first problem that only a change of the spec or of the cluster can solve, with its sentence.
pub(crate) fn stalled(migration: &Migration, application: &Application) -> Option<(Reason, String)> {
    let all = application.children.all();
    let conflicts = listed(&all, |child| match &child.outcome {
        Outcome::Conflict { owner } => Some(format!(
            "{} {} belongs to {owner}",
            child.kind.as_str(),
            child.name
        )),
        _ => None,
    });
    let rejections = listed(&all, |child| match &child.outcome {
        Outcome::Rejected { message } => Some(format!("{} {}: {message}", child.kind.as_str(), child.name)),
        _ => None,
    });
    let failed = match migration.state {
        MigrationState::Failed => {
            let why = migration.failure.as_deref().unwrap_or("it failed");
            Some(format!(
                "Job {}: {why}; a new image or migration.trigger tries again",
                migration.job
            ))
        }
        _ => None,
    };
    let named = |reason, message: Option<String>| message.map(|message| (reason, message));
    named(Reason::NameConflict, conflicts)
        .or_else(|| named(Reason::Rejected, rejections))
        .or_else(|| named(Reason::MigrationFailed, failed))
}

/// Sentences about children, sorted and joined; `None` when there is none.
fn listed(all: &[&Applied], sentence: impl Fn(&Applied) -> Option<String>) -> Option<String> {
    let mut sentences: Vec<String> = all.iter().filter_map(|child| sentence(child)).collect();
    sentences.sort_unstable();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

/// Whether any child is held back for this reason.
pub(crate) fn is_withheld(application: &Application, why: Withheld) -> bool {
    application
        .children
        .all()
        .iter()
        .any(|child| child.outcome == Outcome::Withheld(why))
}

/// The request that failed and is tried again later, as a sentence.
pub(crate) fn retried(application: &Application) -> Option<String> {
    let error = application.halted.as_ref()?;
    (error.source.retry() == Retry::Transient).then(|| error.to_string())
}
