//! What a cluster can leave behind on a machine, taken before and after to be compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::{
    cleanup::{directories_below, strays},
    host::{CGROUP, cgroup_hierarchies, read_sysctl, sysctl_names},
    state::{STATE_DIR, State},
    system,
};
use crate::proc::PidRecord;

/// Programs that run only for a cluster. (etcd and the API server also run in other tests.)
const PROGRAMS: &[&str] = &[
    "containerd",
    "containerd-shim",
    "kubelet",
    "kube-proxy",
    "kube-controller",
    "kube-scheduler",
    "coredns",
    "traefik",
    "pause",
];
/// Directories that a runtime, its plugins or a kubelet write into unless told otherwise.
const DIRECTORIES: &[&str] = &[
    "/run/containerd",
    "/run/netns",
    "/run/runc",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/pods",
    "/var/log/containers",
    "/etc/cni",
    "/usr/libexec/kubernetes",
];

/// Traces of a cluster, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    by_kind: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Footprint {
    /// What is there now.
    #[must_use]
    pub fn take() -> Self {
        let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let links = fs::read_dir("/sys/class/net")
            .map(|entries| {
                entries
                    .flatten()
                    .map(|entry| entry.file_name().to_string_lossy().into_owned())
                    .collect()
            })
            .unwrap_or_default();
        let sysctls = sysctl_names()
            .filter_map(|name| read_sysctl(name).map(|value| format!("{name} = {value}")))
            .collect();
        Self {
            by_kind: BTreeMap::from([
                ("process", processes()),
                ("mount", lines(mounts)),
                ("network device", links),
                (
                    "address",
                    lines(system("ip", &["-brief", "address"]).unwrap_or_default()),
                ),
                (
                    "route",
                    lines(system("ip", &["route", "show", "table", "all"]).unwrap_or_default()),
                ),
                ("packet filter", packet_filter()),
                ("sysctl", sysctls),
                ("cgroup", cgroups()),
                ("file", files()),
            ]),
        }
    }

    /// Everything that is only in `after` (`+`) or only in `self` (`-`).
    #[must_use]
    pub fn difference(&self, after: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (kind, before) in &self.by_kind {
            let empty = BTreeSet::new();
            let after = after.by_kind.get(kind).unwrap_or(&empty);
            found.extend(after.difference(before).map(|trace| format!("+ {kind}: {trace}")));
            found.extend(before.difference(after).map(|trace| format!("- {kind}: {trace}")));
        }
        found
    }
}

fn process_ids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn processes() -> BTreeSet<String> {
    let mut found: BTreeSet<String> = process_ids()
        // A zombie has ended; when its parent looks is not ours to say.
        .filter(|pid| PidRecord::of(*pid).is_some())
        .filter_map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            let name = name.trim();
            // The kernel cuts names after 15 letters.
            PROGRAMS
                .iter()
                .any(|program| name.starts_with(program))
                .then(|| format!("{pid} {name}"))
        })
        .collect();
    found.extend(
        strays()
            .into_iter()
            .map(|record| format!("{} with a path in {STATE_DIR}", record.pid)),
    );
    found
}

/// Rules, chains, and built-in chains that drop. An empty table is no trace: looking at it makes it.
fn packet_filter() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for family in ["iptables-save", "ip6tables-save"] {
        let saved = system(family, &[]).unwrap_or_default();
        for line in saved.lines() {
            let is_empty_chain = line.starts_with(':') && line.contains(" ACCEPT ");
            if (line.starts_with(':') || line.starts_with('-')) && !is_empty_chain {
                // Without the counters.
                found.insert(format!("{family} {}", line.split(" [").next().unwrap_or(line)));
            }
        }
    }
    found
}

fn cgroups() -> BTreeSet<String> {
    let is_ours = |path: &str| {
        [CGROUP, "kubepods", "k8s.io", "system.slice/containerd"]
            .iter()
            .any(|part| path.contains(part))
    };
    cgroup_hierarchies()
        .iter()
        .flat_map(|hierarchy| directories_below(hierarchy))
        .map(|path| path.display().to_string())
        .filter(|path| is_ours(path))
        .collect()
}

fn files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in DIRECTORIES.iter().chain(&[STATE_DIR]) {
        collect_files(Path::new(directory), &mut found);
    }
    found
}

fn collect_files(path: &Path, found: &mut BTreeSet<String>) {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return;
    };
    found.insert(path.display().to_string());
    if meta.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            collect_files(&entry.path(), found);
        }
    }
}

/// Resident bytes of the recorded processes and their children, largest first.
pub(super) fn memory(state: &State) -> Vec<(String, u64)> {
    let mut all: Vec<(String, u64)> = process_ids()
        .filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let field = |name: &str| {
                status
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .map(str::trim)
            };
            let parent: u32 = field("PPid:")?.parse().ok()?;
            let kib: u64 = field("VmRSS:")?.split(' ').next()?.parse().ok()?;
            let is_ours = state.processes().any(|(_, record)| record.pid == pid || record.pid == parent)
                || state.namespace.is_some_and(|first| first.pid == parent)
                // Grandchildren of shims: the pods' own processes are told by their cgroup.
                || fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(CGROUP));
            is_ours.then(|| (field("Name:").unwrap_or_default().to_owned(), kib * 1024))
        })
        .collect();
    all.sort_by_key(|(name, bytes)| (std::cmp::Reverse(*bytes), name.clone()));
    all
}
