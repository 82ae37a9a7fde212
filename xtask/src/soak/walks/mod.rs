//! Random walks over the list of stocks: each must hold exactly what its own snapshot has for its question, whatever happens
//! meanwhile: refreshes, expiries, another replica for every page. 410 is right only when the snapshot is gone.
//!
//! How a walk is judged page by page is in the harness ([`fuse_harness::walks`]); what it must hold as a whole is read from
//! the table.

mod market;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use fuse_harness::walks::{Choice, Query, Step, Walk, Walker};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use market::Market;

/// Walks at once: many of them wait for a refresh at any time.
const AT_ONCE: u64 = 64;
const LIMIT_MAX: u16 = 40;
/// One walk in so many waits for refreshes between its pages.
const WAITS_ONE_IN: u32 = 6;
const WAITS_AFTER_ONE_PAGE_IN: u32 = 3;
/// After one page in so many its snapshot expires.
const EXPIRES_ONE_IN: u32 = 150;
const VIOLATIONS_SHOWN: u64 = 50;
const PROGRESS_EVERY: u64 = 1_000;

#[derive(Default)]
struct Counts {
    next: AtomicU64,
    walks: AtomicU64,
    pages: AtomicU64,
    stocks: AtomicU64,
    /// Whole walks that waited for a refresh in their midst.
    over_a_refresh: AtomicU64,
    /// Walks that ended with a rightful 410.
    gone: AtomicU64,
    /// Pages from another replica than the page before.
    switches: AtomicU64,
    violations: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) -> u64 {
    counter.fetch_add(count, Ordering::Relaxed) + count
}

/// Runs `count` walks, the n-th from `seed + n`; returns how many violations there were.
pub fn run(seed: u64, count: u64) -> Result<u64> {
    let (market, running) = Market::start()?;
    let (market, counts) = (Arc::new(market), Arc::new(Counts::default()));
    let begun = Instant::now();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(all(&market, &counts, seed, count))?;
    running.end()?;
    let (snapshots, expired) = market.counts();
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "walks: {} walks, {} pages, {} stocks; {} over a refresh, {} switches of the replica; {snapshots} snapshots, {expired} of them expired, {} walks ended by that; {} violations; {} s",
        of(&counts.walks),
        of(&counts.pages),
        of(&counts.stocks),
        of(&counts.over_a_refresh),
        of(&counts.switches),
        of(&counts.gone),
        of(&counts.violations),
        begun.elapsed().as_secs()
    );
    Ok(of(&counts.violations))
}

async fn all(market: &Arc<Market>, counts: &Arc<Counts>, seed: u64, count: u64) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE.min(count) {
        tasks.spawn(walk_on(Arc::clone(market), Arc::clone(counts), seed, count));
    }
    // The first error ends all: the set is dropped.
    while let Some(ended) = tasks.join_next().await {
        ended.context("a walk's task")??;
    }
    Ok(())
}

/// Walks until all are done.
async fn walk_on(market: Arc<Market>, counts: Arc<Counts>, seed: u64, count: u64) -> Result<()> {
    let walker = Walker::new(market.replicas.to_vec(), &market.key);
    loop {
        let number = add(&counts.next, 1) - 1;
        if number >= count {
            return Ok(());
        }
        let seed = seed.wrapping_add(number);
        let mut rng = StdRng::seed_from_u64(seed);
        let query = Query::any(&mut rng, &market.stocks_of_newest().await?);
        if let Err(violation) = walk(&market, &counts, walker.begin(query.clone()), query, &mut rng).await
            && add(&counts.violations, 1) <= VIOLATIONS_SHOWN
        {
            println!("seed {seed}: {violation:#}");
        }
        let done = add(&counts.walks, 1);
        if done.is_multiple_of(PROGRESS_EVERY) {
            let violations = counts.violations.load(Ordering::Relaxed);
            println!("{done} of {count} walks, {violations} violations so far");
        }
    }
}

/// One walk to its end.
async fn walk(
    market: &Arc<Market>,
    counts: &Counts,
    mut walk: Walk<'_>,
    query: Query,
    rng: &mut StdRng,
) -> Result<()> {
    let waits = rng.random_ratio(1, WAITS_ONE_IN);
    let (mut replica, mut over_a_refresh) = (0, false);
    loop {
        let choice = Choice::any(rng, market.replicas.len(), 1..=LIMIT_MAX);
        add(&counts.switches, u64::from(choice.replica != replica));
        replica = choice.replica;
        let step = walk.next(choice).await?;
        if step == Step::Gone {
            let id = walk.snapshot().context("gone without a page")?;
            anyhow::ensure!(market.is_expired(id), "{query:?}: 410, but {id} is in the table");
            add(&counts.gone, 1);
            return Ok(());
        }
        add(&counts.pages, 1);
        if step == Step::Done {
            break;
        }
        if waits && rng.random_ratio(1, WAITS_AFTER_ONE_PAGE_IN) {
            market.wait_for_refresh().await?;
            over_a_refresh = true;
        }
        if rng.random_ratio(1, EXPIRES_ONE_IN)
            && let Some(id) = walk.snapshot()
        {
            expire(market, id.to_owned()).await?;
        }
    }
    let whole = walk.finish()?;
    let stocks = market.stocks(&whole.snapshot).await?;
    anyhow::ensure!(
        whole.symbols() == query.select(&stocks),
        "{query:?} on {}: not what the snapshot has for it",
        whole.snapshot
    );
    for stock in &whole.stocks {
        let is_the_same = stocks.iter().any(|stored| stored == stock);
        anyhow::ensure!(is_the_same, "{stock:?} is in {} otherwise", whole.snapshot);
    }
    add(&counts.stocks, whole.stocks.len() as u64);
    add(&counts.over_a_refresh, u64::from(over_a_refresh));
    Ok(())
}

/// The calls of the stand-in block.
async fn expire(market: &Arc<Market>, id: String) -> Result<()> {
    let market = Arc::clone(market);
    tokio::task::spawn_blocking(move || market.expire(&id).map(drop)).await?
}
