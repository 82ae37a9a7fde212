//! Processes that may have been started by another run of ours.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use serde::{Deserialize, Serialize};

use super::nix_pid;
use crate::wait;

/// A process known by pid and start time, so that a reused pid is never taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidRecord {
    pub pid: u32,
    /// Clock ticks since boot, from /proc/PID/stat.
    pub started_ticks: u64,
}

impl PidRecord {
    /// `None` when no such process runs (a zombie does not run).
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold blanks: count from its end.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let started_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, started_ticks })
    }

    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// SIGTERM, then SIGKILL after `grace`; nothing when it is gone already.
    ///
    /// # Errors
    /// When it survives or the kernel refuses.
    pub fn stop(self, grace: Duration) -> Result<()> {
        for (signal, wait_for) in [
            (Signal::SIGTERM, grace),
            (Signal::SIGKILL, Duration::from_secs(10)),
        ] {
            if !self.is_alive() {
                return Ok(());
            }
            signal::kill(nix_pid(self.pid), signal)
                .with_context(|| format!("send {signal} to {}", self.pid))?;
            if wait::until("its end", wait_for, || (!self.is_alive()).then_some(())).is_ok() {
                return Ok(());
            }
        }
        bail!("process {} survived SIGKILL", self.pid)
    }
}
