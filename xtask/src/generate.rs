//! `cargo xtask generate [--check]`: the files that are written by our own binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::build::{self, Profile};
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
    ("charts/fuse-crds/templates/fusetradingservices.yaml", "operator", &["crd", "--chart"]),
    ("docs/openapi.json", "api-service", &["openapi"]),
];

pub fn run(args: &Args) -> Result<()> {
    let bin_dir = build::binaries(Profile::Dev)?;
    if args.check { check(&bin_dir) } else { write(&bin_dir) }
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
    println!("{} generated files are current", FILES.len());
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
    FILES
        .iter()
        .map(|(path, binary, args)| {
            let text = shell::output(Command::new(bin_dir.join(binary)).args(*args))?;
            Ok((shell::root().join(path), text))
        })
        .collect()
}
