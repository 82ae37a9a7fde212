//! A ServiceAccount per workload: each can be given its own rights outside the cluster, none has any inside.

use serde_json::json;

use super::{Prepared, prepared};
use crate::facts::Kind;
use crate::labels;
use crate::names::Component;
use crate::validate::ValidatedService;

/// The ServiceAccount of a workload.
pub fn account(service: &ValidatedService, component: Component) -> Prepared {
    let name = service.names.of(component);
    let mut metadata = labels::metadata(
        &service.names,
        &service.namespace,
        &service.uid,
        &name,
        Some(component),
    );
    let annotations = &service.spec.identity.service_account_annotations;
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    prepared(
        Kind::ServiceAccount,
        name,
        json!({"metadata": metadata, "automountServiceAccountToken": false}),
    )
}
