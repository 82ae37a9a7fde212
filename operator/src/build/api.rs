//! The REST API: Deployment, Service, Ingress, disruption budget and autoscaler.

use serde_json::{Value, json};

use super::pod::{self, Program};
use super::{Prepared, prepared};
use crate::facts::Kind;
use crate::labels;
use crate::names::Component;
use crate::validate::ValidatedService;

const COMPONENT: Component = Component::Api;

fn metadata(service: &ValidatedService) -> Value {
    let name = service.names.of(COMPONENT);
    labels::metadata(
        &service.names,
        &service.namespace,
        &service.uid,
        &name,
        Some(COMPONENT),
    )
}

/// The Deployment, without replicas: those have a field manager of their own. `completed` is kept as an annotation, so
/// that a restore without status runs no migration again.
pub fn deployment(service: &ValidatedService, completed: &[String]) -> Prepared {
    let mut metadata = metadata(service);
    if !completed.is_empty() {
        metadata["annotations"] = json!({(labels::COMPLETED_MIGRATIONS): completed.join(",")});
    }
    let program = Program {
        component: COMPONENT,
        binary: "api-service",
        args: &["serve"],
        resources: &service.api_resources,
        is_server: true,
        has_http: true,
        has_config: true,
        env: service
            .spec
            .api
            .env
            .iter()
            .map(|variable| json!(variable))
            .collect(),
    };
    let manifest = json!({
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": labels::selector(&service.names, COMPONENT)},
            // A new pod must be ready before an old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 3,
            "template": pod::template(service, &program),
        },
    });
    prepared(Kind::Deployment, service.names.of(COMPONENT), manifest)
}

/// The Service that clients and the Ingress use.
pub fn service(service: &ValidatedService) -> Prepared {
    let manifest = json!({
        "metadata": metadata(service),
        "spec": {
            "type": "ClusterIP",
            "selector": labels::selector(&service.names, COMPONENT),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    });
    prepared(Kind::Service, service.names.of(COMPONENT), manifest)
}

/// The Ingress, if asked for.
pub fn ingress(service: &ValidatedService) -> Option<Prepared> {
    let ingress = service.spec.api.ingress.as_ref()?;
    let mut metadata = metadata(service);
    if !ingress.annotations.is_empty() {
        metadata["annotations"] = json!(ingress.annotations);
    }
    let name = service.names.of(COMPONENT);
    let tls = ingress
        .tls_secret_name
        .as_ref()
        .map(|secret| json!([{"hosts": [ingress.host], "secretName": secret}]));
    let manifest = json!({
        "metadata": metadata,
        "spec": {
            "ingressClassName": ingress.class_name,
            "tls": tls,
            "rules": [{
                "host": ingress.host,
                "http": {"paths": [{
                    "path": "/",
                    "pathType": "Prefix",
                    "backend": {"service": {"name": name, "port": {"name": "http"}}},
                }]},
            }],
        },
    });
    Some(prepared(Kind::Ingress, name, manifest))
}

/// Address behind the Ingress.
pub fn url(service: &ValidatedService) -> Option<String> {
    let ingress = service.spec.api.ingress.as_ref()?;
    let scheme = if ingress.tls_secret_name.is_some() {
        "https"
    } else {
        "http"
    };
    Some(format!("{scheme}://{}", ingress.host))
}

/// The disruption budget, if asked for.
pub fn disruption_budget(service: &ValidatedService) -> Option<Prepared> {
    let disruption = service.spec.api.disruption.as_ref()?;
    let manifest = json!({
        "metadata": metadata(service),
        "spec": {
            "minAvailable": disruption.min_available,
            "maxUnavailable": disruption.max_unavailable,
            "selector": {"matchLabels": labels::selector(&service.names, COMPONENT)},
            // A pod that is not ready anyway must not hold up a drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    });
    Some(prepared(
        Kind::PodDisruptionBudget,
        service.names.of(COMPONENT),
        manifest,
    ))
}

/// The autoscaler, if asked for.
pub fn autoscaler(service: &ValidatedService) -> Option<Prepared> {
    let autoscaling = service.spec.api.autoscaling.as_ref()?;
    let name = service.names.of(COMPONENT);
    let manifest = json!({
        "metadata": metadata(service),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": autoscaling.min_replicas,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": [{
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": autoscaling.target_cpu_utilization},
                },
            }],
        },
    });
    Some(prepared(Kind::HorizontalPodAutoscaler, name, manifest))
}
