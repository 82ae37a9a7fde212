//! Steps with their times, printed as they happen.

use std::io::Write as _;
use std::time::Instant;

use anyhow::Result;

/// A list of steps; [`Progress::report`] says at the end where the time went.
pub struct Progress {
    started: Instant,
    steps: Vec<(String, f64)>,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { started: Instant::now(), steps: Vec::new() }
    }

    /// Seconds since the start.
    pub fn elapsed_secs(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Prints one line with the time since the start.
    pub fn say(&self, message: impl AsRef<str>) {
        println!("[{:7.1}s] {}", self.elapsed_secs(), message.as_ref());
        // A closed pipe must not end the work that is being reported.
        let _ = std::io::stdout().flush();
    }

    /// Runs one named step, tells when it begins and how long it took.
    pub fn step<T>(&mut self, name: &str, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.say(format!("{name} …"));
        let begun = Instant::now();
        let result = work(self);
        let took = begun.elapsed().as_secs_f64();
        self.steps.push((name.to_owned(), took));
        match &result {
            Ok(_) => self.say(format!("{name}: done in {took:.1}s")),
            Err(_) => self.say(format!("{name}: FAILED after {took:.1}s")),
        }
        result
    }

    /// Prints each step's share, in the order in which they ran.
    pub fn report(&self) {
        println!("\nwhere the time went:");
        for (name, took) in &self.steps {
            println!("  {took:8.1}s  {name}");
        }
        println!("  {:8.1}s  in all", self.elapsed_secs());
    }
}
