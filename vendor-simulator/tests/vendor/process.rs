//! The simulator as a process: its options, and the memory that its largest answers take.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde_json::{Value, json};

/// Killed when dropped.
struct Process {
    child: Child,
    vendor: String,
    control: String,
}

impl Process {
    fn start(options: &[&str]) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vendor-simulator"))
            .args(options)
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let mut addresses = lines.filter_map(|line| {
            let line: Value = serde_json::from_str(&line.ok()?).ok()?;
            Some(format!("http://{}", line["address"].as_str()?))
        });
        let vendor = addresses.next().context("the vendor's address")?;
        let control = addresses.next().context("the control port's address")?;
        Ok(Self {
            child,
            vendor,
            control,
        })
    }

    /// The largest resident memory so far, in KiB.
    fn peak_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .context("VmHWM")?;
        Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn huge_bodies_are_never_held() -> Result<()> {
    let process = Process::start(&[])?;
    let client = Client::builder().no_proxy().build()?;
    let rules = json!([
        {"action": {"type": "body", "fault": {"huge": {"bytes": 104_857_600}}}, "times": 1},
        {"action": {"type": "body", "fault": {"gzip_bomb": {"inflated_bytes": 1_u64 << 33}}}},
    ]);
    let added = client
        .post(format!("{}/control/rules", process.control))
        .json(&rules);
    ensure!(added.send().await?.status() == 204);
    let before = process.peak_kib()?;
    for length in [100 << 20, 54_103_000_u64] {
        let list = client.get(format!("{}/stocks", process.vendor));
        let mut answer = list.header("x-api-key", "simulator-key").send().await?;
        let mut got = 0;
        while let Some(chunk) = answer.chunk().await? {
            got += chunk.len() as u64;
        }
        ensure!(
            (length..length + 10_000).contains(&got),
            "{got} bytes of {length}"
        );
    }
    let grown = process.peak_kib()?.saturating_sub(before);
    ensure!(grown < 10 * 1024, "grew by {grown} KiB");
    Ok(())
}

#[tokio::test]
async fn symbols_pages_and_real_times_are_options() -> Result<()> {
    let options = [
        "--symbols",
        "10000",
        "--page-size",
        "25",
        "--wall-clock",
        "--auto-tick-secs",
        "60",
    ];
    let process = Process::start(&options)?;
    let client = Client::builder().no_proxy().build()?;
    let state = client.get(format!("{}/control/state", process.control));
    let state: Value = state.send().await?.json().await?;
    ensure!(state["symbols"] == 10_000 && state["pages"] == 400, "{state}");
    let tick_at: jiff::Timestamp = state["tick_at"].as_str().context("a time")?.parse()?;
    ensure!(tick_at.as_second() % 60 == 0, "{tick_at}");
    Ok(())
}
