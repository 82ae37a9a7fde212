//! How a process ends: soft, drain, hard.
//!
//! * **soft**: someone asked (SIGTERM, SIGINT, the end of `main`). `/readyz` is 503; background work ends after its
//!   current step; servers go on serving, as proxies need a moment to notice.
//! * **drain**: the delay is over (none after SIGINT). Servers accept no more and finish what they have.
//! * **hard**: the deadline is over, or a second signal came. Everything is dropped; tasks have a moment to say what is lost.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::LifecycleConfig;
use crate::readiness::Readiness;

/// The three stages as tokens, and the tasks that a stop waits for. Cheap to clone; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    pub soft: CancellationToken,
    pub drain: CancellationToken,
    pub hard: CancellationToken,
    tasks: TaskTracker,
    failed: Arc<AtomicBool>,
}

impl Shutdown {
    /// Tokens that nothing cancels, for tests; [`crate::Process::run`] makes those of a process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the process to stop, as a signal would, without the drain delay.
    pub fn begin(&self) {
        self.soft.cancel();
    }

    /// Starts a task that a stop waits for, until the hard deadline. Use it for work that no disconnecting client may
    /// cancel. A panic inside ends only the task (and is logged).
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Starts a task without which the process is useless. When it ends before anybody asked, by return or by panic,
    /// the process stops with exit code 1, so that it is restarted rather than half alive.
    pub fn spawn_vital<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let watched = self.tasks.spawn(task);
        let shutdown = self.clone();
        self.tasks.spawn(async move {
            let _ = watched.await;
            if !shutdown.soft.is_cancelled() {
                tracing::error!(task.name = name, "a vital task ended; stopping");
                shutdown.failed.store(true, Ordering::Relaxed);
                shutdown.begin();
            }
        });
    }

    /// The same stages for a port that must outlive the drain, such as the admin port: it drains at the hard stop.
    #[must_use]
    pub(crate) fn until_hard(&self) -> Self {
        Self {
            soft: self.soft.clone(),
            drain: self.hard.clone(),
            hard: self.hard.clone(),
            ..Self::default()
        }
    }

    /// Whether a vital task was lost or the hard stop came.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.hard.is_cancelled()
    }

    /// Waits for the tasks of [`Shutdown::spawn`], or for the hard stop; then they have `last_words` to say what is lost with them.
    /// Says whether all ended before it.
    pub(crate) async fn tasks_ended(&self, last_words: Duration) -> bool {
        self.tasks.close();
        tokio::select! {
            biased;
            () = self.tasks.wait() => true,
            () = self.hard.cancelled() => {
                let _ = tokio::time::timeout(last_words, self.tasks.wait()).await;
                false
            }
        }
    }
}

/// The signals of this process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Terminate,
    Interrupt,
    Within,
}

impl Asked {
    fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Within => "process",
        }
    }
}

impl Signals {
    /// From now on signals no longer end the process by themselves.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.interrupt.recv() => Asked::Interrupt,
        }
    }

    /// Leads through the stages. Never returns before the hard stop.
    pub(crate) async fn lead(mut self, shutdown: Shutdown, readiness: Readiness, config: LifecycleConfig) {
        let asked = tokio::select! {
            asked = self.next() => asked,
            () = shutdown.soft.cancelled() => Asked::Within,
        };
        let deadline = tokio::time::Instant::now() + config.deadline;
        readiness.stop();
        shutdown.soft.cancel();
        let delay = if asked == Asked::Terminate {
            config.drain_delay
        } else {
            Duration::ZERO
        };
        tracing::info!(
            asked_by = asked.as_str(),
            drain_delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            "stopping"
        );
        let insisted = tokio::select! {
            () = tokio::time::sleep(delay) => false,
            _ = self.next() => true,
        };
        shutdown.drain.cancel();
        if !insisted {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => tracing::warn!("deadline reached; stopping hard"),
                _ = self.next() => tracing::warn!("second signal; stopping hard"),
            }
        }
        shutdown.hard.cancel();
    }
}
