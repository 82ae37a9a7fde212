//! What every process has: ports, threads, logs, its end.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Reader;

/// The port for clients, and what it bears.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    /// A new connection must have sent its first request head by then.
    pub header_read_timeout: Duration,
    /// An idle connection is closed after this; longer than a proxy keeps idle connections (60 s in most), so that
    /// the proxy never sends a request into a connection that we are closing.
    pub keep_alive: Duration,
    pub max_connections: usize,
}

impl HttpConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            listen: reader.value(
                "http.listen",
                "127.0.0.1:8080",
                "Address that serves the clients' API",
            ),
            header_read_timeout: reader.duration_secs(
                "http.header_read_timeout_secs",
                10,
                1..=300,
                "Seconds for the first request head of a new connection",
            ),
            keep_alive: reader.duration_secs(
                "http.keep_alive_secs",
                75,
                1..=3600,
                "Seconds that a connection may be idle; more than the proxy in front allows",
            ),
            max_connections: count(reader.number(
                "http.max_connections",
                4096,
                1..=100_000,
                "Connections served at once; more wait",
            )),
        }
    }
}

/// The port for metrics, probes and status.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    pub listen: SocketAddr,
}

impl AdminConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            listen: reader.value(
                "admin.listen",
                "127.0.0.1:9090",
                "Address that serves /metrics /livez /readyz /status",
            ),
        }
    }
}

/// How a process ends. Read by [`crate::Process::run`] for every process.
#[derive(Debug, Clone)]
pub struct LifecycleConfig {
    /// Unready but still serving, until every proxy has taken notice.
    pub drain_delay: Duration,
    /// From the signal to the hard stop; below the pod's termination grace period.
    pub deadline: Duration,
}

impl LifecycleConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let drain_delay = reader.duration_secs(
            "lifecycle.drain_delay_secs",
            5,
            0..=300,
            "Seconds to go on serving, unready, after SIGTERM (none after Ctrl-C)",
        );
        let deadline = reader.duration_secs(
            "lifecycle.deadline_secs",
            25,
            1..=3600,
            "Seconds from the signal to the hard stop; less than the pod's grace period",
        );
        if drain_delay >= deadline {
            reader.mistake(
                "lifecycle.drain_delay_secs",
                "leaves no time to drain; write less than lifecycle.deadline_secs",
            );
        }
        Self {
            drain_delay,
            deadline,
        }
    }
}

/// Threads and logs. Read by [`crate::Process::run`] for every process.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    pub worker_threads: usize,
    pub log_filter: String,
}

impl RuntimeConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            worker_threads: reader.parsed(
                "runtime.worker_threads",
                "auto",
                "auto or a whole number from 1 to 64",
                "Worker threads; auto is the number of cores, at most 4",
                worker_threads,
            ),
            log_filter: reader.parsed(
                "log.filter",
                "info",
                "a level or a list such as info,fuse_market=debug",
                "What is logged; RUST_LOG, where set, has precedence",
                crate::telemetry::check_filter,
            ),
        }
    }
}

/// Beyond four threads these processes only use more memory.
const WORKER_THREADS_AUTO_MAX: usize = 4;

fn worker_threads(text: &str) -> Result<usize, &'static str> {
    if text == "auto" {
        return Ok(std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(WORKER_THREADS_AUTO_MAX));
    }
    let number: usize = text.parse().map_err(|_| "it is not a whole number")?;
    if (1..=64).contains(&number) {
        Ok(number)
    } else {
        Err("it is out of range")
    }
}

// The ranges above keep every count below this.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
