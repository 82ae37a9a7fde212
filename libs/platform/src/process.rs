//! The frame of every process: command line, configuration, logs, runtime, signals, exit code.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, value_parser};
use serde_json::Value;

use crate::admin::{self, AdminServer};
use crate::config::{
    AdminConfig, LifecycleConfig, Mistakes, Reader, RuntimeConfig, Settings, Sources, env_name,
};
use crate::lifecycle::{Shutdown, Signals};
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::telemetry::{self, Output};

/// Exit code of a process whose configuration has mistakes (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIGURATION: u8 = 78;

/// How long a cancelled `main` may take to return after the hard stop, and then the tasks that a stop waits for.
const HARD_GRACE: Duration = Duration::from_millis(500);

/// Blocking threads at most: files and name lookups only.
const BLOCKING_THREADS_MAX: usize = 16;

/// Any error that ends a process.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A process with its parsed command line; `A` is the process's own arguments and subcommands.
#[derive(Debug)]
pub struct Process<A = ()> {
    pub args: A,
    name: &'static str,
    config_file: Option<PathBuf>,
    check_config: bool,
}

/// What the main function of a process gets.
#[derive(Debug, Clone)]
pub struct Context {
    /// Name of the process.
    pub process: &'static str,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub shutdown: Shutdown,
}

impl Context {
    /// Opens the admin port. Add the conditions of readiness before.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub async fn serve_admin(
        &self,
        config: &AdminConfig,
        status: impl Fn() -> Value + Send + Sync + 'static,
    ) -> io::Result<SocketAddr> {
        let admin = AdminServer {
            process: self.process,
            listen: config.listen,
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            status: Arc::new(status),
        };
        admin::serve(admin, &self.shutdown).await
    }
}

impl<A: Args> Process<A> {
    /// Parses the command line; ends the process after `--help`, `--version` and on a mistake in it. `read` only
    /// documents the keys for `--help`; it is the function (or functions) given to [`Process::run`] later.
    pub fn parse<C>(name: &'static str, about: &'static str, read: impl FnOnce(&mut Reader) -> C) -> Self {
        Self::try_parse_from(name, about, read, std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// As [`Process::parse`], from given arguments (the first is the program) and without ending the process.
    ///
    /// # Errors
    /// The help text, the version or the mistake, as clap shows them.
    pub fn try_parse_from<C>(
        name: &'static str,
        about: &'static str,
        read: impl FnOnce(&mut Reader) -> C,
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let mut command = command::<A, C>(name, about, read);
        let mut matches = command.try_get_matches_from_mut(args)?;
        let args = A::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
        Ok(Self {
            args,
            name,
            config_file: config_file(&matches),
            check_config: matches.get_flag("check-config"),
        })
    }
}

fn command<A: Args, C>(
    name: &'static str,
    about: &'static str,
    read: impl FnOnce(&mut Reader) -> C,
) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .global(true);
    let check = Arg::new("check-config")
        .long("check-config")
        .action(ArgAction::SetTrue)
        .global(true);
    let command = Command::new(name)
        .version(crate::VERSION)
        .arg(config.help("TOML file with configuration, below the environment"))
        .arg(check.help("Check the configuration, print every key with its value, and exit"))
        .after_help(keys_help(read));
    // Last, because the arguments bring the words of their type along.
    A::augment_args(command).about(about).long_about(None)
}

fn config_file(matches: &ArgMatches) -> Option<PathBuf> {
    matches.get_one::<PathBuf>("config").cloned()
}

/// Every key with its default, for `--help`.
fn keys_help<C>(read: impl FnOnce(&mut Reader) -> C) -> String {
    let mut reader = Reader::new(Sources::none());
    read_all(&mut reader, read);
    let mut text = "Configuration: the defaults below, then the file of --config (key http.listen is listen under [http]),\n\
        then these variables. A secret may also be given as a file: its variable with _FILE.\n"
        .to_owned();
    for entry in reader.entries() {
        let default = match &entry.default {
            _ if entry.required => "required".to_owned(),
            Some(default) if !default.is_empty() => format!("default {default}"),
            _ => "not set".to_owned(),
        };
        let secret = if entry.secret { ", secret" } else { "" };
        let _ = write!(
            text,
            "\n  {} ({default}{secret})\n      {}",
            env_name(entry.key),
            entry.help
        );
    }
    text
}

// The keys of the process come first in lists, as they matter most.
fn read_all<C>(
    reader: &mut Reader,
    read: impl FnOnce(&mut Reader) -> C,
) -> (C, LifecycleConfig, RuntimeConfig) {
    (
        read(reader),
        LifecycleConfig::read(reader),
        RuntimeConfig::read(reader),
    )
}

impl<A> Process<A> {
    /// Runs a service: reads the configuration (exit code 78 with all mistakes on standard error), logs to standard
    /// output, handles signals, and runs `main` until it returns. Exit code 1 when it returns an error, when a vital
    /// task ended, or when the hard stop had to cut something off.
    pub fn run<C, E, F>(
        &self,
        read: impl FnOnce(&mut Reader) -> C,
        main: impl FnOnce(Context, C) -> F,
    ) -> ExitCode
    where
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        self.run_with(Output::Stdout, read, main)
    }

