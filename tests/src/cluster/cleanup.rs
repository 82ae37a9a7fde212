//! Takes the cluster off the machine. Every step is fine with nothing to do, so that it can be run after any interruption and
//! again after a failure. The state directory goes last: as long as it is there, `down` knows that there is work.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use super::{
    host::{BRIDGE, CGROUP, cgroup_hierarchies, link_exists, write_sysctl},
    program,
    state::{STATE_DIR, State, dir},
    system,
};
use crate::{proc::PidRecord, progress::Progress, wait};

/// The kernel takes namespaces and cgroups apart in the background.
const KERNEL_DEADLINE: Duration = Duration::from_secs(20);
/// Programs that we start with a path in the state directory on their command line.
const PROGRAMS: &[&str] = &[
    "setpriv",
    "setsid",
    "unshare",
    "nsenter",
    "containerd",
    "containerd-shim-runc-v2",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "runc",
    "ctr",
];
/// First letters of packet filter chains that kube-proxy, the kubelet, the network plugins and we make.
const CHAIN_PREFIXES: &[&str] = &["KUBE-", "CNI-", "FUSE-"];

pub(super) fn everything(progress: &Progress) -> Result<()> {
    let state = State::load()?.unwrap_or_default();
    progress.say("stopping the cluster");
    stop_processes(&state)?;
    unmount_all()?;
    for family in ["iptables", "ip6tables"] {
        remove_rules(family, &state.foreign_chains)
            .with_context(|| format!("remove the rules of {family}"))?;
    }
    if state.owns_bridge {
        remove_bridge()?;
    }
    for (name, value) in &state.sysctls {
        // One that vanished with a kernel module needs no value.
        if super::host::read_sysctl(name).is_some() {
            write_sysctl(name, value)?;
        }
    }
    remove_cgroups()?;
    for path in &state.made_dirs {
        // Only when it is empty still: somebody else may have begun to use it.
        let _ = fs::remove_dir(path);
    }
    if dir().exists() {
        fs::remove_dir_all(dir()).with_context(|| format!("remove {STATE_DIR}"))?;
    }
    progress.say("the cluster is gone");
    Ok(())
}

fn stop_processes(state: &State) -> Result<()> {
    // First the one whose end takes all pods along.
    let recorded = state
        .namespace
        .into_iter()
        .chain(state.processes().map(|(_, record)| record));
    for record in recorded {
        record.stop(Duration::ZERO)?;
    }
    // What was started but not written down yet when a start was interrupted.
    for stray in strays() {
        stray.stop(Duration::ZERO)?;
    }
    wait::until("the end of all pods", KERNEL_DEADLINE, || {
        pods_processes().is_empty().then_some(())
    })
    .map_err(|error| error.context(format!("still running: {:?}", pods_processes())))
}

/// Our programs with a path of ours on the command line.
pub(super) fn strays() -> Vec<PidRecord> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).into_owned();
            let program = Path::new(command.split('\0').next()?)
                .file_name()?
                .to_str()?
                .to_owned();
            let is_ours = PROGRAMS.contains(&program.as_str()) && command.contains(STATE_DIR);
            (is_ours && pid != std::process::id())
                .then(|| PidRecord::of(pid))
                .flatten()
        })
        .collect()
}

/// Processes in the pods' cgroups.
fn pods_processes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for hierarchy in cgroup_hierarchies() {
        for directory in directories_below(&hierarchy.join(CGROUP)) {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().map(str::to_owned));
        }
    }
    found
}

/// Deepest first.
pub(super) fn directories_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(entries) = fs::read_dir(root) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.extend(directories_below(&entry.path()));
            }
        }
        found.push(root.to_path_buf());
    }
    found
}

/// Nothing of ours is mounted outside of the namespace; should it be, then removing files would reach into it.
fn unmount_all() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let prefix = format!("{STATE_DIR}/");
    for path in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        if path.starts_with(&prefix) {
            system("umount", &[path])?;
        }
    }
    Ok(())
}

