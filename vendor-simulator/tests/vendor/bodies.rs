//! Complete answers with something wrong in their bodies.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{Bench, symbols};

const MIB: u64 = 1024 * 1024;

async fn with_body_fault(fault: Value) -> Result<Bench> {
    let bench = Bench::start()?;
    bench
        .rule(json!({"action": {"type": "body", "fault": fault}}))
        .await?;
    Ok(bench)
}

#[tokio::test]
async fn json_is_truncated_or_invalid_in_a_complete_answer() -> Result<()> {
    let good = Bench::start()?.list("").await?.text().await?;
    for (fault, length) in [("truncated", good.len() / 2), ("invalid_json", good.len() + 1)] {
        let bench = with_body_fault(json!(fault)).await?;
        for answer in [bench.list("").await?, bench.good_buy("AAPL").await?] {
            ensure!(answer.status() == 200);
            ensure!(answer.headers()["content-type"] == "application/json");
            let text = answer.text().await?;
            ensure!(
                text.starts_with('{') && serde_json::from_str::<Value>(&text).is_err(),
                "{text}"
            );
        }
        ensure!(bench.list("").await?.text().await?.len() == length);
        let counters = bench.simulator.counters();
        ensure!(counters.buys.executed == 1 && counters.buys.answered == 1);
        ensure!(counters.lists.faulted == 2 && counters.lists.answered == 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_good_body_comes_under_a_wrong_label() -> Result<()> {
    let bench = with_body_fault(json!({"content_type": "text/html"})).await?;
    let answer = bench.list("").await?;
    let labels: Vec<_> = answer.headers().get_all("content-type").iter().collect();
    ensure!(labels == ["text/html"], "{labels:?}");
    let page: Value = answer.json().await?;
    ensure!(symbols(&[page])[..2] == ["NVDA", "UNH"]);
    Ok(())
}

#[tokio::test]
async fn nothing_is_where_the_data_should_be() -> Result<()> {
    let vectors = [
        ("missing_data", "/data", "/data"),
        ("missing_items", "/data/items", "/data/order"),
        ("missing_order", "/data/items", "/data/order"),
    ];
    for (fault, of_list, of_buy) in vectors {
        let bench = with_body_fault(json!(fault)).await?;
        for (answer, gone) in [
            (bench.list("").await?, of_list),
            (bench.good_buy("AAPL").await?, of_buy),
        ] {
            let value: Value = answer.json().await?;
            ensure!(value["status"] == 200, "{value}");
            ensure!(value.pointer(gone).is_none(), "{value}");
        }
        ensure!(bench.simulator.counters().buys.executed == 1);
    }
    let page: Value = with_body_fault(json!("missing_items"))
        .await?
        .list("")
        .await?
        .json()
        .await?;
    ensure!(page["data"]["nextToken"].is_string(), "the rest stays");
    Ok(())
}

#[tokio::test]
async fn arrays_are_nested_deeply() -> Result<()> {
    let bench = with_body_fault(json!({"deep": {"depth": 100_000}})).await?;
    let text = bench.list("").await?.text().await?;
    ensure!(text.len() > 200_000);
    let begins = format!("{{\"status\":200,\"data\":{{\"items\":{}", "[".repeat(100_000));
    ensure!(text.starts_with(&begins) && text.ends_with(&format!("{}}}}}", "]".repeat(100_000))));
    Ok(())
}

#[tokio::test]
async fn a_huge_body_is_streamed_and_is_json_to_its_end() -> Result<()> {
    for announced in [true, false] {
        let huge = json!({"huge": {"bytes": 100 * MIB, "announced": announced}});
        let bench = with_body_fault(huge).await?;
        let mut answer = bench.list("").await?;
        ensure!(answer.content_length() == announced.then_some(100 * MIB));
        let (mut length, mut text) = (0, Vec::<u8>::new());
        while let Some(chunk) = answer.chunk().await? {
            length += chunk.len() as u64;
            text.extend(chunk.iter().filter(|byte| !byte.is_ascii_whitespace()));
        }
        ensure!(length == 100 * MIB, "{length} bytes");
        ensure!(text == br#"{"status":200,"data":{"items":[]}}"#);
        ensure!(bench.simulator.counters().lists.answered == 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_gzip_bomb_is_small_on_the_wire_and_a_good_file() -> Result<()> {
    let inflated = 50 * MIB;
    let bench = with_body_fault(json!({"gzip_bomb": {"inflated_bytes": inflated}})).await?;
    let answer = bench.list("").await?;
    ensure!(answer.headers()["content-encoding"] == "gzip");
    let packed = answer.bytes().await?;
    ensure!((packed.len() as u64) < inflated / 150, "{} bytes", packed.len());

    // gzip checks the sum and the length.
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start gzip")?;
    let mut input = gzip.stdin.take().context("a pipe")?;
    let writer = std::thread::spawn(move || input.write_all(&packed));
    let mut text = Vec::new();
    gzip.stdout.take().context("a pipe")?.read_to_end(&mut text)?;
    ensure!(gzip.wait()?.success());
    writer.join().expect("no panic")?;
    ensure!(
        (inflated..inflated + 10_000).contains(&(text.len() as u64)),
        "{} bytes",
        text.len()
    );
    text.retain(|byte| !byte.is_ascii_whitespace());
    ensure!(text == br#"{"status":200,"data":{"items":[]}}"#);
    Ok(())
}

#[tokio::test]
async fn many_numbers_stand_where_the_items_should_be() -> Result<()> {
    let bench = with_body_fault(json!({"many_items": {"items": 100_000}})).await?;
    let page: Value = bench.list("").await?.json().await?;
    ensure!(
        page["data"]["items"]
            .as_array()
            .is_some_and(|items| items.len() == 100_000)
    );
    let order: Value = bench.good_buy("AAPL").await?.json().await?;
    ensure!(order["data"] == json!({}), "{order}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_a_huge_body_is_not_answered() -> Result<()> {
    let huge = json!({"huge": {"bytes": 1024 * MIB}});
    let bench = Bench::start()?;
    bench
        .rule(json!({"action": {"type": "body", "fault": huge, "executed": false}}))
        .await?;
    let mut answer = bench.good_buy("AAPL").await?;
    ensure!(answer.chunk().await?.is_some());
    drop(answer);
    let buys = bench.simulator.counters().buys;
    ensure!(buys.executed == 0 && buys.not_executed_by_fault == 1 && buys.answered == 0);
    ensure!(buys.add_up());
    Ok(())
}
