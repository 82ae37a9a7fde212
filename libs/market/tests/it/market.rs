//! The market as replicas of the API see it: cold starts, following, walks that change replica, early passes.
//! Simulated vendor, real Redis, DynamoDB stand-in.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fuse_domain::{Snapshot, Symbol};
use fuse_harness::dynamodb::DynamoDb;
use fuse_harness::redis::Redis;
use fuse_harness::wait;
use fuse_market::{
    CrawlLimits, Heard, L1, Market, MarketParts, Pass, RefreshParts, Refresher, VendorClient, Wanted,
};
use fuse_platform::Metrics;
use fuse_platform::config::{ConfigValue, HttpUrl, RedisConfig, Secret, VendorConfig};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use vendor_simulator::{Action, Latency, Operation, Rule, Simulator, SimulatorConfig};

use crate::stored::{config, store_of};

const DEADLINE: Duration = Duration::from_secs(30);
const EARLY_PASS_EVERY: Duration = Duration::from_secs(2);
const COLD_WAIT: Duration = Duration::from_secs(20);

/// Backends, and the replicas made over them.
struct World {
    simulator: Simulator,
    dynamodb: DynamoDb,
    redis: Option<Redis>,
    stop: CancellationToken,
}

/// One replica with its own everything.
struct Replica {
    market: Market,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    fn start(with_redis: bool) -> Result<Self> {
        Ok(Self {
            simulator: Simulator::start(SimulatorConfig::default())?,
            dynamodb: DynamoDb::start()?,
            redis: with_redis.then(Redis::start).transpose()?,
            stop: CancellationToken::new(),
        })
    }

    fn vendor(&self, metrics: &Metrics) -> Result<VendorClient> {
        let config = VendorConfig {
            base_url: HttpUrl::from_text(&self.simulator.vendor_url()).map_err(anyhow::Error::msg)?,
            api_key: Secret::from_text(&SimulatorConfig::default().api_key),
            connect_timeout: Duration::from_secs(2),
            page_timeout: Duration::from_secs(10),
            buy_timeout: Duration::from_secs(10),
            crawl_timeout: Duration::from_secs(20),
            pool_idle_timeout: Duration::from_secs(4),
        };
        Ok(VendorClient::new(&config, metrics)?)
    }

    fn l1(&self, metrics: &Metrics) -> Result<Option<L1>> {
        let Some(redis) = &self.redis else { return Ok(None) };
        let redis_config = RedisConfig {
            url: Some(Secret::from_text(redis.url())),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(2),
            heartbeat: Duration::from_millis(200),
        };
        Ok(L1::new(&redis_config, "test", metrics)?)
    }

    fn limits() -> CrawlLimits {
        CrawlLimits::with_deadline(Duration::from_secs(20))
    }

    async fn replica(&self) -> Result<Replica> {
        self.replica_waiting(COLD_WAIT).await
    }

    /// A replica whose readers wait for so long for the first snapshot. It follows at once.
    async fn replica_waiting(&self, cold_wait: Duration) -> Result<Replica> {
        let metrics = Metrics::new();
        let stop = self.stop.child_token();
        let parts = MarketParts {
            vendor: self.vendor(&metrics)?,
            store: store_of(&config(self.dynamodb.address())?, &metrics).await?,
            pass_store: store_of(&config(self.dynamodb.address())?, &metrics).await?,
            l1: self.l1(&metrics)?,
            limits: Self::limits(),
            interval: Duration::from_secs(300),
            poll: Duration::from_millis(50),
            cold_wait,
            early_pass_every: EARLY_PASS_EVERY,
        };
        let market = Market::new(parts, &metrics, stop.clone());
        let follower = market.clone();
        tokio::spawn(async move { follower.run().await });
        Ok(Replica {
            market,
            metrics,
            stop,
        })
    }

    async fn refresher(&self) -> Result<Refresher> {
        let metrics = Metrics::new();
        let parts = RefreshParts {
            vendor: self.vendor(&metrics)?,
            store: store_of(&config(self.dynamodb.address())?, &metrics).await?,
            l1: self.l1(&metrics)?,
            limits: Self::limits(),
            tells_current: true,
        };
        Ok(Refresher::new(parts, &metrics))
    }

