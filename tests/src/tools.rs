//! The Kubernetes binaries that no package manager offers in the wanted version: built once with `go build` into a cache
//! outside the checkout, keyed by everything that decides their content.
//!
//! Looked for in this order: the directory in `KUBEBUILDER_ASSETS`, the cache, then they are built. A build uses module and
//! build caches of its own, which are removed afterwards: half a gigabyte stays instead of ten.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use crate::{packages::find_on_path, proc::Proc, progress::Progress};

/// Longest time that one `go build` may take, downloads included.
const BUILD_DEADLINE: Duration = Duration::from_secs(40 * 60);
/// Part of every cache key: whoever changes how binaries are built must not get old ones.
const FLAGS: &[&str] = &["build", "-trimpath", "-buildvcs=false", "-modcacherw"];
/// Version that the Kubernetes binaries report; the same as in tests/tools/kubernetes/go.mod.
const KUBERNETES_VERSION: &str = "v1.34.4";

/// A module of our own that pins the versions of some tools (tests/tools/*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Module {
    Kubernetes,
    Extras,
    Traefik,
}

impl Module {
    fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Extras => "extras",
            Self::Traefik => "traefik",
        }
    }

    /// The texts of go.mod and go.sum.
    fn files(self) -> (&'static str, &'static str) {
        match self {
            Self::Kubernetes => (
                include_str!("../tools/kubernetes/go.mod"),
                include_str!("../tools/kubernetes/go.sum"),
            ),
            Self::Extras => (
                include_str!("../tools/extras/go.mod"),
                include_str!("../tools/extras/go.sum"),
            ),
            Self::Traefik => (
                include_str!("../tools/traefik/go.mod"),
                include_str!("../tools/traefik/go.sum"),
            ),
        }
    }

    /// Without the version flags the API server says v0.0.0 and clients complain.
    fn linker_flags(self) -> String {
        match self {
            Self::Kubernetes => {
                let mut parts = KUBERNETES_VERSION.trim_start_matches('v').split('.');
                let (major, minor) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
                let version = "-X k8s.io/component-base/version";
                format!(
                    "-s -w {version}.gitVersion={KUBERNETES_VERSION} {version}.gitMajor={major} {version}.gitMinor={minor}"
                )
            }
            Self::Extras | Self::Traefik => "-s -w".to_owned(),
        }
    }

    fn key(self) -> String {
        let (go_mod, go_sum) = self.files();
        let mut hash = Sha256::new();
        for part in [
            go_mod,
            go_sum,
            &FLAGS.join(" "),
            &self.linker_flags(),
            env::consts::ARCH,
        ] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let digest = hash.finalize();
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{hex}", self.name())
    }
}

/// A binary that the cluster needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// The API server.
    KubeApiserver,
    /// The command-line client.
    Kubectl,
    /// Deployments, Jobs, garbage collection and the like.
    KubeControllerManager,
    /// Puts pods on nodes.
    KubeScheduler,
    /// Runs pods.
    Kubelet,
    /// Service addresses.
    KubeProxy,
    /// Cluster DNS.
    CoreDns,
    /// Chart installer.
    Helm,
    /// Ingress controller.
    Traefik,
}

