//! REST API of the stock trading service.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api_service::commands::{self, Args, Command, EXIT_INVALID, KeysConfig, MigrateConfig, VerifyConfig};
use api_service::config::ServeConfig;
use api_service::serve::serve;
use fuse_platform::Process;
use fuse_platform::config::Reader;

const ABOUT: &str = "REST API of the Fuse stock trading service";

fn main() -> ExitCode {
    let process = Process::<Args>::parse("api-service", ABOUT, read_all);
    match &process.args.command {
        None | Some(Command::Serve) => process.run(ServeConfig::read, serve),
        Some(Command::Verify { anchors }) => {
            let is_valid = Arc::new(AtomicBool::new(true));
            let code = process.run_command(VerifyConfig::read, |context, config| {
                commands::verify(context, config, anchors.clone(), Arc::clone(&is_valid))
            });
            match is_valid.load(Ordering::Relaxed) {
                true => code,
                false => ExitCode::from(EXIT_INVALID),
            }
        }
        Some(Command::Migrate { distribute }) => process
            .run_command(MigrateConfig::read, |context, config| {
                commands::migrate(context, config, *distribute)
            }),
        Some(Command::Keys { command }) => process.run_command(KeysConfig::read, |context, config| {
            commands::keys(context, config, command)
        }),
        Some(Command::Openapi) => match commands::openapi() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("api-service: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Every key that any of the commands knows, for `--help`.
fn read_all(reader: &mut Reader) {
    ServeConfig::read(reader);
    MigrateConfig::read(reader);
}
