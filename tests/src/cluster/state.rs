//! What was made on this machine, written down before it is made: `down` in a later process, or after an interrupted start,
//! must find all of it and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{proc::PidRecord, progress::Progress, wait};

/// Everything of the cluster is in here. One fixed place, because there is one cluster per machine.
pub const STATE_DIR: &str = "/var/lib/fuse-cluster";
const LOCK_FILE: &str = "/run/fuse-cluster.lock";

/// The directory of the cluster's state.
pub(super) fn dir() -> &'static Path {
    Path::new(STATE_DIR)
}

fn file() -> PathBuf {
    dir().join("state.json")
}

/// Keeps two processes from starting or ending a cluster at the same time.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(progress: &Progress, deadline: Duration) -> Result<Self> {
        let file = File::create(LOCK_FILE).with_context(|| format!("open {LOCK_FILE}"))?;
        if file.try_lock().is_err() {
            let _ticking =
                progress.ticking("waiting for another process that uses the cluster of this machine");
            wait::until("the lock of the cluster", deadline, || file.try_lock().ok())?;
        }
        Ok(Self { _file: file })
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Started processes by name.
    processes: BTreeMap<String, PidRecord>,
    /// Values before we changed them, by name with dots.
    pub sysctls: BTreeMap<String, String>,
    /// Whether the bridge is ours to remove.
    pub owns_bridge: bool,
    /// First process of the namespace that holds containerd, the kubelet and all pods.
    pub namespace: Option<PidRecord>,
    /// Empty directories that were not there before.
    pub made_dirs: Vec<String>,
    /// Packet filter chains that only look like ours.
    pub foreign_chains: BTreeSet<String>,
    pub etcd_port: u16,
    pub api_port: u16,
    pub ingress_port: u16,
    pub ping_port: u16,
    complete: bool,
}

impl State {
    pub(super) fn load() -> Result<Option<Self>> {
        match fs::read(file()) {
            // A half-written file cannot be: it is renamed into place.
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).context("read the cluster's state")?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && dir().exists() => {
                Ok(Some(Self::default()))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).context("read the cluster's state"),
        }
    }

    pub(super) fn create() -> Result<Self> {
        let state = Self::default();
        fs::create_dir_all(dir().join("log")).with_context(|| format!("create {STATE_DIR}"))?;
        // Holds private keys.
        fs::set_permissions(dir(), fs::Permissions::from_mode(0o700))?;
        state.save()?;
        Ok(state)
    }

    pub(super) fn save(&self) -> Result<()> {
        let scratch = dir().join("state.json.new");
        fs::write(&scratch, serde_json::to_vec_pretty(self)?).context("write the cluster's state")?;
        fs::rename(&scratch, file()).context("place the cluster's state")
    }

    pub(super) fn add_process(&mut self, name: &str, record: PidRecord) -> Result<()> {
        self.processes.insert(name.to_owned(), record);
        self.save()
    }

    pub(super) fn complete(&mut self) -> Result<()> {
        self.complete = true;
        self.save()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether every process that was started still runs.
    pub(super) fn is_alive(&self) -> bool {
        !self.processes.is_empty() && self.processes.values().all(|record| record.is_alive())
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = (&str, PidRecord)> {
        self.processes
            .iter()
            .map(|(name, record)| (name.as_str(), *record))
    }
}
