//! What the ledger proves of itself when a run is over: its hash chain, against a head that was told to the outside (I7), and its
//! reports, in which every order is exactly once (I8). The services' own programs make and check both.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde_json::Value;

use super::Violations;
use super::replicas::SOON;
use super::world::World;
use crate::services::Service;

/// The upkeep makes a link of a thousand events, or of fewer when they are a minute old, which is too long to wait for. So rejected
/// orders fill the last link up.
const FILL_UP: &str = "
    with missing as (
        select (1000 - ((select count(*) from order_events) - coalesce((select max(total) from order_event_chain), 0)) % 1000)
            % 1000 as events
    ), filler as (
        insert into orders (user_id, order_id, portfolio_id, idempotency_key, request_sha256, symbol, side, quantity, limit_price,
            status, reason, answer_status, answer_body, created_at, updated_at)
        select p.user_id, gen_random_uuid(), p.portfolio_id, 'filler ' || gen_random_uuid(), sha256('filler'), 'FILLER', 'buy',
            1, 1, 'rejected', 'unknown_symbol', 422, '{}', now(), now()
        from missing, (select * from portfolios limit 1) p, generate_series(1, missing.events)
        returning user_id, order_id, status, reason, created_at
    )
    insert into order_events (user_id, order_id, status, reason, at, seq)
    select user_id, order_id, status, reason, created_at, row_number() over () from filler";

/// I8: what happened to orders and what the reports list, in both directions: nothing is left out, invented, or there twice.
const LISTED: &str = "
    with happened as (
        select order_id::text as order_id, case when from_status = 'unknown' then 'resolved' else status end as section
        from order_events where status <> 'submitted'
    ), listed as (
        select item ->> 'orderId' as order_id, section, count(*) as times
        from reports, unnest(array['filled', 'rejected', 'failed', 'unknown', 'resolved']) section,
            json_array_elements(content -> section -> 'items') item
        group by 1, 2
    )
    select 'order ' || order_id || case when h.order_id is null then ' was not ' else ' was ' end || section || ', and the reports list it '
        || coalesce(l.times, 0) || ' times as that'
    from happened h full join listed l using (order_id, section)
    where h.order_id is null or l.times is distinct from 1";

/// I8: the sums of all reports are those of the events.
const TOTALS: &str = "
    with told as (
        select sum((totals ->> 'orders')::numeric) as orders, sum((totals ->> 'filled')::numeric) as filled,
            sum((totals ->> 'rejected')::numeric) as rejected, sum((totals ->> 'failed')::numeric) as failed,
            sum((totals ->> 'unknown')::numeric) as unknown, sum((totals ->> 'resolved')::numeric) as resolved,
            sum((totals ->> 'filledTotal')::numeric) as filled_total, sum((totals ->> 'resolvedTotal')::numeric) as resolved_total
        from (select content -> 'totals' as totals from reports) r
    ), happened as (
        select count(*) filter (where not late)::numeric as orders, count(*) filter (where status = 'filled' and not late)::numeric as filled,
            count(*) filter (where status = 'rejected')::numeric as rejected,
            count(*) filter (where status = 'failed' and not late)::numeric as failed,
            count(*) filter (where status = 'unknown')::numeric as unknown, count(*) filter (where late)::numeric as resolved,
            coalesce(sum(fill_total) filter (where not late), 0) as filled_total,
            coalesce(sum(fill_total) filter (where late), 0) as resolved_total
        from (select *, coalesce(from_status = 'unknown', false) as late from order_events where status <> 'submitted') e
    )
    select 'the reports tell totals of ' || told::text || ', the events ' || happened::text
    from told, happened where told is distinct from happened";

/// I1: per symbol, what the reports sum up is what was filled.
const SYMBOLS: &str = "
    with told as (
        select line ->> 'symbol' as symbol, sum((line ->> 'orders')::numeric) as orders,
            sum((line ->> 'quantity')::numeric) as quantity, sum((line ->> 'total')::numeric) as total
        from reports, json_array_elements(content -> 'bySymbol') line group by 1
    ), happened as (
        select o.symbol, count(*)::numeric as orders, sum(e.fill_quantity) as quantity, sum(e.fill_total) as total
        from order_events e join orders o using (user_id, order_id)
        where e.status = 'filled' and e.from_status = 'submitted' group by 1
    )
    select 'the reports sum up ' || coalesce(told::text, 'nothing') || ', filled were ' || coalesce(happened::text, 'none')
    from told full join happened using (symbol)
    where told is distinct from happened";

