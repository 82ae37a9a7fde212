//! The kubelet and kube-proxy.

use std::{fs, net::IpAddr};

use anyhow::{Context, Result, anyhow};

use super::{
    HOST_ADDRESS, NODE,
    addons::DNS_ADDRESS,
    control_plane::{Pki, kubeconfig},
    host::{CGROUP, POD_NETWORK},
    path_arg, program, runtime,
    state::{State, dir},
    write,
};
use crate::{
    proc::{Proc, ProcBuilder},
    tools::{Tool, Tools},
};

/// In containerd's namespace: both must see the same mounts.
pub(super) fn kubelet(pki: &Pki, tools: &Tools, state: &State) -> Result<(String, ProcBuilder)> {
    let config = dir().join("kubelet.yaml");
    write(&config, &kubelet_config(pki)?)?;
    let namespace = state
        .namespace
        .ok_or_else(|| anyhow!("containerd has no namespace"))?;
    let builder = Proc::build("kubelet", program("nsenter")?)
        .args(["--target", &namespace.pid.to_string(), "--mount", "--pid", "--"])
        .arg(tools.path(Tool::Kubelet)?)
        .args([
            path_arg("--config", &config),
            path_arg("--kubeconfig", &kubeconfig("node")),
            path_arg("--root-dir", &dir().join("kubelet")),
            path_arg("--cert-dir", &dir().join("kubelet-pki")),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={HOST_ADDRESS}"),
        ])
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
    Ok(("kubelet".to_owned(), builder))
}

fn kubelet_config(pki: &Pki) -> Result<String> {
    let base = dir();
    let resolv_conf = base.join("resolv.conf");
    write(&resolv_conf, &name_servers()?)?;
    let config = serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": HOST_ADDRESS.to_string(),
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": pki.ca_file()},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.kubelet.cert,
        "tlsPrivateKeyFile": pki.kubelet.key,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": resolv_conf,
        "containerRuntimeEndpoint": format!("unix://{}", runtime::socket().display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{CGROUP}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        // Lower scores need CAP_SYS_RESOURCE, which not every machine grants.
        "oomScoreAdj": 0,
        "podLogsDir": base.join("pod-logs"),
        "volumePluginDir": base.join("volume-plugins"),
        "healthzBindAddress": "127.0.0.1",
        "readOnlyPort": 0,
        // A developer's disk is often nearly full; pods must run anyway, and images that are loaded must stay.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": true,
    });
    Ok(config.to_string())
}

/// The machine's name servers without those on loopback, which pods cannot reach.
fn name_servers() -> Result<String> {
    let candidates = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];
    let text = candidates
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .unwrap_or_default();
    let reachable = |line: &&str| match line.strip_prefix("nameserver ") {
        Some(address) => address
            .trim()
            .parse::<IpAddr>()
            .is_ok_and(|address| !address.is_loopback()),
        None => line.starts_with("search ") || line.starts_with("options "),
    };
    Ok(text
        .lines()
        .filter(reachable)
        .map(|line| format!("{line}\n"))
        .collect())
}

/// Whether names outside of the cluster can be looked up by pods.
pub(super) fn has_name_servers() -> bool {
    name_servers().is_ok_and(|text| text.contains("nameserver"))
}

pub(super) fn kube_proxy(tools: &Tools) -> Result<(String, ProcBuilder)> {
    let config = dir().join("kube-proxy.yaml");
    let text = serde_json::json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": NODE,
        "bindAddress": HOST_ADDRESS.to_string(),
        "clusterCIDR": POD_NETWORK,
        "clientConnection": {"kubeconfig": kubeconfig("kube-proxy")},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // Node ports, if anybody makes some, are for this machine only.
        "nodePortAddresses": [format!("{HOST_ADDRESS}/32")],
        "iptables": {"localhostNodePorts": false, "minSyncPeriod": "0s"},
        // The machine's connection tracking stays as it is.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
    });
    write(&config, &text.to_string()).context("write the configuration of kube-proxy")?;
    let builder = Proc::build("kube-proxy", tools.path(Tool::KubeProxy)?)
        .arg(path_arg("--config", &config))
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
    Ok(("kube-proxy".to_owned(), builder))
}
