//! All labels, selectors and owner references, in one place: watches, pruning and Services depend on them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::names::{Component, Names};

/// Field manager of the children.
pub const MANAGER: &str = "fuse-operator";
/// Field manager of `Deployment.spec.replicas` alone.
pub const SCALE_MANAGER: &str = "fuse-operator-scale";
/// Field manager of the status.
pub const STATUS_MANAGER: &str = "fuse-operator-status";

/// Label by which the operator knows its own objects; also the selector of its watches.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Selector of the watches.
pub const WATCH_SELECTOR: &str = "app.kubernetes.io/managed-by=fuse-operator";
/// Label with the name of the service.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label with the workload.
pub const COMPONENT: &str = "app.kubernetes.io/component";

/// Deployment annotation with the last completed migrations, so that a restore without status re-runs nothing.
pub const COMPLETED_MIGRATIONS: &str = "fuse.trading/completed-migrations";
/// Written by the Deployment controller on every rollout; not drift.
pub const DEPLOYMENT_REVISION: &str = "deployment.kubernetes.io/revision";
/// Pod annotation with the hash of the settings that the pod reads.
pub const CONFIG_CHECKSUM: &str = "checksum/config";

/// What selects the pods of one workload. Never changes: selectors of Deployments are immutable.
pub fn selector(names: &Names, component: Component) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name", "fuse".to_owned()),
        (INSTANCE, names.instance().to_owned()),
        (COMPONENT, component.as_str().to_owned()),
    ])
}

/// The selector as text, for the scale subresource.
pub fn selector_text(names: &Names, component: Component) -> String {
    let pairs: Vec<String> = selector(names, component)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// Labels of a child; `None` for what belongs to no single workload.
pub fn child(names: &Names, component: Option<Component>) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/name", "fuse".to_owned()),
        ("app.kubernetes.io/part-of", "fuse".to_owned()),
        (INSTANCE, names.instance().to_owned()),
        (MANAGED_BY, MANAGER.to_owned()),
    ]);
    if let Some(component) = component {
        labels.insert(COMPONENT, component.as_str().to_owned());
    }
    labels
}

/// Metadata of a child. The owner reference makes Kubernetes collect it; there is no finalizer, so that deletion works
/// with the operator down.
pub fn metadata(
    names: &Names,
    namespace: &str,
    uid: &str,
    name: &str,
    component: Option<Component>,
) -> Value {
    json!({
        "name": name,
        "namespace": namespace,
        "labels": child(names, component),
        "ownerReferences": [{
            "apiVersion": format!("{}/{}", fuse_crds::GROUP, fuse_crds::VERSION),
            "kind": fuse_crds::KIND,
            "name": names.instance(),
            "uid": uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    })
}