/// Chains of ours in the output of `iptables-save`, per table, with the rules elsewhere that lead to them.
fn removal_script(saved: &str, foreign: &BTreeSet<String>) -> String {
    let is_ours = |chain: &str| {
        CHAIN_PREFIXES.iter().any(|prefix| chain.starts_with(prefix)) && !foreign.contains(chain)
    };
    let mut script = String::new();
    let (mut rules, mut chains) = (Vec::new(), Vec::new());
    for line in saved.lines() {
        if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            if is_ours(chain) {
                chains.push(chain.to_owned());
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let mut words = rule.split(' ');
            let owner = words.next().unwrap_or_default();
            if !is_ours(owner) && words.any(is_ours) {
                rules.push(format!("-D {rule}"));
            }
        } else if line.starts_with('*') {
            script.push_str(line);
            script.push('\n');
        } else if line == "COMMIT" {
            for rule in rules.drain(..) {
                script.push_str(&rule);
                script.push('\n');
            }
            script.extend(chains.iter().map(|chain| format!("-F {chain}\n")));
            script.extend(chains.drain(..).map(|chain| format!("-X {chain}\n")));
            script.push_str("COMMIT\n");
        }
    }
    script
}

/// Chains in all tables that look like ours but were there before.
pub(super) fn look_alike_chains() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for family in ["iptables-save", "ip6tables-save"] {
        let Ok(saved) = system(family, &[]) else { continue };
        let names = saved
            .lines()
            .filter_map(|line| line.strip_prefix(':')?.split(' ').next());
        found.extend(
            names
                .filter(|name| CHAIN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
                .map(str::to_owned),
        );
    }
    found
}

fn remove_rules(family: &str, foreign: &BTreeSet<String>) -> Result<()> {
    // A machine without IPv6 has no such tables.
    let Ok(saved) = system(&format!("{family}-save"), &[]) else {
        return Ok(());
    };
    let script = removal_script(&saved, foreign);
    if !script.lines().any(|line| line.starts_with('-')) {
        return Ok(());
    }
    let mut child = Command::new(program(&format!("{family}-restore"))?)
        .args(["--noflush", "-w", "10"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .ok_or_else(|| anyhow!("no standard input"))?
        .write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}\n{script}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn remove_bridge() -> Result<()> {
    if !link_exists(BRIDGE) {
        return Ok(());
    }
    let plugged_in = Path::new("/sys/class/net").join(BRIDGE).join("brif");
    wait::until("the pods' network devices to go", KERNEL_DEADLINE, || {
        fs::read_dir(&plugged_in)
            .map_or(true, |mut devices| devices.next().is_none())
            .then_some(())
    })?;
    system("ip", &["link", "delete", BRIDGE]).map(drop)
}

fn remove_cgroups() -> Result<()> {
    for hierarchy in cgroup_hierarchies() {
        let root = hierarchy.join(CGROUP);
        wait::until(
            &format!("{} to be removable", root.display()),
            KERNEL_DEADLINE,
            || {
                for directory in directories_below(&root) {
                    let _ = fs::remove_dir(directory);
                }
                (!root.exists()).then_some(())
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n:KUBE-SERVICES - [0:0]\n:CNI-0a1b - [0:0]\n\
        -A PREROUTING -j DOCKER\n-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
        -A KUBE-SERVICES -j ACCEPT\n-A POSTROUTING -s 10.88.1.2/32 -j CNI-0a1b\nCOMMIT\n";

    #[test]
    fn only_our_chains_and_what_leads_to_them_go() {
        let script = removal_script(SAVED, &BTreeSet::new());
        assert_eq!(
            script,
            "*nat\n-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
             -D POSTROUTING -s 10.88.1.2/32 -j CNI-0a1b\n-F KUBE-SERVICES\n-F CNI-0a1b\n-X KUBE-SERVICES\n-X CNI-0a1b\nCOMMIT\n"
        );
    }

    #[test]
    fn chains_that_were_there_before_stay() {
        let foreign = BTreeSet::from(["KUBE-SERVICES".to_owned(), "CNI-0a1b".to_owned()]);
        assert_eq!(removal_script(SAVED, &foreign), "*nat\nCOMMIT\n");
    }
}