    /// Runs a command whose standard output is its answer: as [`Process::run`], with logs on standard error.
    pub fn run_command<C, E, F>(
        &self,
        read: impl FnOnce(&mut Reader) -> C,
        main: impl FnOnce(Context, C) -> F,
    ) -> ExitCode
    where
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        self.run_with(Output::Stderr, read, main)
    }

    fn run_with<C, E, F>(
        &self,
        output: Output,
        read: impl FnOnce(&mut Reader) -> C,
        main: impl FnOnce(Context, C) -> F,
    ) -> ExitCode
    where
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        // Made first: the time to ready counts from here.
        let readiness = Readiness::new();
        crate::tls::install_provider();
        let mut reader = Reader::new(Sources::of_process(self.config_file.as_deref()));
        let (config, lifecycle, runtime) = read_all(&mut reader, read);
        match reader.finish() {
            Err(mistakes) => return self.refuse(&mistakes),
            Ok(settings) if self.check_config => return show(&settings),
            Ok(_) => {}
        }
        telemetry::init(&runtime.log_filter, output);
        let started = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(runtime.worker_threads)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .enable_all()
            .build();
        let tokio = match started {
            Ok(tokio) => tokio,
            Err(error) => return failed(&error.into()),
        };
        let context = Context {
            process: self.name,
            metrics: Metrics::for_process(),
            readiness,
            shutdown: Shutdown::new(),
        };
        tracing::info!(
            process = self.name,
            version = crate::VERSION,
            revision = crate::REVISION,
            "starting"
        );
        let code = tokio.block_on(lead(context, lifecycle, |context| main(context, config)));
        // Whatever is still running was given its time.
        tokio.shutdown_background();
        code
    }

    fn refuse(&self, mistakes: &Mistakes) -> ExitCode {
        eprintln!("{}: {mistakes}", self.name);
        ExitCode::from(EXIT_CONFIGURATION)
    }
}

/// Runs `main` beside the signals, then waits for the tasks.
async fn lead<E, F>(context: Context, lifecycle: LifecycleConfig, main: impl FnOnce(Context) -> F) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: Into<BoxError>,
{
    let shutdown = context.shutdown.clone();
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return failed(&error.into()),
    };
    tokio::spawn(signals.lead(shutdown.clone(), context.readiness.clone(), lifecycle));
    let outcome = tokio::select! {
        biased;
        outcome = main(context) => Some(outcome.map_err(Into::into)),
        () = cut_off(&shutdown) => None,
    };
    shutdown.soft.cancel();
    let ended = shutdown.tasks_ended(HARD_GRACE).await;
    match outcome {
        Some(Err(error)) => failed(&error),
        Some(Ok(())) if ended && !shutdown.has_failed() => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        _ => {
            tracing::error!("stopped with work cut off or a vital task lost");
            ExitCode::FAILURE
        }
    }
}

async fn cut_off(shutdown: &Shutdown) {
    shutdown.hard.cancelled().await;
    tokio::time::sleep(HARD_GRACE).await;
}

fn failed(error: &BoxError) -> ExitCode {
    tracing::error!(error = telemetry::chain(error.as_ref()), "failed");
    ExitCode::FAILURE
}

/// What `--check-config` prints: every key, its value in force and where it comes from.
fn show(settings: &Settings) -> ExitCode {
    println!("The configuration is valid.");
    for entry in &settings.entries {
        let (value, place) = match (&entry.in_force, &entry.default) {
            (Some((value, place)), _) => (value.as_str(), place.as_str()),
            (None, Some(default)) if !default.is_empty() => (default.as_str(), "default"),
            (None, _) => ("[not set]", "default"),
        };
        println!("  {} = {value}  ({place})", entry.key);
    }
    ExitCode::SUCCESS
}
