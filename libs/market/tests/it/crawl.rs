//! Crawls of the simulator: the real wire format, with faults between the pages.

use std::time::Duration;

use anyhow::Result;
use fuse_domain::Symbol;
use fuse_market::{CrawlLimits, crawl};
use jiff::Timestamp;
use vendor_simulator::{Action, Body, Operation, Rule, Simulator, SimulatorConfig};

use crate::fixture::Client;

fn start() -> Result<(Simulator, Client)> {
    start_with(SimulatorConfig::default())
}

fn start_with(config: SimulatorConfig) -> Result<(Simulator, Client)> {
    let key = config.api_key.clone();
    let simulator = Simulator::start(config)?;
    let client = Client::of_url(&simulator.vendor_url(), &key)?;
    Ok((simulator, client))
}

#[tokio::test]
async fn every_stock_of_the_simulator_is_in_the_snapshot_with_its_exact_price() -> Result<()> {
    let (simulator, client) = start()?;
    let limits = CrawlLimits::with_deadline(Duration::from_secs(10));
    let crawled = crawl(&client.vendor, &limits, None, Timestamp::now()).await?;
    assert_eq!((crawled.snapshot.meta.count, crawled.pages), (40, 5));
    assert!(crawled.quarantined.is_empty());
    for symbol in simulator.symbols() {
        let quote = crawled
            .snapshot
            .get(&Symbol::parse(&symbol)?)
            .expect("every symbol is listed");
        assert_eq!(
            Some(quote.price.as_decimal()),
            simulator.price(&symbol),
            "{symbol}"
        );
    }
    Ok(())
}

/// As many pages as docs/performance.md speaks of, here of one stock each. That endless ones are refused by the same limits
/// is tested in `hostile::paging`.
#[tokio::test]
async fn a_list_of_4_000_pages_is_taken() -> Result<()> {
    const PAGES: usize = 4_000;
    let (_simulator, client) = start_with(SimulatorConfig {
        symbols: PAGES,
        page_size: 1,
        ..SimulatorConfig::default()
    })?;
    let limits = CrawlLimits::with_deadline(Duration::from_secs(120));
    let crawled = crawl(&client.vendor, &limits, None, Timestamp::now()).await?;
    assert_eq!((crawled.snapshot.meta.count, crawled.pages), (PAGES, PAGES));
    Ok(())
}

#[tokio::test]
async fn a_page_that_fails_twice_delays_the_crawl_and_changes_nothing() -> Result<()> {
    let (simulator, client) = start()?;
    let fault = Action::Status {
        status: 503,
        body: Body::Html,
        executed: false,
        retry_after: None,
        location: None,
    };
    simulator.add_rule(Rule::on(Operation::List, fault).times(2))?;
    let limits = CrawlLimits::with_deadline(Duration::from_secs(10));
    let crawled = crawl(&client.vendor, &limits, None, Timestamp::now()).await?;
    assert_eq!(crawled.snapshot.meta.count, 40);
    Ok(())
}

#[tokio::test]
async fn a_long_wait_that_the_vendor_asks_for_is_not_spent_in_the_crawl() -> Result<()> {
    let (simulator, client) = start()?;
    let fault = Action::Status {
        status: 429,
        body: Body::Html,
        executed: false,
        retry_after: Some("30".into()),
        location: None,
    };
    simulator.add_rule(Rule::on(Operation::List, fault).times(1))?;
    let limits = CrawlLimits::with_deadline(Duration::from_secs(10));
    let error = crawl(&client.vendor, &limits, None, Timestamp::now())
        .await
        .expect_err("refused");
    assert_eq!(error.reason(), "throttled", "not the deadline");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_is_refused_at_once() -> Result<()> {
    let (simulator, _) = start()?;
    let client = Client::of_url(&simulator.vendor_url(), "another-key")?;
    let limits = CrawlLimits::with_deadline(Duration::from_secs(10));
    let error = crawl(&client.vendor, &limits, None, Timestamp::now())
        .await
        .expect_err("refused");
    assert_eq!(error.reason(), "forbidden");
    assert_eq!(
        client
            .metric(r#"vendor_requests_total{op="list",outcome="forbidden"}"#)
            .as_deref(),
        Some("1")
    );
    Ok(())
}
