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

/// CPU time of a process and of all its children, those that ended included: a server that forks a process for each
/// session.
///
/// # Errors
/// When there is no such process.
pub fn cpu_of_family(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // Two more fields: what the kernel added up of the children that ended and were waited for.
    let own = ticks(&stat, 4).with_context(|| format!("{path} has another form"))?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let living = children.split_whitespace().filter_map(|child| child.parse().ok());
    // One that ends just now is counted with its parent the next time.
    Ok(own
        + living
            .filter_map(|child| cpu_of_family(child).ok())
            .sum::<Duration>())
}

/// CPU time of the threads of this process whose name begins so, of those that still run: parts that run inside of us.
///
/// # Errors
/// When the kernel does not say.
pub fn own_threads_cpu(name: &str) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for entry in fs::read_dir("/proc/self/task").context("list our threads")? {
        let task = entry?.path();
        // The kernel keeps 15 characters of a name. A thread may end at any moment.
        let named = fs::read_to_string(task.join("comm")).unwrap_or_default();
        if !named.is_empty() && named.trim_end().starts_with(&name[..name.len().min(15)]) {
            let stat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            let nanos = stat
                .split_whitespace()
                .next()
                .and_then(|nanos| nanos.parse().ok());
            sum += Duration::from_nanos(nanos.unwrap_or(0));
        }
    }
    Ok(sum)
}

fn cpu_of(stat: &str) -> Option<Duration> {
    ticks(stat, 2)
}

/// The sum of the first so many of: user and kernel time of the process, the same of the children it waited for.
fn ticks(stat: &str, fields: usize) -> Option<Duration> {
    // The name stands in parentheses and may hold anything, spaces and parentheses included.
    let (_, rest) = stat.rsplit_once(')')?;
    let times: Vec<u32> = rest
        .split_whitespace()
        .skip(11)
        .take(fields)
        .map_while(|field| field.parse().ok())
        .collect();
    (times.len() == fields).then(|| TICK * times.iter().sum())
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
        let parent = stat.replace(" 250 50 0 0 ", " 250 50 100 25 ");
        assert_eq!(ticks(&parent, 4), Some(Duration::from_millis(4250)));
    }

    #[test]
    fn a_childs_time_counts_for_its_family_after_its_end() {
        let before = cpu_of_family(std::process::id()).expect("cpu");
        let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let ended = std::process::Command::new("sh").args(["-c", spin]).status();
        assert!(ended.expect("a shell").success());
        assert!(cpu_of_family(std::process::id()).expect("cpu") > before);
    }

    #[test]
    fn a_thread_is_found_by_the_beginning_of_its_name() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("a-name-that-the-kernel-cuts".to_owned())
            .spawn(move || {
                let begun = std::time::Instant::now();
                while begun.elapsed() < Duration::from_millis(20) {}
                wait.recv()
            })
            .expect("a thread");
        std::thread::sleep(Duration::from_millis(100));
        assert!(own_threads_cpu("a-name-that-the-kernel-cuts").expect("cpu") >= Duration::from_millis(1));
        assert_eq!(own_threads_cpu("no-such-thread").expect("cpu"), Duration::ZERO);
        drop(done);
        let _ = thread.join();
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
