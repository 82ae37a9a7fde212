//! Leases on the DynamoDB stand-in: one holds, others wait, and whoever was paused does no harm.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use fuse_harness::dynamodb::DynamoFault;
use fuse_harness::proxy::{Mode, TcpProxy};
use fuse_harness::wait;
use fuse_market::{Contender, Fence, Lease, Published};

use crate::stored::{SOON, Stored, flipped, snapshot};

const NAME: &str = "refresh";
const SHORT: Duration = Duration::from_secs(1);

async fn take(contender: &mut Contender) -> Result<Lease> {
    let ends = Instant::now() + SOON;
    loop {
        if let Some(lease) = contender.try_take().await? {
            return Ok(lease);
        }
        assert!(Instant::now() < ends, "the lease is never free");
        tokio::time::sleep(wait::POLL_EVERY).await;
    }
}

#[tokio::test]
async fn one_of_two_holds_and_a_release_frees_at_once() -> Result<()> {
    let stored = Stored::start().await?;
    let ttl = Duration::from_secs(600);
    let mut first = stored.store.contender(NAME, ttl);
    let mut second = stored.store.contender(NAME, ttl);
    let lease = first.try_take().await?.expect("it is free");
    assert!(!lease.is_lost());
    assert!(lease.fence() > Fence::NONE);
    assert!(second.try_take().await?.is_none());
    assert!(second.seen_holder().is_some(), "who it is");
    assert!(first.try_take().await?.is_none(), "not even oneself twice");
    let fence = lease.fence();
    lease.release().await;
    let next = second.try_take().await?.expect("free at once");
    assert!(next.fence() > fence);
    // Another name is another lease.
    assert!(stored.store.contender("other", ttl).try_take().await?.is_some());
    Ok(())
}

#[tokio::test]
async fn of_many_at_once_one_takes_and_fences_never_repeat() -> Result<()> {
    let stored = Stored::start().await?;
    let mut fences = BTreeSet::new();
    for _ in 0..5 {
        let tries = (0..8).map(|_| {
            let mut contender = stored.store.contender(NAME, Duration::from_secs(600));
            tokio::spawn(async move { contender.try_take().await })
        });
        let mut taken = Vec::new();
        for tried in tries.collect::<Vec<_>>() {
            taken.extend(tried.await??);
        }
        assert_eq!(taken.len(), 1, "exactly one");
        for lease in taken {
            assert!(fences.insert(lease.fence()), "{:?}", lease.fence());
            lease.release().await;
        }
    }
    assert_eq!(fences.len(), 5);
    Ok(())
}

