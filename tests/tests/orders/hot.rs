//! Many clients, one portfolio, one stock: every fill is a step of the version, nothing is lost between them, nobody is turned away
//! or waits for long, and an order that the database refuses takes no other with it. (reliability: T09)

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use fuse_harness::load::{self, Inspect, Make, Pace, Plan, Reply, Target, Until};
use serde_json::{Value, json};

use crate::support::{Case, new_key};

/// Without a pause. 256 of them are more than two busy cores serve without optimisation: the writers then put orders off, as they should.
/// So many at once are in the other test, one order each.
const CLIENTS: usize = 64;
const ORDERS: usize = 10 * CLIENTS;
/// These have the name of an order that is there already: the ledger refuses each of them, and nothing beside it.
const ONE_IS_REFUSED_OF: usize = 10;
/// Of the longest wait.
const WAIT_MAX_MILLIS: f64 = 2000.0;
/// As outside of tests: an order that waited for its turn longer than this would not be sent any more.
const MARGIN: [(&str, &str); 1] = [("FUSE_ORDERS__SWEEP_MARGIN_SECS", "30")];

/// As if one order out of many met a defect: whatever statement holds it fails as a whole.
const POISON: &str = "
    create function refuse_poison() returns trigger language plpgsql as $$ begin
        if new.client_order_id like 'poison %' then raise exception 'poison'; end if;
        return new;
    end $$;
    create trigger refuse_poison before insert on orders for each row execute function refuse_poison()";
const BESIDE_POISON: usize = 256;
const ONE_IS_POISON_OF: usize = 64;

#[test]
fn a_hot_portfolio_books_every_fill_and_refuses_only_what_is_wrong() -> Result<()> {
    let mut case = start()?;
    let mut named = case.order("1");
    named["clientOrderId"] = json!("taken");
    ensure!(case.place(0, &new_key(), &named)?.status == 201);

    let orders: Vec<_> = (0..ORDERS).map(|number| nth(&case, number)).collect();
    let firsts = place_at_once(&case, &orders)?;
    let count = |status: u16| firsts.iter().filter(|(found, _)| *found == status).count();
    let filled = ORDERS - ORDERS / ONE_IS_REFUSED_OF;
    ensure!(
        (count(201), count(422)) == (filled, ORDERS - filled),
        "otherwise answered: {:?}",
        firsts.iter().find(|(status, _)| ![201, 422].contains(status))
    );
    is_booked(&case, 1 + filled)?;
    // Each key stands for what it was told; and now the count knows all of them.
    let answers = case.place_all(orders, CLIENTS)?;
    let again = answers.into_iter().map(|got| (got.status, got.body)).collect();
    ensure!(bought(firsts) == bought(again), "a repeat was told otherwise");
    is_booked(&case, 1 + filled)?;
    case.count()
}

#[test]
fn an_order_that_the_database_refuses_fails_alone_among_many() -> Result<()> {
    let mut case = start()?;
    case.world.sql(POISON)?;
    let poisoned = |number: usize| number % ONE_IS_POISON_OF == ONE_IS_POISON_OF / 2;
    let orders = (0..BESIDE_POISON).map(|number| {
        let (mut key, mut order) = (new_key(), case.unique_order());
        if poisoned(number) {
            key = format!("poison-{key}");
            order["clientOrderId"] = json!(format!("poison {number}"));
        }
        (key, order)
    });
    let answers = case.place_all(orders.collect(), BESIDE_POISON)?;
    for (number, got) in answers.iter().enumerate() {
        let expected = if poisoned(number) { 500 } else { 201 };
        ensure!(got.status == expected, "order {number}: {got:?}");
    }
    let together = "a batch was refused; its orders are written one by one";
    ensure!(
        [0, 1].map(|index| case.world.replica(index).log_text().contains(together)) != [false, false],
        "each poison was alone in its statement: nothing was shown"
    );
    ensure!(
        case.world
            .count("select count(*) from orders where client_order_id is not null")?
            == 0
    );
    is_booked(&case, BESIDE_POISON - BESIDE_POISON / ONE_IS_POISON_OF)?;
    // A refusal by the database is a defect, which a client and the log are told; nothing else is wrong.
    case.count_but_for(&["poison"])
}

fn start() -> Result<Case> {
    let mut case = Case::start(2)?;
    for index in [0, 1] {
        case.world.stop_replica(index)?;
        case.world.start_replica_with(index, &MARGIN)?;
    }
    Ok(case)
}

fn nth(case: &Case, number: usize) -> (String, Value) {
    let mut order = case.unique_order();
    if number.is_multiple_of(ONE_IS_REFUSED_OF) {
        order["clientOrderId"] = json!("taken");
    }
    (new_key(), order)
}

/// Places them for the first user, each client one after the other over a connection of its own. All must be answered soon.
fn place_at_once(case: &Case, orders: &[(String, Value)]) -> Result<Vec<(u16, String)>> {
    let requests: Arc<Vec<String>> = Arc::new(
        orders
            .iter()
            .map(|(key, order)| request(&case.users[0].key, key, order))
            .collect(),
    );
    let taken = Arc::new(AtomicUsize::new(0));
    let make: Make = Arc::new(move |buffer: &mut Vec<u8>| {
        let number = taken.fetch_add(1, Ordering::Relaxed);
        buffer.extend_from_slice(requests[number].as_bytes());
    });
    let targets = case
        .world
        .urls()
        .iter()
        .map(|url| Target::made(url, Arc::clone(&make)))
        .collect::<Result<Vec<_>>>()?;
    let answers: Arc<Mutex<Vec<(u16, String)>>> = Arc::default();
    let kept = Arc::clone(&answers);
    let inspect: Inspect = Arc::new(move |reply: &Reply<'_>| {
        let body = String::from_utf8_lossy(reply.body).into_owned();
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push((reply.status, body));
        Ok(())
    });
    let plan = Plan {
        connections: CLIENTS,
        pace: Pace::FlatOut,
        until: Until::Requests(orders.len() as u64),
        inspect: Some(inspect),
    };
    let outcome = load::run(&targets, &plan)?;
    let (median, longest) = (outcome.percentile_ms(0.5), outcome.percentile_ms(1.0));
    println!(
        "{:.0} answers a second, median {median:.0} ms, longest wait {longest:.0} ms",
        outcome.per_second()
    );
    ensure!(outcome.failed == 0, "{:?}", outcome.messages);
    ensure!(longest <= WAIT_MAX_MILLIS, "the longest wait was {longest} ms");
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *answers))
}

fn request(api_key: &str, key: &str, order: &Value) -> String {
    let body = order.to_string();
    format!(
        "POST /v1/orders HTTP/1.1\r\nhost: fuse\r\nx-api-key: {api_key}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The orders among answers; a refused name leaves no order, so its document is made anew each time.
fn bought(answers: Vec<(u16, String)>) -> BTreeSet<String> {
    let filled = answers.into_iter().filter(|(status, _)| *status == 201);
    filled.map(|(_, body)| body).collect()
}

/// One holding, and a version that has made a step for each fill.
fn is_booked(case: &Case, fills: usize) -> Result<()> {
    let path = format!("/v1/portfolios/{}", case.users[0].id);
    let portfolio = case.world.client(1, &case.users[0].key).get(&path)?.expect(200)?;
    let version = portfolio["version"].as_u64().context("a version")?;
    ensure!(
        version == 1 + fills as u64,
        "version {version} after {fills} fills"
    );
    let holdings = portfolio["holdings"].as_array().map_or(0, Vec::len);
    ensure!(holdings == 1, "{portfolio}");
    Ok(())
}