impl Tool {
    /// Everything that tests of the operator alone need, beside etcd.
    pub const APISERVER: &'static [Self] = &[Self::KubeApiserver, Self::Kubectl];
    /// Everything that talks to a cluster that is there already.
    pub const CLIENTS: &'static [Self] = &[Self::Kubectl, Self::Helm];
    /// Everything that the local cluster needs.
    pub const CLUSTER: &'static [Self] = &[
        Self::KubeApiserver,
        Self::Kubectl,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Kubelet,
        Self::KubeProxy,
        Self::CoreDns,
        Self::Helm,
        Self::Traefik,
    ];

    /// Name of the binary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::Kubectl => "kubectl",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::CoreDns => "coredns",
            Self::Helm => "helm",
            Self::Traefik => "traefik",
        }
    }

    fn module(self) -> Module {
        match self {
            Self::CoreDns | Self::Helm => Module::Extras,
            Self::Traefik => Module::Traefik,
            _ => Module::Kubernetes,
        }
    }

    fn package(self) -> String {
        match self {
            Self::CoreDns => "github.com/coredns/coredns".to_owned(),
            Self::Helm => "helm.sh/helm/v3/cmd/helm".to_owned(),
            Self::Traefik => "github.com/traefik/traefik/v3/cmd/traefik".to_owned(),
            other => format!("k8s.io/kubernetes/cmd/{}", other.name()),
        }
    }

    /// Where this tool is, or will be, in the cache.
    ///
    /// # Errors
    /// When neither `XDG_CACHE_HOME` nor `HOME` is set.
    pub fn cache_path(self) -> Result<PathBuf> {
        Ok(cache_dir()?.join(self.module().key()).join(self.name()))
    }
}

/// Paths of tools that are there.
#[derive(Clone, Debug)]
pub struct Tools {
    paths: BTreeMap<Tool, PathBuf>,
}

impl Tools {
    /// Finds the tools and builds those that are missing.
    ///
    /// # Errors
    /// When `go` is missing or a build fails; the message holds the end of the compiler's output.
    pub fn ensure(wanted: &[Tool], progress: &Progress) -> Result<Self> {
        let mut paths = BTreeMap::new();
        for tool in wanted {
            if let Some(path) = existing(*tool)? {
                paths.insert(*tool, path);
            }
        }
        let missing: Vec<Tool> = wanted
            .iter()
            .copied()
            .filter(|tool| !paths.contains_key(tool))
            .collect();
        if !missing.is_empty() {
            build_all(&missing, progress)?;
            for tool in missing {
                let path = existing(tool)?
                    .ok_or_else(|| anyhow!("{} was built but is not in the cache", tool.name()))?;
                paths.insert(tool, path);
            }
        }
        Ok(Self { paths })
    }

    /// kubectl and helm for a cluster that is there already: those in `PATH` first, since a person's own fit their cluster.
    ///
    /// # Errors
    /// As [`Tools::ensure`].
    pub fn ensure_clients(progress: &Progress) -> Result<Self> {
        let mut paths = BTreeMap::new();
        for tool in Tool::CLIENTS {
            let path = match find_on_path(tool.name()) {
                Some(path) => path,
                None => Self::ensure(&[*tool], progress)?.path(*tool)?.to_path_buf(),
            };
            paths.insert(*tool, path);
        }
        Ok(Self { paths })
    }

    /// Path of a tool.
    ///
    /// # Errors
    /// When it was not asked for.
    pub fn path(&self, tool: Tool) -> Result<&Path> {
        self.paths
            .get(&tool)
            .map(PathBuf::as_path)
            .ok_or_else(|| anyhow!("{} was not asked for", tool.name()))
    }
}

fn existing(tool: Tool) -> Result<Option<PathBuf>> {
    if let Some(dir) = env::var_os("KUBEBUILDER_ASSETS").filter(|dir| !dir.is_empty()) {
        let path = Path::new(&dir).join(tool.name());
        if path.is_file() {
            return Ok(Some(path));
        }
    }
    let path = tool.cache_path()?;
    Ok(path.is_file().then_some(path))
}

/// Cache of this project: `$XDG_CACHE_HOME/fuse/tools` or `~/.cache/fuse/tools`.
///
/// # Errors
/// When neither variable is set.
pub fn cache_dir() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(
            env::var_os("HOME").ok_or_else(|| anyhow!("neither XDG_CACHE_HOME nor HOME is set"))?,
        )
        .join(".cache"),
    };
    Ok(base.join("fuse").join("tools"))
}

fn find_go() -> Result<PathBuf> {
    let usual = PathBuf::from("/usr/local/go/bin/go");
    find_on_path("go")
        .or_else(|| usual.is_file().then_some(usual))
        .ok_or_else(|| {
            anyhow!(
                "`go` is not in PATH: the Kubernetes binaries are built with it. Install Go 1.26 or newer (https://go.dev/dl), \
                 or point KUBEBUILDER_ASSETS to a directory that holds {}",
                Tool::CLUSTER.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", ")
            )
        })
}

