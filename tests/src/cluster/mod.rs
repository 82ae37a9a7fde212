//! A real Kubernetes cluster with one node on this machine: etcd, the control plane, containerd, a kubelet with real pods,
//! Service addresses, DNS and an ingress controller. Root is needed; one cluster at a time per machine.
//!
//! Everything listens on 127.0.0.1 and on the cluster's own bridge (10.88.0.1). containerd and the kubelet live in a process
//! and mount namespace of their own: when its first process ends, the kernel ends every pod and every mount in it. What
//! remains (bridge, packet filter rules, cgroups, sysctls, files) is written down before it is made, so that
//! [`LocalCluster::down`] finds it also after an interrupted start. See docs/local-cluster.md.

mod addons;
mod cleanup;
mod control_plane;
pub mod footprint;
mod host;
mod node;
mod runtime;
mod state;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

pub use self::state::STATE_DIR;
use self::state::{Lock, State};
use crate::{
    image::Image,
    kubectl::Kubectl,
    packages,
    proc::{Proc, ProcBuilder},
    progress::Progress,
    tools::{Tool, Tools},
    wait,
};

/// Address of the bridge: the node, the API server, and how pods reach services on the host.
pub const HOST_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1));
/// Name under which pods find [`HOST_ADDRESS`].
pub const HOST_NAME: &str = "host.fuse.internal";
/// Name of the one node.
pub const NODE: &str = "node";
/// Longest time for a part to get ready.
const READY_DEADLINE: Duration = Duration::from_secs(120);
/// Between two questions by kubectl, which costs a tenth of a second of processor time each.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest time that a start waits for another cluster's end, for example of a test.
const LOCK_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// Who ends the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    /// Ends with this value or with this process, whatever comes first: for tests.
    Tied,
    /// Goes on until `down`: for `xtask up`.
    Detached,
}

/// A running cluster.
#[derive(Debug)]
pub struct LocalCluster {
    state: State,
    kubectl: Kubectl,
    tools: Tools,
    progress: Progress,
    processes: Vec<Proc>,
    /// Held by a tied cluster as long as it lives.
    lock: Option<Lock>,
}

impl LocalCluster {
    /// Starts a cluster that ends with the returned value, or with this process however that ends.
    ///
    /// # Errors
    /// When we are not root, a package is missing, another cluster runs, or a part does not get ready (with the end of its log).
    pub fn start(progress: &Progress) -> Result<Self> {
        clean_up_on_interrupt(progress);
        Self::start_with(Lifetime::Tied, progress)
    }

    /// Starts a cluster that goes on after this process; see [`LocalCluster::attach`] and [`LocalCluster::down`].
    ///
    /// # Errors
    /// As [`LocalCluster::start`].
    pub fn start_detached(progress: &Progress) -> Result<Self> {
        Self::start_with(Lifetime::Detached, progress)
    }

    /// The detached cluster that runs on this machine, if it is complete and healthy.
    ///
    /// # Errors
    /// When a tool of its clients cannot be found or built.
    pub fn attach(progress: &Progress) -> Result<Option<Self>> {
        let Some(state) = State::load()? else {
            return Ok(None);
        };
        if !state.is_complete() || !state.is_alive() {
            return Ok(None);
        }
        let tools = Tools::ensure(Tool::CLIENTS, progress)?;
        let kubectl = kubectl_for(&tools)?;
        if kubectl
            .run(&["get", "--raw=/readyz", "--request-timeout=5s"])
            .is_err()
        {
            return Ok(None);
        }
        Ok(Some(Self {
            state,
            kubectl,
            tools,
            progress: progress.clone(),
            processes: Vec::new(),
            lock: None,
        }))
    }

    /// Ends the cluster of this machine and removes every trace of it; fine when there is none. Cleans up after an interrupted start, too.
    ///
    /// # Errors
    /// When a process survives or something cannot be removed; running it again goes on.
    pub fn down(progress: &Progress) -> Result<()> {
        if State::load()?.is_none() {
            // Root's cluster cannot be looked at by others: that is not the same as none.
            return if state::dir().exists() {
                require_root()
            } else {
                Ok(())
            };
        }
        require_root()?;
        let _lock = Lock::take(progress, LOCK_DEADLINE)?;
        cleanup::everything(progress)
    }

