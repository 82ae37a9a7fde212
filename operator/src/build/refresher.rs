//! The price refresher: one replica, never two at a time.

use serde_json::json;

use super::pod::{self, Program};
use super::{Prepared, prepared};
use crate::facts::Kind;
use crate::labels;
use crate::names::Component;
use crate::validate::ValidatedService;

const COMPONENT: Component = Component::Refresher;

/// The Deployment, without replicas: those have a field manager of their own.
pub fn deployment(service: &ValidatedService) -> Prepared {
    let name = service.names.of(COMPONENT);
    let program = Program {
        component: COMPONENT,
        binary: "cache-refresher",
        args: &[],
        resources: &service.refresher_resources,
        is_server: true,
        has_http: false,
        has_config: true,
        env: Vec::new(),
    };
    let manifest = json!({
        "metadata": labels::metadata(&service.names, &service.namespace, &service.uid, &name, Some(COMPONENT)),
        "spec": {
            "selector": {"matchLabels": labels::selector(&service.names, COMPONENT)},
            "strategy": {"type": "Recreate"},
            "revisionHistoryLimit": 3,
            "template": pod::template(service, &program),
        },
    });
    prepared(Kind::Deployment, name, manifest)
}
