//! Golden manifests of `build`. `UPDATE_GOLDEN=1 cargo test -p operator golden` writes them anew; read the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use fuse_crds::FuseTradingService;
use operator::build::{self, Children, Prepared};
use operator::canonical;
use operator::dereference::{Secrets, Seen};
use operator::names::Component;
use operator::validate::{ValidatedService, validate};
use serde_json::{Value, json};

use crate::support::{FULL, MINIMAL};

/// A service as the API server would hand it out.
pub fn service(manifest: &str) -> Result<FuseTradingService> {
    let mut service: FuseTradingService = serde_yaml_ng::from_str(manifest)?;
    service.metadata.namespace = Some("fuse".into());
    service.metadata.uid = Some("11111111-2222-3333-4444-555555555555".into());
    service.metadata.generation = Some(1);
    Ok(service)
}

pub fn seen(service: FuseTradingService) -> Seen {
    Seen::new(Arc::new(service), Secrets::NotWatched, BTreeMap::new())
}

pub fn validated(manifest: &str) -> Result<ValidatedService> {
    Ok(validate(&seen(service(manifest)?))?)
}

fn children(manifest: &str) -> Result<Children<Prepared>> {
    let service = validated(manifest)?;
    Ok(build::build(
        &service,
        std::slice::from_ref(&service.migration_hash),
    ))
}

fn check_golden(name: &str, manifest: &str) -> Result<()> {
    let children = children(manifest)?;
    let documents: Vec<String> = children
        .all()
        .iter()
        .map(|child| serde_yaml_ng::to_string(&child.manifest).context("YAML"))
        .collect::<Result<_>>()?;
    let text = documents.join("---\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text)?;
    }
    let golden = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    assert!(
        golden == text,
        "{name} differs; UPDATE_GOLDEN=1 writes it anew, then read the difference"
    );
    Ok(())
}

#[test]
fn golden_minimal() -> Result<()> {
    check_golden("minimal.yaml", MINIMAL)
}

#[test]
fn golden_full() -> Result<()> {
    check_golden("full.yaml", FULL)
}

#[test]
fn manifests_are_canonical() -> Result<()> {
    for manifest in [MINIMAL, FULL] {
        for child in children(manifest)?.all() {
            assert_eq!(
                canonical::canonical(child.manifest.clone()),
                child.manifest,
                "{}",
                child.name
            );
            let metadata = &child.manifest["metadata"];
            assert!(metadata["creationTimestamp"].is_null() && child.manifest["status"].is_null());
            assert_eq!(metadata["ownerReferences"][0]["controller"], true);
        }
    }
    Ok(())
}

#[test]
fn replicas_are_never_sent_by_the_main_manager() -> Result<()> {
    let children = children(FULL)?;
    for child in [&children.api, &children.refresher] {
        assert!(child.manifest["spec"]["replicas"].is_null(), "{}", child.name);
    }
    Ok(())
}

