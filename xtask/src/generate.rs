//! `cargo xtask generate [--check]`: the files that are written by our own binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::build::{self, DEPLOYABLES, Profile};
use crate::shell;

#[derive(clap::Args)]
pub struct Args {
    /// Compare only; fail if a file is not what would be written.
    #[arg(long)]
    check: bool,
}

/// A generated file: where it is, and the binary with arguments that prints it.
const FILES: [(&str, &str, &[&str]); 3] = [
    ("crds/fusetradingservices.yaml", "operator", &["crd"]),
    (
        "charts/fuse-crds/templates/fusetradingservices.yaml",
        "operator",
        &["crd", "--chart"],
    ),
    ("docs/openapi.json", "api-service", &["openapi"]),
];

const CONFIGURATION: &str = "docs/configuration.md";

pub fn run(args: &Args) -> Result<()> {
    let bin_dir = build::binaries(Profile::Dev)?;
    if args.check {
        check(&bin_dir)
    } else {
        write(&bin_dir)
    }
}

/// Fails naming every file that differs from what our binaries print.
pub fn check(bin_dir: &Path) -> Result<()> {
    let mut stale = Vec::new();
    for (path, text) in generated(bin_dir)? {
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(path.display().to_string());
        }
    }
    if !stale.is_empty() {
        bail!("not current: {}; run `cargo xtask generate`", stale.join(", "));
    }
    println!("{} generated files are current", FILES.len() + 1);
    Ok(())
}

fn write(bin_dir: &Path) -> Result<()> {
    for (path, text) in generated(bin_dir)? {
        if std::fs::read_to_string(&path).unwrap_or_default() == text {
            println!("unchanged {}", path.display());
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        println!("written   {}", path.display());
    }
    Ok(())
}

fn generated(bin_dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for (path, binary, args) in FILES {
        let text = shell::output(Command::new(bin_dir.join(binary)).args(args))?;
        files.push((shell::root().join(path), text));
    }
    files.push((shell::root().join(CONFIGURATION), configuration(bin_dir)?));
    Ok(files)
}

/// Every setting, in the words of the processes themselves.
fn configuration(bin_dir: &Path) -> Result<String> {
    let mut text = String::from(
        "# Configuration\n\n\
         What each process prints for `--help`; this file is written by `cargo xtask generate`. `--check-config` prints every\n\
         mistake at once, or every key with its value.\n",
    );
    for name in DEPLOYABLES {
        // Without our own variables, which would change what is printed.
        let mut command = Command::new(bin_dir.join(name));
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("FUSE_")) {
            command.env_remove(key);
        }
        let help = shell::output(command.arg("--help"))?;
        text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.trim_end()));
    }
    Ok(text)
}
