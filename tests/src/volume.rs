//! A small volume that can be filled to its last byte: a tmpfs of its own. Needs root; where mounting is not allowed there is none.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use crate::{proc, rundir};

const MOUNT_DEADLINE: Duration = Duration::from_secs(20);
const CHUNK_BYTES: usize = 64 * 1024;

/// A mounted volume; unmounted when dropped.
#[derive(Debug)]
pub struct SmallVolume {
    path: PathBuf,
}

impl SmallVolume {
    /// A volume of so many MiB; `None` when this process may not mount.
    ///
    /// # Errors
    /// When the run directory cannot be written.
    pub fn mount(mebibytes: u32) -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        unmount_orphans()?;
        let path = rundir::unique_path("volume", "")?;
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        let mut mount = Command::new(proc::find_program("mount", "mount", &[])?);
        mount
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={mebibytes}m,mode=0755"))
            .arg("fuse-harness")
            .arg(&path);
        let output = proc::output(&mut mount, MOUNT_DEADLINE)?;
        if !output.status.success() {
            fs::remove_dir(&path)?;
            return Ok(None);
        }
        Ok(Some(Self { path }))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the space that is left.
    ///
    /// # Errors
    /// When writing fails for another reason.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.filler())?;
        // Ever smaller pieces, so that the last page is taken as well.
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        while !chunk.is_empty() {
            match filler.write_all(&chunk) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    chunk.truncate(chunk.len() / 2)
                }
                Err(error) => bail!("fill {}: {error}", self.path.display()),
            }
        }
        Ok(())
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("free the volume")
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        unmount(&self.path);
        let _ = fs::remove_dir(&self.path);
    }
}

/// At once, also while somebody looks into it; what is in it ends with it.
fn unmount(path: &Path) {
    let _ = proc::output(Command::new("umount").arg("--lazy").arg(path), MOUNT_DEADLINE);
}

/// Volumes of processes that were killed: nobody holds the lock of their run directory.
fn unmount_orphans() -> Result<()> {
    let base = rundir::base()?;
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    for path in mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(Path::new)
    {
        let Some(run) = path.strip_prefix(&base).ok().and_then(|rest| rest.iter().next()) else {
            continue;
        };
        // The lock of our own run directory is ours, so it is never taken here.
        let lock = File::open(base.join(run).join("lock"));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            unmount(path);
        }
    }
    Ok(())
}
