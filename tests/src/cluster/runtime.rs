//! containerd with its own root, state and socket, in a process and mount namespace of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

use super::{
    host::POD_NETWORK,
    program,
    state::{State, dir},
    system, write,
};
use crate::{
    image::Image,
    proc::{PidRecord, Proc, ProcBuilder},
    wait,
};

/// Name of the pods' network; part of the names of files that plugins leave in shared directories.
pub(super) const NETWORK: &str = "fuse-cluster";
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Directories that containerd, its plugins and the kubelet use whatever one configures. Inside the namespace they are
/// directories of ours, so that nothing is left in the machine's.
const SHADOWED: &[&str] = &[
    "/run/containerd",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/lib/kubelet",
];

pub(super) fn socket() -> PathBuf {
    dir().join("containerd.sock")
}

/// The container runtime, as the first process of its namespace.
pub(super) fn containerd(pause: &Image) -> Result<(String, ProcBuilder)> {
    let config = dir().join("containerd.toml");
    write(&config, &containerd_config(pause)?)?;
    write(&dir().join("cni").join("10-fuse.conflist"), &cni_config())?;
    // The kernel kills the first process of the namespace with its parent, and everything in the namespace with that.
    let builder = Proc::build("containerd", program("unshare")?)
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--propagation",
            "slave",
            "--kill-child=KILL",
            "--",
        ])
        .arg(program("containerd")?)
        .arg("--config")
        .arg(&config)
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
    Ok(("containerd".to_owned(), builder))
}

fn containerd_config(pause: &Image) -> Result<String> {
    let plugins = [Path::new("/usr/lib/cni"), Path::new("/opt/cni/bin")]
        .into_iter()
        .find(|dir| dir.join("bridge").is_file())
        .ok_or_else(|| anyhow!("no CNI plugins (package containernetworking-plugins)"))?;
    let dir = dir().display();
    // restrict_oom_score_adj: machines without CAP_SYS_RESOURCE refuse lower scores, and then no sandbox starts.
    Ok(format!(
        r#"version = 2
root = "{dir}/containerd"
state = "{dir}/containerd-run"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{dir}/cni"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        Root = "{dir}/runc"
        SystemdCgroup = false
"#,
        socket = socket().display(),
        pause = pause.name(),
        plugins = plugins.display(),
        runc = program("runc")?.display(),
    ))
}

fn cni_config() -> String {
    let bridge = super::host::BRIDGE;
    let leases = dir().join("cni-leases");
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [
            {
                "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_NETWORK, "rangeStart": "10.88.1.1", "gateway": "10.88.0.1"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": leases,
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

/// Finds the first process of the new namespace, writes it down and prepares the mounts in it.
pub(super) fn enter_namespace(state: &mut State) -> Result<()> {
    let unshare = state
        .processes()
        .find_map(|(name, record)| (name == "containerd").then_some(record))
        .ok_or_else(|| anyhow!("containerd was not started"))?;
    let first = wait::until("the first process of the namespace", READY_DEADLINE, || {
        child_of(unshare.pid)
    })?;
    state.namespace = Some(first);
    state.save()?;
    // It exists only once its parent has unshared; what it mounts by itself comes before it becomes containerd.
    wait::until("containerd in its namespace", READY_DEADLINE, || {
        let name = fs::read_to_string(format!("/proc/{}/comm", first.pid)).ok()?;
        (name.trim() == "containerd").then_some(())
    })?;
    let pid = first.pid.to_string();
    for shared in SHADOWED {
        let ours = dir()
            .join("shadow")
            .join(shared.trim_start_matches('/').replace('/', "-"));
        fs::create_dir_all(&ours).with_context(|| format!("create {}", ours.display()))?;
        if !Path::new(shared).exists() {
            state.made_dirs.push((*shared).to_owned());
            state.save()?;
            fs::create_dir_all(shared).with_context(|| format!("create {shared}"))?;
        }
        let ours = ours.display().to_string();
        system(
            "nsenter",
            &[
                "--target", &pid, "--mount", "--", "mount", "--bind", &ours, shared,
            ],
        )?;
    }
    Ok(())
}

fn child_of(parent: u32) -> Option<PidRecord> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // State and parent come after the name in parentheses, which may hold blanks.
        let ppid: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (ppid == parent).then(|| PidRecord::of(pid)).flatten()
    })
}

fn ctr(args: &[&str]) -> Result<String> {
    let socket = socket().display().to_string();
    let mut all = vec!["--address", &socket, "--namespace", "k8s.io"];
    all.extend(args);
    system("ctr", &all)
}

pub(super) fn wait_ready() -> Result<()> {
    wait::until("containerd", READY_DEADLINE, || ctr(&["version"]).ok()).map(drop)
}

/// Whether the node has an image of this name.
pub(super) fn has(name: &str) -> Result<bool> {
    Ok(ctr(&["images", "list", "--quiet"])?
        .lines()
        .any(|line| line == name))
}

pub(super) fn import(image: &Image) -> Result<()> {
    let archive = image.archive.display().to_string();
    ctr(&["images", "import", &archive])
        .with_context(|| format!("import {}", image.name()))
        .map(drop)
}
