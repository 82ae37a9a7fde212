//! Property: whatever a walk asks for, and whatever is published and forgotten meanwhile, it sees every selected stock of one snapshot
//! exactly once, in order, or is told that its snapshot is gone. `cargo xtask soak walks` does the same a hundred thousand times.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use fuse_domain::{Quote, Snapshot};
use fuse_harness::walks::{Choice, Query, Step, Stock, Walk, Walker};
use rand::RngExt as _;

use crate::support::World;

/// Walks at a time; a snapshot is published in the midst of them every now and then.
const WALKS: usize = 40;
const STEPS: usize = 1_500;
const PUBLISH_ONE_IN: u32 = 60;

fn stock(quote: &Quote) -> Stock {
    Stock {
        symbol: quote.symbol.to_string(),
        name: quote.name.clone(),
        sector: quote.sector.clone(),
        price: quote.price.to_string(),
        mover: quote.mover,
        listed: quote.listed,
    }
}

fn stocks(snapshot: &Snapshot) -> Vec<Stock> {
    snapshot.quotes.iter().map(stock).collect()
}

/// Ended walks by how they ended.
#[derive(Debug, Default)]
struct Ends {
    whole: usize,
    gone: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_sees_everything_once_or_is_told_that_it_cannot() -> Result<()> {
    let world = World::start().await?;
    let walker = Walker::new(vec![world.api.url.clone()], &world.key);
    let mut rng = rand::rng();
    // What every snapshot holds: the one that the world began with is read from the service.
    let mut truth: HashMap<String, Vec<Stock>> = HashMap::new();
    let mut all = walker.begin(Query::default());
    while all
        .next(Choice {
            replica: 0,
            limit: 500,
            gzip: false,
        })
        .await?
        == Step::More
    {}
    let all = all.finish()?;
    let mut current = all.stocks.clone();
    truth.insert(all.snapshot, all.stocks);

    let mut walks: Vec<(Query, Walk<'_>)> = Vec::new();
    let mut ends = Ends::default();
    for _ in 0..STEPS {
        if rng.random_ratio(1, PUBLISH_ONE_IN) {
            world.simulator.tick(1);
            let seed = rng.random_range(2..6);
            let published = world
                .publish_with(|quotes| {
                    for (number, quote) in quotes.iter_mut().enumerate() {
                        quote.mover = number % seed == 0;
                    }
                })
                .await?;
            current = stocks(&published);
            truth.insert(published.meta.id.to_string(), stocks(&published));
        }
        if walks.len() < WALKS {
            let query = Query::any(&mut rng, &current);
            walks.push((query.clone(), walker.begin(query)));
        }
        let index = rng.random_range(0..walks.len());
        let choice = Choice::any(&mut rng, 1, 1..=9);
        match walks[index].1.next(choice).await? {
            Step::More => {}
            Step::Gone => {
                walks.swap_remove(index);
                ends.gone += 1;
            }
            Step::Done => {
                let (query, walk) = walks.swap_remove(index);
                let whole = walk.finish()?;
                let stocks = truth
                    .get(&whole.snapshot)
                    .context("a snapshot that was never published")?;
                ensure!(
                    whole.symbols() == query.select(stocks),
                    "{query:?} on {}",
                    whole.snapshot
                );
                ends.whole += 1;
            }
        }
    }
    assert!(ends.whole > 100, "something happened: {ends:?}");
    Ok(())
}
