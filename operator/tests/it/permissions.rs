//! The rules of `rbac.rs` suffice, and each verb of theirs is used. The API server enforces RBAC and the admission of
//! owner references.

use std::collections::BTreeSet;

use anyhow::Result;
use fuse_harness::apiserver::ApiServer;
use operator::facts::Kind;
use operator::rbac::rules;
use serde_json::json;

use crate::support::{FULL, Operator, World};

/// A Role with just these rules for `user` in the namespace.
fn grant(world: &World, user: &str) -> Result<()> {
    let rules: Vec<_> = rules(true)
        .iter()
        .map(|rule| json!({"apiGroups": [rule.group], "resources": [rule.resource], "verbs": rule.verbs}))
        .collect();
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "operator"}, "rules": rules,
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "operator"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    });
    world.kubectl_apply(&role.to_string())?;
    world.kubectl_apply(&binding.to_string())?;
    Ok(())
}

/// `group/resource verb` of a logged request.
fn used(request: &str) -> Option<String> {
    let (verb, rest) = request.split_once(' ')?;
    let path = rest.split(" as ").next()?;
    let mut parts = path.trim_start_matches('/').split('/');
    let group = match parts.next()? {
        "api" => String::new(),
        _ => parts.next()?.to_owned(),
    };
    let mut after = path.split_once("/namespaces/")?.1.split('/').skip(1);
    let resource = after.next()?.to_owned();
    let (_name, subresource) = (after.next(), after.next());
    let resource = subresource.map_or(resource.clone(), |subresource| {
        format!("{resource}/{subresource}")
    });
    let verb = match verb {
        "POST" => "create".to_owned(),
        other => other.to_lowercase(),
    };
    Some(format!("{group}/{resource} {verb}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_suffice_and_each_is_used() -> Result<()> {
    let world = World::new().await?;
    let user = format!("operator-of-{}", world.namespace);
    grant(&world, &user)?;
    let server: &ApiServer = world.server;
    let kubeconfig = server.kubeconfig_for(&user, None)?;
    let operator = Operator::start(&kubeconfig, world.settings()).await?;
    world.bring_up(FULL).await?;
    // Everything that can be pruned is, but for what always exists.
    let change = json!({
        "report": null, "api": {"ingress": null, "disruption": null, "autoscaling": null},
        "networkPolicy": {"enabled": false}, "monitoring": {"serviceMonitor": false},
    });
    world.change(change).await?;
    let pruned = || async {
        world
            .find(Kind::NetworkPolicy, "trading-api")
            .await
            .is_none()
            .then_some(())
    };
    world.until("pruned", pruned).await?;
    world.settle().await?;
    world.condition("Ready", "True", "AllAvailable").await?;
    let errors = operator.metric(r#"fuse_operator_errors_total{category="forbidden"}"#);
    assert_eq!(errors, 0.0);

    let all = operator.requests.all();
    let mut used: BTreeSet<String> = all.iter().filter_map(|request| used(request)).collect();
    // An apply that makes an object needs `create` besides `patch`; admission of owner references asks the last one.
    let applied: Vec<String> = used
        .iter()
        .filter_map(|used| used.strip_suffix(" patch").map(str::to_owned))
        .collect();
    used.extend(
        applied
            .iter()
            .filter(|resource| !resource.contains("/status"))
            .map(|resource| format!("{resource} create")),
    );
    used.insert("fuse.trading/fusetradingservices/finalizers update".into());
    let granted: BTreeSet<String> = rules(true)
        .iter()
        .flat_map(|rule| {
            rule.verbs
                .iter()
                .map(move |verb| format!("{}/{} {verb}", rule.group, rule.resource))
        })
        .collect();
    let missing: Vec<&String> = used.difference(&granted).collect();
    assert!(missing.is_empty(), "used but not in rbac.rs: {missing:?}");
    let spare: BTreeSet<&str> = granted
        .difference(&used)
        .map(String::as_str)
        .filter(|grant| !NOT_SEEN_HERE.contains(grant))
        .collect();
    assert!(spare.is_empty(), "in rbac.rs but not used: {spare:?}");
    operator.stop().await
}

/// Deployments are pruned by no change of a spec; they are deleted only when one day a component can be switched off.
const NOT_SEEN_HERE: &[&str] = &["apps/deployments delete"];

/// The chart grants exactly these rules.
#[test]
fn the_chart_grants_the_same() -> Result<()> {
    let chart = include_str!("../../../charts/fuse-operator/templates/_helpers.tpl");
    for (part, secrets) in [("rules", false), ("secretRules", true)] {
        let start = format!("{{{{- define \"fuse-operator.{part}\" -}}}}");
        let text = chart
            .split(&start)
            .nth(1)
            .and_then(|rest| rest.split("{{- end").next())
            .unwrap_or_default();
        let granted: Vec<serde_json::Value> = serde_yaml_ng::from_str(text)?;
        let words = |rule: &serde_json::Value, key: &str| -> Vec<String> {
            let all = rule[key].as_array().into_iter().flatten();
            all.filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let mut flat = BTreeSet::new();
        for rule in &granted {
            for resource in words(rule, "resources") {
                for verb in words(rule, "verbs") {
                    flat.insert(format!("{}/{resource} {verb}", words(rule, "apiGroups").concat()));
                }
            }
        }
        let ours = rules(true)
            .into_iter()
            .filter(|rule| (rule.resource == "secrets") == secrets);
        let expected: BTreeSet<String> = ours
            .flat_map(|rule| {
                rule.verbs
                    .iter()
                    .map(move |verb| format!("{}/{} {verb}", rule.group, rule.resource))
            })
            .collect();
        assert_eq!(flat, expected, "fuse-operator.{part} and rbac.rs");
    }
    Ok(())
}
