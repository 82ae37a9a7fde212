//! The yardstick: pgbench with the two writes of one order, prepared, on the same server. What a service that did nothing but
//! write could reach at most, without group commit.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::{proc, rundir};

use super::scene::{Database, Scene};
use super::{CLIENTS, Reach, Sample, count};

const SCRIPT: &str = include_str!("../../../yardsticks/orders.sql");
/// Stands before BEGIN and COMMIT in the script.
const ONE_TRANSACTION: &str = "-- one transaction: ";
/// One for each core of a small machine; one alone would hold it back.
const THREADS: &str = "2";
/// Beyond the time that it is asked to run.
const MARGIN: Duration = Duration::from_secs(60);

/// When the writes of an order are committed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// Each by itself, as it must be where a vendor is called in between.
    Each,
    /// Both at once, which no service that calls a vendor may do.
    Both,
}

/// What pgbench is told, on one database.
#[derive(Clone, Copy)]
pub struct Pgbench<'s> {
    pub scene: &'s Scene,
    pub database: &'s Database,
    pub reach: Reach,
    /// As long as ours is.
    pub answer_bytes: usize,
}

impl Pgbench<'_> {
    /// Orders for so long. None may fail.
    pub fn sample(&self, commit: Commit, time: Duration) -> Result<Sample> {
        let dir = rundir::unique_path("pgbench", "")?;
        std::fs::create_dir(&dir)?;
        let script = match commit {
            Commit::Each => SCRIPT.to_owned(),
            Commit::Both => SCRIPT.replace(ONE_TRANSACTION, ""),
        };
        std::fs::write(dir.join("orders.sql"), script)?;
        self.scene.checkpoint()?;
        let sample = self.run(&dir, time);
        std::fs::remove_dir_all(&dir)?;
        sample
    }

    fn run(&self, dir: &Path, time: Duration) -> Result<Sample> {
        let mut command = self.scene.postgres.client("pgbench", self.database.name);
        command
            .current_dir(dir)
            .args(["--no-vacuum", "--protocol=prepared", "--file=orders.sql"])
            .args(["--log", "--log-prefix=log", "--jobs", THREADS])
            .args(["--client", &CLIENTS.to_string()])
            .args(["--time", &time.as_secs().to_string()]);
        for (name, value) in [
            ("users", self.reach.users),
            ("portfolios", self.reach.portfolios),
            ("symbols", self.reach.symbols),
            ("answer_bytes", self.answer_bytes as u64),
        ] {
            command.arg(format!("--define={name}={value}"));
        }
        let output = proc::run(&mut command, time + MARGIN)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let figures = Figures::read(&said).with_context(|| format!("pgbench said: {said}"))?;
        let latencies = latencies(dir)?;
        ensure!(
            figures.failed == 0 && latencies.len() as u64 == figures.orders,
            "pgbench logged {} transactions and said: {said}",
            latencies.len()
        );
        Ok(Sample {
            orders: figures.orders,
            per_second: figures.per_second,
            p50_ms: percentile_ms(&latencies, 50),
            p99_ms: percentile_ms(&latencies, 99),
        })
    }
}

/// What pgbench prints at its end.
struct Figures {
    orders: u64,
    failed: u64,
    per_second: f64,
}

impl Figures {
    fn read(said: &str) -> Option<Self> {
        let first_word = |label: &str| {
            let rest = said.lines().find_map(|line| line.strip_prefix(label))?;
            rest.split_whitespace().next()
        };
        Some(Self {
            orders: first_word("number of transactions actually processed:")?
                .parse()
                .ok()?,
            failed: first_word("number of failed transactions:")?.parse().ok()?,
            per_second: first_word("tps =")?.parse().ok()?,
        })
    }
}

/// Microseconds of each transaction, ascending: the third field of each line of the logs, one log a thread.
fn latencies(dir: &Path) -> Result<Vec<u64>> {
    let mut latencies = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("log.") {
            continue;
        }
        for line in std::fs::read_to_string(entry.path())?.lines() {
            let micros = line
                .split_whitespace()
                .nth(2)
                .and_then(|field| field.parse().ok());
            latencies.push(micros.with_context(|| format!("a log line of another form: {line}"))?);
        }
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// By nearest rank, as the load generator's own.
fn percentile_ms(ascending: &[u64], percent: usize) -> f64 {
    let rank = (ascending.len() * percent).div_ceil(100);
    let micros = ascending.get(rank.saturating_sub(1));
    micros.map_or(f64::NAN, |micros| count(*micros) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_prints_is_read() {
        let said = "number of clients: 64\nnumber of transactions actually processed: 8769\n\
                    number of failed transactions: 0 (0.000%)\nlatency average = 43.394 ms\n\
                    tps = 1474.842904 (without initial connection time)\n";
        let figures = Figures::read(said).expect("figures");
        assert_eq!((figures.orders, figures.failed), (8769, 0));
        assert!((figures.per_second - 1_474.842_904).abs() < 1e-6);
        assert!(Figures::read("pgbench: error").is_none());
    }

    #[test]
    fn the_script_has_a_begin_and_a_commit_to_switch_on() {
        let both = SCRIPT.replace(ONE_TRANSACTION, "");
        let is_there = |line: &str| both.lines().any(|found| found == line);
        assert!(is_there("begin;") && is_there("commit;"));
        assert!(!SCRIPT.lines().any(|line| line == "begin;" || line == "commit;"));
    }

    #[test]
    fn percentiles_are_ranks() {
        let hundred: Vec<u64> = (1..=100).map(|micros| micros * 1000).collect();
        assert_eq!(percentile_ms(&hundred, 50), 50.0);
        assert_eq!(percentile_ms(&hundred, 99), 99.0);
        assert!(percentile_ms(&[], 50).is_nan());
    }
}
