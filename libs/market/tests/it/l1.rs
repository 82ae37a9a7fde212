//! Redis between the replicas, against a real one behind a proxy: whatever it does, callers only do without.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use fuse_domain::Snapshot;
use fuse_harness::proxy::{Mode, TcpProxy};
use fuse_harness::redis::Redis;
use fuse_harness::wait;
use fuse_market::{Announcement, EncodedPages, Fence, Heard, L1, Pointer, Subscription};
use fuse_platform::Metrics;
use fuse_platform::config::{RedisConfig, Secret};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::stored::{SOON, metric, snapshot, symbol};

const SNAPSHOT: &str = "test:snapshot";

fn config(address: SocketAddr) -> RedisConfig {
    RedisConfig {
        url: Some(Secret::from_text(format!("redis://{address}/"))),
        // A loaded machine is not what is tested, except where it says so.
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(2),
        heartbeat: Duration::from_millis(200),
    }
}

fn l1_of(config: &RedisConfig, metrics: &Metrics) -> Result<L1> {
    Ok(L1::new(config, "test", metrics)?.expect("a URL is set"))
}

fn start() -> Result<(Redis, L1, Metrics)> {
    let (redis, metrics) = (Redis::start()?, Metrics::new());
    let l1 = l1_of(&config(redis.address()), &metrics)?;
    Ok((redis, l1, metrics))
}

/// A snapshot of several pages, its pointer and the pages.
async fn large() -> Result<(Pointer, Snapshot, EncodedPages)> {
    let mut snapshot = snapshot(2_000, "1.25", 10, 180)?;
    snapshot.quotes[3].mover = true;
    snapshot.quotes[4].listed = false;
    let pages = EncodedPages::of(&snapshot).await?;
    Ok((pointer_of(&snapshot, pages.count()), snapshot, pages))
}

fn pointer_of(snapshot: &Snapshot, pages: usize) -> Pointer {
    Pointer {
        id: snapshot.meta.id,
        taken_at: snapshot.meta.taken_at,
        tick_at: snapshot.meta.tick_at,
        pages,
        count: snapshot.meta.count,
        fence: Fence::NONE,
    }
}

fn reads(metrics: &Metrics, result: &str) -> Option<String> {
    metric(
        metrics,
        &format!("snapshot_reads_total{{layer=\"l1\",result=\"{result}\"}}"),
    )
}

fn is_up(metrics: &Metrics) -> bool {
    metric(metrics, "dependency_up{dependency=\"redis\"}").is_some_and(|up| up == "1")
}

async fn heard(subscription: &mut Subscription) -> Result<Heard> {
    Ok(tokio::time::timeout(SOON, subscription.next()).await?)
}

/// The next announcement; reconnections before it are passed over.
async fn announced(subscription: &mut Subscription) -> Result<Announcement> {
    loop {
        if let Heard::Announced(announcement) = heard(subscription).await? {
            return Ok(announcement);
        }
    }
}

async fn until_live(subscription: &Subscription, live: bool) -> Result<()> {
    let what = if live {
        "the subscriber to hear"
    } else {
        "the subscriber to notice"
    };
    wait::until_async(what, SOON, || async {
        (subscription.is_live() == live).then_some(())
    })
    .await
}

