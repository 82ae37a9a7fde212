//! Each fault as a plain client sees it, and the counters under all of them at once.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vendor_simulator::{Action, BuyCounters, Latency, Operation, Rule, SimulatorConfig};

use crate::Bench;

const SHORT: Duration = Duration::from_millis(300);

fn buys(bench: &Bench) -> BuyCounters {
    bench.simulator.counters().buys
}

/// Waits until the counters look like that, or fails.
async fn until(bench: &Bench, what: &str, check: impl Fn(&BuyCounters) -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !check(&buys(bench)) {
        ensure!(Instant::now() < deadline, "{what}: {:?}", buys(bench));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[tokio::test]
async fn refused_connects_end_by_themselves_or_by_command() -> Result<()> {
    let bench = Bench::start()?;
    bench
        .rule(json!({"action": {"type": "refuse_connect", "for_ms": 2000}}))
        .await?;
    let mut refused = 0;
    loop {
        match bench.good_buy("AAPL").await {
            Ok(answer) => {
                ensure!(answer.status() == 200);
                break;
            }
            Err(error) => {
                ensure!(error.is_connect(), "{error:?}");
                refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    ensure!(refused > 0);
    ensure!(buys(&bench).received == 1 && buys(&bench).executed == 1);

    bench.simulator.away();
    ensure!(bench.list("").await.is_err_and(|error| error.is_connect()));
    ensure!(bench.control("DELETE", "rules", Value::Null).await?.0 == 204);
    ensure!(bench.list("").await?.status() == 200);
    Ok(())
}

#[tokio::test]
async fn a_reset_comes_before_or_after_execution() -> Result<()> {
    for executed in [false, true] {
        let bench = Bench::start()?;
        let action = Action::Reset { executed };
        bench
            .simulator
            .add_rule(Rule::on(Operation::Buy, action).times(1))?;
        let error = bench.good_buy("AAPL").await.expect_err("a reset");
        ensure!(!error.is_connect(), "the request was sent");
        ensure!(format!("{error:?}").contains("ConnectionReset"), "{error:?}");
        let counters = buys(&bench);
        ensure!(counters.executed == u64::from(executed));
        ensure!(counters.cut_after_execution == u64::from(executed));
        ensure!(counters.cut_before_execution == u64::from(!executed));
        ensure!(counters.not_executed_by_fault == u64::from(!executed));
        ensure!(counters.answered == 0 && counters.add_up());
        ensure!(bench.good_buy("AAPL").await?.status() == 200, "the rule is spent");
    }
    Ok(())
}

#[tokio::test]
async fn silence_comes_before_or_after_execution() -> Result<()> {
    for executed in [false, true] {
        let bench = Bench::start()?;
        let action = Action::NeverAnswer { executed };
        bench.simulator.add_rule(Rule::on_buy_of("AAPL", action))?;
        let mut call = pin!(bench.good_buy("AAPL"));
        tokio::select! {
            answer = &mut call => bail!("it should stay silent: {answer:?}"),
            arrived = until(&bench, "the buy", |c| c.received == 1) => arrived?,
        }
        let answer = tokio::time::timeout(SHORT, call).await;
        ensure!(answer.is_err(), "it should stay silent");
        ensure!(buys(&bench).executed == u64::from(executed));
        ensure!(buys(&bench).add_up());
        ensure!(bench.good_buy("MSFT").await?.status() == 200, "others go on");
    }
    Ok(())
}

#[tokio::test]
async fn latency_holds_the_answer_back_but_not_the_buy() -> Result<()> {
    let bench = Bench::start()?;
    let fixed = Action::Latency(Latency::Fixed { ms: 1_000 });
    bench.simulator.add_rule(Rule::on(Operation::Buy, fixed))?;
    // The client gives up once its buy has arrived.
    tokio::select! {
        answer = bench.good_buy("AAPL") => bail!("it should be held back: {answer:?}"),
        arrived = until(&bench, "the buy", |c| c.received == 1) => arrived?,
    }
    until(&bench, "executed all the same", |c| c.executed == 1).await?;
    let started = Instant::now();
    ensure!(bench.good_buy("AAPL").await?.status() == 200);
    ensure!(started.elapsed() >= Duration::from_millis(1_000));
    Ok(())
}

#[tokio::test]
async fn latency_is_drawn_within_its_bounds() -> Result<()> {
    let bench = Bench::start()?;
    bench
        .rule(json!([
            {"match": {"operation": "list"}, "action": {"type": "latency", "distribution": "uniform", "min_ms": 20, "max_ms": 60}},
            {"match": {"operation": "buy"}, "action": {"type": "latency", "distribution": "heavy_tail", "median_ms": 20, "max_ms": 100}},
        ]))
        .await?;
    for _ in 0..5 {
        let started = Instant::now();
        bench.list("").await?;
        ensure!(started.elapsed() >= Duration::from_millis(20));
        let started = Instant::now();
        bench.good_buy("AAPL").await?;
        ensure!(started.elapsed() >= Duration::from_millis(10));
    }
    Ok(())
}

#[tokio::test]
async fn a_body_trickles_or_ends_in_the_middle() -> Result<()> {
    let bench = Bench::start()?;
    let slow = Action::SlowBody { byte_every_ms: 500 };
    bench.simulator.add_rule(Rule::on(Operation::List, slow))?;
    let mut answer = bench.list("").await?;
    ensure!(answer.status() == 200);
    let first = answer.chunk().await?.context("a chunk")?;
    ensure!(first.len() < 8, "{} bytes at once", first.len());

    let cut = Action::CloseMidBody { executed: true };
    bench.simulator.add_rule(Rule::on(Operation::Buy, cut))?;
    let answer = bench.good_buy("AAPL").await?;
    ensure!(answer.status() == 200);
    ensure!(answer.content_length().is_some_and(|length| length > 100));
    ensure!(answer.bytes().await.is_err(), "the body must not be complete");
    let counters = buys(&bench);
    ensure!(counters.executed == 1 && counters.cut_after_execution == 1 && counters.answered == 0);
    Ok(())
}

#[tokio::test]
async fn statuses_come_with_every_kind_of_body() -> Result<()> {
    let cases = [
        (
            json!({"status": 500}),
            500,
            r#"{"status":500,"message":"Internal server error"}"#,
        ),
        (
            json!({"status": 500, "executed": true}),
            500,
            r#"{"status":500,"message":"Internal server error"}"#,
        ),
        (json!({"status": 502, "body": "html"}), 502, "<html>"),
        (json!({"status": 503, "body": "empty"}), 503, ""),
        (json!({"status": 504, "body": "html"}), 504, "<html>"),
        (
            json!({"status": 429, "retry_after": "7"}),
            429,
            r#"{"status":429"#,
        ),
        (json!({"status": 429}), 429, r#"{"status":429"#),
        (
            json!({"status": 403, "body": "message"}),
            403,
            r#"{"message":"Forbidden"}"#,
        ),
        (
            json!({"status": 302, "location": "http://127.0.0.1:1/", "body": "empty"}),
            302,
            "",
        ),
    ];
    for (mut action, status, begins) in cases {
        let bench = Bench::start()?;
        action["type"] = "status".into();
        let executed = action["executed"] == true;
        let (retry_after, location) = (action["retry_after"].clone(), action["location"].clone());
        bench
            .rule(json!({"match": {"operation": "buy"}, "action": action}))
            .await?;
        let answer = bench.good_buy("AAPL").await?;
        ensure!(answer.status() == status);
        for (name, value) in [("retry-after", retry_after), ("location", location)] {
            let header = answer.headers().get(name).and_then(|v| v.to_str().ok());
            ensure!(header == value.as_str(), "{name}: {header:?}");
        }
        let text = answer.text().await?;
        ensure!(
            text.starts_with(begins) && text.is_empty() == begins.is_empty(),
            "{text}"
        );
        ensure!(buys(&bench).executed == u64::from(executed));
        ensure!(buys(&bench).answered == 1 && buys(&bench).add_up());
    }
    Ok(())
}

#[tokio::test]
async fn a_200_may_wrap_a_failure() -> Result<()> {
    let bench = Bench::start()?;
    bench
        .rule(json!({"action": {"type": "envelope", "status": 500}}))
        .await?;
    for answer in [bench.good_buy("AAPL").await?, bench.list("").await?] {
        ensure!(answer.status() == 200);
        ensure!(answer.json::<Value>().await?["status"] == 500);
    }
    ensure!(buys(&bench).executed == 0);
    Ok(())
}

#[tokio::test]
async fn flapping_follows_the_count() -> Result<()> {
    let bench = Bench::start()?;
    bench
        .rule(json!({"match": {"flap": {"on": 2, "off": 3}}, "action": {"type": "status", "status": 503}}))
        .await?;
    let mut seen = Vec::new();
    for _ in 0..10 {
        seen.push(bench.list("").await?.status().as_u16());
    }
    ensure!(
        seen == [503, 503, 200, 200, 200, 503, 503, 200, 200, 200],
        "{seen:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_tick_can_fall_between_pages_or_before_a_buy() -> Result<()> {
    let bench = Bench::start()?;
    ensure!(
        bench
            .simulator
            .set_prices("AAPL", vec!["100".parse()?, "200".parse()?])
    );
    let before = Action::Tick { by: 1, before: true };
    bench
        .simulator
        .add_rule(Rule::on(Operation::Buy, before).nth(2))?;
    let body = r#"{"price":100,"quantity":1}"#;
    ensure!(bench.buy("AAPL", body).await?.status() == 200);
    ensure!(
        bench.buy("AAPL", body).await?.status() == 400,
        "the price has moved"
    );
    Ok(())
}

#[tokio::test]
async fn the_counters_add_up_under_random_faults() -> Result<()> {
    let bench = Bench::start_with(SimulatorConfig {
        seed: 99,
        ..SimulatorConfig::default()
    })?;
    let mut rules = Vec::new();
    for executed in [false, true] {
        for action in [
            json!({"type": "reset", "executed": executed}),
            json!({"type": "never_answer", "executed": executed}),
            json!({"type": "close_mid_body", "executed": executed}),
            json!({"type": "status", "status": 500, "executed": executed}),
            json!({"type": "envelope", "status": 400, "executed": executed}),
        ] {
            rules.push(json!({"match": {"operation": "buy", "probability": 0.07}, "action": action}));
        }
    }
    bench.rule(Value::Array(rules)).await?;
    let requests = (0..400_u32).map(|n| {
        let bench = &bench;
        async move {
            let symbol = if n % 11 == 0 { "NOPE" } else { "PNNY" };
            let price = if n % 7 == 0 { "0.26" } else { "0.25" };
            let body = format!("{{\"price\":{price},\"quantity\":{n}}}");
            let sent = bench.buy(symbol, &body);
            // Silent answers and cut ones both count as lost here. All go out at once, so the last answers take their time.
            tokio::time::timeout(Duration::from_secs(9), async { sent.await?.bytes().await })
                .await
                .is_ok_and(|answer| answer.is_ok())
        }
    });
    let answered: Vec<bool> = futures::future::join_all(requests).await;
    let counters = buys(&bench);
    ensure!(counters.received == 400, "{counters:?}");
    ensure!(counters.add_up(), "{counters:?}");
    ensure!(counters.executed == bench.simulator.executed().len() as u64);
    let lost = counters.cut_before_execution + counters.cut_after_execution;
    ensure!(counters.answered + lost == 400, "{counters:?}");
    let seen = answered.iter().filter(|answered| **answered).count() as u64;
    ensure!(seen == counters.answered, "{seen} answers seen: {counters:?}");
    ensure!(counters.not_executed_by_fault > 20 && counters.cut_after_execution > 5);
    Ok(())
}
