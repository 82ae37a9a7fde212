//! Times of ticks: virtual, or the real clock's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vendor_simulator::SimulatorConfig;

use crate::{Bench, items};

/// Milliseconds since 1970 of all items' `lastUpdated`.
async fn times(bench: &Bench) -> Result<Vec<i64>> {
    let pages = bench.crawl(9).await?;
    items(&pages)
        .iter()
        .map(|item| {
            let text = item["lastUpdated"].as_str().context("a time")?;
            Ok(text.parse::<jiff::Timestamp>()?.as_millisecond())
        })
        .collect()
}

async fn tick_at(bench: &Bench) -> Result<i64> {
    let (_, state) = bench.control("GET", "state", Value::Null).await?;
    let text = state["tick_at"].as_str().context("a time")?;
    Ok(text.parse::<jiff::Timestamp>()?.as_millisecond())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[tokio::test]
async fn on_the_wall_ticks_fall_on_whole_multiples_and_are_never_ahead() -> Result<()> {
    let bench = Bench::start_with(SimulatorConfig {
        auto_tick: Some(Duration::from_millis(1_000)),
        wall_clock: true,
        ..SimulatorConfig::default()
    })?;
    let started = tick_at(&bench).await?;
    let mut ticks = vec![started];
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while ticks.len() < 4 {
        ensure!(std::time::Instant::now() < deadline, "no ticks: {ticks:?}");
        let listed = times(&bench).await?;
        ensure!(
            listed.iter().all(|time| *time <= now()),
            "an item ahead of the clock"
        );
        let tick = tick_at(&bench).await?;
        if tick != ticks[ticks.len() - 1] {
            ticks.push(tick);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for tick in &ticks {
        ensure!(tick.rem_euclid(1_000) == 0, "{ticks:?}");
    }
    ensure!(ticks.is_sorted(), "{ticks:?}");
    Ok(())
}

#[tokio::test]
async fn on_the_wall_a_tick_by_command_is_as_old_as_the_command() -> Result<()> {
    let bench = Bench::start_with(SimulatorConfig {
        wall_clock: true,
        ..SimulatorConfig::default()
    })?;
    let start = tick_at(&bench).await?;
    ensure!(
        start % 300_000 == 0 && now() - start < 302_000,
        "the last five minutes"
    );
    let before = now();
    ensure!(bench.simulator.tick(1) == 1);
    let after = now();
    // All items' times lie in the second before the command.
    for time in times(&bench).await? {
        ensure!(
            (before - 900..=after).contains(&time),
            "{time} for {before}..={after}"
        );
    }
    Ok(())
}
