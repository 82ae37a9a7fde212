//! The simulator as a process.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use vendor_simulator::{BandMode, Simulator, SimulatorConfig, TICK_SECS};

/// A stock vendor with faults on demand; `GET /control/state` on the control port tells what happened.
///
/// Faults are rules: `POST /control/rules` takes one or a list, `DELETE` removes them. Which there are stands in the README.
#[derive(Parser)]
#[command(name = "vendor-simulator", version)]
struct Options {
    /// Where the vendor listens
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the control port listens
    #[arg(long, default_value = "127.0.0.1:0")]
    control_listen: SocketAddr,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of stocks, made from the seed
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    symbols: u32,
    /// Items on a page
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    page_size: u32,
    /// What x-api-key must hold
    #[arg(long, default_value = "simulator-key")]
    api_key: String,
    /// `lastUpdated` of tick 0 in RFC 3339; "now" is the current time, cut to five minutes
    #[arg(long, default_value = "now")]
    epoch: String,
    /// Advance the price clock every so many seconds; 0: by command only
    #[arg(long, default_value_t = 0)]
    auto_tick_secs: u64,
    /// `lastUpdated` is real time: ticks by themselves fall on whole multiples of --auto-tick-secs, those by command are as old as the command;
    /// without this flag each tick is 5 virtual minutes after the one before, however often it comes
    #[arg(long)]
    wall_clock: bool,
    /// How the 2 % rule is computed
    #[arg(long, value_enum, default_value_t = Band::Exact)]
    band: Band,
}

#[derive(Clone, Copy, ValueEnum)]
enum Band {
    Exact,
    Doubles,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .init();
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "vendor simulator failed");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    let simulator = Simulator::start(SimulatorConfig {
        listen: options.listen,
        control_listen: options.control_listen,
        seed: options.seed,
        symbols: options.symbols as usize,
        page_size: options.page_size as usize,
        api_key: options.api_key,
        epoch: epoch(&options.epoch)?,
        auto_tick: (options.auto_tick_secs > 0).then(|| Duration::from_secs(options.auto_tick_secs)),
        wall_clock: options.wall_clock,
        band: match options.band {
            Band::Exact => BandMode::Exact,
            Band::Doubles => BandMode::Doubles,
        },
        ..SimulatorConfig::default()
    })?;
    tracing::info!(address = %simulator.vendor_address(), "vendor listening");
    tracing::info!(
        address = simulator.control_url().trim_start_matches("http://"),
        "control listening"
    );
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            anyhow::Ok(())
        })?;
    simulator.stop();
    Ok(())
}

/// Looks at the wall clock at the start, and only when asked to.
fn epoch(text: &str) -> Result<Timestamp> {
    if text == "now" {
        let second = Timestamp::now().as_second();
        return Ok(Timestamp::from_second(second - second.rem_euclid(TICK_SECS))?);
    }
    text.parse()
        .with_context(|| format!("--epoch {text}: neither \"now\" nor a time in RFC 3339"))
}