#[test]
fn pods_are_restricted_and_hold_no_token() -> Result<()> {
    let children = children(FULL)?;
    let report = children.report.context("a report is asked for")?;
    let templates = [
        &children.api.manifest["spec"]["template"],
        &children.refresher.manifest["spec"]["template"],
        &children.migration_job.manifest["spec"]["template"],
        &report.manifest["spec"]["jobTemplate"]["spec"]["template"],
    ];
    for template in templates {
        let spec = &template["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            spec["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        let container = &spec["containers"][0];
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
        assert!(container["resources"]["requests"]["cpu"].is_string());
        let grace = spec["terminationGracePeriodSeconds"]
            .as_u64()
            .context("a number")?;
        assert!(grace > 30, "above pause and drain");
    }
    Ok(())
}

/// A secret value is never in the environment, only the path of its file.
#[test]
fn secrets_are_files() -> Result<()> {
    let service = validated(FULL)?;
    for component in [
        Component::Api,
        Component::Refresher,
        Component::Report,
        Component::Migration,
    ] {
        for file in build::config::secrets(&service, component) {
            assert!(file.variable.starts_with("FUSE_") && file.variable.ends_with("_FILE"));
        }
    }
    let text = serde_json::to_string(&children(FULL)?.api.manifest)?;
    assert!(!text.contains("secretKeyRef"));
    Ok(())
}

/// Pods that serve could otherwise switch the rules of the tables off.
#[test]
fn only_the_migration_mounts_the_owners_url() -> Result<()> {
    let (with, without) = (validated(FULL)?, validated(MINIMAL)?);
    let owner = "FUSE_DATABASE__MIGRATION_URL_FILE";
    let mounts = |service: &ValidatedService, component| {
        let files = build::config::secrets(service, component);
        files.iter().any(|file| file.variable == owner)
    };
    for component in [Component::Api, Component::Refresher, Component::Report] {
        assert!(!mounts(&with, component), "{}", component.as_str());
    }
    assert!(mounts(&with, Component::Migration));
    assert!(!mounts(&without, Component::Migration));
    Ok(())
}

#[test]
fn users_cannot_set_what_the_operator_sets() -> Result<()> {
    let mut ours = BTreeSet::new();
    for manifest in [MINIMAL, FULL] {
        let service = validated(manifest)?;
        for component in [
            Component::Api,
            Component::Refresher,
            Component::Report,
            Component::Migration,
        ] {
            ours.extend(build::config::settings(&service, component).into_keys());
            ours.extend(
                build::config::secrets(&service, component)
                    .iter()
                    .map(|file| file.variable),
            );
        }
    }
    for name in ours {
        assert!(build::config::is_set_by_operator(name), "{name}");
        let mut service = service(MINIMAL)?;
        service.spec.api.env = vec![fuse_crds::v1alpha1::EnvVar {
            name: name.into(),
            value: "x".into(),
        }];
        let invalid = validate(&seen(service)).err().context("refused")?;
        assert_eq!(invalid.field, format!("api.env[{name}]"));
    }
    Ok(())
}

/// Each setting rolls just the pods that read it.
#[test]
fn a_setting_rolls_only_its_readers() -> Result<()> {
    let before = validated(FULL)?;
    let mut changed = service(FULL)?;
    changed.spec.price_tolerance_percent = "3".into();
    let after = validate(&seen(changed))?;
    let template = |child: &Prepared| child.manifest["spec"]["template"].clone();
    let (before, after) = (build::build(&before, &[]), build::build(&after, &[]));
    assert_ne!(template(&before.api), template(&after.api));
    assert_eq!(template(&before.refresher), template(&after.refresher));
    Ok(())
}

#[test]
fn network_policies_name_what_is_called() -> Result<()> {
    let full = children(FULL)?;
    let policies = full.policies.context("on by default")?;
    let ports = |policy: &Prepared| -> Vec<u64> {
        let rule = &policy.manifest["spec"]["egress"][1]["ports"];
        let all = rule.as_array().into_iter().flatten();
        all.filter_map(|port| port["port"].as_u64()).collect()
    };
    assert_eq!(ports(&policies.api), [443, 5432, 6379]);
    assert_eq!(ports(&policies.refresher), [443, 6379]);
    assert_eq!(ports(&policies.migration), [5432]);
    assert_eq!(ports(&policies.report.context("a report")?), [443, 587, 5432]);
    let minimal = children(MINIMAL)?.policies.context("on by default")?;
    let open = &minimal.api.manifest["spec"]["egress"];
    assert_eq!(
        open[0]["to"][0],
        json!({"namespaceSelector": {}}),
        "pods count as pods, not as addresses"
    );
    assert_eq!(open[0]["to"][1]["ipBlock"]["except"][0], "169.254.169.254/32");
    assert_eq!(open[1]["ports"][0], json!({"port": 53, "protocol": "UDP"}));
    assert_eq!(
        minimal.migration.manifest["spec"]["ingress"],
        Value::Null,
        "nobody may call it"
    );
    Ok(())
}
