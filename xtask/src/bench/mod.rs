//! `cargo xtask bench NAME`: ours and a yardstick, interleaved in rounds of one run.
//!
//! A machine's speed drifts; the ratio of two things measured side by side does not. So every figure is a list of
//! rounds, each with ours and the yardstick's, and what is claimed is the median and the spread of their ratio.

mod figure;
mod meter;
mod orders;
mod refresh;
mod start;
mod stocks;
mod table;
mod world;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};
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
    /// This part alone. Of `stocks`: throughput, size, outage, stampede; of `orders`: spread, hot, cost, growth, verify.
    #[arg(long)]
    part: Option<String>,
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
    /// POST /v1/orders beside pgbench with the same two writes: spread, hot, costs, with millions of orders already there.
    Orders,
}

pub fn run(args: &Args) -> Result<()> {
    // A mistyped part is told before a build of minutes.
    let bench = Bench::of(args)?;
    if cfg!(debug_assertions) {
        return run_optimised();
    }
    let (name, figures) = match bench {
        Bench::Start => ("start", start::measure(if args.quick { 5 } else { 25 })?),
        Bench::Stocks(part) => ("stocks", stocks::measure(part, args.quick)?),
        Bench::Refresh => ("refresh", refresh::measure(args.quick)?),
        Bench::Orders(part) => ("orders", orders::measure(part, args.quick)?),
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

/// A bench with the part of it that is wanted.
enum Bench {
    Start,
    Stocks(Option<stocks::Part>),
    Refresh,
    Orders(Option<orders::Part>),
}

impl Bench {
    fn of(args: &Args) -> Result<Self> {
        let part = args.part.as_deref();
        let whole = |bench| match part {
            None => Ok(bench),
            Some(_) => bail!("--part: this bench has one part only"),
        };
        match args.name {
            Name::Start => whole(Self::Start),
            Name::Stocks => Ok(Self::Stocks(part.map(part_of).transpose()?)),
            Name::Refresh => whole(Self::Refresh),
            Name::Orders => Ok(Self::Orders(part.map(part_of).transpose()?)),
        }
    }
}

fn part_of<P: ValueEnum>(name: &str) -> Result<P> {
    P::from_str(name, false).map_err(|_| {
        let values = P::value_variants().iter();
        let names: Vec<String> = values
            .filter_map(|value| Some(value.to_possible_value()?.get_name().to_owned()))
            .collect();
        anyhow!("--part {name}: write one of {}", names.join(", "))
    })
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
