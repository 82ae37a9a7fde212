//! One Kubernetes event per transition, so that `kubectl describe` tells the story.
//!
//! [`notices`] is pure and compares two statuses; [`publish`] writes what it found. Each event is an object of its own:
//! grouping by time would lose a note that changed.

use fuse_crds::status::{ConditionState, ConditionType, FuseTradingServiceStatus, MigrationState, Reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};

use crate::apply::{Cluster, bounded};
use crate::dereference::Seen;
use crate::error::WriteError;
use crate::labels::MANAGER;

/// Longest note that the API server takes.
const NOTE_LENGTH_MAX: usize = 1024;

/// An event to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Someone should look.
    pub is_warning: bool,
    pub reason: &'static str,
    pub note: String,
}

impl Notice {
    fn normal(reason: &'static str, note: impl Into<String>) -> Self {
        Self {
            is_warning: false,
            reason,
            note: note.into(),
        }
    }

    fn warning(reason: &'static str, note: impl Into<String>) -> Self {
        Self {
            is_warning: true,
            reason,
            note: note.into(),
        }
    }
}

/// What happened between two statuses.
pub fn notices(old: Option<&FuseTradingServiceStatus>, new: &FuseTradingServiceStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    notices.extend(stalled(old, new));
    notices.extend(references(old, new));
    notices.extend(migration(old, new));
    notices.extend(suspension(old, new));
    notices.extend(applied(old, new));
    notices
}

/// A generation of the spec is in force: nothing stands in its way and the migration has let it through.
fn applied(old: Option<&FuseTradingServiceStatus>, new: &FuseTradingServiceStatus) -> Option<Notice> {
    let in_force = |status: Option<&FuseTradingServiceStatus>| {
        let is_through = holds(status, ConditionType::Migrated) && !holds(status, ConditionType::Stalled);
        let is_through = is_through && !holds(status, ConditionType::Paused);
        status
            .filter(|_| is_through)
            .and_then(|status| status.observed_generation)
    };
    let generation = in_force(Some(new)).filter(|_| in_force(old) != in_force(Some(new)))?;
    Some(Notice::normal(
        "Applied",
        format!("generation {generation} of the spec is applied"),
    ))
}

fn holds(status: Option<&FuseTradingServiceStatus>, type_: ConditionType) -> bool {
    let condition = status.and_then(|status| status.condition(type_));
    condition.is_some_and(|condition| condition.status == ConditionState::True)
}

fn said(status: Option<&FuseTradingServiceStatus>, type_: ConditionType) -> Option<(Reason, &str)> {
    let condition = status.and_then(|status| status.condition(type_))?;
    Some((condition.reason, condition.message.as_str()))
}

fn stalled(old: Option<&FuseTradingServiceStatus>, new: &FuseTradingServiceStatus) -> Option<Notice> {
    let (reason, message) = said(Some(new), ConditionType::Stalled)?;
    let is_news = holds(Some(new), ConditionType::Stalled)
        && said(old, ConditionType::Stalled) != Some((reason, message));
    let word = match reason {
        Reason::InvalidSpec => "InvalidSpec",
        Reason::NameConflict => "NameConflict",
        Reason::Rejected => "Rejected",
        // Told by the state of the migration.
        _ => return None,
    };
    is_news.then(|| Notice::warning(word, message))
}

fn references(old: Option<&FuseTradingServiceStatus>, new: &FuseTradingServiceStatus) -> Option<Notice> {
    let (reason, message) = said(Some(new), ConditionType::ReferencesResolved)?;
    let is_news = said(old, ConditionType::ReferencesResolved) != Some((reason, message));
    (reason == Reason::SecretNotFound && is_news).then(|| Notice::warning("SecretNotFound", message))
}

fn migration(old: Option<&FuseTradingServiceStatus>, new: &FuseTradingServiceStatus) -> Option<Notice> {
    let new = new.migration.as_ref()?;
    let old = old
        .and_then(|status| status.migration.as_ref())
        .filter(|old| old.hash == new.hash);
    if old.is_some_and(|old| old.state == new.state) {
        return None;
    }
    match new.state {
        MigrationState::Pending => None,
        MigrationState::Running => Some(Notice::normal(
            "MigrationStarted",
            format!("Job {} runs", new.job),
        )),
        // A rollback to a recorded migration is no success of today.
        MigrationState::Succeeded => {
            old.map(|_| Notice::normal("MigrationSucceeded", format!("Job {} completed", new.job)))
        }
        MigrationState::Failed => Some(Notice::warning(
            "MigrationFailed",
            format!("Job {} failed", new.job),
        )),
    }
}

fn suspension(old: Option<&FuseTradingServiceStatus>, new: &FuseTradingServiceStatus) -> Option<Notice> {
    let is_suspended =
        |status| said(status, ConditionType::ApiAvailable).map(|(reason, _)| reason == Reason::Suspended);
    match (is_suspended(old), is_suspended(Some(new))) {
        (Some(false) | None, Some(true)) => Some(Notice::normal("Suspended", "replicas 0, no reports")),
        (Some(true), Some(false)) => Some(Notice::normal("Resumed", "pods and reports come back")),
        _ => None,
    }
}

/// Writes events. One that cannot be written is lost: the conditions tell the same.
///
/// # Errors
/// The first event that the API server did not take.
pub async fn publish(
    cluster: &Cluster,
    seen: &Seen,
    notices: &[Notice],
    now: Timestamp,
) -> Result<(), WriteError> {
    let api: Api<Event> = Api::namespaced(cluster.0.clone(), &seen.key.namespace);
    for (index, notice) in notices.iter().enumerate() {
        let event = event(seen, notice, now, index);
        bounded(api.create(&PostParams::default(), &event)).await?;
    }
    Ok(())
}

fn event(seen: &Seen, notice: &Notice, now: Timestamp, index: usize) -> Event {
    let note: String = notice.note.chars().take(NOTE_LENGTH_MAX / 4).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}{index:x}", seen.key.name, now.as_nanosecond())),
            namespace: Some(seen.key.namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(MANAGER.to_owned()),
        action: Some("Reconcile".to_owned()),
        reason: Some(notice.reason.to_owned()),
        note: Some(note),
        type_: Some(if notice.is_warning { "Warning" } else { "Normal" }.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(format!("{}/{}", fuse_crds::GROUP, fuse_crds::VERSION)),
            kind: Some(fuse_crds::KIND.to_owned()),
            name: Some(seen.key.name.clone()),
            namespace: Some(seen.key.namespace.clone()),
            uid: Some(seen.uid.clone()),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}
