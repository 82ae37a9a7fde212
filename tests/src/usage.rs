//! What a process uses, from `/proc`: CPU time and memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The kernel counts CPU time in steps of 10 ms for everybody who reads it here (`USER_HZ`), whatever its own clock.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process since its start, all its threads and the kernel's work for it included, in steps of 10 ms.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    cpu_of(&stat).with_context(|| format!("{path} has another form"))
}

fn cpu_of(stat: &str) -> Option<Duration> {
    // The name stands in parentheses and may hold anything, spaces and parentheses included.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let kernel: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + kernel))
}

/// CPU time of the thread that asks, since its start.
///
/// # Errors
/// When the kernel does not say.
pub fn own_thread_cpu() -> Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|nanos| nanos.parse().ok());
    Ok(Duration::from_nanos(
        nanos.with_context(|| format!("{path} has another form"))?,
    ))
}

/// Memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident now, in bytes.
    pub resident: u64,
    /// The most that was ever resident, in bytes.
    pub peak: u64,
}

/// Memory of a process now.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes: u64 = line
            .with_context(|| format!("no {name} in {path}"))?
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse()?;
        Ok(kilobytes * 1024)
    };
    Ok(Memory {
        resident: field("VmRSS:")?,
        peak: field("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of("7 (a) S 1"), None);
    }

    #[test]
    fn our_own_process_uses_something() {
        let pid = std::process::id();
        let memory = memory(pid).expect("memory");
        assert!(
            memory.peak >= memory.resident && memory.resident > 0,
            "{memory:?}"
        );
        cpu(pid).expect("cpu");
        let mut sum = 0_u64;
        let before = own_thread_cpu().expect("cpu");
        while own_thread_cpu().expect("cpu") == before {
            sum = std::hint::black_box(sum + 1);
        }
    }
}
