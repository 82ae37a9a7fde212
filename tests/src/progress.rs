//! Lines that tell a person what is going on, with a clock that ticks during long work.
//! Silence of more than a few seconds looks like a hang, so everything long says how far it is.

use std::{
    fmt,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How often a long step repeats its line.
const TICK: Duration = Duration::from_secs(10);

/// A sink for progress lines. Cheap to clone.
#[derive(Clone)]
pub struct Progress {
    sink: Arc<dyn Fn(&str) + Send + Sync>,
    begun: Instant,
}

impl Progress {
    /// Lines go to standard error with the seconds since the start in front.
    #[must_use]
    pub fn stderr() -> Self {
        let begun = Instant::now();
        Self::new(move |line| eprintln!("[{:>6.1} s] {line}", begun.elapsed().as_secs_f64()))
    }

    /// Nothing is shown.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// Lines go to `sink`.
    #[must_use]
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            sink: Arc::new(sink),
            begun: Instant::now(),
        }
    }

    /// Shows one line.
    pub fn say(&self, line: impl AsRef<str>) {
        (self.sink)(line.as_ref());
    }

    /// Time since this progress was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Shows `line` now and again every ten seconds with the seconds so far, until the guard is
    /// dropped.
    #[must_use]
    pub fn ticking(&self, line: impl Into<String>) -> Ticking {
        let line = line.into();
        self.say(&line);
        let (stop, stopped) = channel::<()>();
        let progress = self.clone();
        let begun = Instant::now();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(TICK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                progress.say(format!("{line}: {} s so far", begun.elapsed().as_secs()));
            }
        });
        Ticking {
            stop: Some(stop),
            thread: Some(thread),
            begun,
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Repeats a line until it is dropped.
#[derive(Debug)]
pub struct Ticking {
    stop: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    begun: Instant,
}

impl Ticking {
    /// Time since the line was first shown.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // The thread only waits on the channel that was just closed.
            let _ = thread.join();
        }
    }
}
