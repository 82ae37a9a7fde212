//! What `up` keeps running beside the cluster: managed services in production, processes on this machine here.
//!
//! `up` starts `xtask backends` as a process of its own that outlives it, and finds it again by a state file. The process
//! ends on SIGTERM and takes everything that it started along.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fuse_harness::kubectl::Kubectl;
use fuse_harness::monitoring::{self, PodTargets};
use fuse_harness::proc::{PidRecord, Proc};
use fuse_harness::prometheus::Prometheus;
use fuse_harness::stack::{Addresses, Stack, StackOptions};
use fuse_harness::wait;
use serde::{Deserialize, Serialize};

const START_DEADLINE: Duration = Duration::from_secs(60);
const PODS_EVERY: Duration = Duration::from_secs(5);
const STOP_GRACE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub struct Args {
    /// Where data and the state file go.
    #[arg(long)]
    dir: PathBuf,
    /// The address under which pods reach this machine.
    #[arg(long)]
    bridge: IpAddr,
    /// Networks of those pods.
    #[arg(long)]
    clients: Vec<String>,
    /// The cluster whose pods Prometheus scrapes.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The kubectl to ask for them.
    #[arg(long)]
    kubectl: PathBuf,
}

/// The state file: where everything is, and whom to end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    process: PidRecord,
    /// Where the parts are, as pods see them.
    pub addresses: Addresses,
    /// Where Prometheus is.
    pub prometheus_url: String,
}

/// The folder of `up`'s own state: `$XDG_STATE_HOME/fuse`; else for root `/var/lib/fuse`, because PostgreSQL runs as another user,
/// whom root's home does not let in; else `~/.local/state/fuse`.
pub fn state_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir).join("fuse"));
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/fuse"));
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".local/state/fuse"))
}

/// The body of the hidden subcommand.
pub fn run(args: &Args) -> Result<()> {
    let (sender, stopped) = mpsc::channel();
    ctrlc::set_handler(move || {
        let _ = sender.send(());
    })?;
    let stack = Stack::start(StackOptions {
        bridge: Some(args.bridge),
        clients: args.clients.clone(),
        dir: Some(args.dir.join("data")),
        follow_wall_clock: true,
        ..StackOptions::default()
    })?;
    let kubectl = Kubectl::new(&args.kubectl, &args.kubeconfig, &args.dir.join("kubectl-cache"));
    let targets = PodTargets::new(kubectl, args.dir.join("targets.json"));
    let config = monitoring::pod_scrape_config(&targets, None)?;
    let prometheus = Prometheus::start_with(&config, &[&monitoring::rules_file()?])?;
    let running = Running {
        process: PidRecord::of(std::process::id()).context("we have no process record")?,
        addresses: stack.addresses().clone(),
        prometheus_url: prometheus.url(),
    };
    let file = state_file(&args.dir);
    // It holds the database's password.
    write_secret(&file, &serde_json::to_vec_pretty(&running)?)?;
    println!("backends run");
    // The pods are looked up again and again; a disconnected channel means that nobody can signal us, so ending is right, too.
    while stopped.recv_timeout(PODS_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
        if let Err(error) = targets.refresh() {
            eprintln!("the pods to scrape could not be read: {error:#}");
        }
    }
    let _ = fs::remove_file(&file);
    Ok(())
}

/// The backends that run already, or newly started ones.
pub fn ensure(
    dir: &Path,
    bridge: IpAddr,
    clients: &[String],
    kubeconfig: &Path,
    kubectl: &Path,
) -> Result<Running> {
    if let Some(running) = find(dir)? {
        return Ok(running);
    }
    fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    let program = std::env::current_exe()?;
    let mut builder = Proc::build("backends", program)
        .arg("backends")
        .arg(format!("--dir={}", dir.display()))
        .arg(format!("--bridge={bridge}"))
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--kubectl={}", kubectl.display()))
        .log_file(dir.join("backends.log"))
        .detached();
    for network in clients {
        builder = builder.arg(format!("--clients={network}"));
    }
    let process = builder.start()?;
    let ready = wait::until("the backends", START_DEADLINE, || {
        if !process.is_running() {
            return Some(Err(process.explain(anyhow::anyhow!("the backends ended"))));
        }
        find(dir).transpose()
    })?;
    ready.map_err(|error| process.explain(error))
}

/// The backends that run, if any.
pub fn find(dir: &Path) -> Result<Option<Running>> {
    let Ok(text) = fs::read(state_file(dir)) else {
        return Ok(None);
    };
    let running: Running = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not understood; delete it", state_file(dir).display()))?;
    Ok(running.process.is_alive().then_some(running))
}

/// Ends the backends and removes their data; fine when there are none.
pub fn stop(dir: &Path) -> Result<()> {
    if let Some(running) = find(dir)? {
        running.process.stop(STOP_GRACE)?;
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file that only its owner can read.
pub fn write_secret(file: &Path, content: &[u8]) -> Result<()> {
    let folder = file.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)?;
    let scratch = file.with_extension("new");
    fs::write(&scratch, b"")?;
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o600))?;
    fs::write(&scratch, content)?;
    fs::rename(&scratch, file).with_context(|| format!("could not write {}", file.display()))
}

fn state_file(dir: &Path) -> PathBuf {
    dir.join("backends.json")
}
