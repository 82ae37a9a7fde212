//! Developer commands: `cargo xtask up | down | dev | test | bench | soak | lint | generate`.
//!
//! Each subcommand is one file; everything that starts a real part (PostgreSQL, a cluster, an image) lives in the
//! harness, so that tests and people use the same code.

mod backends;
mod bare;
mod bench;
mod build;
mod dev;
mod down;
mod generate;
mod lint;
mod progress;
mod shell;
mod soak;
mod summary;
mod test;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Developer commands of the Fuse stock trading service",
    version
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on a Kubernetes cluster: yours if there is one, else a local real one.
    Up(up::Args),
    /// Undo `up`: no process, mount, bridge, route or sysctl stays behind.
    Down(down::Args),
    /// Run the services as plain processes, without Kubernetes, for API work.
    Dev(dev::Args),
    /// Run all tests (or `test quick`: the ones that need no other process).
    Test(test::Args),
    /// Measure ours against a yardstick, interleaved in one run.
    Bench(bench::Args),
    /// Long randomized runs that replay from their seed.
    Soak(soak::Args),
    /// Formatting, clippy, dependency rules, generated files, charts, alert rules, links.
    Lint(lint::Args),
    /// Write the generated files (CRD, its chart copy, OpenAPI); `--check` only compares.
    Generate(generate::Args),
    /// The backends that `up` keeps running (started by `up`, not by hand).
    #[command(hide = true)]
    Backends(backends::Args),
    /// Answers everything with the same bytes (a yardstick of `bench stocks`, not started by hand).
    #[command(hide = true)]
    BareServer(bare::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Up(args) => up::run(&args),
        Command::Down(args) => down::run(&args),
        Command::Dev(args) => dev::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Backends(args) => backends::run(&args),
        Command::BareServer(args) => bare::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
