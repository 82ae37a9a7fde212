//! The shapes of the written contract.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vendor_simulator::{BandMode, SimulatorConfig};

use crate::{Bench, encoded};

#[tokio::test]
async fn a_crawl_gives_every_stock_once() -> Result<()> {
    let bench = Bench::start()?;
    let mut query = String::new();
    let mut symbols = Vec::new();
    let mut pages = 0;
    loop {
        let page: Value = bench.list(&query).await?.json().await?;
        pages += 1;
        ensure!(page["status"] == 200);
        for item in page["data"]["items"].as_array().context("items")? {
            ensure!(item["price"].is_number() && item["change"].is_number());
            ensure!(item["name"].is_string() && item["sector"].is_string());
            let updated = item["lastUpdated"].as_str().context("lastUpdated")?;
            ensure!(
                updated.starts_with("2026-01-05T14:30:0") && updated.ends_with('Z') && updated.len() == 24,
                "{updated}"
            );
            symbols.push(item["symbol"].as_str().context("symbol")?.to_owned());
        }
        let Some(token) = page["data"]["nextToken"].as_str() else {
            ensure!(page["data"].get("nextToken").is_none());
            break;
        };
        for c in ['+', '/', '='] {
            ensure!(token.contains(c), "{token} lacks {c}");
        }
        query = format!("?nextToken={}", encoded(token));
    }
    ensure!(pages == 5);
    ensure!(symbols[..2] == ["NVDA", "UNH"]);
    ensure!(symbols == bench.simulator.symbols());
    symbols.sort();
    symbols.dedup();
    ensure!(symbols.len() == 40);
    Ok(())
}

#[tokio::test]
async fn a_raw_plus_in_a_token_is_a_bad_token() -> Result<()> {
    let bench = Bench::start()?;
    let page: Value = bench.list("").await?.json().await?;
    let token = page["data"]["nextToken"].as_str().context("token")?;
    let answer = bench.list(&format!("?nextToken={token}")).await?;
    ensure!(answer.status() == 400);
    ensure!(answer.json::<Value>().await?["status"] == 400);
    ensure!(bench.simulator.counters().lists.bad_tokens == 1);
    Ok(())
}

#[tokio::test]
async fn a_buy_is_executed_and_recorded_as_text() -> Result<()> {
    let bench = Bench::start()?;
    ensure!(bench.simulator.set_prices("AAPL", vec!["150.25".parse()?]));
    let answer = bench
        .buy("AAPL", r#"{"price":150.250,"quantity":10,"more":true}"#)
        .await?;
    ensure!(answer.status() == 200);
    ensure!(
        answer.text().await?
            == r#"{"status":200,"message":"Order placed successfully","data":{"order":{"symbol":"AAPL","quantity":10,"price":150.25,"total":1502.5}}}"#
    );
    let (_, executed) = bench.control("GET", "executed", Value::Null).await?;
    ensure!(executed == json!([{"symbol": "AAPL", "price": "150.250", "quantity": "10", "tick": 0}]));
    Ok(())
}

#[tokio::test]
async fn the_total_comes_from_doubles() -> Result<()> {
    let bench = Bench::start()?;
    let answer = bench.buy("PNNY", r#"{"price":0.2475,"quantity":3}"#).await?;
    let text = answer.text().await?;
    ensure!(text.contains(r#""total":0.7424999999999999"#), "{text}");
    Ok(())
}

/// Price, offers that pass, offers that fail.
const BAND: &[(&str, &[&str], &[&str])] = &[
    ("0.25", &["0.245", "0.255"], &["0.24499", "0.24495001", "0.25504"]),
    ("100", &["98", "98.5", "102"], &["95", "97.99999999"]),
    ("220.67", &["216.2566", "225.0834"], &["225.08341"]),
    ("19.71107", &["20.1052914"], &["20.1052915"]),
    ("0.01", &["0.0098", "0.0102"], &["0.01021"]),
    ("0.00001", &["0.0000102"], &["0.00001021"]),
    ("1000000000", &["1020000000", "1.02e9"], &["1020000000.00001"]),
];

#[tokio::test]
async fn exactly_two_percent_passes_and_more_fails() -> Result<()> {
    let bench = Bench::start()?;
    for (price, good, bad) in BAND {
        ensure!(bench.simulator.set_prices("AAPL", vec![price.parse()?]));
        for (offers, status) in [(good, 200), (bad, 400)] {
            for offer in *offers {
                let body = format!("{{\"price\":{offer},\"quantity\":1}}");
                let answer = bench.buy("AAPL", &body).await?;
                ensure!(
                    answer.status() == status,
                    "{offer} at {price}: {}",
                    answer.status()
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn doubles_refuse_an_exact_edge() -> Result<()> {
    let bench = Bench::start_with(SimulatorConfig {
        band: BandMode::Doubles,
        ..SimulatorConfig::default()
    })?;
    let answer = bench.buy("PNNY", r#"{"price":0.245,"quantity":1}"#).await?;
    ensure!(answer.status() == 400);
    ensure!(answer.json::<Value>().await?["message"] == "Price validation failed");
    Ok(())
}

#[tokio::test]
async fn refusals_have_the_vendors_shapes() -> Result<()> {
    let bench = Bench::start()?;
    let cases = [
        ("NOPE", r#"{"price":1,"quantity":1}"#, 404, "unknown_symbol"),
        ("AAPL", r#"{"price":1,"quantity":1}"#, 400, "price_out_of_band"),
        ("AAPL", r#"{"price":-1,"quantity":1}"#, 400, "invalid_price"),
        ("AAPL", r#"{"price":"1","quantity":1}"#, 400, "invalid_price"),
        ("AAPL", r#"{"price":1e400,"quantity":1}"#, 400, "invalid_price"),
        ("AAPL", r#"{"price":1}"#, 400, "invalid_quantity"),
        ("AAPL", r#"{"price":1,"quantity":0}"#, 400, "invalid_quantity"),
        ("AAPL", "[1,", 400, "invalid_body"),
    ];
    for (symbol, body, status, reason) in cases {
        let before = bench.simulator.counters().buys.refused.get(reason).copied();
        let answer = bench.buy(symbol, body).await?;
        ensure!(answer.status() == status, "{body}: {}", answer.status());
        let value: Value = answer.json().await?;
        ensure!(
            value["status"] == status && value["message"].is_string(),
            "{value}"
        );
        let after = bench.simulator.counters().buys.refused.get(reason).copied();
        ensure!(
            after == Some(before.unwrap_or(0) + 1),
            "{body} counts as {reason}"
        );
    }
    ensure!(bench.simulator.counters().buys.add_up());
    ensure!(bench.simulator.executed().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_is_forbidden_without_a_status() -> Result<()> {
    let bench = Bench::start()?;
    let url = format!("{}/stocks", bench.simulator.vendor_url());
    for key in [None, Some("wrong")] {
        let mut request = bench.client.get(&url);
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let answer = request.send().await?;
        ensure!(answer.status() == 403);
        ensure!(answer.text().await? == r#"{"message":"Forbidden"}"#);
    }
    ensure!(bench.simulator.counters().bad_keys == 2);
    Ok(())
}
