//! A vendor that means harm, or is as broken as if it did: bodies, data and moods (reliability tests T02, T04 and T16).

mod body;
mod data;
mod flapping;
mod paging;

use std::time::Duration;

use anyhow::Result;
use fuse_domain::{Quote, Snapshot, Symbol};
use fuse_market::{Crawl, CrawlError, CrawlLimits, crawl};
use jiff::{SignedDuration, Timestamp};
use vendor_simulator::{Action, BodyFault, Operation, Rule, Simulator, SimulatorConfig};

use crate::fixture::Client;

/// A hundred symbols on ten pages, so that five bad items are exactly five percent.
const SYMBOLS: usize = 100;
const PAGES: usize = 10;

/// A vendor with its client, and the time that the test says it is: the simulator's own, which is virtual.
struct World {
    vendor: Simulator,
    client: Client,
    now: Timestamp,
}

impl World {
    fn start() -> Result<Self> {
        let config = SimulatorConfig {
            symbols: SYMBOLS,
            page_size: SYMBOLS / PAGES,
            ..SimulatorConfig::default()
        };
        let (key, epoch) = (config.api_key.clone(), config.epoch);
        let vendor = Simulator::start(config)?;
        let client = Client::of_url(&vendor.vendor_url(), &key)?;
        Ok(Self {
            vendor,
            client,
            now: epoch + SignedDuration::from_secs(5),
        })
    }

    fn rules(&self, rules: impl IntoIterator<Item = Rule>) -> Result<()> {
        for rule in rules {
            self.vendor.add_rule(rule)?;
        }
        Ok(())
    }

    /// Prices change, and five minutes pass.
    fn tick(&mut self) {
        self.vendor.tick(1);
        self.now += SignedDuration::from_secs(300);
    }

    async fn crawl(&self, previous: Option<&Snapshot>) -> Result<Crawl, CrawlError> {
        crawl(&self.client.vendor, &limits(), previous, self.now).await
    }

    /// How often vendor data was refused for a reason; the scope is `item` or `pass`.
    fn rejected(&self, scope: &str, reason: &str) -> u64 {
        let sample = format!(r#"vendor_rejected_payloads_total{{reason="{reason}",scope="{scope}"}}"#);
        self.count(&sample)
    }

    fn count(&self, sample: &str) -> u64 {
        let value = self
            .client
            .metric(sample)
            .unwrap_or_else(|| panic!("no metric {sample}"));
        value.parse().expect("a whole number")
    }
}

/// Short waits between the tries of a page; the limits themselves are the shipped ones.
fn limits() -> CrawlLimits {
    CrawlLimits {
        backoff_base: Duration::from_millis(1),
        backoff_cap: Duration::from_millis(5),
        ..CrawlLimits::with_deadline(Duration::from_secs(30))
    }
}

fn quote<'a>(snapshot: &'a Snapshot, symbol: &str) -> Option<&'a Quote> {
    snapshot.get(&Symbol::parse(symbol).expect("a symbol"))
}

fn body(operation: Operation, fault: BodyFault) -> Rule {
    Rule::on(
        operation,
        Action::Body {
            fault,
            executed: true,
        },
    )
}