#[tokio::test]
async fn what_is_put_is_read_back_whole_for_an_hour() -> Result<()> {
    let (redis, l1, metrics) = start()?;
    let (pointer, snapshot, pages) = large().await?;
    assert_eq!(l1.current().await, None);
    assert_eq!(l1.load(&pointer).await, None);
    assert_eq!(l1.load_id(pointer.id).await, None);
    l1.put(&pointer, &pages).await;
    assert_eq!(l1.current().await, Some(pointer));
    assert_eq!(l1.load(&pointer).await.as_ref(), Some(&snapshot));
    assert_eq!(l1.load_id(pointer.id).await, Some(snapshot));
    assert_eq!(reads(&metrics, "miss"), Some("2".into()));
    assert_eq!(reads(&metrics, "hit"), Some("2".into()));
    assert!(is_up(&metrics));
    for key in [SNAPSHOT.to_owned(), format!("{SNAPSHOT}:{}", pointer.id)] {
        let ttl = redis.command(&["TTL", &key])?;
        let secs = ttl.strip_prefix(':').and_then(|n| n.parse::<i64>().ok());
        assert!(
            secs.is_some_and(|secs| (3_000..=3_600).contains(&secs)),
            "{key}: {ttl}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_whole_or_not_ours_is_not_there() -> Result<()> {
    let (redis, l1, metrics) = start()?;
    let (pointer, _, pages) = large().await?;
    let key = format!("{SNAPSHOT}:{}", pointer.id);
    let spoil: [&[&str]; 7] = [
        &["FLUSHALL"],
        &["HDEL", &key, "p1"],
        &["HSET", &key, "p0", "garbage"],
        &["HSET", &key, "meta", "{}"],
        &["DEL", &key],
        &["SET", &key, "another type"],
        &["SET", SNAPSHOT, "garbage"],
    ];
    for command in spoil {
        redis.command(&["FLUSHALL"])?;
        l1.put(&pointer, &pages).await;
        assert!(l1.load_id(pointer.id).await.is_some(), "before {command:?}");
        redis.command(command)?;
        let (by_id, current) = (l1.load_id(pointer.id).await, l1.current().await);
        assert!(by_id.is_none() || current.is_none(), "{command:?}");
    }
    redis.command(&["SCRIPT", "FLUSH"])?;
    assert!(l1.load(&pointer).await.is_some(), "no scripts are used");
    // A pointer that says something else than the pages.
    let more = Pointer {
        count: 2_001,
        ..pointer
    };
    assert_eq!(l1.load(&more).await, None);
    let fewer = Pointer { pages: 2, ..pointer };
    assert_eq!(l1.load(&fewer).await, None);
    assert!(reads(&metrics, "error").is_some_and(|n| n != "0"));
    Ok(())
}

#[tokio::test]
async fn a_hanging_redis_costs_a_moment_and_nothing_else() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = TcpProxy::start(redis.address())?;
    let metrics = Metrics::new();
    let tight = RedisConfig {
        connect_timeout: Duration::from_millis(200),
        response_timeout: Duration::from_millis(100),
        ..config(proxy.address())
    };
    let l1 = l1_of(&tight, &metrics)?;
    let (pointer, _, pages) = large().await?;
    wait::until_async("a first put", SOON, || async {
        l1.put(&pointer, &pages).await;
        l1.load(&pointer).await.map(drop)
    })
    .await?;
    for mode in [Mode::Hang, Mode::Refuse] {
        proxy.set(mode)?;
        for _ in 0..3 {
            let started = Instant::now();
            assert_eq!(l1.load(&pointer).await, None);
            // 300 ms by configuration; the rest is for a machine with other things to do.
            assert!(
                started.elapsed() < Duration::from_secs(3),
                "{:?}",
                started.elapsed()
            );
        }
        l1.put(&pointer, &pages).await;
        l1.announce(&pointer, &[]).await;
        assert_eq!(l1.current().await, None);
        assert!(!is_up(&metrics), "{mode:?}");
        proxy.set(Mode::Forward)?;
        wait::until_async("Redis to be used again", SOON, || async {
            l1.load(&pointer).await.map(drop)
        })
        .await?;
        assert!(is_up(&metrics));
    }
    let failed = metric(&metrics, "redis_errors_total{op=\"load\"}").and_then(|n| n.parse::<u32>().ok());
    assert!(failed.is_some_and(|n| n >= 6), "{failed:?}");
    Ok(())
}

#[tokio::test]
async fn an_announcement_is_heard_by_name() -> Result<()> {
    let (_redis, l1, metrics) = start()?;
    let stop = CancellationToken::new();
    let mut first = l1.subscribe(stop.clone());
    let mut second = l1.clone().subscribe(stop.clone());
    assert_eq!(
        heard(&mut first).await?,
        Heard::Reconnected,
        "read the pointer first"
    );
    assert_eq!(heard(&mut second).await?, Heard::Reconnected);
    let (pointer, ..) = large().await?;
    let movers = vec![symbol(3), symbol(70)];
    l1.announce(&pointer, &movers).await;
    for subscription in [&mut first, &mut second] {
        let wanted = Announcement {
            pointer,
            movers: movers.clone(),
        };
        assert_eq!(announced(subscription).await?, wanted);
        assert!(subscription.is_live());
    }
    assert_eq!(metric(&metrics, "snapshot_subscriber_live"), Some("1".into()));
    stop.cancel();
    until_live(&first, false).await?;
    let after = tokio::time::timeout(Duration::from_millis(300), first.next()).await;
    assert!(after.is_err(), "nothing is heard after the shutdown: {after:?}");
    Ok(())
}

#[tokio::test]
async fn a_killed_redis_is_heard_again_when_it_is_back() -> Result<()> {
    let (mut redis, l1, metrics) = start()?;
    let stop = CancellationToken::new();
    let mut subscription = l1.subscribe(stop.clone());
    let (pointer, ..) = large().await?;
    for _ in 0..2 {
        until_live(&subscription, true).await?;
        l1.announce(&pointer, &[]).await;
        announced(&mut subscription).await?;
        redis.stop()?;
        until_live(&subscription, false).await?;
        assert_eq!(metric(&metrics, "snapshot_subscriber_live"), Some("0".into()));
        redis.restart()?;
        assert_eq!(heard(&mut subscription).await?, Heard::Reconnected);
        // The connection for commands finds out by itself, too.
        wait::until_async("an announcement to be heard", SOON, || async {
            l1.announce(&pointer, &[]).await;
            is_up(&metrics).then_some(())
        })
        .await?;
        announced(&mut subscription).await?;
    }
    Ok(())
}

/// The network swallows everything and resets nothing: only the heartbeat can tell.
#[tokio::test]
async fn deafness_is_noticed_and_mended() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = TcpProxy::start(redis.address())?;
    let metrics = Metrics::new();
    let deaf = l1_of(&config(proxy.address()), &metrics)?;
    let speaker = l1_of(&config(redis.address()), &Metrics::new())?;
    let mut subscription = deaf.subscribe(CancellationToken::new());
    assert_eq!(heard(&mut subscription).await?, Heard::Reconnected);
    proxy.set(Mode::Hang)?;
    let (pointer, ..) = large().await?;
    speaker.announce(&pointer, &[]).await;
    until_live(&subscription, false).await?;
    wait::until_async("the gauge", SOON, || async {
        (metric(&metrics, "snapshot_subscriber_live")? == "0").then_some(())
    })
    .await?;
    proxy.set(Mode::Forward)?;
    // What was said meanwhile may be lost, so it says to look; an old connection's bytes may come through before.
    while heard(&mut subscription).await? != Heard::Reconnected {}
    until_live(&subscription, true).await?;
    speaker.announce(&pointer, &[symbol(1)]).await;
    while announced(&mut subscription).await?.movers != [symbol(1)] {}
    assert!(
        metric(&metrics, "snapshot_subscriber_last_message_timestamp_seconds")
            .and_then(|at| at.parse::<f64>().ok())
            .is_some_and(|at| at > 1_700_000_000.0)
    );
    Ok(())
}

