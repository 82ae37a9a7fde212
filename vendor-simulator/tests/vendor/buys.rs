//! Buys that are executed but told wrongly, and the edge of the band.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vendor_simulator::{Action, Operation, Rule};

use crate::Bench;

const BODY: &str = r#"{"price":150.25,"quantity":10}"#;

/// The order that the vendor says it has executed.
async fn told(fault: &str) -> Result<Value> {
    let bench = Bench::start()?;
    ensure!(bench.simulator.set_prices("AAPL", vec!["150".parse()?]));
    bench
        .rule(json!({"action": {"type": "buy_answer", "fault": fault}}))
        .await?;
    bench.list("").await?;
    let answer: Value = bench.buy("AAPL", BODY).await?.json().await?;
    let executed = bench.simulator.executed();
    ensure!(executed.len() == 1, "{executed:?}");
    ensure!(
        (
            executed[0].symbol.as_str(),
            executed[0].price.as_str(),
            executed[0].quantity.as_str()
        ) == ("AAPL", "150.25", "10")
    );
    let (_, state) = bench.control("GET", "state", Value::Null).await?;
    ensure!(state["rules"][0]["used"] == 1, "lists do not use it: {state}");
    answer.pointer("/data/order").cloned().context("an order")
}

#[tokio::test]
async fn a_success_names_another_symbol_quantity_price_or_total() -> Result<()> {
    let order = |symbol: &str, quantity: u32, price: &str, total: &str| -> Result<Value> {
        let text =
            format!(r#"{{"symbol":"{symbol}","quantity":{quantity},"price":{price},"total":{total}}}"#);
        Ok(serde_json::from_str(&text)?)
    };
    ensure!(told("other_symbol").await? == order("NVDA", 10, "150.25", "1502.5")?);
    ensure!(told("other_quantity").await? == order("AAPL", 11, "150.25", "1502.5")?);
    ensure!(told("other_price").await? == order("AAPL", 10, "151.7525", "1502.5")?);
    ensure!(told("other_total").await? == order("AAPL", 10, "150.25", "3005")?);
    Ok(())
}

#[tokio::test]
async fn a_strict_edge_refuses_exactly_two_percent() -> Result<()> {
    let bench = Bench::start()?;
    bench
        .simulator
        .add_rule(Rule::on(Operation::Buy, Action::StrictEdge).times(3))?;
    for (price, status) in [("0.245", 400), ("0.255", 400), ("0.2450001", 200), ("0.245", 200)] {
        let body = format!("{{\"price\":{price},\"quantity\":1}}");
        ensure!(bench.buy("PNNY", &body).await?.status() == status, "{price}");
    }
    let buys = bench.simulator.counters().buys;
    ensure!(buys.refused["price_out_of_band"] == 2 && buys.add_up());
    Ok(())
}
