//! Price history and the index of movers.

use anyhow::Result;
use fuse_domain::{Price, Snapshot};
use fuse_market::{Fence, HistoryRange, SnapshotStore};
use jiff::{SignedDuration, Timestamp};

use crate::stored::{Stored, ago, flipped, snapshot, symbol};

const HOUR_SECS: i64 = 3_600;

/// Publishes one snapshot per time, each with another price since then; gives the times.
async fn publish_at(stored: &Stored, times: &[Timestamp]) -> Result<()> {
    let mut previous: Option<Snapshot> = None;
    for (n, at) in times.iter().enumerate() {
        let secs_ago = i64::try_from(times.len() - n)?;
        let mut next = snapshot(2, &format!("{}.25", n + 1), secs_ago, 5)?;
        for quote in &mut next.quotes {
            quote.last_updated = *at;
        }
        flipped(
            stored
                .store
                .publish(&next, previous.as_ref(), Fence::NONE)
                .await?,
        );
        previous = Some(next);
    }
    Ok(())
}

async fn walk(store: &SnapshotStore, range: HistoryRange, limit: usize) -> Result<Vec<Timestamp>> {
    let (mut all, mut after) = (Vec::new(), None);
    for _ in 0..100 {
        let page = store.history(&symbol(0), range, after, limit).await?;
        assert!(page.points.len() <= limit, "at most the limit");
        all.extend(page.points.iter().map(|point| point.at));
        match page.next {
            None => return Ok(all),
            next => after = next,
        }
    }
    anyhow::bail!("the walk has no end: {} points so far", all.len())
}

#[tokio::test]
async fn a_walk_over_pages_and_days_misses_nothing_and_repeats_nothing() -> Result<()> {
    let stored = Stored::start().await?;
    // Some five days, several changes each, wherever midnight is.
    let times: Vec<_> = (0..24).rev().map(|n| ago(n * 5 * HOUR_SECS)).collect();
    publish_at(&stored, &times).await?;
    let all = HistoryRange {
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::MAX,
    };
    for limit in [1, 3, 8, 24, 100] {
        assert_eq!(walk(&stored.store, all, limit).await?, times, "limit {limit}");
    }
    let part = HistoryRange {
        from: times[5],
        to: times[15],
    };
    assert_eq!(
        walk(&stored.store, part, 4).await?,
        times[5..15],
        "from is in, to is not"
    );
    let nanosecond = SignedDuration::from_nanos(1);
    let hair = HistoryRange {
        from: times[5].checked_add(nanosecond)?,
        to: times[15].checked_add(nanosecond)?,
    };
    assert_eq!(
        walk(&stored.store, hair, 4).await?,
        times[6..=15],
        "below a millisecond"
    );
    let empty = HistoryRange {
        from: times[15],
        to: times[5],
    };
    assert_eq!(walk(&stored.store, empty, 4).await?, []);
    let last = stored.store.history(&symbol(1), all, Some(times[22]), 9).await?;
    assert_eq!(last.points.len(), 1);
    assert_eq!(last.points[0].price, Price::parse("24.25")?);
    assert_eq!(last.points[0].change, "-0.5");
    assert_eq!(last.next, None);
    assert_eq!(stored.store.history(&symbol(77), all, None, 9).await?.points, []);
    Ok(())
}

#[tokio::test]
async fn a_call_looks_at_a_bounded_number_of_days() -> Result<()> {
    let stored = Stored::start().await?;
    let times = [ago(80 * 24 * HOUR_SECS), ago(HOUR_SECS)];
    publish_at(&stored, &times).await?;
    let all = HistoryRange {
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    };
    let before = stored
        .dynamodb
        .requests()
        .get("Query")
        .copied()
        .unwrap_or_default();
    let first = stored.store.history(&symbol(0), all, None, 100).await?;
    let asked = stored
        .dynamodb
        .requests()
        .get("Query")
        .copied()
        .unwrap_or_default()
        - before;
    assert!((1..=31).contains(&asked), "{asked} queries");
    assert_eq!(first.points.len(), 1);
    assert!(first.next.is_some(), "there is more to look at");
    assert_eq!(walk(&stored.store, all, 100).await?, times);
    Ok(())
}

#[tokio::test]
async fn blocks_past_their_expiry_are_left_out_and_pages_are_full_all_the_same() -> Result<()> {
    let stored = Stored::start().await?;
    let times: Vec<_> = (0..6).rev().map(|n| ago(n * 60)).collect();
    publish_at(&stored, &times).await?;
    let past = Timestamp::now().as_second() - 1;
    // Of the first symbol, each pass is a block of its own.
    for (n, at) in times.iter().enumerate().filter(|(n, _)| (1..3).contains(n)) {
        let price = format!(" {}.25 ", n + 1);
        let items = stored.items()?;
        let (pk, sk) = items
            .iter()
            .find_map(|(key, item)| {
                let points = item["points"]["S"].as_str()?;
                (points.contains(";S00000 ") && points.contains(&price)).then_some(key)
            })
            .unwrap_or_else(|| panic!("a block of {at}"));
        stored.set(pk, sk, "expires_at", past)?;
    }
    let all = HistoryRange {
        from: times[0],
        to: Timestamp::MAX,
    };
    let page = stored.store.history(&symbol(0), all, None, 3).await?;
    let found: Vec<_> = page.points.iter().map(|point| point.at).collect();
    // Blocks of two days come in two queries; either way the page is filled.
    assert_eq!(found, [times[0], times[3], times[4]]);
    Ok(())
}

#[tokio::test]
async fn movers_are_found_by_the_snapshot_that_they_moved_in() -> Result<()> {
    let stored = Stored::start().await?;
    let first = snapshot(60, "1", 30, 5)?;
    flipped(stored.store.publish(&first, None, Fence::NONE).await?);
    let mut second = snapshot(60, "1", 20, 5)?;
    for n in [3, 40, 41] {
        second.quotes[n].price = Price::parse("2")?;
        second.quotes[n].mover = true;
    }
    second.quotes[5].price = Price::parse("1.001")?;
    flipped(stored.store.publish(&second, Some(&first), Fence::NONE).await?);
    assert_eq!(stored.store.movers(first.meta.taken_at).await?, []);
    let movers = stored.store.movers(second.meta.taken_at).await?;
    let moved = [3, 40, 41].map(|n| second.quotes[n].clone());
    assert_eq!(movers, moved, "whole quotes, as in the snapshot");
    assert_eq!(stored.store.movers(ago(1)).await?, []);
    Ok(())
}