    /// One pass of a refresher of its own, now.
    async fn refresh(&self) -> Result<Pass> {
        let wanted = Wanted {
            younger_than: Some(Timestamp::now()),
            wait: true,
        };
        let pass = self.refresher().await?.pass(wanted, &self.stop).await;
        Ok(pass.expect("nobody stops it"))
    }

    fn crawls(&self) -> u64 {
        // The simulator lists 40 stocks on 5 pages.
        self.simulator.counters().lists.received / 5
    }
}

impl Replica {
    fn metric(&self, sample: &str) -> Option<String> {
        let text = String::from_utf8(self.metrics.encode()).expect("metrics are text");
        let wanted = format!("fuse_{sample} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&wanted))
            .map(str::to_owned)
    }
}

fn slow_pages(ms: u64) -> Rule {
    Rule::on(Operation::List, Action::Latency(Latency::Fixed { ms }))
}

/// Three replicas over nothing, each asked by 20 readers at once: all read the same snapshot, of one crawl.
async fn stampede(world: &World) -> Result<()> {
    world.simulator.add_rule(slow_pages(100))?;
    let mut readers = Vec::new();
    let replicas = [
        world.replica().await?,
        world.replica().await?,
        world.replica().await?,
    ];
    for replica in &replicas {
        for _ in 0..20 {
            let market = replica.market.clone();
            readers.push(tokio::spawn(async move { market.current_or_wait().await }));
        }
    }
    let mut read = Vec::new();
    for reader in readers {
        read.push(reader.await?.expect("a snapshot for every reader"));
    }
    assert!(read.iter().all(|snapshot| snapshot.meta == read[0].meta));
    assert_eq!(
        world.simulator.counters().lists.received,
        5,
        "one crawl of five pages"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_of_three_replicas_is_one_crawl_with_dynamodb_alone() -> Result<()> {
    stampede(&World::start(false)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_of_three_replicas_is_one_crawl_with_redis() -> Result<()> {
    stampede(&World::start(true)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresher_that_starts_with_cold_replicas_shares_their_crawl() -> Result<()> {
    let world = World::start(false)?;
    world.simulator.add_rule(slow_pages(100))?;
    // As a refresher starts: what was crawled since is young enough.
    let wanted = Wanted {
        younger_than: Some(Timestamp::now()),
        wait: true,
    };
    let replica = world.replica().await?;
    let mut refresher = world.refresher().await?;
    let pass = refresher
        .pass(wanted, &world.stop)
        .await
        .expect("nobody stops it");
    assert!(pass.succeeded(), "{pass:?}");
    assert!(replica.market.current_or_wait().await.is_some());
    assert_eq!(
        world.simulator.counters().lists.received,
        5,
        "one crawl of five pages"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_vendor_away_a_cold_reader_is_told_soon_and_the_first_crawl_comes_when_it_is_back()
-> Result<()> {
    let world = World::start(false)?;
    world.simulator.away();
    let replica = world.replica_waiting(Duration::from_secs(600)).await?;
    let nothing = tokio::time::timeout(DEADLINE, replica.market.current_or_wait()).await?;
    assert!(
        nothing.is_none(),
        "told when the crawl failed, long before its patience ends"
    );
    world.simulator.back();
    wait::until_async("the first snapshot", Duration::from_secs(60), || async {
        replica.market.current().map(|_| ())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_of_the_store_a_cold_reader_waits_for_the_crawl_again() -> Result<()> {
    let world = World::start(false)?;
    world.dynamodb.stop()?;
    let replica = world.replica_waiting(Duration::from_secs(600)).await?;
    let nothing = tokio::time::timeout(DEADLINE, replica.market.current_or_wait()).await?;
    assert!(nothing.is_none(), "nobody can be at it");
    world.simulator.add_rule(slow_pages(300))?;
    world.dynamodb.restart()?;
    wait::until_async("the crawl", DEADLINE, || async {
        (world.simulator.counters().lists.received > 0).then_some(())
    })
    .await?;
    let read = tokio::time::timeout(DEADLINE, replica.market.current_or_wait()).await?;
    assert!(read.is_some(), "the crawl that is going on is waited for");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_read_counts_as_gone() -> Result<()> {
    let world = World::start(false)?;
    let Pass::Published(broken) = world.refresh().await? else {
        anyhow::bail!("not published");
    };
    world.simulator.tick(1);
    world.refresh().await?;
    let item = serde_json::json!({
        "TableName": "test-market",
        "Key": {"pk": {"S": format!("SNAPSHOT#{}", broken.id)}, "sk": {"S": "PAGE#00000"}},
        "UpdateExpression": "SET quotes = :none",
        "ExpressionAttributeValues": {":none": {"S": "no quotes"}},
    });
    world.dynamodb.call("UpdateItem", &item)?;
    let replica = world.replica().await?;
    replica.market.current_or_wait().await.expect("a snapshot");
    for _ in 0..3 {
        assert!(replica.market.snapshot(broken.id).await?.is_none());
    }
    let read = replica.metric(r#"snapshot_reads_total{layer="l2",result="error"}"#);
    assert_eq!(read.as_deref(), Some("1"), "read once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_gone_are_crawled_anew_by_a_cold_replica() -> Result<()> {
    let world = World::start(false)?;
    let Pass::Published(done) = world.refresh().await? else {
        anyhow::bail!("not published");
    };
    let key = serde_json::json!({
        "TableName": "test-market",
        "Key": {"pk": {"S": format!("SNAPSHOT#{}", done.id)}, "sk": {"S": "PAGE#00000"}},
    });
    world.dynamodb.call("DeleteItem", &key)?;
    let replica = world.replica().await?;
    let read = replica.market.current_or_wait().await.expect("a snapshot");
    assert_ne!(read.meta.id, done.id);
    assert_eq!(world.crawls(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_follows_what_is_published_without_redis_and_through_its_loss() -> Result<()> {
    let mut world = World::start(true)?;
    world.refresh().await?;
    let replica = world.replica().await?;
    let first = replica.market.current_or_wait().await.expect("a snapshot");

    world.simulator.tick(1);
    world.refresh().await?;
    let second = newer(&replica, &first).await?;

    world.redis.as_mut().expect("Redis").stop()?;
    world.simulator.tick(1);
    world.refresh().await?;
    let third = newer(&replica, &second).await?;
    assert!(
        replica.market.view().get(first.meta.id).is_some(),
        "walks over the first go on"
    );
    assert_eq!(replica.metric("snapshot_replica_deaf").as_deref(), Some("0"));

    world.redis.as_mut().expect("Redis").restart()?;
    world.simulator.tick(1);
    world.refresh().await?;
    newer(&replica, &third).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_announces_its_pointer_and_its_movers_by_name() -> Result<()> {
    let world = World::start(true)?;
    // All prices change; those of the first two by 2 % or more, whatever the direction.
    let mut symbols = world.simulator.symbols();
    let next = ["102", "97", "101.99", "98.01"];
    for (number, symbol) in symbols.iter().enumerate() {
        let prices = ["100", next[number.min(3)]].map(str::parse);
        let prices = prices.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert!(world.simulator.set_prices(symbol, prices), "{symbol}");
    }
    world.refresh().await?;
    let l1 = world.l1(&Metrics::new())?.expect("Redis");
    let mut subscription = l1.subscribe(world.stop.clone());
    let heard = tokio::time::timeout(DEADLINE, subscription.next()).await?;
    assert_eq!(heard, Heard::Reconnected);

    world.simulator.tick(1);
    let Pass::Published(done) = world.refresh().await? else {
        anyhow::bail!("not published");
    };
    let heard = tokio::time::timeout(DEADLINE, subscription.next()).await?;
    let Heard::Announced(announcement) = heard else {
        anyhow::bail!("{heard:?}");
    };
    let store = store_of(&config(world.dynamodb.address())?, &Metrics::new()).await?;
    assert_eq!(Some(announcement.pointer), store.current().await?);
    assert_eq!(announcement.pointer.id, done.id);
    symbols.truncate(2);
    symbols.sort();
    let named: Vec<&str> = announcement.movers.iter().map(Symbol::as_str).collect();
    assert_eq!(named, symbols);
    let announced = l1.load(&announcement.pointer).await.expect("its pages");
    let moved = announced.quotes.iter().filter(|quote| quote.mover).count();
    assert_eq!(moved, symbols.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dynamodb_away_redis_brings_a_replica_up() -> Result<()> {
    let world = World::start(true)?;
    world.refresh().await?;
    world.dynamodb.stop()?;
    let replica = world.replica().await?;
    let read = wait::until_async("a snapshot from Redis", DEADLINE, || async {
        replica.market.current()
    })
    .await?;
    assert_eq!(read.meta.count, 40);
    assert_eq!(world.crawls(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_goes_on_at_a_replica_that_never_held_its_snapshot() -> Result<()> {
    for with_redis in [false, true] {
        let world = World::start(with_redis)?;
        world.refresh().await?;
        let old = world.replica().await?;
        let begun_on = old.market.current_or_wait().await.expect("a snapshot");
        old.stop.cancel();
        world.simulator.tick(1);
        world.refresh().await?;

        let new = world.replica().await?;
        let current = new.market.current_or_wait().await.expect("a snapshot");
        assert_ne!(current.meta.id, begun_on.meta.id);
        let read = new.market.snapshot(begun_on.meta.id).await?.expect("still kept");
        assert_eq!(read.quotes, begun_on.quotes);
        assert!(
            new.market.snapshot(uuid::Uuid::now_v7()).await?.is_none(),
            "what never was is nowhere"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_price_brings_new_prices_early_but_not_too_often() -> Result<()> {
    let world = World::start(false)?;
    world.refresh().await?;
    let replica = world.replica().await?;
    let young = replica.market.current_or_wait().await.expect("a snapshot");
    assert!(!replica.market.quote_refused());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.crawls(), 1, "prices this young are not fetched again");

    tokio::time::sleep(EARLY_PASS_EVERY).await;
    world.simulator.tick(1);
    let taken = (0..50).filter(|_| replica.market.quote_refused()).count();
    assert_eq!(taken, 1, "only one says that it fetches");
    newer(&replica, &young).await?;
    assert!(!replica.market.quote_refused());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.crawls(), 2, "one early pass for all of them");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_page_is_where_the_next_pass_goes_on() -> Result<()> {
    let world = World::start(false)?;
    let mut refresher = world.refresher().await?;
    // More often than a page is asked for.
    let fault = Action::Reset { executed: false };
    let mut on_page_three = Rule::on(Operation::List, fault).times(4);
    on_page_three.on.page = Some(3);
    world.simulator.add_rule(on_page_three)?;
    let wanted = Wanted {
        younger_than: Some(Timestamp::now()),
        wait: true,
    };
    let failed = refresher
        .pass(wanted, &world.stop)
        .await
        .expect("nobody stops it");
    assert_eq!(failed.result(), "reset");
    let began = world.simulator.counters().lists.received;
    let mut pass = refresher
        .pass(wanted, &world.stop)
        .await
        .expect("nobody stops it");
    // The breaker may have opened over the page's failures.
    while pass.result() == "breaker_open" {
        tokio::time::sleep(Duration::from_millis(200)).await;
        pass = refresher
            .pass(wanted, &world.stop)
            .await
            .expect("nobody stops it");
    }
    let Pass::Published(done) = pass else {
        anyhow::bail!("{pass:?}");
    };
    assert_eq!((done.symbols, done.crawl_pages), (40, 5));
    assert_eq!(
        world.simulator.counters().lists.received - began,
        3,
        "pages 3, 4 and 5"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_replica_goes_on_where_its_first_crawl_failed() -> Result<()> {
    let world = World::start(false)?;
    let fault = Action::Reset { executed: false };
    let mut on_page_three = Rule::on(Operation::List, fault).times(4);
    on_page_three.on.page = Some(3);
    world.simulator.add_rule(on_page_three)?;
    let replica = world.replica().await?;
    wait::until_async("the first snapshot", Duration::from_secs(60), || async {
        replica.market.current().map(|_| ())
    })
    .await?;
    assert_eq!(
        world.simulator.counters().lists.received,
        5 + 4,
        "each page once, but for the failures of the third"
    );
    Ok(())
}

async fn newer(replica: &Replica, than: &Snapshot) -> Result<Arc<Snapshot>> {
    let newer = replica.market.view().newer_than(Some(than.meta.id));
    Ok(tokio::time::timeout(DEADLINE, newer).await?)
}
