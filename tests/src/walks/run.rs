//! Many random walks at once: each must hold exactly what its own snapshot has for its question, whatever happens
//! meanwhile: refreshes, expiries, another replica for every page. 410 is right only when the snapshot is gone.
//!
//! A walk is judged page by page as it is walked; what it must hold as a whole is read from the table.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::market::Market;
use super::{Choice, Query, Step, Walk, Walker};
use crate::progress::Progress;

/// Walks at once: many of them wait for a refresh at any time.
const AT_ONCE: u64 = 64;
const LIMIT_MAX: u16 = 40;
const WAITS_AFTER_ONE_PAGE_IN: u32 = 3;
const VIOLATIONS_SHOWN: u64 = 50;
const PROGRESS_EVERY: u64 = 1_000;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of the first walk; the n-th is made from `seed + n`.
    pub seed: u64,
    pub count: u64,
    /// One walk in so many waits for refreshes between its pages.
    pub waits_one_in: u32,
    /// After one page in so many its snapshot expires.
    pub expires_one_in: u32,
    /// Settings of the services beside those that the run needs.
    pub settings: &'static [(&'static str, &'static str)],
}

impl Plan {
    /// So many walks that waits and expiries may be rare.
    #[must_use]
    pub fn of_many(seed: u64, count: u64) -> Self {
        Self {
            seed,
            count,
            waits_one_in: 6,
            expires_one_in: 150,
            settings: &[],
        }
    }
}

/// What came of it; shown as one line.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub walks: u64,
    pub pages: u64,
    pub stocks: u64,
    /// Whole walks that waited for a refresh in their midst.
    pub over_a_refresh: u64,
    /// Pages from another replica than the page before.
    pub switches: u64,
    /// Walks that ended with a rightful 410.
    pub gone: u64,
    pub violations: u64,
    /// Seen in the table.
    pub snapshots: usize,
    /// Those of them whose pages were taken away.
    pub expired: usize,
    pub took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} walks, {} pages, {} stocks; {} over a refresh, {} switches of the replica; {} snapshots, {} of them expired, {} walks ended by that; {} violations; {} s",
            self.walks,
            self.pages,
            self.stocks,
            self.over_a_refresh,
            self.switches,
            self.snapshots,
            self.expired,
            self.gone,
            self.violations,
            self.took.as_secs()
        )
    }
}

/// Starts two replicas and all that they need, and walks; violations are told with the seeds of their walks.
///
/// # Errors
/// When something does not start, or a snapshot cannot be read from the table. A violation is no error here.
pub fn run(plan: &Plan, progress: &Progress) -> Result<Outcome> {
    let (market, running) = Market::start(plan.settings)?;
    let shared = Arc::new(Shared {
        market: Arc::new(market),
        plan: *plan,
        counts: Counts::default(),
        progress: progress.clone(),
    });
    let begun = Instant::now();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(all(&shared))?;
    running.end()?;
    let (snapshots, expired) = shared.market.counts();
    let counts = &shared.counts;
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(Outcome {
        walks: of(&counts.walks),
        pages: of(&counts.pages),
        stocks: of(&counts.stocks),
        over_a_refresh: of(&counts.over_a_refresh),
        switches: of(&counts.switches),
        gone: of(&counts.gone),
        violations: of(&counts.violations),
        snapshots,
        expired,
        took: begun.elapsed(),
    })
}

/// What all walks share.
struct Shared {
    market: Arc<Market>,
    plan: Plan,
    counts: Counts,
    progress: Progress,
}

/// As in [`Outcome`].
#[derive(Default)]
struct Counts {
    next: AtomicU64,
    walks: AtomicU64,
    pages: AtomicU64,
    stocks: AtomicU64,
    over_a_refresh: AtomicU64,
    gone: AtomicU64,
    switches: AtomicU64,
    violations: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) -> u64 {
    counter.fetch_add(count, Ordering::Relaxed) + count
}

async fn all(shared: &Arc<Shared>) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE.min(shared.plan.count) {
        let shared = Arc::clone(shared);
        tasks.spawn(async move { shared.walk_on().await });
    }
    // The first error ends all: the set is dropped.
    while let Some(ended) = tasks.join_next().await {
        ended.context("a walk's task")??;
    }
    Ok(())
}

impl Shared {
    /// Walks until all are done.
    async fn walk_on(&self) -> Result<()> {
        let (counts, count) = (&self.counts, self.plan.count);
        let walker = Walker::new(self.market.replicas.to_vec(), &self.market.key);
        loop {
            let number = add(&counts.next, 1) - 1;
            if number >= count {
                return Ok(());
            }
            let seed = self.plan.seed.wrapping_add(number);
            let mut rng = StdRng::seed_from_u64(seed);
            let query = Query::any(&mut rng, &self.market.stocks_of_newest().await?);
            if let Err(violation) = self.walk(walker.begin(query.clone()), query, &mut rng).await
                && add(&counts.violations, 1) <= VIOLATIONS_SHOWN
            {
                self.progress.say(format!("seed {seed}: {violation:#}"));
            }
            let done = add(&counts.walks, 1);
            if done.is_multiple_of(PROGRESS_EVERY) {
                let violations = counts.violations.load(Ordering::Relaxed);
                self.progress
                    .say(format!("{done} of {count} walks, {violations} violations so far"));
            }
        }
    }

    /// One walk to its end.
    async fn walk(&self, mut walk: Walk<'_>, query: Query, rng: &mut StdRng) -> Result<()> {
        let (market, counts) = (&self.market, &self.counts);
        let waits = rng.random_ratio(1, self.plan.waits_one_in);
        let (mut replica, mut over_a_refresh) = (0, false);
        loop {
            let choice = Choice::any(rng, market.replicas.len(), 1..=LIMIT_MAX);
            add(&counts.switches, u64::from(choice.replica != replica));
            replica = choice.replica;
            let step = walk.next(choice).await?;
            if step == Step::Gone {
                let id = walk.snapshot().context("gone without a page")?;
                ensure!(market.is_expired(id), "{query:?}: 410, but {id} is in the table");
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
            if rng.random_ratio(1, self.plan.expires_one_in)
                && let Some(id) = walk.snapshot()
            {
                expire(market, id.to_owned()).await?;
            }
        }
        let stocks = self.compare(walk, &query).await?;
        add(&counts.stocks, stocks);
        add(&counts.over_a_refresh, u64::from(over_a_refresh));
        Ok(())
    }

    /// Compares a walk at its end with what the table has for its question; gives the number of its stocks.
    async fn compare(&self, walk: Walk<'_>, query: &Query) -> Result<u64> {
        let whole = walk.finish()?;
        let stocks = self.market.stocks(&whole.snapshot).await?;
        ensure!(
            whole.symbols() == query.select(&stocks),
            "{query:?} on {}: not what the snapshot has for it",
            whole.snapshot
        );
        for stock in &whole.stocks {
            let is_the_same = stocks.iter().any(|stored| stored == stock);
            ensure!(is_the_same, "{stock:?} is in {} otherwise", whole.snapshot);
        }
        Ok(whole.stocks.len() as u64)
    }
}

/// The calls of the stand-in block.
async fn expire(market: &Arc<Market>, id: String) -> Result<()> {
    let market = Arc::clone(market);
    tokio::task::spawn_blocking(move || market.expire(&id).map(drop)).await?
}
