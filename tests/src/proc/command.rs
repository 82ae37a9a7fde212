//! Programs: where they are, and commands that run to their end.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::LOG_TAIL_LINES;

/// Finds a program in `extra_dirs`, then in PATH, then in the sbin folders.
///
/// # Errors
/// Names the Debian package and the command that installs it.
pub fn find_program(program: &str, apt_package: &str, extra_dirs: &[&str]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
    extra_dirs
        .iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path))
        .chain(sbin.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| missing_package(program, apt_package))
}

/// The one error for a missing system package.
#[must_use]
pub fn missing_package(program: &str, apt_package: &str) -> anyhow::Error {
    anyhow!(
        "`{program}` is not installed. On Debian or Ubuntu: sudo apt-get install -y --no-install-recommends {apt_package}"
    )
}

/// Runs a command to its end, at most `deadline`, and returns what it printed.
///
/// # Errors
/// When it cannot start, exits with another status than 0, or takes too long; the message holds the end of its output.
pub fn run(command: &mut Command, deadline: Duration) -> Result<Output> {
    let output = output(command, deadline)?;
    if !output.status.success() {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        bail!(
            "{} ended with {}:\n{}",
            shown(command),
            describe(output.status),
            tail(&text, LOG_TAIL_LINES)
        );
    }
    Ok(output)
}

/// Like [`run`], but any exit status is fine.
///
/// # Errors
/// When it cannot start or takes too long.
pub fn output(command: &mut Command, deadline: Duration) -> Result<Output> {
    let what = shown(command);
    let out = tempfile::tempfile().context("temporary file")?;
    let err = tempfile::tempfile().context("temporary file")?;
    command.stdin(Stdio::null());
    command.stdout(out.try_clone()?);
    command.stderr(err.try_clone()?);
    let mut child = command.spawn().with_context(|| format!("start {what}"))?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{what} did not end within {} s", deadline.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ok(Output {
        status,
        stdout: read_back(out)?,
        stderr: read_back(err)?,
    })
}

fn read_back(mut file: File) -> Result<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn tail(text: &str, lines_max: usize) -> String {
    let mut lines = VecDeque::with_capacity(lines_max);
    for line in text.lines() {
        if lines.len() == lines_max {
            lines.pop_front();
        }
        lines.push_back(line);
    }
    Vec::from(lines).join("\n")
}

pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}

/// Program and arguments; the environment may hold passwords.
fn shown(command: &Command) -> String {
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    std::iter::once(command.get_program().to_string_lossy())
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}
