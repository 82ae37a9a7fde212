//! `cargo xtask test [quick]`.

use anyhow::Result;
use clap::ValueEnum;
use fuse_harness::packages;
use fuse_harness::tools::{Tool, Tools};

use crate::build::{self, Profile};
use crate::progress::Steps;
use crate::{lint, shell};

#[derive(clap::Args)]
pub struct Args {
    /// What to run.
    #[arg(value_enum, default_value_t = Scope::All)]
    scope: Scope,
    /// Only tests whose name contains this text.
    #[arg(long)]
    filter: Option<String>,
    /// Leave out the lint step.
    #[arg(long)]
    no_lint: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Everything: units, services on real backends, the operator on a real API server, the whole on a real cluster.
    All,
    /// Unit tests: nothing else is started.
    Quick,
}

pub fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::start();
    let result = match args.scope {
        Scope::Quick => quick(args, &mut steps),
        Scope::All => all(args, &mut steps),
    };
    steps.report();
    result
}

fn quick(args: &Args, steps: &mut Steps) -> Result<()> {
    steps.step("unit tests", |_| {
        let mut command = shell::cargo();
        command.args(["test", "--workspace", "--lib", "--bins"]);
        command.args(args.filter.iter());
        shell::run(&mut command)
    })
}

fn all(args: &Args, steps: &mut Steps) -> Result<()> {
    steps.step("system packages", |p| {
        let wanted = [packages::CLUSTER, packages::BACKENDS, packages::DEVELOPER].concat();
        packages::ensure(&wanted, p)
    })?;
    steps.step("Kubernetes tools", |p| Tools::ensure(Tool::CLUSTER, p).map(drop))?;
    let bin_dir = steps.step("binaries", |_| build::binaries(Profile::Dev))?;
    let triple = build::host_triple()?;
    steps.step("compiling the tests", |_| {
        shell::run(build::static_cargo("test", &triple).args(["--workspace", "--no-run"]))
    })?;
    // All test binaries run even if one fails: a red run should name every red test.
    let tests = steps.step("tests", |_| {
        let mut command = build::static_cargo("test", &triple);
        command
            .args(["--workspace", "--no-fail-fast"])
            .env("FUSE_BIN_DIR", &bin_dir);
        command.args(args.filter.iter());
        shell::run(&mut command)
    });
    let lint = if args.no_lint {
        Ok(())
    } else {
        lint::run_steps(steps, Some(&bin_dir))
    };
    tests.and(lint)
}
