//! A cluster that is there already: the one that a person's kubectl talks to, or one of kind, k3d or minikube.

use std::{net::IpAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{
    image::Loader,
    kubectl::Kubectl,
    packages::find_on_path,
    proc,
    progress::Progress,
    tools::{Tool, Tools},
};

/// Name of a cluster that we make with such a tool.
const NAME: &str = "fuse";
const ASK_DEADLINE: Duration = Duration::from_secs(30);
const CREATE_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// A cluster of somebody else.
#[derive(Clone, Debug)]
pub struct Existing {
    /// kubectl's name for it.
    pub context: String,
    /// How images get into it.
    pub loader: Loader,
    kubectl: Kubectl,
    tools: Tools,
}

impl Existing {
    /// The cluster that kubectl talks to, if it answers; else one made by kind, k3d or minikube, if one of these is installed.
    /// `None` when there is nothing of that.
    ///
    /// # Errors
    /// When a tool is installed but cannot make a cluster.
    pub fn find(progress: &Progress) -> Result<Option<Self>> {
        match Self::current(progress)? {
            // Neither images nor the backends of this machine could be brought to it.
            Some(existing) if existing.loader == Loader::Registry => {
                progress.say(format!(
                    "kubectl's cluster {} is not on this machine: not used",
                    existing.context
                ));
            }
            Some(existing) => return Ok(Some(existing)),
            None => {}
        }
        for maker in MAKERS {
            if let Some(program) = find_on_path(maker.program) {
                maker.make(&program, progress)?;
                return Self::open(maker.context.to_owned(), progress).map(Some);
            }
        }
        Ok(None)
    }

    /// The cluster that kubectl talks to, if it answers.
    ///
    /// # Errors
    /// When helm is missing and cannot be built.
    pub fn current(progress: &Progress) -> Result<Option<Self>> {
        let Some(kubectl) = find_on_path("kubectl") else {
            return Ok(None);
        };
        let Some(context) = current_context(&kubectl) else {
            return Ok(None);
        };
        if Kubectl::current(&kubectl)
            .run(&["get", "--raw=/readyz", "--request-timeout=10s"])
            .is_ok()
        {
            return Self::open(context, progress).map(Some);
        }
        progress.say(format!("kubectl's cluster {context} does not answer: not used"));
        Ok(None)
    }

    fn open(context: String, progress: &Progress) -> Result<Self> {
        let tools = Tools::ensure_clients(progress)?;
        let kubectl = Kubectl::current(tools.path(Tool::Kubectl)?).with_context_name(&context);
        Ok(Self {
            loader: Loader::of_context(&context),
            context,
            kubectl,
            tools,
        })
    }

    /// A kubectl for this cluster.
    #[must_use]
    pub fn client(&self) -> &Kubectl {
        &self.kubectl
    }

    /// kubectl and helm.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Address of this machine as pods of the cluster see it, for backends that run here.
    ///
    /// # Errors
    /// When the cluster is not on this machine.
    pub fn host_address(&self) -> Result<IpAddr> {
        let docker = |network: &str| {
            let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
            ask("docker", &["network", "inspect", network, "--format", format])
        };
        let answer = match &self.loader {
            Loader::Kind(_) => docker("kind")?,
            Loader::K3d(name) => docker(&format!("k3d-{name}"))?,
            Loader::Minikube(profile) => ask(
                "minikube",
                &[
                    "ssh",
                    "--profile",
                    profile,
                    "--",
                    "getent",
                    "hosts",
                    "host.minikube.internal",
                ],
            )?,
            Loader::Registry => bail!(
                "pods of {} cannot reach backends on this machine: run those in the cluster's network and set their addresses",
                self.context
            ),
        };
        match first_ipv4(&answer) {
            Some(address) => Ok(address),
            None => bail!("no IPv4 address of this machine in: {}", answer.trim()),
        }
    }
}

/// A tool that makes clusters of containers.
struct Maker {
    program: &'static str,
    /// Prints the names of the clusters that are there.
    list: &'static [&'static str],
    make: &'static [&'static str],
    /// Starts a cluster that is there and points kubectl to it.
    wake: &'static [&'static [&'static str]],
    /// kubectl's name for the cluster.
    context: &'static str,
}

const MAKERS: &[Maker] = &[
    Maker {
        program: "kind",
        list: &["get", "clusters"],
        make: &["create", "cluster", "--name", NAME, "--wait", "120s"],
        wake: &[&["export", "kubeconfig", "--name", NAME]],
        context: "kind-fuse",
    },
    Maker {
        program: "k3d",
        list: &["cluster", "list", "--no-headers"],
        make: &["cluster", "create", NAME, "--wait"],
        wake: &[
            &["cluster", "start", NAME, "--wait"],
            &[
                "kubeconfig",
                "merge",
                NAME,
                "--kubeconfig-merge-default",
                "--kubeconfig-switch-context",
            ],
        ],
        context: "k3d-fuse",
    },
    Maker {
        program: "minikube",
        list: &["profile", "list", "--output", "json"],
        // The same command for a new cluster and for one that is there.
        make: &["start"],
        wake: &[&["start"]],
        context: "minikube",
    },
];

impl Maker {
    fn make(&self, program: &Path, progress: &Progress) -> Result<()> {
        let _ticking = progress.ticking(format!("making a cluster with {}", self.program));
        let run = |args: &[&str]| {
            proc::run(Command::new(program).args(args), CREATE_DEADLINE)
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                .with_context(|| format!("make a cluster with {}", self.program))
        };
        let there = run(self.list).unwrap_or_default();
        if there.split_whitespace().any(|word| word == NAME) {
            return self.wake.iter().try_for_each(|args| run(args).map(drop));
        }
        run(self.make).map(drop)
    }
}

fn current_context(kubectl: &Path) -> Option<String> {
    let text = Kubectl::current(kubectl)
        .run(&["config", "current-context"])
        .ok()?;
    Some(text.trim().to_owned()).filter(|context| !context.is_empty())
}

fn ask(program: &str, args: &[&str]) -> Result<String> {
    let Some(path) = find_on_path(program) else {
        bail!("{program} is not in PATH")
    };
    let output = proc::run(Command::new(path).args(args), ASK_DEADLINE)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn first_ipv4(text: &str) -> Option<IpAddr> {
    text.split_whitespace()
        .filter_map(|word| word.parse::<IpAddr>().ok())
        .find(IpAddr::is_ipv4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ipv4_address_is_taken() {
        assert_eq!(first_ipv4("fc00::1 172.18.0.1 \n"), "172.18.0.1".parse().ok());
        assert_eq!(
            first_ipv4("192.168.49.1\thost.minikube.internal"),
            "192.168.49.1".parse().ok()
        );
        assert_eq!(first_ipv4("nothing"), None);
    }
}
