//! Packages of Debian and Ubuntu, asked for by the binary that is needed: installed when we are root there, otherwise
//! listed exactly with the command. Nothing is installed when every binary is there, wherever it came from.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{proc::Proc, progress::Progress};

/// Longest time for one run of apt-get.
const APT_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// Decides whether maintainer scripts may start services.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Directories that hold system binaries but are often missing in an unprivileged user's `PATH`.
const SYSTEM_DIRS: &[&str] = &["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];

/// A package and the binary that proves it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// Name for apt-get.
    pub name: &'static str,
    /// Binaries of which one must exist: a bare name is looked up in `PATH`, `*` stands for one directory level.
    pub proves: &'static [&'static str],
}

const ETCD: Package = Package {
    name: "etcd-server",
    proves: &["etcd"],
};

/// For a kube-apiserver with etcd.
pub const APISERVER: &[Package] = &[ETCD];

/// For the local cluster.
pub const CLUSTER: &[Package] = &[
    ETCD,
    Package {
        name: "containerd",
        proves: &["containerd"],
    },
    Package {
        name: "runc",
        proves: &["runc"],
    },
    Package {
        name: "containernetworking-plugins",
        proves: &["/usr/lib/cni/bridge", "/opt/cni/bin/bridge"],
    },
    Package {
        name: "iptables",
        proves: &["iptables"],
    },
    Package {
        name: "conntrack",
        proves: &["conntrack"],
    },
    Package {
        name: "iproute2",
        proves: &["ip"],
    },
    Package {
        name: "mount",
        proves: &["mount"],
    },
];

/// For the backends that run on the host.
pub const BACKENDS: &[Package] = &[
    Package {
        name: "postgresql",
        proves: &["/usr/lib/postgresql/*/bin/postgres", "postgres"],
    },
    Package {
        name: "redis-server",
        proves: &["redis-server"],
    },
    Package {
        name: "prometheus",
        proves: &["prometheus"],
    },
    Package {
        name: "prometheus-alertmanager",
        proves: &["prometheus-alertmanager", "alertmanager"],
    },
];

/// For lint, and for single tests.
pub const DEVELOPER: &[Package] = &[
    Package {
        name: "git",
        proves: &["git"],
    },
    Package {
        name: "curl",
        proves: &["curl"],
    },
    Package {
        name: "openssl",
        proves: &["openssl"],
    },
];

/// For the load tests.
pub const LOAD: &[Package] = &[Package {
    name: "wrk",
    proves: &["wrk"],
}];

impl Package {
    /// Path of the binary, when it is there.
    #[must_use]
    pub fn find(&self) -> Option<PathBuf> {
        self.proves.iter().find_map(|binary| find(binary))
    }
}

/// Looks a binary up in `PATH` and in the system directories.
#[must_use]
pub fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_DIRS.iter().map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| is_executable(candidate))
}

/// Looks a Kubernetes binary up in `KUBEBUILDER_ASSETS` first, then as [`find_on_path`].
#[must_use]
pub fn find_on_path_or_assets(name: &str) -> Option<PathBuf> {
    env::var_os("KUBEBUILDER_ASSETS")
        .map(|dir| Path::new(&dir).join(name))
        .filter(|path| is_executable(path))
        .or_else(|| find_on_path(name))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn find(binary: &str) -> Option<PathBuf> {
    if !binary.contains('/') {
        return find_on_path_or_assets(binary);
    }
    let Some((before, after)) = binary.split_once("/*/") else {
        return Some(PathBuf::from(binary)).filter(|path| is_executable(path));
    };
    let mut found: Vec<PathBuf> = fs::read_dir(before)
        .ok()?
        .flatten()
        .map(|entry| entry.path().join(after))
        .filter(|path| is_executable(path))
        .collect();
    // The newest version comes last by name.
    found.sort();
    found.pop()
}

/// Those of `wanted` whose binary is not there.
#[must_use]
pub fn missing(wanted: &[Package]) -> Vec<Package> {
    let mut missing: Vec<Package> = Vec::new();
    for package in wanted {
        if package.find().is_none() && !missing.contains(package) {
            missing.push(*package);
        }
    }
    missing
}

/// Makes sure that the binary of every package is there.
///
/// # Errors
/// When some are missing and we are not root on Debian or Ubuntu (the message lists them with the command), or when apt-get fails.
pub fn ensure(wanted: &[Package], progress: &Progress) -> Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let apt_get = find_on_path("apt-get").filter(|_| is_debian());
    match apt_get {
        Some(apt_get) if nix::unistd::geteuid().is_root() => install(&apt_get, &names, progress)?,
        _ => bail!(advice(&missing)),
    }
    match self::missing(wanted).as_slice() {
        [] => Ok(()),
        still => bail!("installed, but still not found: {}", describe(still)),
    }
}

fn advice(missing: &[Package]) -> String {
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    format!(
        "needed and not found: {}\n  on Debian or Ubuntu: sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
        describe(missing),
        names.join(" ")
    )
}

fn describe(packages: &[Package]) -> String {
    let each: Vec<String> = packages
        .iter()
        .map(|package| format!("{} (package {})", package.proves.join(" or "), package.name))
        .collect();
    each.join(", ")
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| {
        text.lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
            .any(|ids| {
                ids.trim_matches('"')
                    .split(' ')
                    .any(|id| id == "debian" || id == "ubuntu")
            })
    })
}

fn install(apt_get: &Path, names: &[&str], progress: &Progress) -> Result<()> {
    let _ticking = progress.ticking(format!("installing packages: {}", names.join(" ")));
    let _no_services = NoServices::begin()?;
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(names);
    run_apt(apt_get, &["update"])?;
    run_apt(apt_get, &args)
}

fn run_apt(apt_get: &Path, args: &[&str]) -> Result<()> {
    let run = Proc::build("apt-get", apt_get)
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .start()?;
    let status = run.wait_exit(APT_DEADLINE)?;
    if status.success() {
        return Ok(());
    }
    Err(run.explain(anyhow!("apt-get {} ended with {status}", args.join(" "))))
}

/// Packages that are only wanted for their binaries must not start services (a second PostgreSQL on the usual port, say).
/// The policy file is Debian's way to say so; ours stops having an effect with our process, should it be killed.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        let text = format!(
            "#!/bin/sh\n# Made while packages are installed; removes itself afterwards.\n[ -d /proc/{} ] && exit 101\nrm -f \"$0\"\nexit 0\n",
            std::process::id()
        );
        fs::write(POLICY, text).with_context(|| format!("write {POLICY}"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_named_with_its_package_and_the_command() {
        let package = Package {
            name: "no-such-package",
            proves: &["no-such-binary"],
        };
        let missing = missing(&[package, package]);
        assert_eq!(missing, [package]);
        let text = advice(&missing);
        assert!(
            text.contains("no-such-binary (package no-such-package)"),
            "{text}"
        );
        assert!(
            text.contains("apt-get install -y --no-install-recommends no-such-package"),
            "{text}"
        );
    }

    #[test]
    fn what_is_in_path_is_found() {
        assert!(find_on_path("sh").is_some());
        assert!(find_on_path("no-such-binary").is_none());
    }
}
