//! Step 5, second half: writes the status, if it differs from the one that is there.

use fuse_crds::{FuseTradingService, FuseTradingServiceStatus};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::apply::{Cluster, bounded};
use crate::canonical;
use crate::dereference::Seen;
use crate::error::WriteError;
use crate::labels::STATUS_MANAGER;
use crate::stores::Stores;

/// Writes the status; true when it did. The answer goes into the store, so that our own write wakes nobody up and the
/// next comparison is with what we wrote.
///
/// # Errors
/// The API server did not take it.
pub async fn write(
    cluster: &Cluster,
    stores: &Stores,
    seen: &Seen,
    status: &FuseTradingServiceStatus,
) -> Result<bool, WriteError> {
    if seen.status() == Some(status) {
        return Ok(false);
    }
    let manifest = canonical::canonical(json!({
        "apiVersion": format!("{}/{}", fuse_crds::GROUP, fuse_crds::VERSION),
        "kind": fuse_crds::KIND,
        "metadata": {"name": seen.key.name, "namespace": seen.key.namespace, "uid": seen.uid},
        "status": status,
    }));
    let api: Api<FuseTradingService> = Api::namespaced(cluster.0.clone(), &seen.key.namespace);
    let params = PatchParams::apply(STATUS_MANAGER).force();
    let mut answer = bounded(api.patch_status(&seen.key.name, &params, &Patch::Apply(&manifest))).await?;
    answer.metadata.managed_fields = None;
    stores.replace_service(&seen.key, answer);
    Ok(true)
}