    fn start_with(lifetime: Lifetime, progress: &Progress) -> Result<Self> {
        require_root()?;
        packages::ensure(packages::CLUSTER, progress)?;
        let tools = Tools::ensure(Tool::CLUSTER, progress)?;
        let lock = Lock::take(progress, LOCK_DEADLINE)?;
        if let Some(state) = State::load()? {
            if state.is_complete() && state.is_alive() {
                bail!("a cluster runs on this machine already: use it, or end it with `cargo xtask down`");
            }
            progress.say("removing what an earlier start left behind");
            cleanup::everything(progress)?;
        }
        let state = State::create()?;
        let kubectl = kubectl_for(&tools)?;
        let mut cluster = Self {
            state,
            kubectl,
            tools,
            progress: progress.clone(),
            processes: Vec::new(),
            lock: Some(lock),
        };
        // From here on a failure drops the value, which cleans up.
        cluster.bring_up(lifetime)?;
        if lifetime == Lifetime::Detached {
            cluster.lock = None;
        }
        Ok(cluster)
    }

    fn bring_up(&mut self, lifetime: Lifetime) -> Result<()> {
        let progress = self.progress.clone();
        host::prepare(&mut self.state)?;
        let images = addons::Images::build(&self.tools, &progress)?;
        let pki = control_plane::Pki::create(&self.state)?;
        self.launch(control_plane::etcd(&pki, &self.state)?, lifetime)?;
        self.launch(runtime::containerd(&images.pause)?, lifetime)?;
        runtime::enter_namespace(&mut self.state)?;
        let api_server = self.launch(
            control_plane::api_server(&pki, &self.tools, &self.state)?,
            lifetime,
        )?;
        // The kubelet ends when it finds no runtime at its start.
        runtime::wait_ready()?;
        let importing = self.import_in_background(&images);
        self.launch(node::kubelet(&pki, &self.tools, &self.state)?, lifetime)?;
        self.wait_for_api_server(api_server)?;
        progress.say("API server is ready");
        self.launch(control_plane::controller_manager(&pki, &self.tools)?, lifetime)?;
        self.launch(control_plane::scheduler(&self.tools)?, lifetime)?;
        self.launch(node::kube_proxy(&self.tools)?, lifetime)?;
        self.kubectl.apply(&addons::manifests(&images, &self.state))?;
        importing
            .join()
            .map_err(|_| anyhow!("the thread that imports images has panicked"))??;
        self.wait_until_usable()?;
        self.state.complete()?;
        progress.say(format!("cluster is ready: {}", self.kubeconfig().display()));
        Ok(())
    }

    /// Starts a process and writes its pid down. Returns its place in the list.
    fn launch(&mut self, builder: (String, ProcBuilder), lifetime: Lifetime) -> Result<usize> {
        stop_here_when_interrupted();
        let (name, builder) = builder;
        let builder = builder.log_file(state::dir().join("log").join(format!("{name}.log")));
        let builder = if lifetime == Lifetime::Detached {
            builder.detached()
        } else {
            builder
        };
        let process = builder.start()?;
        self.state.add_process(&name, process.record()?)?;
        self.processes.push(process);
        Ok(self.processes.len() - 1)
    }

    fn import_in_background(&self, images: &addons::Images) -> std::thread::JoinHandle<Result<()>> {
        let images = images.all();
        std::thread::spawn(move || images.iter().try_for_each(runtime::import))
    }

    fn wait_for_api_server(&self, index: usize) -> Result<()> {
        let process = self
            .processes
            .get(index)
            .ok_or_else(|| anyhow!("the API server was not started"))?;
        process.wait_for_port(SocketAddr::new(HOST_ADDRESS, self.state.api_port), READY_DEADLINE)?;
        process.wait_until("ready", READY_DEADLINE, || {
            let answer = self
                .kubectl
                .run(&["get", "--raw=/readyz", "--request-timeout=2s"]);
            if answer.is_err() {
                std::thread::sleep(PAUSE);
            }
            answer.ok()
        })?;
        Ok(())
    }

    fn wait_until_usable(&self) -> Result<()> {
        let _ticking = self
            .progress
            .ticking("waiting for the node, DNS and the ingress controller");
        let steps: [(&str, &[&str]); 3] = [
            (
                "the node",
                &["wait", "--for=condition=Ready", "node", NODE, "--timeout=2s"],
            ),
            (
                "DNS",
                &[
                    "rollout",
                    "status",
                    "-n",
                    "kube-system",
                    "deployment/coredns",
                    "--timeout=2s",
                ],
            ),
            (
                "the ingress controller",
                &[
                    "rollout",
                    "status",
                    "-n",
                    "kube-system",
                    "deployment/traefik",
                    "--timeout=2s",
                ],
            ),
        ];
        for (what, args) in steps {
            let outcome = wait::until(what, READY_DEADLINE, || {
                if self.processes.iter().any(|process| !process.is_running()) {
                    return Some(Err(anyhow!("a process of the cluster has ended")));
                }
                if self.kubectl.run(args).is_ok() {
                    return Some(Ok(()));
                }
                std::thread::sleep(PAUSE);
                None
            });
            outcome
                .and_then(|result| result)
                .map_err(|error| self.explain(error))?;
        }
        Ok(())
    }