#[tokio::test]
async fn whoever_does_not_read_is_told_to_look() -> Result<()> {
    let (_redis, l1, _) = start()?;
    let mut subscription = l1.subscribe(CancellationToken::new());
    assert_eq!(heard(&mut subscription).await?, Heard::Reconnected);
    let (pointer, ..) = large().await?;
    for _ in 0..200 {
        l1.announce(&pointer, &[]).await;
    }
    // The last of them has arrived when another subscriber has heard what came after it.
    let marker = Pointer {
        id: Uuid::now_v7(),
        ..pointer
    };
    let mut witness = l1.subscribe(CancellationToken::new());
    assert_eq!(heard(&mut witness).await?, Heard::Reconnected);
    l1.announce(&marker, &[]).await;
    announced(&mut witness).await?;
    let mut announcements = 0;
    loop {
        match heard(&mut subscription).await? {
            Heard::Reconnected => break,
            Heard::Announced(_) => announcements += 1,
        }
        assert!(announcements < 200, "they are not all kept");
    }
    let last = Pointer {
        id: Uuid::now_v7(),
        ..pointer
    };
    l1.announce(&last, &[]).await;
    while announced(&mut subscription).await?.pointer != last {}
    Ok(())
}

#[tokio::test]
async fn garbage_on_the_channel_only_makes_one_look() -> Result<()> {
    let (redis, l1, _) = start()?;
    let mut subscription = l1.subscribe(CancellationToken::new());
    assert_eq!(heard(&mut subscription).await?, Heard::Reconnected);
    redis.command(&["PUBLISH", "test:snapshots", "garbage"])?;
    assert_eq!(heard(&mut subscription).await?, Heard::Reconnected);
    assert!(subscription.is_live());
    Ok(())
}

#[tokio::test]
async fn without_a_url_there_is_none_and_a_bad_one_is_refused_without_its_secret() -> Result<()> {
    let metrics = Metrics::new();
    let address = "127.0.0.1:1".parse()?;
    let none = RedisConfig {
        url: None,
        ..config(address)
    };
    assert!(L1::new(&none, "test", &metrics)?.is_none());
    let url = |text: &str| RedisConfig {
        url: Some(Secret::from_text(text)),
        ..config(address)
    };
    let refused = L1::new(&url("redis://:hunter2@/x/y"), "test", &metrics);
    let text = refused.map(drop).expect_err("no URL of Redis").to_string();
    assert!(text.contains("redis.url") && !text.contains("hunter2"), "{text}");
    // TLS is built in; whether the other side speaks it shows with the first command.
    let tls = l1_of(&url("rediss://127.0.0.1:1/"), &metrics)?;
    assert_eq!(tls.current().await, None);
    Ok(())
}
