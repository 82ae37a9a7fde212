//! Bodies that never end, are huge, or inflate: the client's deadlines and caps hold, and so does its memory.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuse_domain::{Outcome, Price, Quantity, Reason, Symbol};
use fuse_market::VendorError;
use vendor_simulator::{Action, BodyFault, Operation, Rule, Simulator, SimulatorConfig};

use super::body as with_body;
use crate::fixture::Client;

const THIS_TEST: &str = "hostile::body::hostile_bodies_end_in_time_and_are_never_held";
/// Holds the vendor's address in the child, and only there.
const VENDOR_URL: &str = "HOSTILE_BODY_TEST_VENDOR_URL";
/// What a list call and a buy may come to, in the child.
const EXPECTED: &str = "HOSTILE_BODY_TEST_EXPECTED";

/// The deadlines of `Client::impatient`, and what a busy machine may add to them.
const DEADLINE_MAX: Duration = Duration::from_millis(1_500);
const SLACK: Duration = Duration::from_secs(5);
const GROWTH_MAX_KIB: u64 = 10 * 1024;
const MIB: u64 = 1024 * 1024;

/// The vendor lives in this process; the client in a child of its own, so that its memory is all that is measured.
#[test]
fn hostile_bodies_end_in_time_and_are_never_held() -> Result<()> {
    if let Ok(url) = std::env::var(VENDOR_URL) {
        return in_the_child(&url, &std::env::var(EXPECTED)?);
    }
    let slow = Action::SlowBody { byte_every_ms: 1_000 };
    let huge = |announced| BodyFault::Huge {
        bytes: 100 * MIB,
        announced,
    };
    let bomb = BodyFault::GzipBomb {
        inflated_bytes: 8 * 1024 * MIB,
    };
    // A second bomb is small enough on the wire to pass the cap.
    let small_bomb = BodyFault::GzipBomb {
        inflated_bytes: 512 * MIB,
    };
    let of = |fault| with_body(Operation::List, fault).action;
    for (expected, action) in [
        ("timeout", slow),
        ("too_large", of(huge(true))),
        ("too_large", of(huge(false))),
        ("unreadable", of(bomb)),
        ("unreadable", of(small_bomb)),
        ("unreadable", of(BodyFault::ManyItems { items: 1_500_000 })),
        ("bad_items", of(BodyFault::Deep { depth: 1_000_000 })),
    ] {
        let vendor = Simulator::start(SimulatorConfig::default())?;
        vendor.add_rule(Rule::on(Operation::List, action.clone()).page(2))?;
        vendor.add_rule(Rule::on_buy_of("AAPL", action.clone()))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["--exact", THIS_TEST, "--nocapture", "--test-threads=1"])
            .env(VENDOR_URL, vendor.vendor_url())
            .env(EXPECTED, expected)
            .output()?;
        let text = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
        ensure!(child.status.success(), "{action:?}: {text}");
        ensure!(text.contains("KiB more"), "the child measured nothing: {text}");
        let measured = text.lines().filter(|line| line.contains("KiB more"));
        measured.for_each(|line| println!("{action:?}: {line}"));
        let buys = vendor.counters().buys;
        assert_eq!(
            (buys.received, buys.executed),
            (2, 2),
            "sent once, whatever came back: {action:?}"
        );
    }
    Ok(())
}

fn in_the_child(url: &str, expected: &str) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(hostile_calls(url, expected))
}

/// A good call of each kind first: what a client needs once is not what a body costs.
async fn hostile_calls(url: &str, expected: &str) -> Result<()> {
    let client = Client::impatient_of_url(url, &SimulatorConfig::default().api_key)?;
    let first = client.vendor.list_page(None).await?;
    let price = first
        .items
        .iter()
        .flatten()
        .find(|item| item.symbol.as_str() == "AAPL");
    let price = price.context("AAPL is on page 1")?.price;
    let bought = buy(&client, "PNNY", Price::parse("0.25")?).await?;
    ensure!(matches!(bought, Outcome::Filled(_)), "{bought:?}");

    let memory = Memory::now()?;
    let started = Instant::now();
    let page = client.vendor.list_page(first.next_token.as_deref()).await;
    let took = started.elapsed();
    println!("list: {took:?}, {} KiB more", memory.grown_kib()?);
    let name = match &page {
        Err(VendorError::Timeout) => "timeout",
        Err(VendorError::TooLarge { .. }) => "too_large",
        Err(VendorError::Unreadable) => "unreadable",
        Ok(page) if page.items.iter().all(Result::is_err) => "bad_items",
        _ => "another",
    };
    ensure!(name == expected, "{name}");
    ensure!(took < DEADLINE_MAX + SLACK, "{took:?}");
    ensure!(memory.grown_kib()? < GROWTH_MAX_KIB);

    let memory = Memory::now()?;
    let started = Instant::now();
    let outcome = buy(&client, "AAPL", price).await?;
    let took = started.elapsed();
    println!("buy: {took:?}, {} KiB more", memory.grown_kib()?);
    let reason = match expected {
        "timeout" => Reason::VendorTimeout,
        _ => Reason::VendorUnreadable,
    };
    ensure!(outcome == Outcome::Unknown(reason), "{outcome:?}");
    ensure!(took < DEADLINE_MAX + SLACK, "{took:?}");
    ensure!(memory.grown_kib()? < GROWTH_MAX_KIB);
    Ok(())
}

async fn buy(client: &Client, symbol: &str, price: Price) -> Result<Outcome> {
    let (symbol, one) = (Symbol::parse(symbol)?, Quantity::parse("1")?);
    Ok(client.vendor.buy(&symbol, price, one).await.outcome)
}

/// This process's resident memory when it was looked at, from which its peak counts anew.
struct Memory {
    kib: u64,
}

impl Memory {
    fn now() -> Result<Self> {
        std::fs::write("/proc/self/clear_refs", "5").context("reset the peak")?;
        Ok(Self {
            kib: status_kib("VmRSS:")?,
        })
    }

    /// How far above that the peak has been since.
    fn grown_kib(&self) -> Result<u64> {
        Ok(status_kib("VmHWM:")?.saturating_sub(self.kib))
    }
}

fn status_kib(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .context("no such line")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}
