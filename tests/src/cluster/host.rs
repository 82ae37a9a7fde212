//! What the cluster needs of the machine itself: a bridge, a few sysctls, a cgroup, and packets let through.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{HOST_ADDRESS, cleanup::look_alike_chains, state::State, system};
use crate::{apiserver::flags::free_ports, proc::PidRecord};

/// Name of the bridge that all pods are plugged into.
pub(super) const BRIDGE: &str = "cni0";
const BRIDGE_ADDRESS: &str = "10.88.0.1/16";
/// Addresses of node and pods.
pub(super) const POD_NETWORK: &str = "10.88.0.0/16";
/// Our chain in the packet filter.
pub(super) const CHAIN: &str = "FUSE-CLUSTER";
/// Parent of all pods' cgroups, in every hierarchy.
pub(super) const CGROUP: &str = "fuse-cluster";
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// What people type; another free port is taken when something listens there.
const INGRESS_PORT_PREFERRED: u16 = 8000;
const API_PORT_PREFERRED: u16 = 6443;

/// Set by us.
const WANTED_SYSCTLS: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "1"),
    ("net.bridge.bridge-nf-call-iptables", "1"),
];
/// Changed by the kubelet or kube-proxy when it starts, so remembered by us.
const CHANGED_SYSCTLS: &[&str] = &[
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
    "net.ipv4.conf.all.route_localnet",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
];

pub(super) fn prepare(state: &mut State) -> Result<()> {
    if !Path::new("/proc/sys/net/bridge").exists() {
        // Built in or loaded on most machines; without it Service addresses fail between pods, so do not go on.
        system("modprobe", &["br_netfilter"]).context("the kernel module br_netfilter is needed")?;
    }
    if let Some(pid) = running_kubelet() {
        bail!("a kubelet runs on this machine (pid {pid}): use that cluster");
    }
    if link_exists(BRIDGE) {
        bail!("a network bridge {BRIDGE} is there already; another container engine uses it");
    }
    remember_sysctls(state);
    state.foreign_chains = look_alike_chains();
    state.owns_bridge = true;
    state.save()?;
    system("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
    system("ip", &["address", "add", BRIDGE_ADDRESS, "dev", BRIDGE])?;
    system("ip", &["link", "set", BRIDGE, "up"])?;
    for (name, value) in WANTED_SYSCTLS {
        write_sysctl(name, value)?;
    }
    let_packets_through()?;
    make_cgroups()?;
    let [etcd_port] = free_ports::<1>(HOST_ADDRESS)?;
    state.etcd_port = etcd_port;
    state.api_port = preferred_or_free(API_PORT_PREFERRED)?;
    state.ingress_port = preferred_or_free(INGRESS_PORT_PREFERRED)?;
    [state.ping_port] = free_ports::<1>(Ipv4Addr::LOCALHOST.into())?;
    state.save()
}

fn running_kubelet() -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        // A zombie does not count.
        (name.trim() == "kubelet" && PidRecord::of(pid).is_some()).then_some(pid)
    })
}

pub(super) fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

fn preferred_or_free(preferred: u16) -> Result<u16> {
    let addresses = [HOST_ADDRESS, Ipv4Addr::LOCALHOST.into()];
    let is_free = |port: u16| {
        addresses
            .iter()
            .all(|address| TcpListener::bind((*address, port)).is_ok())
    };
    if is_free(preferred) {
        return Ok(preferred);
    }
    for _ in 0..20 {
        let [port] = free_ports::<1>(HOST_ADDRESS)?;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free port found")
}

fn sysctl_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

pub(super) fn read_sysctl(name: &str) -> Option<String> {
    fs::read_to_string(sysctl_path(name))
        .ok()
        .map(|text| text.trim().to_owned())
}

pub(super) fn write_sysctl(name: &str, value: &str) -> Result<()> {
    if read_sysctl(name).as_deref() == Some(value) {
        return Ok(());
    }
    fs::write(sysctl_path(name), value).with_context(|| format!("set {name} to {value}"))
}

/// Names of all sysctls that may differ while a cluster runs.
pub(super) fn sysctl_names() -> impl Iterator<Item = &'static str> {
    WANTED_SYSCTLS
        .iter()
        .map(|(name, _)| *name)
        .chain(CHANGED_SYSCTLS.iter().copied())
}

fn remember_sysctls(state: &mut State) {
    for name in sysctl_names() {
        if let Some(value) = read_sysctl(name) {
            state.sysctls.insert(name.to_owned(), value);
        }
    }
}

/// Other software (Docker, say) may drop forwarded packets by default: the pods' own are let through first.
fn let_packets_through() -> Result<()> {
    let rules: [&[&str]; 4] = [
        &["-N", CHAIN],
        &["-A", CHAIN, "-s", POD_NETWORK, "-j", "ACCEPT"],
        &["-A", CHAIN, "-d", POD_NETWORK, "-j", "ACCEPT"],
        &["-I", "FORWARD", "-j", CHAIN],
    ];
    for rule in rules {
        let mut args = vec!["-w", "10", "-t", "filter"];
        args.extend(rule);
        system("iptables", &args)?;
    }
    Ok(())
}

/// One directory per hierarchy (version 1), or the one of version 2.
pub(super) fn cgroup_hierarchies() -> Vec<PathBuf> {
    if Path::new(CGROUP_ROOT).join("cgroup.controllers").exists() {
        return vec![PathBuf::from(CGROUP_ROOT)];
    }
    let Ok(mounts) = fs::read_to_string("/proc/self/mounts") else {
        return Vec::new();
    };
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (path, kind) = (fields.nth(1)?, fields.next()?);
            (kind == "cgroup" && path.starts_with(CGROUP_ROOT)).then(|| PathBuf::from(path))
        })
        .collect()
}

fn make_cgroups() -> Result<()> {
    for hierarchy in cgroup_hierarchies() {
        let is_version_2 = hierarchy.join("cgroup.controllers").exists();
        if is_version_2 {
            // Refused for controllers that are enabled already or unknown; the kubelet says what it misses.
            for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
                let _ = fs::write(hierarchy.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        let dir = hierarchy.join(CGROUP);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        // A new cpuset is empty and takes no process until it is filled.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if !is_version_2 && let Ok(all) = fs::read_to_string(hierarchy.join(file)) {
                fs::write(dir.join(file), all.trim())?;
            }
        }
    }
    Ok(())
}
