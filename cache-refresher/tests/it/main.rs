//! The refresher as its operators see it: a process with environment, logs, metrics and a table.

mod aws;
mod fixture;
mod several;

use std::time::{Duration, Instant};

use anyhow::Result;
use vendor_simulator::{Action, Body, Operation, Rule};

use fixture::{Refresher, SOON, World};

fn failing_pages() -> Rule {
    let action = Action::Status {
        status: 500,
        body: Body::Html,
        executed: false,
        retry_after: None,
        location: None,
    };
    Rule::on(Operation::List, action)
}

/// The current snapshot once there is one.
fn first_snapshot(world: &World, refresher: &Refresher) -> Result<String> {
    refresher.wait("the first snapshot", || world.current())
}

fn other_than(world: &World, refresher: &Refresher, seen: &str) -> Result<String> {
    refresher.wait("another snapshot", || world.current().filter(|id| id != seen))
}

#[test]
fn a_pass_fills_an_empty_table_and_the_next_ones_follow_the_prices() -> Result<()> {
    let world = World::start()?;
    let refresher = world.refresher()?;
    let first = first_snapshot(&world, &refresher)?;
    assert_eq!(world.count().as_deref(), Some("40"));
    let symbol = world.vendor.symbols().remove(0);
    world
        .vendor
        .set_prices(&symbol, vec!["0.2475".parse()?, "0.2575".parse()?]);
    refresher.wait("the price of tick 0", || {
        world.price(&symbol).filter(|price| price == "0.2475")
    })?;
    world.vendor.tick(1);
    refresher.wait("the price of tick 1", || {
        world.price(&symbol).filter(|price| price == "0.2575")
    })?;
    other_than(&world, &refresher, &first)?;

    refresher.wait_for_result("published")?;
    assert_eq!(refresher.metric("snapshot_symbols")?, "40");
    assert_eq!(refresher.metric(r#"dependency_up{dependency="dynamodb"}"#)?, "1");
    let (_, metrics) = refresher.get("/metrics")?;
    assert!(metrics.contains(r#"fuse_snapshot_refresh_duration_seconds_count{phase="crawl"}"#));
    let (_, status) = refresher.get("/status")?;
    assert!(status.contains(r#""result":"published""#), "{status}");
    let log = refresher.process.log();
    assert!(
        log.contains("table is missing, creating it") && log.contains(r#""message":"table created""#),
        "{log}"
    );
    assert_eq!(
        world.vendor.counters().peak_concurrency,
        1,
        "passes and pages never overlap"
    );
    Ok(())
}

#[test]
fn a_vendor_away_at_the_start_is_waited_for() -> Result<()> {
    let world = World::start()?;
    world.vendor.away();
    let refresher = world.refresher()?;
    refresher.wait_for_result("unreachable")?;
    refresher.assert_ready()?;
    assert_eq!(world.current(), None);
    let log = refresher.process.log();
    assert!(log.contains("the vendor cannot be reached"), "{log}");
    world.vendor.back();
    first_snapshot(&world, &refresher)?;
    Ok(())
}

#[test]
fn a_bad_vendor_leaves_the_last_good_snapshot() -> Result<()> {
    let world = World::start()?;
    let refresher = world.refresher()?;
    first_snapshot(&world, &refresher)?;
    world.vendor.add_rule(failing_pages())?;
    refresher.wait_for_result("server_error")?;
    // Nothing published before the rule can still be on its way: passes do not overlap.
    let good = world.current().expect("there was one");
    refresher.wait_for_result("breaker_open")?;
    assert_eq!(world.current().as_deref(), Some(good.as_str()));
    assert_eq!(world.count().as_deref(), Some("40"));
    refresher.assert_ready()?;
    world.vendor.clear_rules();
    other_than(&world, &refresher, &good)?;
    Ok(())
}

#[test]
fn a_vendor_that_cuts_its_answers_leaves_the_last_good_snapshot() -> Result<()> {
    let world = World::start()?;
    let refresher = world.refresher()?;
    first_snapshot(&world, &refresher)?;
    world
        .vendor
        .add_rule(Rule::on(Operation::List, Action::CloseMidBody { executed: true }))?;
    refresher.wait_for_result("unreadable")?;
    let good = world.current().expect("there was one");
    world.vendor.clear_rules();
    other_than(&world, &refresher, &good)?;
    Ok(())
}

#[test]
fn dynamodb_away_at_the_start_and_later_is_waited_for() -> Result<()> {
    let world = World::start()?;
    world.dynamodb.stop()?;
    let refresher = world.refresher()?;
    refresher.wait_for_result("store_unavailable")?;
    refresher.assert_ready()?;
    assert_eq!(refresher.metric(r#"dependency_up{dependency="dynamodb"}"#)?, "0");
    assert_eq!(
        world.vendor.counters().lists.received,
        0,
        "no crawl that nobody could keep"
    );
    let log = refresher.process.log();
    assert!(log.contains("DynamoDB is not available"), "{log}");

    world.dynamodb.restart()?;
    let first = first_snapshot(&world, &refresher)?;
    world.dynamodb.stop()?;
    refresher.wait("the outage", || {
        let up = refresher.metric(r#"dependency_up{dependency="dynamodb"}"#).ok()?;
        (up == "0").then_some(())
    })?;
    world.dynamodb.restart()?;
    other_than(&world, &refresher, &first)?;
    Ok(())
}

#[test]
fn once_tells_its_result_by_the_exit_code() -> Result<()> {
    let world = World::start()?;
    let done = world.spawn(&["--once"], &[])?;
    assert_eq!(done.wait_exit(SOON)?.code(), Some(0), "{}", done.log());
    let good = world.current().expect("published");

    world.vendor.away();
    let failed = world.spawn(&["--once"], &[])?;
    assert_eq!(failed.wait_exit(SOON)?.code(), Some(1));
    assert!(
        failed.log().contains("the vendor cannot be reached"),
        "{}",
        failed.log()
    );
    assert_eq!(world.current().as_deref(), Some(good.as_str()));

    let mistaken = world.spawn(&["--once"], &[("FUSE_VENDOR__BASE_URL", "not a url")])?;
    assert_eq!(mistaken.wait_exit(SOON)?.code(), Some(78));
    Ok(())
}

#[test]
fn a_stop_is_prompt_even_in_the_middle_of_a_crawl() -> Result<()> {
    let world = World::start()?;
    world
        .vendor
        .add_rule(Rule::on(Operation::List, Action::NeverAnswer { executed: false }))?;
    // Far longer than a stop may take.
    let refresher = world.refresher_with(&[("FUSE_VENDOR__PAGE_TIMEOUT_MILLIS", "30000")])?;
    refresher.wait("a page that hangs", || {
        (world.vendor.counters().lists.received > 0).then_some(())
    })?;
    let started = Instant::now();
    let status = refresher.process.terminate(SOON)?;
    assert_eq!(status.code(), Some(0), "{}", refresher.process.log());
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    Ok(())
}

#[test]
fn the_key_is_nowhere_in_the_log() -> Result<()> {
    let world = World::start()?;
    world.vendor.add_rule(failing_pages())?;
    let refresher = world.refresher()?;
    refresher.wait_for_result("server_error")?;
    assert!(!refresher.process.log().contains("simulator-key"));
    Ok(())
}
