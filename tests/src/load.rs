//! Load on loopback: many keep-alive connections that send one request (or one made for each) again and again, flat out, at a pace, or all at once.
//! Bounded by connections, and by requests or time. All of it runs on one thread of its own, so the generator takes one
//! core at most and none of the threads of the in-process backends.

mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use wire::Connection;
pub use wire::{Make, Reply, Target};

/// Most connections of one load.
const CONNECTIONS_MAX: usize = 4_096;
/// Most messages of failures and findings that are kept; all are counted.
const MESSAGES_MAX: usize = 20;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Looks at every answer; an `Err` is a finding. Runs on the generator's thread, so it must be quick.
pub type Inspect = Arc<dyn Fn(&Reply<'_>) -> Result<(), String> + Send + Sync>;

/// How the requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each connection sends as soon as its answer is there.
    FlatOut,
    /// So many a second over all connections, due at fixed times: a late answer makes the ones behind it late as well, and
    /// their latencies count from when they were due.
    PerSecond(f64),
}

/// When the load ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After so many requests over all connections.
    Requests(u64),
    /// After so many requests of each connection.
    Each(u64),
    /// No request begins after this time.
    Elapsed(Duration),
}

/// A load.
#[derive(Clone)]
pub struct Plan {
    /// Connections, spread over the targets in turns.
    pub connections: usize,
    /// How the requests follow each other.
    pub pace: Pace,
    /// When it ends.
    pub until: Until,
    /// Looks at every answer.
    pub inspect: Option<Inspect>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("connections", &self.connections)
            .field("pace", &self.pace)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// What a load met.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a whole answer.
    pub failed: u64,
    /// Answers in which `inspect` found something.
    pub findings: u64,
    /// The first failures and findings in words, each once.
    pub messages: Vec<String>,
    /// CPU time of the generator itself; near `elapsed`, the generator was the limit.
    pub generator_cpu: Duration,
    /// Of all answers, ascending.
    latencies_micros: Vec<u32>,
}

impl Outcome {
    /// Answers of any status.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Answers a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of answers are far below 2^52")]
    pub fn per_second(&self) -> f64 {
        self.answers() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The latency that `share` (0..=1) of the answers did not exceed, in milliseconds; NaN without answers.
    #[must_use]
    pub fn percentile_ms(&self, share: f64) -> f64 {
        percentile_ms(&self.latencies_micros, share)
    }

    /// Every request was answered with 2xx and nothing was found.
    ///
    /// # Errors
    /// Says what was otherwise.
    pub fn all_good(&self) -> Result<()> {
        let other = self.statuses.keys().any(|status| !(200..300).contains(status));
        ensure!(
            !other && self.failed == 0 && self.findings == 0 && self.answers() > 0,
            "{} answers by status {:?}, {} requests without an answer, {} findings: {}",
            self.answers(),
            self.statuses,
            self.failed,
            self.findings,
            self.messages.join("; ")
        );
        Ok(())
    }

    fn message(&mut self, text: impl FnOnce() -> String) {
        if self.messages.len() < MESSAGES_MAX {
            let text = text();
            if !self.messages.contains(&text) {
                self.messages.push(text);
            }
        }
    }

    /// Several loads as one, as if all ran side by side: the longest one's time, and the latencies of all.
    #[must_use]
    pub fn merged(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.add(part);
        }
        all.latencies_micros.sort_unstable();
        all
    }

    fn add(&mut self, other: Self) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.generator_cpu += other.generator_cpu;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.failed += other.failed;
        self.findings += other.findings;
        self.latencies_micros.extend(other.latencies_micros);
        for text in other.messages {
            self.message(|| text);
        }
    }
}

/// The latency that `share` (0..=1) of these, in microseconds and ascending, do not exceed, in milliseconds; NaN of none.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a list that fits memory"
)]
pub fn percentile_ms(ascending_micros: &[u32], share: f64) -> f64 {
    let last = ascending_micros.len().saturating_sub(1);
    let rank = (ascending_micros.len() as f64 * share).ceil() as usize;
    ascending_micros
        .get(rank.saturating_sub(1).min(last))
        .map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
}

/// Runs a load to its end.
///
/// # Errors
/// When the plan makes no sense. What the servers do is in the outcome.
pub fn run(targets: &[Target], plan: &Plan) -> Result<Outcome> {
    start(targets, plan)?.wait()
}

