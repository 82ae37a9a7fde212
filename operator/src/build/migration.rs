//! The migration: a Job per hash of image, command, trigger and owner. Made once, never changed; a TTL removes it.

use serde_json::json;

use super::pod::{self, Program};
use super::{Prepared, prepared};
use crate::facts::Kind;
use crate::labels;
use crate::names::Component;
use crate::validate::ValidatedService;

const COMPONENT: Component = Component::Migration;
/// Program and arguments; part of the hash.
pub const BINARY: &str = "api-service";
/// See [`BINARY`].
pub const ARGS: &[&str] = &["migrate"];
/// A finished Job stays for a day, for whoever wants to read its log.
const TTL_SECS: i32 = 86_400;

/// The Job of the wanted migration.
pub fn job(service: &ValidatedService) -> Prepared {
    let name = service.names.migration_job(&service.migration_hash);
    let program = Program {
        component: COMPONENT,
        binary: BINARY,
        args: ARGS,
        resources: &service.refresher_resources,
        is_server: false,
        has_http: false,
        has_config: false,
        env: Vec::new(),
    };
    let manifest = json!({
        "metadata": labels::metadata(&service.names, &service.namespace, &service.uid, &name, Some(COMPONENT)),
        "spec": {
            "backoffLimit": service.spec.migration.backoff_limit,
            "activeDeadlineSeconds": service.spec.migration.active_deadline_seconds,
            "ttlSecondsAfterFinished": TTL_SECS,
            "template": pod::template(service, &program),
        },
    });
    prepared(Kind::Job, name, manifest)
}
