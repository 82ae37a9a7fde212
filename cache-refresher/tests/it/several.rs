//! Several refreshers over one table, slow crawls, and ticks in the middle of one.

use anyhow::Result;
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::fixture::{SOON, World};
use crate::{first_snapshot, other_than};

fn slow_pages(ms: u64) -> Rule {
    Rule::on(Operation::List, Action::Latency(Latency::Fixed { ms }))
}

#[test]
fn two_refreshers_never_crawl_at_once() -> Result<()> {
    let world = World::start()?;
    world.vendor.add_rule(slow_pages(60))?;
    let (one, two) = (world.refresher()?, world.refresher()?);
    let mut seen = first_snapshot(&world, &one)?;
    for _ in 0..5 {
        seen = other_than(&world, &one, &seen)?;
    }
    let published = |refresher: &crate::Refresher| -> Result<u64> {
        Ok(refresher
            .metric(r#"snapshot_refreshes_total{result="published"}"#)?
            .parse()?)
    };
    assert_eq!(world.vendor.counters().peak_concurrency, 1);
    // Each crawl has five pages, and at most one is under way.
    let lists = world.vendor.counters().lists.received;
    let made = published(&one)? + published(&two)?;
    assert!(lists <= 5 * (made + 1), "{lists} pages for {made} snapshots");
    for refresher in [&one, &two] {
        assert_eq!(
            refresher.metric(r#"snapshot_refreshes_total{result="fenced"}"#)?,
            "0"
        );
        refresher.assert_ready()?;
    }
    Ok(())
}

#[test]
fn a_refresher_that_dies_in_the_middle_of_a_crawl_is_replaced() -> Result<()> {
    let world = World::start()?;
    world
        .vendor
        .add_rule(Rule::on(Operation::List, Action::NeverAnswer { executed: false }).times(1))?;
    let one = world.refresher_with(&[("FUSE_VENDOR__PAGE_TIMEOUT_MILLIS", "60000")])?;
    one.wait("its crawl", || {
        (world.vendor.counters().lists.received > 0).then_some(())
    })?;
    let two = world.refresher()?;
    two.wait("the other to be seen", || {
        two.process
            .log()
            .contains("another process is refreshing the prices")
            .then_some(())
    })?;
    one.process.kill()?;
    first_snapshot(&world, &two)?;
    Ok(())
}

#[test]
fn a_crawl_longer_than_a_tick_is_followed_by_one_pass_at_once() -> Result<()> {
    let world = World::start()?;
    // 5 pages of 400 ms each, and a pass a second.
    world.vendor.add_rule(slow_pages(400))?;
    let refresher = world.refresher()?;
    let first = first_snapshot(&world, &refresher)?;
    let second = other_than(&world, &refresher, &first)?;
    other_than(&world, &refresher, &second)?;
    assert_eq!(world.vendor.counters().peak_concurrency, 1);
    Ok(())
}

#[test]
fn a_tick_in_the_middle_of_a_crawl_mixes_prices_but_loses_none() -> Result<()> {
    let world = World::start()?;
    let mut tick = Rule::on(Operation::List, Action::Tick { by: 1, before: true }).times(1);
    tick.on.page = Some(3);
    world.vendor.add_rule(tick)?;
    let symbols = world.vendor.symbols();
    for symbol in &symbols {
        world
            .vendor
            .set_prices(symbol, vec!["10".parse()?, "20".parse()?]);
    }
    let done = world.spawn(&["--once"], &[])?;
    assert_eq!(done.wait_exit(SOON)?.code(), Some(0), "{}", done.log());
    let prices = |wanted: &str| {
        symbols
            .iter()
            .filter(|symbol| world.price(symbol).as_deref() == Some(wanted))
            .count()
    };
    assert_eq!(
        (prices("10"), prices("20")),
        (16, 24),
        "two pages of eight before the tick"
    );
    let done = world.spawn(&["--once"], &[])?;
    assert_eq!(done.wait_exit(SOON)?.code(), Some(0), "{}", done.log());
    assert_eq!(prices("20"), 40);
    Ok(())
}

#[test]
fn without_leave_to_make_the_table_its_absence_is_explained() -> Result<()> {
    let world = World::start()?;
    let refused = world.spawn(&["--once"], &[("FUSE_DYNAMODB__CREATE_TABLE", "false")])?;
    assert_eq!(refused.wait_exit(SOON)?.code(), Some(1));
    let log = refused.log();
    assert!(
        log.contains("test-market") && log.contains("dynamodb.create_table"),
        "{log}"
    );
    assert_eq!(world.current(), None);
    Ok(())
}

#[test]
fn every_page_of_a_pass_is_told() -> Result<()> {
    let world = World::start()?;
    let done = world.spawn(&["--once"], &[])?;
    assert_eq!(done.wait_exit(SOON)?.code(), Some(0));
    let log = done.log();
    for page in 1..=5 {
        assert!(log.contains(&format!(r#""page":{page},"#)), "page {page}: {log}");
    }
    Ok(())
}

#[test]
fn when_all_prices_change_at_once_every_change_is_history_and_every_stock_a_mover() -> Result<()> {
    let world = World::start()?;
    let symbols = world.vendor.symbols();
    for symbol in &symbols {
        world
            .vendor
            .set_prices(symbol, vec!["10".parse()?, "20".parse()?]);
    }
    for (tick, price, movers) in [(0, "10", 0), (1, "20", 40)] {
        world.vendor.tick(tick);
        let done = world.spawn(&["--once"], &[])?;
        assert_eq!(done.wait_exit(SOON)?.code(), Some(0), "{}", done.log());
        let log = done.log();
        assert!(log.contains(r#""history_written":40"#), "{log}");
        assert!(log.contains(&format!(r#""snapshot.movers":{movers},"#)), "{log}");
        assert!(
            symbols
                .iter()
                .all(|symbol| world.price(symbol).as_deref() == Some(price))
        );
    }
    Ok(())
}
