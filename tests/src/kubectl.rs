//! Talking to a cluster by `kubectl`, the way a person does.

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::{proc::Proc, wait};

/// kubectl itself costs a tenth of a second of processor time: asking without a pause would slow down what is waited for.
const PAUSE: Duration = Duration::from_millis(250);

const FORWARD_DEADLINE: Duration = Duration::from_secs(20);

/// A forwarded port; ends when dropped.
#[derive(Debug)]
pub struct Forward {
    /// Where to connect to on this machine.
    pub address: SocketAddr,
    _process: Proc,
}

/// A kubectl that is bound to one cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Kubectl {
    binary: PathBuf,
    /// `None` means whatever kubectl finds by itself.
    kubeconfig: Option<PathBuf>,
    /// Which cluster of the kubeconfig, when it is not the current one.
    context: Option<String>,
    /// Discovery cache; a person's own in `~/.kube` stays clean.
    cache: Option<PathBuf>,
}

impl Kubectl {
    /// For a cluster with this kubeconfig. `cache` is a directory for discovery data.
    #[must_use]
    pub fn new(binary: &Path, kubeconfig: &Path, cache: &Path) -> Self {
        Self {
            binary: binary.to_path_buf(),
            kubeconfig: Some(kubeconfig.to_path_buf()),
            context: None,
            cache: Some(cache.to_path_buf()),
        }
    }

    /// For the cluster that a person's kubectl talks to.
    #[must_use]
    pub fn current(binary: &Path) -> Self {
        Self {
            binary: binary.to_path_buf(),
            kubeconfig: None,
            context: None,
            cache: None,
        }
    }

    /// Always this context of the kubeconfig, even when a person switches to another meanwhile.
    #[must_use]
    pub fn with_context_name(mut self, context: &str) -> Self {
        self.context = Some(context.to_owned());
        self
    }

    /// Lets helm talk to the same cluster, with caches of its own when the cluster is ours.
    pub(crate) fn bind_helm(&self, command: &mut Command) {
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        if let Some(context) = &self.context {
            command.env("HELM_KUBECONTEXT", context);
        }
        if let Some(cache) = &self.cache {
            for kind in ["CACHE", "CONFIG", "DATA"] {
                command.env(
                    format!("HELM_{kind}_HOME"),
                    cache.join("helm").join(kind.to_lowercase()),
                );
            }
        }
    }

    /// File that names the cluster, if it is not kubectl's default.
    #[must_use]
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// A command with the cluster set, for callers with needs of their own.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        if let Some(cache) = &self.cache {
            command.env("KUBECACHEDIR", cache);
        }
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the message is what it printed on standard error.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let output = self
            .command()
            .args(args)
            .output()
            .with_context(|| format!("start {}", self.binary.display()))?;
        finish(args, &output)
    }

    /// Runs kubectl with `input` on its standard input.
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))?;
        // kubectl reads all of its input before it prints: writing first cannot block for ever.
        let written = child
            .stdin
            .take()
            .ok_or_else(|| anyhow!("kubectl has no standard input"))?
            .write_all(input.as_bytes());
        let output = child.wait_with_output()?;
        let text = finish(args, &output)?;
        written.context("write to kubectl")?;
        Ok(text)
    }

    /// `kubectl apply` of a manifest text, server-side.
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.run_with_input(&["apply", "--server-side", "-f", "-"], manifest)
    }

    /// Forwards a port of loopback to a port of `target` (for example `service/api`) until the value is dropped.
    ///
    /// # Errors
    /// When there is no such target, or it has no running pod.
    pub fn forward(&self, namespace: &str, target: &str, port: u16) -> Result<Forward> {
        let command = self.command();
        let process = Proc::build("kubectl-port-forward", &self.binary)
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))))
            .args([
                "port-forward",
                "--namespace",
                namespace,
                "--address",
                "127.0.0.1",
                target,
                &format!(":{port}"),
            ])
            .start()?;
        let address = process.wait_for_line("its address", FORWARD_DEADLINE, |line| {
            line.strip_prefix("Forwarding from ")?
                .split(' ')
                .next()?
                .parse()
                .ok()
        })?;
        Ok(Forward {
            address,
            _process: process,
        })
    }

    /// `kubectl get ... -o json`.
    ///
    /// # Errors
    /// As [`Kubectl::run`], and when the answer is no JSON.
    pub fn get_json(&self, args: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(args);
        serde_json::from_str(&self.run(&all)?).context("kubectl's JSON")
    }

    /// Polls until `kubectl args...` succeeds and `accept` takes what it printed.
    ///
    /// # Errors
    /// When `deadline` has passed; the message holds the last answer.
    pub fn wait_until(
        &self,
        what: &str,
        deadline: Duration,
        args: &[&str],
        accept: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let mut last = String::new();
        wait::until(what, deadline, || {
            match self.run(args) {
                Ok(text) if accept(&text) => return Some(text),
                Ok(text) => last = text,
                Err(error) => last = format!("{error:#}"),
            }
            std::thread::sleep(PAUSE);
            None
        })
        .map_err(|error| {
            error.context(format!(
                "last answer of kubectl {}: {}",
                args.join(" "),
                last.trim()
            ))
        })
    }
}

fn finish(args: &[&str], output: &std::process::Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!(
        "kubectl {} ended with {}: {}{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim_end()
    )
}
