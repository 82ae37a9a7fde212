//! `operator run` (the default) looks after all FuseTradingServices; `operator crd` prints their definition.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use fuse_platform::{BoxError, Context, Process};
use operator::config::Settings;
use operator::controller;
use operator::metrics::Metrics;
use serde_json::json;

#[derive(Debug, Args)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look after all FuseTradingServices (the default)
    Run,
    /// Print the custom resource definition as YAML
    Crd {
        /// As a template of the chart fuse-crds, which Helm keeps on uninstall
        #[arg(long)]
        chart: bool,
    },
}

fn main() -> ExitCode {
    let process = Process::<Arguments>::parse(
        "operator",
        "Turns FuseTradingService resources into running workloads",
        Settings::read,
    );
    match process.args.command {
        None | Some(Command::Run) => process.run(Settings::read, run),
        Some(Command::Crd { chart }) => print_definition(chart),
    }
}

fn print_definition(chart: bool) -> ExitCode {
    let text = if chart {
        fuse_crds::chart_yaml()
    } else {
        fuse_crds::crd_yaml()
    };
    match text {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("operator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(context: Context, settings: Settings) -> Result<(), BoxError> {
    let metrics = Metrics::new(&context.metrics);
    let synced = context
        .readiness
        .condition("watches", "the API server was not asked yet");
    let controller_settings = settings.controller.clone();
    context
        .serve_admin(&settings.admin, move || {
            json!({
                "watchNamespaces": controller_settings.watch_namespaces,
                "watchSecrets": controller_settings.watch_secrets,
            })
        })
        .await?;
    let client = controller::connect(kube::Config::infer().await?, &metrics)?;
    controller::run(
        client,
        settings.controller,
        metrics,
        synced,
        context.shutdown.soft.clone(),
    )
    .await;
    Ok(())
}
