//! PostgreSQL away: at the start, later, and exactly between the two writes of an order.

use anyhow::{Result, anyhow};
use fuse_harness::postgres::Postgres;
use fuse_harness::proxy::{Mode, TcpProxy};
use fuse_harness::wait;
use serde_json::json;
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{BOOTSTRAP, PATIENCE, Setup, World};

/// A database that is away is noticed soon.
fn impatient() -> Vec<(&'static str, String)> {
    vec![("FUSE_DATABASE__ACQUIRE_TIMEOUT_MILLIS", "1000".to_owned())]
}

/// A world whose service reaches the database through a proxy. The vendor may take its time, so that the database can go
/// away meanwhile.
async fn behind_proxy() -> Result<(World, TcpProxy)> {
    behind_proxy_with(Vec::new()).await
}

async fn behind_proxy_with(more: Vec<(&'static str, String)>) -> Result<(World, TcpProxy)> {
    let postgres = Postgres::shared()?;
    let database = postgres.database()?;
    let proxy = TcpProxy::start(postgres.address())?;
    let through = database.replace(
        &format!(":{}/", postgres.port()),
        &format!(":{}/", proxy.address().port()),
    );
    let mut env = impatient();
    env.push(("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "10000".to_owned()));
    env.extend(more);
    let world = World::on(
        database,
        Setup {
            env,
            database_url: Some(through),
            ..Setup::default()
        },
    )
    .await?;
    Ok((world, proxy))
}

async fn wait_for(world: &World, path: &str, key: &str) -> Result<()> {
    wait::until_async("the database to be found again", PATIENCE, || async {
        let answer = world.get(path).key(key).send().await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await
    .map_err(|error| world.api.proc.explain(error))
}

#[tokio::test(flavor = "multi_thread")]
async fn away_later_takes_orders_away_and_not_prices() -> Result<()> {
    let (world, proxy) = behind_proxy().await?;
    let symbol = world.symbol();
    world.order(&world.good_order()).gives(201).await?;
    let before = (world.ledger()?, world.vendor_buys());
    for mode in [Mode::Refuse, Mode::Hang] {
        proxy.set(mode)?;
        let answer = world
            .order(&world.good_order())
            .refused(503, "database_unavailable", &[])
            .await?;
        assert!(
            answer.text.contains("this request bought nothing"),
            "{}",
            answer.text
        );
        let get = |path: &str| world.get(path).key(&world.key);
        get("/v1/orders")
            .refused(503, "database_unavailable", &[])
            .await?;
        get(&format!("/v1/portfolios/{}", world.user))
            .refused(503, "database_unavailable", &[])
            .await?;
        // The key was seen before, so prices go on.
        get("/v1/stocks").gives(200).await?;
        get(&format!("/v1/stocks/{symbol}")).gives(200).await?;
        // One that was not cannot be checked.
        world
            .get("/v1/stocks")
            .key(&fuse_ledger_key())
            .refused(503, "database_unavailable", &[])
            .await?;
        assert!(
            world.api.is_ready().await,
            "a shared database never makes a replica unready"
        );
        proxy.set(Mode::Forward)?;
        proxy.cut();
        wait_for(&world, "/v1/orders", &world.key).await?;
        assert_eq!((world.ledger()?, world.vendor_buys()), before, "after {mode:?}");
    }
    world.order(&world.good_order()).gives(201).await?;
    Ok(())
}

/// Every read would ask the database about its key; while that is silent, one a second is enough.
#[tokio::test(flavor = "multi_thread")]
async fn away_later_does_not_make_every_price_read_wait() -> Result<()> {
    let (world, proxy) = behind_proxy_with(vec![("FUSE_AUTH__KEY_FRESH_SECS", "0".to_owned())]).await?;
    let stocks = || world.get("/v1/stocks").key(&world.key).gives(200);
    stocks().await?;
    proxy.set(Mode::Hang)?;
    let begun = std::time::Instant::now();
    // One by one each would wait a second for a connection.
    for _ in 0..50 {
        stocks().await?;
    }
    let together = futures::future::join_all((0..50).map(|_| stocks())).await;
    together.into_iter().collect::<Result<Vec<_>>>()?;
    let taken = begun.elapsed();
    assert!(taken < std::time::Duration::from_secs(25), "{taken:?}");
    proxy.set(Mode::Forward)?;
    proxy.cut();
    wait_for(&world, "/v1/orders", &world.key).await
}

/// A well-formed key that nobody made.
fn fuse_ledger_key() -> String {
    fuse_ledger::KeyText::generate(uuid::Uuid::now_v7())
        .reveal()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn away_at_the_start_is_a_clear_log_and_recovers_by_itself() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let database = postgres.database()?;
    // The keys are made while it is there.
    let made = World::on(
        database.clone(),
        Setup {
            publish: None,
            ..Setup::default()
        },
    )
    .await?;
    let key = made.key.clone();
    drop(made);
    postgres.stop()?;
    let setup = Setup {
        env: impatient(),
        migrate: false,
        ..Setup::default()
    };
    let world = World::on(database, setup).await?;
    assert!(world.api.is_ready().await);
    world.get("/v1/stocks").key(BOOTSTRAP).gives(200).await?;
    world
        .get("/v1/orders")
        .key(BOOTSTRAP)
        .refused(503, "database_unavailable", &[])
        .await?;
    world
        .get("/v1/stocks")
        .key(&key)
        .refused(503, "database_unavailable", &[])
        .await?;
    let order = world.post("/v1/orders", &world.good_order()).key(&key).fresh();
    order.refused(503, "database_unavailable", &[]).await?;
    assert_eq!(world.vendor_buys(), (0, 0));
    world
        .api
        .proc
        .wait_for_line("a clear log line", PATIENCE, |line| {
            line.contains("the database cannot be used").then_some(())
        })?;

    postgres.restart()?;
    wait_for(&world, "/v1/orders", BOOTSTRAP).await?;
    world
        .post("/v1/orders", &world.good_order())
        .key(&key)
        .fresh()
        .gives(201)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_schema_it_is_unavailable_until_migrated() -> Result<()> {
    let world = World::with(Setup {
        env: impatient(),
        migrate: false,
        ..Setup::default()
    })
    .await?;
    world
        .get("/v1/orders")
        .key(BOOTSTRAP)
        .refused(503, "database_unavailable", &[])
        .await?;
    crate::support::migrate(&world.database_url)?;
    wait_for(&world, "/v1/orders", BOOTSTRAP).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_kept_while_the_database_is_away() -> Result<()> {
    an_outcome_is_kept(Mode::Refuse).await
}

/// Its machine is gone without a word: no end of a connection is ever seen.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_kept_while_the_database_is_silent() -> Result<()> {
    an_outcome_is_kept(Mode::Hang).await
}

async fn an_outcome_is_kept(mode: Mode) -> Result<()> {
    let (world, proxy) = behind_proxy().await?;
    let slow = Action::Latency(Latency::Fixed { ms: 3_000 });
    world
        .simulator
        .add_rule(Rule::on(Operation::Buy, slow))
        .map_err(|error| anyhow!("{error}"))?;
    let body = world.good_order();
    let place = || {
        world
            .post("/v1/orders", &body)
            .key(&world.key)
            .header("idempotency-key", "kept")
    };
    let waiting = tokio::spawn(place().send());
    wait::until("the vendor to be called", PATIENCE, || {
        (world.vendor_buys().0 == 1).then_some(())
    })?;
    proxy.set(mode)?;
    let answer = waiting.await??;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let order = answer.json();
    assert_eq!(order["status"], "submitted", "the answer says what is recorded");
    assert_eq!(world.sql("select status from orders")?, "submitted");
    assert_eq!(world.api.metric("fuse_order_settlements_waiting").await?, 1.0);

    proxy.set(Mode::Forward)?;
    let path = format!("/v1/orders/{}", order["id"].as_str().expect("an id"));
    let settled = wait::until_async("the order to be settled", PATIENCE, || async {
        let order = world.get(&path).key(&world.key).send().await.ok()?.json();
        (order["status"] == "filled").then_some(order)
    });
    let settled = settled.await.map_err(|error| world.api.proc.explain(error))?;
    assert_eq!(settled["fill"]["quantity"], "1");
    assert_eq!(world.sql("select quantity::float8 from holdings")?, "1");
    // The repeat gets the answer that was given, and the vendor is never asked again.
    let again = place().gives(202).await?;
    assert_eq!(again.text, answer.text);
    assert_eq!(world.vendor_buys(), (1, 1));
    world
        .api
        .wait_for_metric("fuse_order_settlements_waiting", 0.0)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_first_write_lost_its_answer_does_not_stay_open() -> Result<()> {
    let (world, proxy) = behind_proxy().await?;
    world.order(&world.good_order()).gives(201).await?;
    // The row is locked, so the first write arrives and waits; then its connection is cut, and then it goes on.
    let blocker = "begin; lock table orders in share mode; select pg_sleep(60); commit";
    let database = world.database_url.clone();
    let blocking = std::thread::spawn(move || {
        Postgres::shared()
            .and_then(|postgres| postgres.sql_at(&database, blocker))
            .map(drop)
    });
    let lock = "relation = 'orders'::regclass and mode = 'ShareLock' and granted";
    wait::until("the lock to be held", PATIENCE, || {
        let held = world.sql(&format!("select count(*) from pg_locks where {lock}"));
        held.is_ok_and(|held| held == "1").then_some(())
    })?;
    let body = world.good_order();
    let place = || {
        world
            .post("/v1/orders", &body)
            .key(&world.key)
            .header("idempotency-key", "lost")
    };
    let waiting = tokio::spawn(place().send());
    wait::until("the write to wait for the lock", PATIENCE, || {
        let waits =
            world.sql("select count(*) from pg_locks where relation = 'orders'::regclass and not granted");
        waits.is_ok_and(|waits| waits == "1").then_some(())
    })?;
    proxy.cut();
    waiting.await??.is_problem(503, "database_unavailable", &[]);
    world.sql(&format!(
        "select pg_terminate_backend(pid) from pg_locks where {lock}"
    ))?;
    // Its psql was cut off, and says so.
    let _ = blocking.join().map_err(|_| anyhow!("the blocker panicked"))?;

    // Whether or not the server noticed the cut before it wrote: no order stays submitted, and the vendor was never called for it.
    wait::until("no order to be open", PATIENCE, || {
        let open = world.sql("select count(*) from orders where status = 'submitted'");
        let waiting = world.sql("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'");
        (open.ok()? == "0" && waiting.ok()? == "0").then_some(())
    })?;
    assert_eq!(world.vendor_buys(), (1, 1));
    let answer = place().send().await?;
    match answer.status {
        201 => assert_eq!(world.vendor_buys(), (2, 2)),
        _ => answer.is_problem(503, "database_unavailable", &[]),
    }
    assert_eq!(
        world.sql("select count(*) from holdings h where quantity > 2")?,
        json!(0).to_string()
    );
    Ok(())
}
