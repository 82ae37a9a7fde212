//! Static binaries of the deployables.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell;

/// The deployables, by the names of their binaries.
pub const DEPLOYABLES: [&str; 4] = ["api-service", "cache-refresher", "report-job", "operator"];

/// How to compile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build, slow to run: for tests, whose dependencies are then compiled once for both.
    Dev,
    /// What is shipped.
    Release,
}

/// The machine's target triple, for example `x86_64-unknown-linux-gnu`.
pub fn host_triple() -> Result<String> {
    let text = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = text
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc -vV names no host")?;
    Ok(host.to_owned())
}

/// A cargo command that compiles for `triple` with a static C library where the target has one.
///
/// `--target` is always passed: without it the flag would reach proc-macros, which cannot be static.
pub fn static_cargo(subcommand: &str, triple: &str) -> Command {
    let mut command = shell::cargo();
    command.arg(subcommand).args(["--target", triple]);
    if triple.ends_with("linux-gnu") {
        let variable = format!(
            "CARGO_TARGET_{}_RUSTFLAGS",
            triple.to_uppercase().replace('-', "_")
        );
        command.env(variable, "-C target-feature=+crt-static");
    }
    command
}

/// Builds the four deployables and returns the folder that holds them.
pub fn binaries(profile: Profile) -> Result<PathBuf> {
    let triple = host_triple()?;
    let mut command = static_cargo("build", &triple);
    command.arg("--bins");
    match profile {
        // The whole workspace, so that every dependency gets the same features as in the tests.
        Profile::Dev => command.arg("--workspace"),
        Profile::Release => command
            .arg("--release")
            .args(DEPLOYABLES.iter().flat_map(|name| ["-p", name])),
    };
    shell::run(&mut command)?;
    Ok(output_dir(profile, &triple))
}

/// Where [`static_cargo`] leaves its binaries.
pub fn output_dir(profile: Profile, triple: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from);
    target.join(triple).join(match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    })
}
