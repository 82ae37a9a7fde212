//! Certificates, etcd, the API server, the controller manager and the scheduler. All on 10.88.0.1 or loopback.

use std::{net::IpAddr, net::Ipv4Addr, path::PathBuf};

use anyhow::{Result, anyhow};

use super::{
    HOST_ADDRESS, NODE, path_arg,
    state::{State, dir},
};
use crate::{
    apiserver::flags::{common_server_args, etcd_args, etcd_identity, free_ports},
    certs::{Authority, Identity, Subject},
    packages,
    proc::{Proc, ProcBuilder},
    tools::{Tool, Tools},
};

/// Addresses of Services.
const SERVICE_NETWORK: &str = "10.96.0.0/16";
/// The Service `kubernetes`.
const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

pub(super) fn pki_dir() -> PathBuf {
    dir().join("pki")
}

pub(super) fn kubeconfig(user: &str) -> PathBuf {
    pki_dir().join(format!("{user}.kubeconfig"))
}

pub(super) struct Pki {
    authority: Authority,
    etcd: Identity,
    api_server: Identity,
    kubelet_client: Identity,
    pub kubelet: Identity,
}

impl Pki {
    /// Makes all certificates, and a kubeconfig for everybody who talks to the API server.
    pub(super) fn create(state: &State) -> Result<Self> {
        let authority = Authority::create(&pki_dir())?;
        let server_names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ];
        let server_addresses = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V4(API_SERVICE),
            HOST_ADDRESS,
        ];
        let node_user = format!("system:node:{NODE}");
        let masters = Some("system:masters");
        let pki = Self {
            etcd: etcd_identity(&authority, HOST_ADDRESS)?,
            api_server: authority.issue(
                "apiserver",
                Subject {
                    user: "kube-apiserver",
                    group: None,
                    names: &server_names,
                    addresses: &server_addresses,
                },
            )?,
            kubelet_client: authority.issue(
                "apiserver-kubelet-client",
                Subject {
                    user: "kube-apiserver-kubelet-client",
                    group: masters,
                    ..Subject::default()
                },
            )?,
            kubelet: authority.issue(
                "kubelet",
                Subject {
                    user: &node_user,
                    group: Some("system:nodes"),
                    names: &[NODE],
                    addresses: &[HOST_ADDRESS],
                },
            )?,
            authority,
        };
        let server = format!("https://{HOST_ADDRESS}:{}", state.api_port);
        let users = [
            ("admin", "admin", masters),
            ("controller-manager", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
            ("node", node_user.as_str(), Some("system:nodes")),
            ("kube-proxy", "system:kube-proxy", None),
        ];
        for (file, user, group) in users {
            pki.authority.kubeconfig(
                file,
                &server,
                Subject {
                    user,
                    group,
                    ..Subject::default()
                },
            )?;
        }
        Ok(pki)
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.authority.ca_file()
    }
}

pub(super) fn etcd(pki: &Pki, state: &State) -> Result<(String, ProcBuilder)> {
    let binary = packages::find_on_path_or_assets("etcd").ok_or_else(|| anyhow!("etcd is not there"))?;
    let [peer_port] = free_ports::<1>(HOST_ADDRESS)?;
    let args = etcd_args(
        dir(),
        &pki.authority,
        &pki.etcd,
        HOST_ADDRESS,
        state.etcd_port,
        peer_port,
    );
    Ok(("etcd".to_owned(), Proc::build("etcd", binary).args(args)))
}

pub(super) fn api_server(pki: &Pki, tools: &Tools, state: &State) -> Result<(String, ProcBuilder)> {
    let etcd_url = format!("https://{HOST_ADDRESS}:{}", state.etcd_port);
    let mut args = common_server_args(&pki.authority, &pki.etcd, &etcd_url, &pki.api_server)?;
    args.extend([
        format!("--bind-address={HOST_ADDRESS}"),
        format!("--advertise-address={HOST_ADDRESS}"),
        format!("--secure-port={}", state.api_port),
        format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement".into(),
        "--allow-privileged=true".into(),
        // Otherwise logs and exec look the node's name up in DNS, where it is not.
        "--kubelet-preferred-address-types=InternalIP".into(),
        path_arg("--kubelet-certificate-authority", &pki.ca_file()),
        path_arg("--kubelet-client-certificate", &pki.kubelet_client.cert),
        path_arg("--kubelet-client-key", &pki.kubelet_client.key),
    ]);
    let name = "kube-apiserver";
    Ok((
        name.to_owned(),
        Proc::build(name, tools.path(Tool::KubeApiserver)?).args(args),
    ))
}

/// Ends at once when the API server is away, so it is started after that is ready.
pub(super) fn controller_manager(pki: &Pki, tools: &Tools) -> Result<(String, ProcBuilder)> {
    let config = kubeconfig("controller-manager");
    let name = "kube-controller-manager";
    let builder = Proc::build(name, tools.path(Tool::KubeControllerManager)?).args([
        path_arg("--kubeconfig", &config),
        path_arg("--authentication-kubeconfig", &config),
        path_arg("--authorization-kubeconfig", &config),
        path_arg("--root-ca-file", &pki.ca_file()),
        path_arg("--service-account-private-key-file", &pki_dir().join("sa.key")),
        // Made when it is missing, and by default in the machine's own /usr.
        path_arg("--flex-volume-plugin-dir", &dir().join("volume-plugins")),
        "--bind-address=127.0.0.1".into(),
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        "--profiling=false".into(),
    ]);
    Ok((name.to_owned(), builder))
}

pub(super) fn scheduler(tools: &Tools) -> Result<(String, ProcBuilder)> {
    let config = kubeconfig("scheduler");
    let name = "kube-scheduler";
    let builder = Proc::build(name, tools.path(Tool::KubeScheduler)?).args([
        path_arg("--kubeconfig", &config),
        path_arg("--authentication-kubeconfig", &config),
        path_arg("--authorization-kubeconfig", &config),
        "--bind-address=127.0.0.1".into(),
        "--leader-elect=false".into(),
        "--profiling=false".into(),
    ]);
    Ok((name.to_owned(), builder))
}