    /// Adds what helps to understand a failure: processes that have ended, and pods that do not run.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let mut text = String::new();
        for process in &self.processes {
            if !process.is_running() {
                text.push_str(&format!(
                    "{} has ended; its log ends:\n{}\n",
                    process.name(),
                    process.log_tail()
                ));
            }
        }
        for args in [
            &["get", "pods", "-A", "-o", "wide"][..],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        ] {
            if let Ok(answer) = self.kubectl.run(args) {
                let tail: Vec<&str> = answer.lines().rev().take(30).collect();
                text.extend(tail.iter().rev().map(|line| format!("{line}\n")));
            }
        }
        error.context(text)
    }

    /// Kubeconfig of an administrator, with everything inside.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        state::dir().join("pki").join("admin.kubeconfig")
    }

    /// kubectl and helm, among others.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// A kubectl for this cluster, as administrator.
    #[must_use]
    pub fn client(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Runs `kubectl args...` as administrator.
    ///
    /// # Errors
    /// When it fails; the message holds what it said.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl.run(args)
    }

    /// Where the ingress controller answers plain HTTP for people on this machine.
    #[must_use]
    pub fn ingress(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.state.ingress_port)
    }

    /// How pods reach what listens on the bridge address of this machine.
    #[must_use]
    pub fn host_address(&self) -> IpAddr {
        HOST_ADDRESS
    }

    /// Makes an image known to the node. `false` when it is there already.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub fn load(&self, image: &Image) -> Result<bool> {
        if runtime::has(&image.name())? {
            return Ok(false);
        }
        runtime::import(image).map(|()| true)
    }

    /// Resident memory of the cluster's own processes in bytes, largest first.
    #[must_use]
    pub fn memory(&self) -> Vec<(String, u64)> {
        footprint::memory(&self.state)
    }

    /// Ends this cluster and says when something could not be removed; otherwise the same as dropping it.
    ///
    /// # Errors
    /// As [`LocalCluster::down`].
    pub fn stop(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        if self.lock.is_none() {
            return Ok(());
        }
        stop_here_when_interrupted();
        let _cleaning = CLEANING.lock().unwrap_or_else(PoisonError::into_inner);
        let result = cleanup::everything(&self.progress);
        // Reaps the children, which are dead by now.
        self.processes.clear();
        self.lock = None;
        result
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            self.progress
                .say(format!("the cluster left something behind: {error:#}"));
        }
    }
}

/// Set when Ctrl-C has come: from then on only its handler acts.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Held while the machine is cleaned.
static CLEANING: Mutex<()> = Mutex::new(());

/// On Ctrl-C the kernel ends our processes with us, but bridge, packet filter and sysctls would stay until the next start.
fn clean_up_on_interrupt(progress: &Progress) {
    let progress = progress.clone();
    // Fails when the program has a handler of its own, or we have set ours before.
    let _ = ctrlc::set_handler(move || {
        INTERRUPTED.store(true, Ordering::SeqCst);
        let _cleaning = CLEANING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = cleanup::everything(&progress) {
            progress.say(format!("{error:#}"));
        }
        std::process::exit(130);
    });
}

/// Never returns once Ctrl-C has come: who goes on would start what is just being ended, or end the process too early.
fn stop_here_when_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

fn kubectl_for(tools: &Tools) -> Result<Kubectl> {
    let dir = state::dir();
    Ok(Kubectl::new(
        tools.path(Tool::Kubectl)?,
        &dir.join("pki").join("admin.kubeconfig"),
        &dir.join("kubectl-cache"),
    ))
}

fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "a local cluster needs root (bridge, mounts, cgroups). Run this as root, or use a cluster that kubectl, kind, k3d or \
         minikube know, or `cargo xtask dev`, which needs neither"
    )
}

/// Finds a system program; the packages were ensured before.
fn program(name: &str) -> Result<PathBuf> {
    packages::find_on_path(name).ok_or_else(|| anyhow!("{name} is not there"))
}

/// Runs a short system command.
fn system(name: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program(name)?);
    command.args(args);
    let output = crate::proc::run(&mut command, Duration::from_secs(120))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn path_arg(flag: &str, path: &Path) -> String {
    format!("{flag}={}", path.display())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
