//! The commands of the documents, run as written against the services as processes; here those of docs/orders.md.

#[path = "documents/open_orders.rs"]
mod open_orders;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::client::ApiClient;
use fuse_harness::services::Service;
use fuse_harness::stack::{Stack, StackOptions};
use fuse_harness::{documents, proc};
use serde_json::Value;

const ADMIN_KEY: &str = "an-admin-key-of-the-tests-0123456789";
const SOON: Duration = Duration::from_secs(60);
/// Stands in the output before what a block printed.
const MARK: &str = "=== block";
/// What each block must print, in the document's order.
const EXPECTED: [&[&str]; 13] = [
    &[
        "HTTP/1.1 201",
        "\r\nlocation: /v1/orders/",
        "\"status\":\"filled\"",
    ],
    &["201\n", "\"status\":\"filled\""],
    &["\"attempts\":[{"],
    &["idempotency-replayed: true"],
    &["{\"items\":[]}"],
    &["\"verdict\":\"accepted\"", "\"quote\":{"],
    &[
        "\"notional\":\"250\"",
        "\"remainder\":\"",
        "\"status\":\"filled\"",
    ],
    &["HTTP/1.1 201"],
    &["HTTP/1.1 412", "\"code\":\"portfolio_changed\""],
    &[
        "\"status\":\"filled\"",
        "{\"items\":[{",
        "\"clientOrderId\":\"savings-plan-2026-11\"",
    ],
    &["\"holdings\":[{\"symbol\":\"AAPL\"", "{\"items\":[{"],
    &["HTTP/1.1 20"],
    &["\"valid\":true"],
];

/// The shell blocks of a document, without the lines that stand for values that only the reader has.
fn blocks(text: &str) -> Vec<String> {
    let of_the_reader = ["FUSE=", "KEY=", "ADMIN_KEY="];
    text.split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .map(|block| {
            let lines = block.lines();
            let kept = lines.filter(|line| !of_the_reader.iter().any(|name| line.starts_with(name)));
            kept.map(|line| format!("{line}\n")).collect::<String>()
        })
        .filter(|block| !block.is_empty())
        .collect()
}

/// Compares the answer that the document shows with the one that came, but for what differs each time: when it was, and how much
/// the chain holds by then.
fn is_as_shown(document: &str, printed: &str) -> Result<()> {
    let (_, shown) = document.split_once("```json\n").context("an answer")?;
    let (shown, _) = shown.split_once("```").context("its end")?;
    let (mut shown, mut came): (Value, Value) =
        (serde_json::from_str(shown)?, serde_json::from_str(printed)?);
    for value in [&mut shown, &mut came] {
        for changing in ["/checkedAt", "/head", "/checked/events"] {
            let member = value.pointer_mut(changing).context("a member is missing")?;
            *member = Value::Null;
        }
    }
    ensure!(shown == came, "shown is {shown}, but {came} came");
    Ok(())
}

#[test]
fn the_examples_of_orders_work_as_written() -> Result<()> {
    let document = documents::read("docs/orders.md")?;
    let blocks = blocks(&document);
    ensure!(blocks.len() == EXPECTED.len(), "{} blocks", blocks.len());
    let stack = Stack::start(StackOptions::default())?;
    stack.addresses().migrate()?;
    let envs = stack.addresses().service_envs(ADMIN_KEY);
    let api = Service::spawn("api-service", &[], envs.clone())?;
    let refresher = Service::spawn("cache-refresher", &[], envs)?;
    let admin = ApiClient::new(api.http_url(), None, ADMIN_KEY);
    let key = admin.create_user_key("reader")?;
    // As `cargo xtask dev` does before it prints its lines.
    admin.with_key(&key).first_buy(SOON)?;
    let script: String = blocks
        .iter()
        .map(|block| format!("echo '{MARK}'\n{block}\n"))
        .collect();
    let mut shell = Command::new("bash");
    shell
        .args(["-euo", "pipefail", "-c", &script])
        .env("FUSE", api.http_url())
        .env("KEY", &key)
        .env("ADMIN_KEY", ADMIN_KEY);
    let output = proc::run(&mut shell, SOON)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let printed: Vec<&str> = said.split(MARK).skip(1).collect();
    for ((block, expected), printed) in blocks.iter().zip(EXPECTED).zip(&printed) {
        for text in expected {
            ensure!(
                printed.contains(text),
                "not {text:?}\nfor:\n{block}\nbut:\n{printed}"
            );
        }
    }
    ensure!(printed.len() == EXPECTED.len(), "{said}");
    is_as_shown(&document, printed[EXPECTED.len() - 1])?;
    refresher.stop().context("stop the refresher")?;
    api.stop().context("stop the service")?;
    Ok(())
}
