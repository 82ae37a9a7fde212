//! `cargo xtask bench NAME`: ours and a yardstick, interleaved in rounds of one run.
//!
//! A machine's speed drifts; the ratio of two things measured side by side does not. So every figure is a list of
//! rounds, each with ours and the yardstick's, and what is claimed is the median and the spread of their ratio.

mod figure;
mod meter;
mod refresh;
mod start;
mod stocks;
mod table;
mod world;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::build;
use crate::shell;
use figure::{Figure, print_table};

#[derive(clap::Args)]
pub struct Args {
    /// Which bench.
    #[arg(value_enum)]
    name: Name,
    /// Fewer rounds: about a minute.
    #[arg(long)]
    quick: bool,
    /// Of `stocks`: this part alone.
    #[arg(long, value_enum)]
    part: Option<stocks::Part>,
    /// Also write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Exit 1 when a goal is missed.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Time from exec to ready and resident memory at rest, of each process, beside redis-server.
    Start,
    /// GET /v1/stocks beside a bare hyper server, express and fastify; healthy beside a vendor outage and beside Redis gone; the cold stampede.
    Stocks,
    /// A full pass over 10,000 symbols: CPU time, memory, bytes and write units.
    Refresh,
}

pub fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        return run_optimised();
    }
    let (name, figures) = match args.name {
        Name::Start => ("start", start::measure(if args.quick { 5 } else { 25 })?),
        Name::Stocks => ("stocks", stocks::measure(args.part, args.quick)?),
        Name::Refresh => ("refresh", refresh::measure(args.quick)?),
    };
    print_table(&figures);
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&figures)?;
        std::fs::write(file, text).with_context(|| format!("could not write {}", file.display()))?;
    }
    let goals: Vec<bool> = figures.iter().filter_map(Figure::met).collect();
    let met = goals.iter().filter(|met| **met).count();
    println!("{name}: {met} of {} goals met", goals.len());
    if args.strict && met < goals.len() {
        bail!("{} goals missed", goals.len() - met);
    }
    Ok(())
}

/// Load generator, yardsticks and stand-ins run in this process or from this binary: unoptimised, they would be what is
/// measured. So the same command line is run by a release build of it.
fn run_optimised() -> Result<()> {
    let triple = build::host_triple()?;
    println!(
        "building xtask for release: the load generator and the yardsticks are part of what is measured"
    );
    shell::run(build::static_cargo("build", &triple).args(["--release", "--quiet", "-p", "xtask"]))?;
    let binary = build::output_dir(build::Profile::Release, &triple).join("xtask");
    // Returns only when it could not be started.
    let error = Command::new(&binary).args(std::env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("could not start {}", binary.display()))
}
