//! Two refreshers, one stopped in the middle of a crawl until the other has taken over, then resumed: it is fenced out.
//! (reliability: T12)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::load::{self, Pace, Plan, Until};
use fuse_harness::services::Service;
use fuse_harness::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::world::{PAGES, SOON, World};

/// A crawl takes five times this, so that it can be stopped in its midst.
const PAGE_MS: u64 = 300;
const OLD: &str = "100";
const NEW: &str = "200";
/// A takeover comes only after the lease's whole time was seen to pass.
const TAKEOVER: Duration = Duration::from_secs(120);

#[test]
fn a_refresher_paused_past_its_lease_moves_nothing_back() -> Result<()> {
    let world = World::start(&[
        ("FUSE_REFRESH__INTERVAL_SECS", "2"),
        ("FUSE_VENDOR__PAGE_TIMEOUT_MILLIS", "5000"),
    ])?;
    // The first stock of the vendor's first page: fetched before the pause.
    let symbol = world.vendor.symbols().remove(0);
    let prices = [OLD, NEW]
        .map(str::parse)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    ensure!(world.vendor.set_prices(&symbol, prices), "no {symbol}");
    world.slow_pages(PAGE_MS)?;
    let paused = world.refresher()?;
    let api = world.api()?;
    let watch = Watch::start(&world, &api, &symbol)?;

    // In the middle of a crawl of its own: nobody else asks the vendor.
    wait::until("the middle of a crawl", SOON, || {
        (world.list_requests() % PAGES == 3).then_some(())
    })?;
    paused.proc().signal(Signal::SIGSTOP)?;
    let before = world.pointer().context("a pointer")?;
    world.vendor.tick(1);
    let other = world.refresher()?;
    let client = world.client(&api);
    wait::until("the other's prices", TAKEOVER, || {
        let answer = client.get(&format!("/v1/stocks/{symbol}")).ok()?;
        (answer.json()["price"] == NEW).then_some(())
    })
    .map_err(|error| other.proc().explain(error))?;
    let after = world.pointer().context("a pointer")?;
    ensure!(
        after.1 > before.1 && after.2 > before.2,
        "a takeover is a newer snapshot under a higher fence: {before:?}, {after:?}"
    );

    let passes = ended_passes(&paused).len();
    paused.proc().signal(Signal::SIGCONT)?;
    let ended = wait::until("the end of the paused pass", SOON, || {
        ended_passes(&paused).get(passes).cloned()
    })
    .map_err(|error| paused.proc().explain(error))?;
    ensure!(
        ended["result"] != "published",
        "the paused pass was published: {ended}"
    );
    // Both go on, and whoever has the lease publishes.
    let moved = world.pointer().context("a pointer")?;
    wait::until("a further pass", TAKEOVER, || {
        (world.pointer()?.1 > moved.1).then_some(())
    })?;
    watch.end()
}

fn ended_passes(refresher: &Service) -> Vec<Value> {
    let is_end = |line: &Value| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("pass done") || message.starts_with("pass failed"))
    };
    refresher.logs().into_iter().filter(is_end).collect()
}

/// A client that sees the price, and one that sees the pointer, all the time.
struct Watch {
    prices: load::Running,
    pointer: std::thread::JoinHandle<Result<()>>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn start(world: &World, api: &Service, symbol: &str) -> Result<Self> {
        let is_new = AtomicBool::new(false);
        let (old, new) = [OLD, NEW].map(|price| format!("\"price\":\"{price}\"")).into();
        let prices = load::start(
            &[world.target(api, &format!("/v1/stocks/{symbol}"))?],
            &Plan {
                connections: 1,
                pace: Pace::PerSecond(50.0),
                until: Until::Elapsed(Duration::from_secs(600)),
                inspect: Some(Arc::new(move |reply| {
                    let body = String::from_utf8_lossy(reply.body);
                    if body.contains(&new) {
                        is_new.store(true, Ordering::Relaxed);
                    } else if !body.contains(&old) || is_new.load(Ordering::Relaxed) {
                        return Err(format!("the old price after the new one, or another: {body}"));
                    }
                    Ok(())
                })),
            },
        )?;
        let stop = Arc::new(AtomicBool::new(false));
        let look = world.pointer_reader();
        let stopped = Arc::clone(&stop);
        let pointer = std::thread::spawn(move || {
            let mut last: Option<(String, i64, i64)> = None;
            while !stopped.load(Ordering::Relaxed) {
                let now = look();
                if let (Some(last), Some(now)) = (&last, &now) {
                    let is_newer = now.1 > last.1 && now.2 >= last.2;
                    ensure!(
                        is_newer || now == last,
                        "the pointer went back: {last:?}, {now:?}"
                    );
                }
                last = now.or(last);
                std::thread::sleep(wait::POLL_EVERY);
            }
            Ok(())
        });
        Ok(Self {
            prices,
            pointer,
            stop,
        })
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.prices.stop()?.all_good()?;
        self.pointer
            .join()
            .map_err(|_| anyhow::anyhow!("the watch of the pointer panicked"))?
    }
}
