//! A NetworkPolicy per workload: in, only clients and Prometheus; out, only what the workload calls.

use serde_json::{Value, json};

use super::{Prepared, prepared};
use crate::build::config::{ADMIN_PORT, HTTP_PORT};
use crate::facts::Kind;
use crate::labels;
use crate::names::Component;
use crate::validate::ValidatedService;

/// Credentials of the machine are served at these addresses in every cloud; no workload needs them.
const METADATA_V4: &str = "169.254.169.254/32";
const METADATA_V6: &str = "fd00:ec2::254/128";
/// EKS hands out credentials of the pod here, as plain HTTP on the node.
const POD_IDENTITY: &str = "169.254.170.23/32";

/// The policy of a workload.
pub fn policy(service: &ValidatedService, component: Component) -> Prepared {
    let name = service.names.of(component);
    let manifest = json!({
        "metadata": labels::metadata(&service.names, &service.namespace, &service.uid, &name, Some(component)),
        "spec": {
            "podSelector": {"matchLabels": labels::selector(&service.names, component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress(service, component),
            "egress": egress(service, component),
        },
    });
    prepared(Kind::NetworkPolicy, name, manifest)
}

fn ingress(service: &ValidatedService, component: Component) -> Vec<Value> {
    let policy = &service.spec.network_policy;
    let namespaces = |peers: &[fuse_crds::v1alpha1::NamespacePeer]| -> Vec<Value> {
        let label = "kubernetes.io/metadata.name";
        let peer = |namespace: &str| json!({"namespaceSelector": {"matchLabels": {(label): namespace}}});
        peers.iter().map(|entry| peer(&entry.namespace)).collect()
    };
    let mut rules = Vec::new();
    if component == Component::Api {
        // No `from` at all means everybody.
        rules.push(json!({"from": namespaces(&policy.ingress_from), "ports": [port(HTTP_PORT)]}));
    }
    if matches!(component, Component::Api | Component::Refresher) {
        let mut from = namespaces(&policy.metrics_from);
        if from.is_empty() {
            from.push(json!({"namespaceSelector": {}}));
        }
        rules.push(json!({"from": from, "ports": [port(ADMIN_PORT)]}));
    }
    rules
}

fn egress(service: &ValidatedService, component: Component) -> Vec<Value> {
    let ranges = &service.spec.network_policy.egress_cidrs;
    if ranges.is_empty() {
        let all = |range: &str, except: &str| json!({"ipBlock": {"cidr": range, "except": [except]}});
        return vec![
            // Some network plugins do not count pods among any address range: a database in the cluster, and its DNS.
            json!({"to": [{"namespaceSelector": {}}, all("0.0.0.0/0", METADATA_V4), all("::/0", METADATA_V6)]}),
            json!({"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}),
        ];
    }
    let to: Vec<Value> = ranges
        .iter()
        .map(|range| json!({"ipBlock": {"cidr": range}}))
        .collect();
    let ports: Vec<Value> = called_ports(service, component).into_iter().map(port).collect();
    let mut rules = vec![
        json!({"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}),
        json!({"to": to, "ports": ports}),
    ];
    if component != Component::Migration {
        rules.push(json!({"to": [{"ipBlock": {"cidr": POD_IDENTITY}}], "ports": [port(80)]}));
    }
    rules
}

/// The ports that a workload calls, sorted, each once.
fn called_ports(service: &ValidatedService, component: Component) -> Vec<i32> {
    let spec = &service.spec;
    let redis = spec.redis.as_ref().map(|redis| redis.port);
    let vendor = [i32::from(service.vendor_port), i32::from(service.dynamodb_port)];
    // 443 is AWS itself: DynamoDB, SES, and STS for credentials.
    let mut ports: Vec<i32> = match component {
        Component::Api => [443, spec.database.port]
            .into_iter()
            .chain(vendor)
            .chain(redis)
            .collect(),
        Component::Refresher => [443].into_iter().chain(vendor).chain(redis).collect(),
        Component::Report => {
            let smtp = spec
                .report
                .as_ref()
                .and_then(|report| report.delivery.smtp.as_ref());
            [443, spec.database.port]
                .into_iter()
                .chain(smtp.map(|smtp| smtp.port))
                .collect()
        }
        Component::Migration => vec![spec.database.port],
    };
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn port(port: i32) -> Value {
    json!({"port": port, "protocol": "TCP"})
}