#[tokio::test]
async fn renewals_keep_it_and_the_end_of_them_loses_it() -> Result<()> {
    let stored = Stored::start().await?;
    let ttl = Duration::from_secs(3);
    let lease = take(&mut stored.store.contender(NAME, ttl)).await?;
    let mut other = stored.store.contender(NAME, ttl);
    let ends = Instant::now() + 2 * ttl;
    while Instant::now() < ends {
        assert!(other.try_take().await?.is_none(), "it is renewed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!lease.is_lost());
    let fence = lease.fence();
    let dropped = Instant::now();
    drop(lease);
    let next = take(&mut other).await?;
    // The last renewal is a third of the ttl ago at most, and was seen a look later.
    assert!(dropped.elapsed() >= ttl / 2, "{:?}", dropped.elapsed());
    assert!(next.fence() > fence);
    Ok(())
}

/// T12 at the store: a holder that hangs past its lease comes back with prices that look newer, and is fenced out.
#[tokio::test]
async fn a_paused_holder_is_fenced_out() -> Result<()> {
    let stored = Stored::start().await?;
    let proxy = TcpProxy::start(stored.dynamodb.address())?;
    let paused = stored.through(proxy.address()).await?;
    let lease = take(&mut paused.contender(NAME, SHORT)).await?;
    flipped(
        paused
            .publish(&snapshot(3, "1", 60, 5)?, None, lease.fence())
            .await?,
    );
    proxy.set(Mode::Hang)?;

    let next = take(&mut stored.store.contender(NAME, SHORT)).await?;
    let newer = snapshot(3, "2", 30, 5)?;
    flipped(stored.store.publish(&newer, None, next.fence()).await?);
    tokio::time::timeout(SOON, lease.lost()).await?;
    assert!(lease.is_lost());

    proxy.set(Mode::Forward)?;
    let late = snapshot(3, "3", 10, 5)?;
    let before = stored.items()?.len();
    assert_eq!(
        paused.publish(&late, None, lease.fence()).await?,
        Published::Fenced
    );
    assert_eq!(stored.pointer().await?.id, newer.meta.id);
    assert_eq!(stored.items()?.len(), before, "nothing of it is left");
    assert!(!next.is_lost());
    lease.release().await;
    let third = stored.store.contender(NAME, SHORT).try_take().await?;
    assert!(third.is_none(), "a lost lease gives nobody else's back");
    Ok(())
}

/// The flip itself, without the look before it: the holder stalls between the two.
#[tokio::test]
async fn the_flip_refuses_an_overtaken_holder() -> Result<()> {
    let stored = Stored::start().await?;
    let slow = {
        let mut config = crate::stored::config(stored.dynamodb.address())?;
        config.write_units_per_sec = 10;
        crate::stored::store_of(&config, &stored.metrics).await?
    };
    let (old, new) = {
        let mut contender = stored.store.contender(NAME, SHORT);
        let old = take(&mut contender).await?;
        let fence = old.fence();
        old.release().await;
        (fence, take(&mut contender).await?)
    };
    // Four batches at ten units a second: the other one is through long before.
    let late = tokio::spawn(async move {
        slow.publish(&snapshot(60, "1", 10, 5)?, None, old)
            .await
            .map_err(anyhow::Error::from)
    });
    let pages = || stored.count("SNAPSHOT#").is_ok_and(|count| count > 0);
    wait::until_async("the slow publish to begin", SOON, || async {
        pages().then_some(())
    })
    .await?;
    let newer = snapshot(3, "2", 30, 5)?;
    flipped(stored.store.publish(&newer, None, new.fence()).await?);
    assert_eq!(tokio::time::timeout(SOON, late).await???, Published::Fenced);
    assert_eq!(stored.pointer().await?.id, newer.meta.id);
    Ok(())
}

#[tokio::test]
async fn clocks_do_not_matter() -> Result<()> {
    let stored = Stored::start().await?;
    let ttl = Duration::from_secs(2);
    for until in [0, i64::MAX / 2] {
        let lease = take(&mut stored.store.contender(NAME, ttl)).await?;
        drop(lease);
        // As if the holder's clock were off by years, in either direction.
        stored.set("LEASE#refresh", "LEASE", "until", until)?;
        let mut other = stored.store.contender(NAME, ttl);
        let started = Instant::now();
        let next = take(&mut other).await?;
        assert!(started.elapsed() >= ttl, "{:?}", started.elapsed());
        next.release().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_take_whose_answer_is_lost_is_a_take() -> Result<()> {
    let stored = Stored::start().await?;
    stored.dynamodb.inject("UpdateItem", DynamoFault::LostAnswer, 1);
    let mut contender = stored.store.contender(NAME, Duration::from_secs(600));
    let lease = contender.try_take().await?.expect("it is ours");
    assert_eq!(stored.dynamodb.requests().get("UpdateItem"), Some(&2));
    lease.release().await;
    assert!(contender.try_take().await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_deleted_lease_does_not_begin_below_the_pointer() -> Result<()> {
    let stored = Stored::start().await?;
    let mut contender = stored.store.contender(NAME, SHORT);
    for _ in 0..3 {
        take(&mut contender).await?.release().await;
    }
    let lease = take(&mut contender).await?;
    let first = snapshot(3, "1", 60, 5)?;
    flipped(stored.store.publish(&first, None, lease.fence()).await?);
    stored.delete("LEASE#refresh", "LEASE")?;
    let next = take(&mut stored.store.contender(NAME, SHORT)).await?;
    assert!(next.fence() > lease.fence());
    tokio::time::timeout(SOON, lease.lost()).await?;
    let second = snapshot(3, "2", 30, 5)?;
    flipped(stored.store.publish(&second, Some(&first), next.fence()).await?);
    Ok(())
}

#[tokio::test]
async fn an_outage_is_an_error_and_loses_the_lease_in_time() -> Result<()> {
    let stored = Stored::start().await?;
    let mut other = stored.store.contender(NAME, SHORT);
    let lease = take(&mut stored.store.contender(NAME, SHORT)).await?;
    stored.dynamodb.stop()?;
    assert!(other.try_take().await.is_err());
    tokio::time::timeout(SOON, lease.lost()).await?;
    stored.dynamodb.restart()?;
    take(&mut other).await?;
    Ok(())
}
