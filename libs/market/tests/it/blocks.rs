//! Price history as blocks of many symbols: each symbol reads back what was said of it, whatever times the vendor gives
//! and however often a pass is made.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use fuse_domain::{Price, Snapshot, Symbol};
use fuse_market::{Fence, HistoryRange, SnapshotStore};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::stored::{Stored, ago, flipped, snapshot, symbol};

const MINUTE_SECS: i64 = 60;
const HOUR_SECS: i64 = 3_600;
const DAY_SECS: i64 = 24 * HOUR_SECS;

/// What was said of each symbol, by time.
type Told = BTreeMap<Symbol, BTreeMap<Timestamp, Price>>;

fn tell(told: &mut Told, snapshot: &Snapshot) {
    for quote in &snapshot.quotes {
        let of_symbol = told.entry(quote.symbol.clone()).or_default();
        of_symbol.insert(quote.last_updated, quote.price);
    }
}

async fn publish(store: &SnapshotStore, snapshot: &Snapshot) -> Result<()> {
    flipped(store.publish(snapshot, None, Fence::NONE).await?);
    Ok(())
}

/// The whole history of a symbol, page by page.
async fn walk(store: &SnapshotStore, symbol: &Symbol, limit: usize) -> Result<Vec<(Timestamp, Price)>> {
    // Each day costs a query.
    walk_from(ago(4 * DAY_SECS), store, symbol, limit).await
}

async fn walk_from(
    from: Timestamp,
    store: &SnapshotStore,
    symbol: &Symbol,
    limit: usize,
) -> Result<Vec<(Timestamp, Price)>> {
    let range = HistoryRange {
        from,
        to: Timestamp::MAX,
    };
    let (mut all, mut after) = (Vec::new(), None);
    for _ in 0..500 {
        let page = store.history(symbol, range, after, limit).await?;
        assert!(page.points.len() <= limit, "at most the limit");
        all.extend(page.points.into_iter().map(|point| (point.at, point.price)));
        match page.next {
            None => return Ok(all),
            next => after = next,
        }
    }
    anyhow::bail!("the walk has no end: {} points so far", all.len())
}

async fn check(store: &SnapshotStore, told: &Told, limit: usize) -> Result<()> {
    for (symbol, prices) in told {
        let expected: Vec<_> = prices.iter().map(|(at, price)| (*at, *price)).collect();
        assert_eq!(
            walk(store, symbol, limit).await?,
            expected,
            "{symbol}, limit {limit}"
        );
    }
    Ok(())
}

/// The same prices as another pass finds them.
fn again(snapshot: &Snapshot, secs_ago: i64) -> Snapshot {
    Snapshot::new(Uuid::now_v7(), ago(secs_ago), snapshot.quotes.clone())
}

/// A reproducible sequence without a pattern.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        i64::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

#[tokio::test]
async fn every_symbol_reads_back_exactly_whatever_times_it_is_given() -> Result<()> {
    let stored = Stored::start().await?;
    let (mut told, mut noise) = (Told::new(), Noise(7));
    for pass in 0..20 {
        let mut next = snapshot(12, "1", 600 - pass * 10, 5)?;
        for quote in &mut next.quotes {
            // Backwards and forwards over two days, many within milliseconds of one another.
            let secs = noise.below(3) * DAY_SECS - noise.below(2) * noise.below(2 * HOUR_SECS);
            let millis = SignedDuration::from_millis(noise.below(3));
            quote.last_updated = ago(2 * DAY_SECS - secs - MINUTE_SECS)
                .checked_sub(SignedDuration::from_mins(2))?
                .checked_add(millis)?;
            quote.price = Price::parse(&format!("{}.{:03}", pass + 1, noise.below(999) + 1))?;
        }
        publish(&stored.store, &next).await?;
        tell(&mut told, &next);
        if pass % 3 == 0 {
            // Resumed or repeated: the same pass, and the same prices as found by another.
            publish_late(&stored, &next).await?;
            publish(&stored.store, &again(&next, 595 - pass * 10)).await?;
        }
    }
    for limit in [1, 3, 7, 100] {
        check(&stored.store, &told, limit).await?;
    }
    Ok(())
}

/// Writes a pass once more, although its pointer is there: what was written of it is written again.
async fn publish_late(stored: &Stored, snapshot: &Snapshot) -> Result<()> {
    let before = stored.items()?;
    stored.delete("SNAPSHOT", "CURRENT")?;
    publish(&stored.store, snapshot).await?;
    assert_eq!(
        stored.items()?.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>(),
        "the same places"
    );
    Ok(())
}

