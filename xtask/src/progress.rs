//! Named steps with their times, printed as they happen, on top of the harness's progress lines.

use std::io::Write as _;
use std::time::Instant;

use anyhow::Result;
use fuse_harness::progress::Progress;

/// A list of steps; [`Steps::report`] says at the end where the time went.
pub struct Steps {
    lines: Progress,
    steps: Vec<(String, f64)>,
}

impl Steps {
    /// Starts the clock. Lines go to standard output: they are what the person asked for.
    pub fn start() -> Self {
        let begun = Instant::now();
        let lines = Progress::new(move |line| {
            println!("[{:7.1}s] {line}", begun.elapsed().as_secs_f64());
            // A closed pipe must not end the work that is being reported.
            let _ = std::io::stdout().flush();
        });
        Self {
            lines,
            steps: Vec::new(),
        }
    }

    /// Seconds since the start.
    pub fn elapsed_secs(&self) -> f64 {
        self.lines.elapsed().as_secs_f64()
    }

    /// Prints one line with the time since the start.
    pub fn say(&self, message: impl AsRef<str>) {
        self.lines.say(message);
    }

    /// Runs one named step, tells when it begins and how long it took. The step gets the lines to report on.
    pub fn step<T>(&mut self, name: &str, work: impl FnOnce(&Progress) -> Result<T>) -> Result<T> {
        self.say(format!("{name} …"));
        let begun = Instant::now();
        let result = work(&self.lines);
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
