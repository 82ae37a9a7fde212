//! PostgreSQL killed, stopped in order, and standing still under load: orders are answered 503 with a time to come back, prices go on,
//! nothing that was told is lost, and all is well again by itself. (reliability: T07)

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fuse_harness::chaos::{Got, Told};
use fuse_harness::load::{self, Pace, Plan, Target, Until};
use fuse_harness::wait;

use crate::support::{Case, SOON, new_key};

const CLIENTS: u64 = 24;
const READS_PER_SEC: f64 = 40.0;
/// The service waits a second for a connection, and two more than its limit of one for a statement that is silent; the rest is for a
/// loaded machine. Without any bound a client would wait for the outage's end.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Once the outage is known, by the median. What a machine that is busy otherwise takes for any request is measured by reads that take turns
/// with the orders, and comes on top, here and below.
const REFUSED_WITHIN: Duration = Duration::from_millis(500);
const REFUSALS: usize = 20;
/// From the database's return to the first order that is bought.
const BACK_WITHIN: Duration = Duration::from_secs(2);
/// Of each replica, as shipped: its pool, its writers, and its session for the upkeep's lock. So many may be tried in a second.
const CONNECTIONS_MAX: u64 = 10 + 2 + 1;

#[derive(Clone, Copy, Debug)]
enum Outage {
    Killed,
    Stopped,
    Still,
}

impl Outage {
    fn begin(self, case: &mut Case) -> Result<()> {
        match self {
            Self::Killed => case.world.postgres.kill(),
            Self::Stopped => case.world.postgres.stop(),
            Self::Still => case.world.postgres.pause(),
        }
    }
}

#[test]
fn orders_wait_and_prices_go_on_while_postgres_is_away() -> Result<()> {
    let patient_vendor = [("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "15000")];
    let mut case = Case::start_with(2, Default::default(), &patient_vendor)?;
    let traffic = case.traffic(7, CLIENTS, case.world.urls())?;
    let reads = reads(&case)?;
    for outage in [Outage::Killed, Outage::Stopped, Outage::Still] {
        traffic.wait_for_more_outcomes(30)?;
        outage.begin(&mut case)?;
        let refused = refused_at_once(&case).with_context(|| format!("{outage:?}"))?;
        ensure!(
            refused.json()["code"] == "database_unavailable" && refused.retry_after,
            "{outage:?}: {refused:?}"
        );
        for index in [0, 1] {
            let replica = case.world.replica(index);
            wait::until("the metric of the outage", SOON, || {
                let series = "fuse_dependency_up{dependency=\"postgres\"}";
                (replica.metric(series).ok()?? == 0.0).then_some(())
            })?;
            replica
                .wait_ready(SOON)
                .context("a database takes no replica away")?;
        }
        let busy = known_outage(&case).with_context(|| format!("{outage:?}"))?;
        case.world.postgres.restart()?;
        bought_soon(&case, busy).with_context(|| format!("after {outage:?}"))?;
        traffic
            .wait_for_more_outcomes(30)
            .with_context(|| format!("after {outage:?}"))?;
    }
    reads
        .stop()?
        .all_good()
        .context("prices, which need no database")?;
    case.count_with(traffic)
}

/// Prices of both replicas, read all the while.
fn reads(case: &Case) -> Result<load::Running> {
    let key = [("x-api-key", case.users[0].key.as_str())];
    let targets = case
        .world
        .urls()
        .iter()
        .map(|url| Target::get(url, "/v1/stocks?limit=5", &key))
        .collect::<Result<Vec<_>>>()?;
    let plan = Plan {
        connections: 4,
        pace: Pace::PerSecond(READS_PER_SEC),
        until: Until::Elapsed(Duration::from_secs(3600)),
        inspect: None,
    };
    load::start(&targets, &plan)
}

/// An order of the outage's time. One that slips in before the outage is noticed is answered otherwise, and is not the one.
fn refused_at_once(case: &Case) -> Result<Got> {
    let mut number = 0;
    wait::until("an order that the outage refuses", SOON, || {
        number += 1;
        let (asked, key) = (Instant::now(), new_key());
        let got = case.place(number % 2, &key, &case.unique_order()).ok()?;
        let is_refused = got.status == 503 && got.told() == Told::Nothing;
        is_refused.then(|| (got, asked.elapsed()))
    })
    .and_then(|(got, took)| {
        println!("refused after {} ms", took.as_millis());
        ensure!(took < ANSWER_WITHIN, "the refusal took {took:?}");
        Ok(got)
    })
}

/// Orders while the outage is known: refused without a wait, and the database is not stormed meanwhile. Returns what the machine
/// makes of any request: several times what a read takes.
fn known_outage(case: &Case) -> Result<Duration> {
    let (began, connections) = (Instant::now(), case.world.proxy.accepted());
    let (mut refusals, mut reads) = (Vec::new(), Vec::new());
    for number in 0..REFUSALS {
        let asked = Instant::now();
        let got = case.place(number % 2, &new_key(), &case.unique_order())?;
        refusals.push(asked.elapsed());
        ensure!(got.status == 503 && got.retry_after, "order {number}: {got:?}");
        let asked = Instant::now();
        let client = case.world.client(number % 2, &case.users[0].key);
        client.get("/v1/stocks?limit=5")?.expect(200)?;
        reads.push(asked.elapsed());
    }
    let tried = case.world.proxy.accepted() - connections;
    let secs = began.elapsed().as_secs() + 1;
    let (refused, read) = (median(refusals), median(reads));
    println!("refused after {refused:?}, a read took {read:?}; {tried} connections within {secs} s");
    let busy = 5 * read;
    ensure!(
        refused <= REFUSED_WITHIN + busy,
        "refused after {refused:?}, and a read took {read:?}"
    );
    let replicas = u64::try_from(case.world.replicas())?;
    ensure!(
        tried <= secs * replicas * CONNECTIONS_MAX,
        "{tried} connections within {secs} s"
    );
    Ok(busy)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn bought_soon(case: &Case, busy: Duration) -> Result<()> {
    let back = Instant::now();
    wait::until("an order that is bought", SOON, || {
        let got = case.place(0, &new_key(), &case.unique_order()).ok()?;
        (got.status == 201).then_some(())
    })?;
    let took = back.elapsed();
    println!("bought again after {took:?}");
    ensure!(
        took <= BACK_WITHIN + busy,
        "the first order was bought {took:?} after the database was back"
    );
    Ok(())
}