fn build_all(missing: &[Tool], progress: &Progress) -> Result<()> {
    let go = find_go()?;
    let cache = cache_dir()?;
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let lock = File::create(cache.join("lock")).context("open the lock of the tool cache")?;
    if lock.try_lock().is_err() {
        let _waiting = progress.ticking("waiting for another build of the Kubernetes tools");
        lock.lock().context("lock the tool cache")?;
    }
    let mut scratch = Scratch::create(&cache)?;
    let mut module = None;
    for (index, tool) in missing.iter().enumerate() {
        // Another process may have built it while we waited.
        if existing(*tool)?.is_some() {
            continue;
        }
        if module != Some(tool.module()) {
            module = Some(tool.module());
            scratch.enter(tool.module())?;
        }
        let line = format!(
            "building {} ({} of {}, once)",
            tool.name(),
            index + 1,
            missing.len()
        );
        let ticking = progress.ticking(line);
        build(&go, *tool, &scratch).with_context(|| format!("build {}", tool.name()))?;
        progress.say(format!(
            "built {} in {} s",
            tool.name(),
            ticking.elapsed().as_secs()
        ));
    }
    Ok(())
}

fn build(go: &Path, tool: Tool, scratch: &Scratch) -> Result<()> {
    let product = scratch.path.join("product");
    let mut args: Vec<OsString> = FLAGS.iter().map(OsString::from).collect();
    args.extend(["-ldflags".into(), tool.module().linker_flags().into()]);
    args.extend(["-o".into(), product.clone().into(), tool.package().into()]);
    let compiler = Proc::build(&format!("go-build-{}", tool.name()), go)
        .args(args)
        .dir(scratch.module_dir(tool.module()))
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly")
        .env("GOWORK", "off")
        .env("GOMODCACHE", scratch.path.join("mod"))
        .env("GOCACHE", scratch.path.join("build"))
        .start()?;
    let status = compiler.wait_exit(BUILD_DEADLINE)?;
    if !status.success() {
        return Err(compiler.explain(anyhow!("go build ended with {status}")));
    }
    let target = tool.cache_path()?;
    let dir = target
        .parent()
        .ok_or_else(|| anyhow!("a cache path has a parent"))?;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    // Same file system, so a reader sees the whole binary or none.
    fs::rename(&product, &target).with_context(|| format!("place {}", target.display()))
}

/// Throw-away directory of one build session; what a killed session left is removed by the next, under the lock.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn create(cache: &Path) -> Result<Self> {
        let path = cache.join("scratch");
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path })
    }

    fn module_dir(&self, module: Module) -> PathBuf {
        self.path.join(module.name())
    }

    fn enter(&mut self, module: Module) -> Result<()> {
        let dir = self.module_dir(module);
        let (go_mod, go_sum) = module.files();
        if go_mod.is_empty() {
            bail!("tests/tools/{}/go.mod is empty", module.name());
        }
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("go.mod"), go_mod)?;
        fs::write(dir.join("go.sum"), go_sum)?;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Ten gigabytes of caches; when it fails the next build removes them.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_module_and_are_stable() {
        assert_ne!(Module::Kubernetes.key(), Module::Extras.key());
        assert_eq!(Module::Traefik.key(), Module::Traefik.key());
    }

    #[test]
    fn the_reported_version_is_the_pinned_one() {
        let (go_mod, _) = Module::Kubernetes.files();
        assert!(go_mod.contains(&format!("k8s.io/kubernetes {KUBERNETES_VERSION}")));
    }

    #[test]
    fn every_module_declares_its_tools() {
        for tool in Tool::CLUSTER {
            let (go_mod, _) = tool.module().files();
            assert!(
                go_mod.contains(&tool.package()),
                "{} is missing in go.mod",
                tool.name()
            );
        }
    }
}
