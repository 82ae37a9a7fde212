//! `cargo xtask up` and `down` as a person runs them, with the binaries of this test run instead of a release build.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::cluster::footprint::Footprint;
use fuse_harness::proc::{self, Proc};
use fuse_harness::services::Binaries;
use nix::sys::signal::Signal;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const DEADLINE: Duration = Duration::from_secs(300);

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs xtask with its state in `state`; returns what it printed.
fn xtask(state: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(XTASK);
    command.args(args).env("XDG_STATE_HOME", state);
    let output = proc::output(&mut command, DEADLINE)?;
    let text = text(&output);
    ensure!(
        output.status.success(),
        "xtask {args:?} ended with {}:\n{text}",
        output.status
    );
    Ok(text)
}

#[test]
fn up_goes_on_after_an_interruption_changes_nothing_the_second_time_and_down_leaves_nothing() -> Result<()> {
    let before = Footprint::take();
    let state = tempfile::tempdir()?;
    let _down = Down(state.path());
    let bin_dir = Binaries::locate()?.dir().display().to_string();
    let up = ["up", "--local", "--bin-dir", &bin_dir];

    let interrupted = Proc::build("xtask-up", XTASK)
        .args(up)
        .env("XDG_STATE_HOME", state.path())
        .start()?;
    interrupted.wait_for_line("the API server", DEADLINE, |line| {
        line.contains("API server is ready").then_some(())
    })?;
    interrupted.stop_with(Signal::SIGINT, DEADLINE)?;

    let first = xtask(state.path(), &up)?;
    for said in [
        "Ready=True AllAvailable",
        "filled: 1.5 AAPL",
        "portfolio holds 1.5 AAPL",
        "mail in ",
        "where the time went",
    ] {
        ensure!(first.contains(said), "no {said:?} in:\n{first}");
    }
    let key = printed(&first, "  KEY=")?;
    let api = printed(&first, "  FUSE=")?;
    let listed = Command::new("curl")
        .args([
            "-s",
            "--max-time",
            "10",
            &format!("{api}/v1/stocks?limit=3"),
            "-H",
            &format!("x-api-key: {key}"),
        ])
        .output()
        .context("curl")?;
    ensure!(
        text(&listed).contains("\"items\""),
        "the printed address and key do not work: {}",
        text(&listed)
    );
    let mails: Vec<_> = fs::read_dir(state.path().join("fuse/backends/data/mail"))?.collect();
    ensure!(mails.len() == 1, "{} mails", mails.len());
    let mail = mails.into_iter().next().context("one mail")??;
    let mail = fs::read_to_string(mail.path())?;
    ensure!(
        mail.contains("1 order, 1 filled"),
        "the mail does not hold the order:\n{mail}"
    );

    let second = xtask(state.path(), &up)?;
    for said in ["charts are as they should be", "made by an earlier run"] {
        ensure!(second.contains(said), "no {said:?} in:\n{second}");
    }
    ensure!(
        printed(&second, "  KEY=")? == key,
        "the second run has another key"
    );

    xtask(state.path(), &["down"])?;
    let left = before.difference(&Footprint::take());
    ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    xtask(state.path(), &["down"]).map(drop)
}

/// Takes everything down also when the test fails half-way: one cluster per machine.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        // A test that went well has done so already.
        let _ = xtask(self.0, &["down"]);
    }
}

fn printed(text: &str, prefix: &str) -> Result<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(prefix));
    Ok(line
        .with_context(|| format!("no line {prefix:?} in:\n{text}"))?
        .trim()
        .to_owned())
}

/// In a mount namespace of its own this machine has no PostgreSQL, and the user may not install one.
#[test]
fn up_without_a_package_and_without_root_names_the_package_and_the_command() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
    let copy = dir.path().join("xtask");
    fs::copy(XTASK, &copy)?;
    let script = format!(
        "mount -t tmpfs tmpfs /usr/lib/postgresql && exec setpriv --reuid 65534 --regid 65534 --clear-groups \
         env HOME={home} XDG_STATE_HOME={home} XDG_CACHE_HOME={home} PATH=/usr/bin:/bin {copy} up",
        home = dir.path().display(),
        copy = copy.display(),
    );
    let output = proc::output(
        Command::new("unshare").args(["--mount", "sh", "-c", &script]),
        DEADLINE,
    )?;
    let said = text(&output);
    ensure!(!output.status.success(), "it went on:\n{said}");
    for wanted in [
        "(package postgresql)",
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends postgresql",
    ] {
        ensure!(said.contains(wanted), "no {wanted:?} in:\n{said}");
    }
    Ok(())
}
