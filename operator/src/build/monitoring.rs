//! Monitoring. For now only the headless Service; ServiceMonitor, PrometheusRule and dashboards come later.

use serde_json::json;

use super::config::ADMIN_PORT;
use super::{Prepared, prepared};
use crate::facts::Kind;
use crate::labels;
use crate::validate::ValidatedService;

/// A headless Service over the admin ports of all pods, through which Prometheus finds them.
pub fn metrics_service(service: &ValidatedService) -> Option<Prepared> {
    if !service.spec.monitoring.service_monitor {
        return None;
    }
    let name = service.names.metrics();
    let manifest = json!({
        "metadata": labels::metadata(&service.names, &service.namespace, &service.uid, &name, None),
        "spec": {
            "clusterIP": "None",
            // Pods that are not ready are scraped as well: that is when their metrics matter.
            "publishNotReadyAddresses": true,
            "selector": {
                "app.kubernetes.io/name": "fuse",
                (labels::INSTANCE): service.names.instance(),
            },
            "ports": [{"name": "admin", "port": ADMIN_PORT, "targetPort": ADMIN_PORT, "protocol": "TCP"}],
        },
    });
    Some(prepared(Kind::Service, name, manifest))
}
