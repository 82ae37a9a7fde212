//! Rules, runbooks and dashboards: what they name exists, and what they must have is there. Needs no backend.

#[path = "monitoring/dashboards.rs"]
mod dashboards;
#[path = "monitoring/names.rs"]
mod names;
#[path = "monitoring/rules.rs"]
mod rules;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::services::workspace_root;

/// Where rules, dashboards and the scrape configuration lie.
fn files() -> Result<PathBuf> {
    Ok(workspace_root()?.join("charts/fuse-operator/files"))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// All files of a folder with this ending, sorted.
fn files_with(dir: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, ending)?);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Runs promtool in a folder; its output when it finds fault.
fn promtool(dir: &Path, args: &[&str]) -> Result<()> {
    let program = fuse_harness::proc::find_program("promtool", "prometheus", &[])?;
    let output = Command::new(program).current_dir(dir).args(args).output()?;
    let text = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success(),
        "promtool {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&text)
    );
    Ok(())
}

fn none(findings: &[String]) -> Result<()> {
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}
