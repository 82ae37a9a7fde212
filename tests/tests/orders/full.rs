//! A server without a free connection, and one whose disk is full: orders are refused with a time to come back, nothing is half
//! written, prices and probes go on, and what the vendor bought meanwhile is booked once there is room. (reliability: T08)

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::background;
use fuse_harness::chaos::Got;
use fuse_harness::postgres::PostgresOptions;
use fuse_harness::proxy::Mode;
use fuse_harness::volume::SmallVolume;
use fuse_harness::wait;

use crate::support::{Case, SOON, new_key};

const UP: &str = "fuse_dependency_up{dependency=\"postgres\"}";
/// What every order writes, as one figure.
const LEDGER: &str = "select md5(concat((select string_agg(o::text, '|' order by order_id) from orders o), \
    (select string_agg(e::text, '|' order by order_id, status) from order_events e), \
    (select string_agg(h::text, '|' order by user_id, symbol) from holdings h), \
    (select string_agg(p::text, '|' order by portfolio_id) from portfolios p)))";

#[test]
fn without_a_free_connection_orders_are_refused_and_prices_go_on() -> Result<()> {
    let settings = [
        ("max_connections", "12"),
        ("superuser_reserved_connections", "0"),
        ("authentication_timeout", "600"),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut case = Case::start_with(
        1,
        PostgresOptions {
            settings: settings.to_vec(),
            ..PostgresOptions::default()
        },
        &[("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "15000")],
    )?;
    ensure!(case.place(0, &new_key(), &case.unique_order())?.status == 201);
    let before = case.world.sql(LEDGER)?;
    case.world.proxy.set(Mode::Refuse)?;
    let taken = take_all_connections(case.world.postgres.address())?;
    ensure!(!taken.is_empty(), "there was none to take");
    case.world.proxy.set(Mode::Forward)?;
    for _ in 0..3 {
        is_refused(&case.place(0, &new_key(), &case.unique_order())?)?;
    }
    let replica = case.world.replica(0);
    wait::until("the metric of the outage", SOON, || {
        (replica.metric(UP).ok()?? == 0.0).then_some(())
    })?;
    serves_all_but_orders(&case)?;
    drop(taken);
    let after = wait::until("a free connection", SOON, || case.world.sql(LEDGER).ok())?;
    ensure!(before == after, "a refused order left something behind");
    ensure!(
        case.world.vendor.executed().len() == 1,
        "a refused order was sent"
    );
    is_well_again(&case)?;
    case.count()
}

#[test]
fn a_full_disk_refuses_orders_and_keeps_what_was_bought() -> Result<()> {
    // Nothing smaller than a volume of its own can be filled without harm to others.
    let volume = SmallVolume::mount(256)?.context(
        "this test fills a small volume of its own, and this process may not mount one: run it as root \
         (in a container: with the capability SYS_ADMIN)",
    )?;
    let options = PostgresOptions {
        dir: Some(volume.path().join("postgres")),
        settings: [("max_wal_size", "64MB"), ("min_wal_size", "32MB")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        ..PostgresOptions::default()
    };
    let mut case = Case::start_with(1, options, &[("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "15000")])?;
    ensure!(case.place(0, &new_key(), &case.unique_order())?.status == 201);
    volume.fill()?;
    // Pages that were begun still have room.
    let refused = wait::until("an order that does not fit", SOON, || {
        let got = case.place(0, &new_key(), &case.unique_order()).ok()?;
        (got.status == 503).then_some(got)
    })?;
    is_refused(&refused)?;
    serves_all_but_orders(&case)?;
    volume.free()?;
    is_well_again(&case)?;
    case.count()
}

fn is_refused(got: &Got) -> Result<()> {
    ensure!(
        got.status == 503 && got.retry_after && got.json()["code"] == "database_unavailable",
        "{got:?}"
    );
    Ok(())
}

fn serves_all_but_orders(case: &Case) -> Result<()> {
    let client = case.world.client(0, &case.users[0].key);
    client.get("/v1/stocks?limit=5")?.expect(200)?;
    for probe in ["livez", "readyz"] {
        let url = format!("{}/{probe}", case.world.replica(0).admin_url());
        let (status, body) = background::http_get(&url, Duration::from_secs(10))?;
        ensure!(status == 200, "{probe}: {status} {body}");
    }
    Ok(())
}

fn is_well_again(case: &Case) -> Result<()> {
    wait::until("an order that is filled", SOON, || {
        let got = case.place(0, &new_key(), &case.unique_order()).ok()?;
        (got.status == 201).then_some(())
    })?;
    let replica = case.world.replica(0);
    wait::until("the metric to follow", SOON, || {
        (replica.metric(UP).ok()?? == 1.0).then_some(())
    })
}

/// Sessions that never say their password, until the server has no more of them.
fn take_all_connections(server: SocketAddr) -> Result<Vec<TcpStream>> {
    let parameters = b"user\0fuse\0database\0postgres\0\0";
    let length = u32::try_from(8 + parameters.len())?;
    let version: u32 = 3 << 16;
    let start = [&length.to_be_bytes()[..], &version.to_be_bytes(), parameters].concat();
    let mut taken = Vec::new();
    loop {
        let mut session = TcpStream::connect(server).context("connect to PostgreSQL")?;
        session.set_read_timeout(Some(SOON))?;
        session.write_all(&start)?;
        let mut kind = [0];
        session.read_exact(&mut kind).context("PostgreSQL's answer")?;
        match kind[0] {
            // It asks for the password, and holds a place for whoever gives it.
            b'R' => taken.push(session),
            _ => return Ok(taken),
        }
    }
}