#[tokio::test]
async fn the_later_pass_has_the_last_word_on_a_time() -> Result<()> {
    let stored = Stored::start().await?;
    let at = ago(HOUR_SECS);
    let pass = |price: &str, secs_ago| -> Result<Snapshot> {
        let mut pass = snapshot(3, price, secs_ago, 5)?;
        pass.quotes.iter_mut().for_each(|quote| quote.last_updated = at);
        Ok(pass)
    };
    let (first, second) = (pass("1", 30)?, pass("2", 20)?);
    publish(&stored.store, &first).await?;
    publish(&stored.store, &second).await?;
    publish_late(&stored, &first).await?;
    let expected = [(at, Price::parse("2")?)];
    assert_eq!(walk(&stored.store, &symbol(1), 9).await?, expected);
    Ok(())
}

#[tokio::test]
async fn symbols_of_one_bucket_do_not_mix() -> Result<()> {
    let stored = Stored::start().await?;
    let mut told = Told::new();
    for minutes in [12, 7] {
        let mut pass = snapshot(300, "1", minutes, 5)?;
        for (n, quote) in pass.quotes.iter_mut().enumerate() {
            quote.last_updated = ago(minutes * MINUTE_SECS);
            quote.price = Price::parse(&format!("{minutes}.{:03}", n + 1))?;
        }
        publish(&stored.store, &pass).await?;
        tell(&mut told, &pass);
    }
    let sharing = sharing(&stored)?;
    assert!(sharing.len() > 50, "{sharing:?}");
    told.retain(|symbol, _| sharing.contains(symbol));
    check(&stored.store, &told, 10).await
}

/// Symbols that share a block with another one.
fn sharing(stored: &Stored) -> Result<BTreeSet<Symbol>> {
    let mut sharing = BTreeSet::new();
    for item in stored.items()?.values() {
        let lines: Vec<_> = item["points"]["S"]
            .as_str()
            .unwrap_or_default()
            .split(';')
            .skip(1)
            .collect();
        for line in lines.iter().filter(|_| lines.len() > 1) {
            let (name, _) = line.split_once(' ').expect("a line");
            sharing.insert(Symbol::parse(name)?);
        }
    }
    Ok(sharing)
}

#[tokio::test]
async fn a_block_that_is_too_large_is_several_and_reads_as_one() -> Result<()> {
    let stored = Stored::start().await?;
    publish(&stored.store, &snapshot(300, "1", 30, 5)?).await?;
    let sharing = sharing(&stored)?;
    let mut quotes = snapshot(300, "2", 10, 35_000)?.quotes;
    quotes.retain(|quote| sharing.contains(&quote.symbol));
    for quote in &mut quotes {
        quote.mover = true;
    }
    let pass = Snapshot::new(Uuid::now_v7(), quotes[0].as_of, quotes);
    publish(&stored.store, &pass).await?;
    let seconds = stored
        .items()?
        .into_keys()
        .filter(|(pk, sk)| pk.starts_with("HISTORY#") && sk.ends_with("#1"));
    assert!(seconds.count() > 5, "some have a second part");
    assert_eq!(stored.store.movers(pass.meta.taken_at).await?, pass.quotes);
    let last = pass.quotes.last().expect("some share a block");
    let found = walk(&stored.store, &last.symbol, 10).await?;
    assert_eq!(found.last(), Some(&(last.last_updated, last.price)));
    Ok(())
}

#[tokio::test]
async fn a_change_expires_by_its_own_time_and_not_by_its_blocks() -> Result<()> {
    let stored = Stored::start().await?;
    // Both in one hour, hence in one block, unless the hour ends between them.
    let (over, not_yet) = (ago(90 * DAY_SECS + 2), ago(90 * DAY_SECS - 60));
    for at in [over, not_yet] {
        let mut pass = snapshot(1, "1", 30, 5)?;
        pass.quotes[0].last_updated = at;
        stored.delete("SNAPSHOT", "CURRENT")?;
        publish(&stored.store, &pass).await?;
    }
    let long = Timestamp::now().as_second() + DAY_SECS;
    for (pk, sk) in stored
        .items()?
        .into_keys()
        .filter(|(pk, _)| pk.starts_with("HISTORY#"))
    {
        stored.set(&pk, &sk, "expires_at", long)?;
    }
    let found = walk_from(Timestamp::MIN, &stored.store, &symbol(0), 9).await?;
    assert_eq!(found, [(not_yet, Price::parse("1")?)]);
    Ok(())
}
