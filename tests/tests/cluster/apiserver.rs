//! The API server that the operator's tests use.

use anyhow::Result;
use fuse_harness::apiserver::ApiServer;

const CONFIG_MAP: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, namespace: default}\ndata: {a: b}\n";

#[test]
fn objects_survive_a_restart_and_requests_are_counted() -> Result<()> {
    let mut server = ApiServer::builder().audit().start()?;
    server.client().apply(CONFIG_MAP)?;
    server.restart()?;
    assert_eq!(
        server.kubectl(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"])?,
        "b"
    );
    let patches = server
        .requests()?
        .into_iter()
        .filter(|request| request.verb == "patch" && request.user == "admin")
        .count();
    assert_eq!(patches, 1);
    Ok(())
}

#[test]
fn a_user_without_a_role_may_do_nothing() -> Result<()> {
    let server = ApiServer::start()?;
    let kubeconfig = server.kubeconfig_for("nobody", None)?;
    let path = kubeconfig.display().to_string();
    let refused = server
        .kubectl(&["--kubeconfig", &path, "get", "pods"])
        .expect_err("RBAC is on");
    assert!(format!("{refused:#}").contains("Forbidden"), "{refused:#}");
    Ok(())
}
