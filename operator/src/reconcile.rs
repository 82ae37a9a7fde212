//! One service, five steps: dereference, validate, build, apply, status. Read this first.

use std::time::Instant;

use fuse_crds::FuseTradingServiceStatus;
use jiff::Timestamp;

use crate::apply::{Application, Applier, Cluster, apply};
use crate::build::build;
use crate::dereference::{Seen, dereference};
use crate::error::{Retry, WriteError};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::stores::{ServiceKey, Stores};
use crate::validate::{ValidatedService, validate};
use crate::{events, rollout, status, status_writer};

/// What all reconciles share.
#[derive(Debug)]
pub struct Context {
    pub cluster: Cluster,
    pub stores: Stores,
    pub ledger: Ledger,
    pub metrics: Metrics,
    /// Whether Secrets may be looked at.
    pub watches_secrets: bool,
}

/// When to reconcile again, besides at the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub retry: Option<Retry>,
    pub generation: i64,
}

/// Brings one service and its children to where they should be. Never fails: what goes wrong is in the status, in the
/// log and in the answer.
pub async fn reconcile(context: &Context, key: &ServiceKey) -> Next {
    let started = Instant::now();
    let step = context.metrics.step("dereference");
    let seen = dereference(&context.stores, key, context.watches_secrets);
    step.ok();
    let Some(seen) = seen.filter(|seen| !seen.is_deleting) else {
        // Gone, or going: Kubernetes collects the children by their owner.
        context.metrics.set_state(key, None);
        return Next {
            retry: None,
            generation: 0,
        };
    };
    let step = context.metrics.step("validate");
    let (status, mut retry) = match validate(&seen) {
        Ok(service) => {
            step.ok();
            converge(context, &service, &seen).await
        }
        Err(invalid) => (status::of_invalid(&seen, &invalid, Timestamp::now()), None),
    };
    let step = context.metrics.step("status");
    match report(context, &seen, &status).await {
        Ok(()) => step.ok(),
        Err(error) => {
            context.metrics.failed(error.category());
            retry = worse(retry, error.retry());
            log_failure(key, "write the status", &error);
        }
    }
    context.metrics.set_state(key, Some(&status));
    let is_ok = retry.is_none();
    context.metrics.reconciled(started, is_ok);
    Next {
        retry,
        generation: seen.generation,
    }
}

async fn converge(
    context: &Context,
    service: &ValidatedService,
    seen: &Seen,
) -> (FuseTradingServiceStatus, Option<Retry>) {
    let migration = rollout::migration(service, seen);
    let step = context.metrics.step("build");
    let children = build(service, &migration.completed);
    step.ok();
    let plan = rollout::plan(service, seen, &migration, &children, &context.ledger);
    let applier = Applier {
        cluster: &context.cluster,
        stores: &context.stores,
        ledger: &context.ledger,
        metrics: &context.metrics,
    };
    let step = context.metrics.step("apply");
    let application = apply(&applier, service, seen, &plan, children).await;
    if application.halted.is_none() {
        step.ok();
    }
    log(&seen.key, &application);
    // What was written came back as facts.
    let after = dereference(&context.stores, &seen.key, context.watches_secrets)
        .filter(|after| after.uid == seen.uid);
    let after = after.as_ref().unwrap_or(seen);
    // The status speaks of the spec that was applied, even if a newer one has arrived meanwhile.
    let after = after.about_generation(seen.generation);
    let migration = rollout::migration(service, &after);
    let status = status::of_applied(service, &after, &migration, &application, Timestamp::now());
    (status, application.halted.map(|error| error.source.retry()))
}

async fn report(
    context: &Context,
    before: &Seen,
    status: &FuseTradingServiceStatus,
) -> Result<(), WriteError> {
    let key = &before.key;
    let seen =
        dereference(&context.stores, key, context.watches_secrets).filter(|seen| seen.uid == before.uid);
    let Some(seen) = seen else {
        return Ok(());
    };
    match status_writer::write(&context.cluster, &context.stores, &seen, status).await {
        Ok(true) => {}
        // Nothing new; or the resource was deleted meanwhile, which the watch is about to tell.
        Ok(false) | Err(WriteError::NotFound(_)) => return Ok(()),
        Err(error) => return Err(error),
    }
    let notices = events::notices(seen.status(), status);
    for notice in &notices {
        tracing::info!(
            resource.namespace = key.namespace,
            resource.name = key.name,
            reason = notice.reason,
            note = notice.note,
            "transition"
        );
    }
    if let Err(error) = events::publish(&context.cluster, &seen, &notices, Timestamp::now()).await {
        // The conditions tell the same, and a retry would only repeat the status.
        log_failure(key, "write an event", &error);
    }
    Ok(())
}

fn worse(old: Option<Retry>, new: Retry) -> Option<Retry> {
    match (old, new) {
        (Some(Retry::Transient), _) | (_, Retry::Transient) => Some(Retry::Transient),
        (Some(old), Retry::AwaitChange) => Some(old),
        (_, new) => Some(new),
    }
}

fn log(key: &ServiceKey, application: &Application) {
    if application.writes > 0 {
        tracing::info!(
            resource.namespace = key.namespace,
            resource.name = key.name,
            writes = application.writes,
            "applied"
        );
    }
    if let Some(error) = &application.halted {
        log_failure(key, &error.what, &error.source);
    }
}

fn log_failure(key: &ServiceKey, what: &str, error: &WriteError) {
    match error {
        // Expected and over in a moment.
        WriteError::Conflict(_) | WriteError::NamespaceTerminating => tracing::debug!(
            resource.namespace = key.namespace,
            resource.name = key.name,
            what,
            error = %error,
            "will be tried again"
        ),
        _ => tracing::warn!(
            resource.namespace = key.namespace,
            resource.name = key.name,
            what,
            category = error.category(),
            error = %error,
            "request failed"
        ),
    }
}