/// Starts a load that goes on until its plan ends it, or until [`Running::stop`].
///
/// # Errors
/// When the plan makes no sense.
pub fn start(targets: &[Target], plan: &Plan) -> Result<Running> {
    ensure!(!targets.is_empty(), "no target");
    ensure!(
        (1..=CONNECTIONS_MAX).contains(&plan.connections),
        "1 to {CONNECTIONS_MAX} connections, not {}",
        plan.connections
    );
    if let Pace::PerSecond(rate) = plan.pace {
        ensure!(rate > 0.0, "no pace");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let shared = Arc::new(Shared {
        plan: plan.clone(),
        stop: Arc::clone(&stop),
        taken: AtomicU64::new(0),
        ready: Barrier::new(plan.connections),
    });
    let connections = targets.iter().cycle().take(plan.connections).cloned().collect();
    let thread = std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || drive(connections, &shared))
        .context("start the generator's thread")?;
    Ok(Running { stop, thread })
}

/// A load that goes on.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Outcome>>,
}

impl Running {
    /// Lets answers that are due come, then ends.
    ///
    /// # Errors
    /// When the generator broke.
    pub fn stop(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits for the end that its plan gives it.
    ///
    /// # Errors
    /// When the generator broke.
    pub fn wait(self) -> Result<Outcome> {
        self.thread
            .join()
            .map_err(|_| anyhow!("the generator's thread panicked"))?
    }
}

struct Shared {
    plan: Plan,
    stop: Arc<AtomicBool>,
    /// Requests begun, over all connections.
    taken: AtomicU64,
    /// All connections are made before any sends.
    ready: Barrier,
}

impl Shared {
    /// When the next request of a connection that sent so many is due, counted from the start; `None` at the end.
    fn next_due(&self, begun: Instant, sent: u64) -> Option<Duration> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
        let due = match self.plan.pace {
            Pace::FlatOut => begun.elapsed(),
            Pace::PerSecond(rate) => Duration::from_secs_f64(number as f64 / rate),
        };
        let goes_on = match self.plan.until {
            Until::Requests(count) => number < count,
            Until::Each(count) => sent < count,
            Until::Elapsed(time) => due < time,
        };
        goes_on.then_some(due)
    }
}

fn drive(connections: Vec<Target>, shared: &Arc<Shared>) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the generator's runtime")?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for target in connections {
            tasks.spawn(send_all(target, Arc::clone(shared)));
        }
        let mut parts = Vec::new();
        while let Some(done) = tasks.join_next().await {
            parts.push(done.context("a connection's task")?);
        }
        let mut outcome = Outcome::merged(parts);
        outcome.generator_cpu = crate::usage::own_thread_cpu()?;
        Ok(outcome)
    })
}

/// The requests of one connection.
async fn send_all(target: Target, shared: Arc<Shared>) -> Outcome {
    let mut connection = Connection::new(target.address);
    let mut outcome = Outcome::default();
    // A server that is away shows in the first exchange.
    let _ = connection.connect().await;
    shared.ready.wait().await;
    let begun = Instant::now();
    let mut sent = 0;
    let mut made = Vec::new();
    while let Some(due) = shared.next_due(begun, sent) {
        sent += 1;
        let due = begun + due;
        let counts_from = if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
            // The timer's own lateness is not the server's.
            Instant::now()
        } else {
            due
        };
        match connection.exchange(target.next(&mut made)).await {
            Ok(reply) => {
                let micros = u32::try_from(counts_from.elapsed().as_micros()).unwrap_or(u32::MAX);
                outcome.latencies_micros.push(micros);
                *outcome.statuses.entry(reply.status).or_default() += 1;
                if let Some(Err(finding)) = shared.plan.inspect.as_ref().map(|inspect| inspect(&reply)) {
                    outcome.findings += 1;
                    outcome.message(|| finding);
                } else if !(200..300).contains(&reply.status) {
                    outcome.message(|| format!("{}: {}", reply.status, String::from_utf8_lossy(reply.body)));
                }
            }
            Err(error) => {
                outcome.failed += 1;
                outcome.message(|| error.to_string());
                // A server that refuses at once would otherwise be asked in a tight loop.
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
    outcome.elapsed = begun.elapsed();
    outcome
}
