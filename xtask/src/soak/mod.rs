//! `cargo xtask soak NAME`: long randomized runs; each run is a pure function of its seed, so any can be replayed.

mod kills;
mod money;
mod walks;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::ValueEnum;

#[derive(clap::Args)]
pub struct Args {
    /// Which run.
    #[arg(value_enum)]
    name: Name,
    /// The first run's seed; run n uses seed + n. Default: from the clock, printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How many runs.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Instead of a number of runs: as many as it takes to kill so many processes, replicas and PostgreSQL servers together; of
    /// `kills` only. Not every run kills one: others cut, hang, pause or restart.
    #[arg(long, conflicts_with = "count", value_parser = clap::value_parser!(u64).range(1..))]
    kills: Option<u64>,
    /// How many worlds side by side; of `kills` only.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=16))]
    jobs: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Mixed orders with random faults of the vendor; processes are killed and the database fails at random moments. Then
    /// what clients were told, what the ledger holds and what the vendor executed are counted against each other, the hash chain
    /// is verified and the reports are compared with the ledger. At the end it says what was struck how often.
    Kills,
    /// Orders at random prices and sizes around the edges of the band, against the running services: every answer
    /// and every holding is compared with an exact model.
    Money,
    /// Walks over the list of stocks with random filters, orders and page sizes, over two replicas in turns, while prices
    /// are refreshed and old snapshots expire: every page is compared with the snapshot in the table.
    Walks,
}

/// What went wrong in one run; empty when nothing did.
pub type Violations = Vec<String>;

pub fn run(args: &Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    });
    let name = match args.name {
        Name::Kills => "kills",
        Name::Money => "money",
        Name::Walks => "walks",
    };
    let count = match (args.kills, args.name) {
        (None, _) => args.count,
        (Some(kills), Name::Kills) => kills::runs_that_kill(seed, kills),
        (Some(_), _) => bail!("--kills is of `kills` only"),
    };
    println!("{name}: first seed {seed}, {count} runs; replay one run with --seed N --count 1");
    let violations = match args.name {
        Name::Kills => kills::run(seed, count, args.jobs)?,
        Name::Money => money(seed, count)?,
        Name::Walks => walks::run(seed, count)?,
    };
    if violations > 0 {
        bail!("{violations} violations");
    }
    Ok(())
}

fn money(seed: u64, count: u64) -> Result<u64> {
    let mut session = money::Session::start()?;
    let mut violations = 0;
    for run in 0..count {
        let seed = seed.wrapping_add(run);
        for violation in session.run(seed)? {
            violations += 1;
            println!("seed {seed}: {violation}");
        }
        if (run + 1) % 10 == 0 {
            println!("{} of {} runs, {violations} violations so far", run + 1, count);
        }
    }
    println!("money: {count} runs, {violations} violations");
    Ok(violations)
}