/// What was told to the outside when a ledger was closed.
#[derive(Debug)]
pub struct Closed {
    /// The end of the chain as the last report's file tells it, `LINK:HASH`.
    head: String,
    /// Events that it must cover.
    events: u64,
}

/// Makes the first of two reports, of whatever has happened so far; the load may go on.
///
/// # Errors
/// When it cannot be made.
pub fn report_so_far(world: &World) -> Result<()> {
    // Where the day is the earliest in the world: the last report is then of a later one.
    report(world, -12).map(drop)
}

/// Waits until the upkeep has chained every event, and reports what was not reported. The world must be at rest, and nothing is counted
/// in it afterwards.
///
/// # Errors
/// When the chain does not grow, or the report cannot be made.
pub fn close(world: &World) -> Result<Closed> {
    let events = world.count("select count(*) from order_events")?;
    world.sql(FILL_UP)?;
    let chained = "select coalesce(max(total), 0) from order_event_chain";
    crate::wait::until("the chain to cover every event", SOON, || {
        (world.count(chained).ok()? >= events).then_some(())
    })?;
    // A day is cut a minute before its end; it must not be cut before now.
    let is_late = Timestamp::now().to_zoned(zone(14)).hour() == 23;
    let report = report(world, if is_late { 13 } else { 14 })?;
    let (link, hash) = (&report["chain"]["link"], &report["chain"]["hash"]);
    Ok(Closed {
        head: format!(
            "{link}:{}",
            hash.as_str().context("a head of the chain in the report")?
        ),
        events,
    })
}

/// The report of today in the zone so many hours east of Greenwich, and of all days before it, mailed to nobody. What its file holds.
fn report(world: &World, hours_east: i8) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_string_lossy();
    let date = Timestamp::now().to_zoned(zone(hours_east)).date().to_string();
    // The names of these zones count westwards.
    let name = format!("Etc/GMT{:+}", -hours_east);
    let envs = [
        ("FUSE_DATABASE__URL", url(world)),
        ("FUSE_REPORT__TIME_ZONE", name),
    ];
    let output = Service::run("report-job", &["--date", &date, "--out", &out], envs)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "report-job ended with {}:\n{said}",
        output.status
    );
    let file =
        fs::read(folder.path().join("report.json")).with_context(|| format!("report-job said:\n{said}"))?;
    serde_json::from_slice(&file).context("report.json")
}

fn zone(hours_east: i8) -> TimeZone {
    TimeZone::fixed(Offset::constant(hours_east))
}

fn url(world: &World) -> String {
    world.postgres.service_url(&world.database)
}

/// What is wrong with the proofs of a closed ledger.
///
/// # Errors
/// When they cannot be looked at.
pub fn proof_violations(world: &World, closed: &Closed) -> Result<Violations> {
    let mut found = chain_violations(world, closed)?;
    for query in [LISTED, TOTALS, SYMBOLS] {
        found.extend(world.sql(query)?.lines().map(str::to_owned));
    }
    Ok(found)
}

fn chain_violations(world: &World, closed: &Closed) -> Result<Violations> {
    let args = ["verify", "--anchor", &closed.head];
    let output = Service::run("api-service", &args, [("FUSE_DATABASE__URL", url(world))])?;
    let said = String::from_utf8_lossy(&output.stderr);
    let verdict: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("api-service verify ended with {}:\n{said}", output.status))?;
    let mut found = Violations::new();
    if !output.status.success() || verdict["valid"] != true {
        found.push(format!(
            "api-service verify ended with {}: {verdict}",
            output.status
        ));
    }
    if verdict["checked"]["events"].as_u64() < Some(closed.events) {
        found.push(format!(
            "of {} events the chain does not cover all: {verdict}",
            closed.events
        ));
    }
    Ok(found)
}
