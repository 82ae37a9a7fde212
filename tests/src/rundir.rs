//! One scratch directory per test process, held by a file lock. What a killed process left behind is removed by the next one.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};

const LOCK_FILE: &str = "lock";

struct RunDir {
    path: PathBuf,
    /// Held as long as the process lives; the kernel lets go of it however we end.
    _lock: File,
}

/// This process's scratch directory. Other users may enter (not list) it: PostgreSQL runs as another user.
///
/// # Errors
/// When the temporary directory cannot be written.
pub fn path() -> Result<&'static Path> {
    static RUN_DIR: OnceLock<Result<RunDir, String>> = OnceLock::new();
    RUN_DIR
        .get_or_init(|| create().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map(|dir| dir.path.as_path())
        .map_err(|error| anyhow!("{error}"))
}

/// A new path in the run directory (not created).
///
/// # Errors
/// As [`path`].
pub fn unique_path(name: &str, extension: &str) -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let clean: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let dot = if extension.is_empty() { "" } else { "." };
    Ok(path()?.join(format!("{number:03}-{clean}{dot}{extension}")))
}

/// What all test processes of this user share.
///
/// # Errors
/// When the temporary directory cannot be written.
pub fn base() -> Result<PathBuf> {
    let base = std::env::temp_dir().join(format!("fuse-harness-{}", nix::unistd::getuid()));
    fs::create_dir_all(&base).with_context(|| format!("create {}", base.display()))?;
    fs::set_permissions(&base, fs::Permissions::from_mode(0o711))?;
    Ok(base)
}

fn create() -> Result<RunDir> {
    let base = base()?;
    sweep(&base);
    let path = base.join(format!("{}-{}", std::process::id(), uuid::Uuid::now_v7()));
    fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
    // Locked before it gets its name, so that no neighbour ever sees it unlocked while we live.
    let unnamed = path.join("lock.new");
    let lock = File::create(&unnamed)?;
    lock.lock().context("lock the run directory")?;
    fs::rename(&unnamed, path.join(LOCK_FILE))?;
    Ok(RunDir { path, _lock: lock })
}

/// Removes the directories of processes that are gone. Failures are left for the next run.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let dir = entry.path();
        // No lock file yet: a neighbour is just making its directory.
        let Ok(lock) = File::open(dir.join(LOCK_FILE)) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&dir);
        }
    }
}
