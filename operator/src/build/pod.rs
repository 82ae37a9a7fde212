//! The pod template that all workloads share: restricted, read-only, without an API token, with its Secrets as files.

use serde_json::{Value, json};

use super::config::{self, ADMIN_PORT};
use crate::labels;
use crate::names::Component;
use crate::validate::{Resources, ValidatedService};

/// Secrets are mounted below.
pub const SECRETS_DIR: &str = "/etc/fuse/secrets";
/// Pause between "no new requests please" and SIGTERM, in which proxies take notice.
const PRE_STOP_SECS: u32 = 5;
/// From SIGTERM to the process's own hard stop.
pub const DRAIN_DEADLINE_SECS: u32 = 25;
/// The kubelet kills after pause, drain and this margin.
const KILL_MARGIN_SECS: u32 = 5;
/// User and group of every process; the image has no others.
const USER: i64 = 65532;

/// What differs between the workloads.
pub struct Program<'a> {
    pub component: Component,
    pub binary: &'static str,
    pub args: &'static [&'static str],
    pub resources: &'a Resources,
    /// Serves until told to stop: probes, preStop pause, restarts.
    pub is_server: bool,
    /// Listens for clients as well.
    pub has_http: bool,
    /// Has a ConfigMap of its own. The migration has none: it runs before any ConfigMap may change.
    pub has_config: bool,
    /// More environment, from the spec.
    pub env: Vec<Value>,
}

/// A pod template.
pub fn template(service: &ValidatedService, program: &Program<'_>) -> Value {
    let component = program.component;
    json!({
        "metadata": {
            "labels": labels::selector(&service.names, component),
            "annotations": program.is_server.then(|| json!({
                // Rolls the pods when their settings change; what runs once reads them anew anyway.
                (labels::CONFIG_CHECKSUM): config::checksum(service, component),
                // Discovery by plain Prometheus set-ups.
                "prometheus.io/scrape": "true",
                "prometheus.io/port": ADMIN_PORT.to_string(),
                "prometheus.io/path": "/metrics",
            })),
        },
        "spec": spec(service, program),
    })
}

fn spec(service: &ValidatedService, program: &Program<'_>) -> Value {
    let component = program.component;
    let grace = PRE_STOP_SECS + DRAIN_DEADLINE_SECS + KILL_MARGIN_SECS;
    let is_api = component == Component::Api;
    let api = &service.spec.api;
    json!({
        "serviceAccountName": service.names.of(component),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": grace,
        "restartPolicy": if program.is_server { "Always" } else { "Never" },
        "imagePullSecrets": service.spec.image.pull_secrets,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            // Group of the Secret files, which nobody else may read.
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": if is_api && !api.node_selector.is_empty() { json!(api.node_selector) } else { Value::Null },
        "tolerations": if is_api { json!(api.tolerations) } else { Value::Null },
        "topologySpreadConstraints": if is_api { spread(service) } else { Value::Null },
        "volumes": volumes(service, component),
        "containers": [container(service, program)],
    })
}

fn container(service: &ValidatedService, program: &Program<'_>) -> Value {
    let files = config::secrets(service, program.component);
    let mut env: Vec<Value> = files
        .iter()
        .map(|file| json!({"name": file.variable, "value": file.path()}))
        .collect();
    env.extend(program.env.iter().cloned());
    let mounts: Vec<Value> = files
        .iter()
        .map(|file| json!({"name": file.volume, "mountPath": file.directory(), "readOnly": true}))
        .collect();
    let name = service.names.of(program.component);
    let server = |value: Value| if program.is_server { value } else { Value::Null };
    json!({
        "name": program.component.as_str(),
        "image": service.image,
        "imagePullPolicy": service.spec.image.pull_policy,
        "command": [format!("/usr/local/bin/{}", program.binary)],
        "args": program.args,
        "envFrom": if program.has_config { json!([{"configMapRef": {"name": name}}]) } else { Value::Null },
        "env": env,
        "ports": ports(program),
        // Liveness looks at nothing but the process itself.
        "livenessProbe": server(json!({
            "httpGet": {"path": "/livez", "port": "admin"},
            "periodSeconds": 10,
            "timeoutSeconds": 2,
            "failureThreshold": 3,
        })),
        "readinessProbe": server(json!({
            "httpGet": {"path": "/readyz", "port": "admin"},
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        })),
        // The image has no shell: the kubelet itself pauses.
        "lifecycle": server(json!({"preStop": {"sleep": {"seconds": PRE_STOP_SECS}}})),
        "resources": resources(program.resources),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    })
}

fn ports(program: &Program<'_>) -> Value {
    let http = json!({"name": "http", "containerPort": config::HTTP_PORT, "protocol": "TCP"});
    let admin = json!({"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"});
    match (program.has_http, program.is_server) {
        (true, _) => json!([http, admin]),
        (false, true) => json!([admin]),
        (false, false) => Value::Null,
    }
}

fn resources(resources: &Resources) -> Value {
    json!({
        "requests": {"cpu": resources.cpu_request, "memory": resources.memory_request},
        "limits": {"cpu": resources.cpu_limit, "memory": resources.memory_limit},
    })
}

fn volumes(service: &ValidatedService, component: Component) -> Vec<Value> {
    config::secrets(service, component)
        .iter()
        .map(|file| {
            json!({
                "name": file.volume,
                "secret": {
                    "secretName": file.secret.secret_name,
                    "items": [{"key": file.secret.key, "path": "value"}],
                    // 0440: readable by the group above, by nobody else.
                    "defaultMode": 0o440,
                },
            })
        })
        .collect()
}

/// Over nodes and zones, where there are several.
fn spread(service: &ValidatedService) -> Value {
    let over = |key: &str| {
        json!({
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels::selector(&service.names, Component::Api)},
        })
    };
    json!([
        over("kubernetes.io/hostname"),
        over("topology.kubernetes.io/zone")
    ])
}
