//! Random walks over the list of stocks: each page must hold exactly what the walk's own snapshot has there, whatever happens
//! meanwhile: refreshes, expiries, another replica for every page. 410 is right only when the snapshot is gone.

mod market;
mod model;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use fuse_harness::load::Client;
use serde_json::Value;

use super::random::Random;
use market::Market;
use model::{Question, Stock};

/// Walks at once: most of them wait for a refresh at any time.
const THREADS: u64 = 64;
const LIMIT_MAX: u64 = 40;
/// One walk in so many waits for a refresh after a page; in its midst, that is.
const WAITS_ONE_IN: u64 = 6;
/// One page in so many is the last of its snapshot.
const EXPIRES_ONE_IN: u64 = 150;
const VIOLATIONS_SHOWN: u64 = 50;
const PROGRESS_EVERY: u64 = 1_000;

#[derive(Default)]
struct Counts {
    next: AtomicU64,
    walks: AtomicU64,
    pages: AtomicU64,
    items: AtomicU64,
    /// Walks during which the current snapshot changed.
    over_a_refresh: AtomicU64,
    /// Walks that ended with a rightful 410.
    gone: AtomicU64,
    switches: AtomicU64,
    violations: AtomicU64,
}

/// Runs `count` walks, the n-th from `seed + n`; returns how many violations there were.
pub fn run(seed: u64, count: u64) -> Result<u64> {
    let (market, running) = Market::start()?;
    let counts = Counts::default();
    let begun = Instant::now();
    let broken = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(count) {
            scope.spawn(|| {
                if let Err(error) = walk_on(&market, &counts, seed, count) {
                    *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    // The others end as well.
                    counts.next.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
    });
    if let Some(error) = broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let (snapshots, expired) = market.counts();
    running.end()?;
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "walks: {} walks, {} pages, {} items, {} over a refresh, {} switches of the replica, {snapshots} snapshots, {expired} expired, {} walks ended by that, {} violations in {} s",
        of(&counts.walks),
        of(&counts.pages),
        of(&counts.items),
        of(&counts.over_a_refresh),
        of(&counts.switches),
        of(&counts.gone),
        of(&counts.violations),
        begun.elapsed().as_secs()
    );
    Ok(of(&counts.violations))
}

/// Walks until all are done.
fn walk_on(market: &Market, counts: &Counts, seed: u64, count: u64) -> Result<()> {
    let mut clients = [0, 1]
        .into_iter()
        .map(|at: usize| Client::new(&market.replicas[at], &[("x-api-key", &market.key)]))
        .collect::<Result<Vec<_>>>()?;
    loop {
        let number = counts.next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(());
        }
        let seed = seed.wrapping_add(number);
        if let Err(violation) = walk(market, counts, &mut clients, seed)? {
            let so_far = counts.violations.fetch_add(1, Ordering::Relaxed);
            if so_far < VIOLATIONS_SHOWN {
                println!("seed {seed}: {violation}");
            }
        }
        let done = counts.walks.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(PROGRESS_EVERY) {
            let violations = counts.violations.load(Ordering::Relaxed);
            println!("{done} of {count} walks, {violations} violations so far");
        }
    }
}

/// One walk to its end: what went wrong, if anything did. `Err` outside: it could not be tried.
fn walk(market: &Market, counts: &Counts, clients: &mut [Client], seed: u64) -> Result<Result<(), String>> {
    let mut random = Random(seed);
    let question = Question::draw(&mut random, &market.stocks_of_newest()?);
    let waits = random.below(WAITS_ONE_IN) == 0;
    let mut walk = Walk::default();
    let mut at = 0;
    loop {
        let limit = 1 + random.below(LIMIT_MAX);
        let mut path = format!("/v1/stocks?limit={limit}&{}", question.query());
        if let Some(token) = &walk.token {
            path.push_str(&format!("&pageToken={token}"));
        }
        let replica = usize::try_from(random.below(2)).unwrap_or(0);
        if replica != at {
            counts.switches.fetch_add(1, Ordering::Relaxed);
            at = replica;
        }
        let (status, body) = clients[replica]
            .get(&path)
            .with_context(|| format!("seed {seed}: {path}"))?;
        if status == 410 && walk.id.as_ref().is_some_and(|id| market.is_expired(id)) {
            counts.gone.fetch_add(1, Ordering::Relaxed);
            return Ok(Ok(()));
        }
        let page: Value = serde_json::from_slice(&body).unwrap_or_default();
        let looked = if status == 200 {
            walk.look(market, &question, limit, &page)
        } else {
            Err(format!("status {status}: {}", String::from_utf8_lossy(&body)))
        };
        if let Err(what) = looked {
            return Ok(Err(format!("{what}; page {} of {path}", walk.pages + 1)));
        }
        walk.pages += 1;
        counts.pages.fetch_add(1, Ordering::Relaxed);
        if walk.token.is_none() {
            break;
        }
        if waits && random.below(3) == 0 {
            market.wait_for_refresh()?;
            walk.over_a_refresh = true;
        }
        if random.below(EXPIRES_ONE_IN) == 0
            && let Some(id) = &walk.id
        {
            market.expire(id)?;
        }
    }
    counts.items.fetch_add(walk.seen as u64, Ordering::Relaxed);
    if walk.over_a_refresh {
        counts.over_a_refresh.fetch_add(1, Ordering::Relaxed);
    }
    Ok(Ok(()))
}

/// Where a walk stands.
#[derive(Default)]
struct Walk {
    id: Option<String>,
    token: Option<String>,
    seen: usize,
    pages: u64,
    over_a_refresh: bool,
}

impl Walk {
    /// Compares a page with what must be on it.
    fn look(&mut self, market: &Market, question: &Question, limit: u64, page: &Value) -> Result<(), String> {
        let id = page["snapshot"]["id"].as_str().ok_or("no snapshot")?;
        match &self.id {
            Some(own) if own != id => return Err(format!("began on {own}, went on over {id}")),
            Some(_) => {}
            None => self.id = Some(id.to_owned()),
        }
        let stocks = market
            .stocks(id)
            .ok_or_else(|| format!("{id} was never in the table"))?;
        let all = question.answer(&stocks);
        if page["total"] != all.len() {
            return Err(format!("total {}, not {}", page["total"], all.len()));
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let expected = &all[self.seen..all.len().min(self.seen.saturating_add(limit))];
        let items = page["items"].as_array().ok_or("no items")?;
        if items.len() != expected.len() {
            return Err(format!("{} items, not {}", items.len(), expected.len()));
        }
        for (item, stock) in items.iter().zip(expected) {
            same(item, stock)?;
        }
        self.seen += items.len();
        self.token = page["nextPageToken"].as_str().map(str::to_owned);
        if self.token.is_some() != (self.seen < all.len()) {
            return Err(format!(
                "{} of {} seen, and the token says otherwise",
                self.seen,
                all.len()
            ));
        }
        Ok(())
    }
}

fn same(item: &Value, stock: &Stock) -> Result<(), String> {
    let is_same = item["symbol"] == stock.symbol.as_str()
        && item["name"] == stock.name.as_str()
        && item["sector"] == stock.sector.as_str()
        && item["price"] == stock.price.as_str()
        && item["mover"] == stock.mover;
    is_same
        .then_some(())
        .ok_or_else(|| format!("{item} where {stock:?} must be"))
}
