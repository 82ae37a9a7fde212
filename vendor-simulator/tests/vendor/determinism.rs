//! The same seed, script and order give the same bytes; draws do not depend on the order of arrival.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use vendor_simulator::SimulatorConfig;

use crate::Bench;

/// Runs a fixed script of requests; returns everything that came back.
async fn run_script(seed: u64) -> Result<String> {
    let bench = Bench::start_with(SimulatorConfig {
        seed,
        symbols: 60,
        ..SimulatorConfig::default()
    })?;
    bench
        .rule(json!([
            {"match": {"operation": "buy", "probability": 0.4}, "action": {"type": "status", "status": 500}},
            {"match": {"operation": "list", "page": 1, "nth": 2}, "action": {"type": "tick", "by": 3}},
            {"match": {"operation": "buy", "symbol": "MSFT"}, "action": {"type": "reset", "executed": true}, "times": 2},
        ]))
        .await?;
    let mut all = String::new();
    for round in 0..12 {
        let answer = bench.list("").await?;
        all.push_str(&format!("{:?}\n", answer.headers()));
        all.push_str(&answer.text().await?);
        for symbol in ["AAPL", "MSFT", "PNNY"] {
            let body = format!("{{\"price\":100,\"quantity\":{}}}", round + 1);
            match bench.buy(symbol, &body).await {
                Ok(answer) => {
                    all.push_str(&format!("{} {:?}", answer.status(), answer.headers()));
                    all.push_str(&answer.text().await?);
                }
                Err(error) => all.push_str(if error.is_connect() { "refused" } else { "cut" }),
            }
            all.push('\n');
        }
        bench.simulator.tick(1);
    }
    let mut state = bench.control("GET", "state", Value::Null).await?.1;
    // When a closed connection leaves is the kernel's affair.
    for unsteady in ["in_flight", "peak_concurrency"] {
        state.as_object_mut().context("an object")?.remove(unsteady);
    }
    all.push_str(&state.to_string());
    Ok(all)
}

#[tokio::test]
async fn the_same_seed_and_script_give_the_same_bytes() -> Result<()> {
    let first = run_script(7).await?;
    ensure!(first == run_script(7).await?);
    ensure!(first != run_script(8).await?);
    ensure!(first.contains("cut"), "the script meets its reset rule");
    Ok(())
}

#[tokio::test]
async fn a_reset_brings_back_the_start() -> Result<()> {
    let bench = Bench::start()?;
    let before = bench.list("").await?.text().await?;
    bench.simulator.tick(5);
    bench.good_buy("AAPL").await?;
    ensure!(bench.list("").await?.text().await? != before);
    ensure!(bench.control("POST", "reset", Value::Null).await?.0 == 204);
    ensure!(bench.list("").await?.text().await? == before);
    ensure!(bench.simulator.executed().is_empty());
    Ok(())
}

/// Which of these buys fail, by quantity.
async fn fates(order: impl Iterator<Item = u32>) -> Result<BTreeMap<u32, u16>> {
    let bench = Bench::start()?;
    bench
        .rule(json!({"match": {"probability": 0.5}, "action": {"type": "status", "status": 503}}))
        .await?;
    let mut fates = BTreeMap::new();
    for quantity in order {
        let body = format!("{{\"price\":0.25,\"quantity\":{quantity}}}");
        let answer = bench.buy("PNNY", &body).await?;
        fates.insert(quantity, answer.status().as_u16());
    }
    Ok(fates)
}

#[tokio::test]
async fn chance_follows_the_content_not_the_order() -> Result<()> {
    let forward = fates(1..=40).await?;
    ensure!(forward == fates((1..=40).rev()).await?);
    let failed = forward.values().filter(|status| **status == 503).count();
    ensure!((8..=32).contains(&failed), "{failed} of 40 at one half");
    Ok(())
}

#[tokio::test]
async fn prices_move_by_tick_and_some_stand_still() -> Result<()> {
    let bench = Bench::start()?;
    let mut moves = 0;
    let mut movers = 0;
    for _ in 0..200 {
        let before = bench.simulator.price("AAPL").context("AAPL")?;
        bench.simulator.tick(1);
        let after = bench.simulator.price("AAPL").context("AAPL")?;
        moves += u32::from(before != after);
        movers += u32::from((after - before).abs() * Decimal::from(50) > before);
        ensure!(bench.simulator.price("PNNY") == Some("0.25".parse()?));
        ensure!(after > Decimal::ONE);
    }
    ensure!(moves > 100, "{moves} moves");
    ensure!((1..100).contains(&movers), "{movers} moves of more than 2 %");
    let item: Value = bench.list("").await?.json().await?;
    let updated = item["data"]["items"][0]["lastUpdated"].clone();
    // 200 ticks of 5 minutes after 14:30.
    ensure!(
        updated
            .as_str()
            .is_some_and(|at| at.starts_with("2026-01-06T07:10:0")),
        "{updated}"
    );
    Ok(())
}

#[tokio::test]
async fn the_control_port_refuses_nonsense_whole() -> Result<()> {
    let bench = Bench::start()?;
    let good = json!({"match": {"operation": "buy"}, "action": {"type": "status", "status": 500}});
    let bad = [
        json!({"action": {"type": "no_such_thing"}}),
        json!({"action": {"type": "status", "status": 99}}),
        json!({"action": {"type": "status", "status": 429, "retry_after": "a\nb"}}),
        json!({"match": {"probability": 1.5}, "action": {"type": "reset", "executed": true}}),
        json!({"match": {"symbl": "AAPL"}, "action": {"type": "reset", "executed": true}}),
        json!({"match": {"flap": {"on": 0, "off": 0}}, "action": {"type": "reset", "executed": true}}),
        json!({"match": {"symbol": "AAPL"}, "action": {"type": "refuse_connect"}}),
    ];
    for rule in bad {
        let (status, answer) = bench.control("POST", "rules", json!([good, rule])).await?;
        ensure!(
            status == 400 && answer["error"].is_string(),
            "{rule}: {status} {answer}"
        );
    }
    let (_, state) = bench.control("GET", "state", Value::Null).await?;
    ensure!(state["rules"] == json!([]), "{state}");
    Ok(())
}
