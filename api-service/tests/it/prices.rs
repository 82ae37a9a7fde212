//! The price history of one stock.

use anyhow::{Context as _, Result};
use fuse_domain::Price;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::World;

/// Publishes price changes of the first stock at these ages in minutes, oldest first; the prices are the ages. Gives its symbol and times.
async fn publish(world: &World, minutes: &[i64]) -> Result<(String, Vec<Timestamp>)> {
    let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond())?;
    let mut symbol = String::new();
    let mut times = Vec::new();
    for age in minutes {
        let at = now - SignedDuration::from_mins(*age);
        let price = Price::parse(&format!("{}.5", age.abs()))?;
        let published = world
            .publish_with(|quotes| {
                quotes.sort_by(|a, b| a.symbol.cmp(&b.symbol));
                quotes[0].last_updated = at;
                quotes[0].price = price;
                quotes[0].change = "-0.5".into();
                symbol = quotes[0].symbol.to_string();
            })
            .await?;
        world.wait_for_snapshot(published.meta.id).await?;
        times.push(at);
    }
    Ok((symbol, times))
}

async fn get(world: &World, path: &str) -> Result<Value> {
    Ok(world.get(path).key(&world.key).gives(200).await?.json())
}

fn prices(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["price"].as_str().expect("a price"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_oldest_first_within_their_range() -> Result<()> {
    let world = World::start().await?;
    // Some hours before midnight or after it, whenever the test runs.
    let minutes = [60 * 40, 60 * 23, 60 * 12, 50, 10];
    let (symbol, times) = publish(&world, &minutes).await?;
    let path = format!("/v1/stocks/{symbol}/prices");

    let answer = world.get(&path).key(&world.key).gives(200).await?;
    let list = answer.json();
    assert_eq!(
        prices(&list),
        ["1380.5", "720.5", "50.5", "10.5"],
        "of the last day"
    );
    assert_eq!(
        (&list["symbol"], list.get("nextPageToken")),
        (&json!(symbol), None)
    );
    assert_eq!(
        list["items"][3],
        json!({"price": "10.5", "change": "-0.5", "at": times[4].to_string()})
    );
    assert_eq!(answer.header("cache-control"), Some("private, max-age=60"));
    assert_eq!(
        answer.header("vary"),
        Some("Accept-Encoding, Authorization, X-Api-Key")
    );

    let (from, to) = (times[0], times[3]);
    let list = get(&world, &format!("{path}?from={from}&to={to}")).await?;
    assert_eq!(
        prices(&list),
        ["2400.5", "1380.5", "720.5"],
        "from is included, to is not"
    );
    let list = get(&world, &format!("{path}?to={to}")).await?;
    assert_eq!(prices(&list), ["1380.5", "720.5"], "a day before to");
    let list = get(&world, &format!("{path}?from={to}&to={to}")).await?;
    assert_eq!(prices(&list), Vec::<&str>::new());

    // All that is kept, one by one.
    let from = Timestamp::now() - SignedDuration::from_hours(24 * 90);
    let (mut all, mut token) = (Vec::new(), String::new());
    for page in 1.. {
        let list = get(&world, &format!("{path}?from={from}&limit=1{token}")).await?;
        all.extend(prices(&list).into_iter().map(str::to_owned));
        let Some(next) = list["nextPageToken"].as_str() else {
            assert_eq!(page, 5, "no empty page at the end");
            break;
        };
        token = format!("&pageToken={next}");
    }
    assert_eq!(all, ["2400.5", "1380.5", "720.5", "50.5", "10.5"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_through_history_ends_where_it_was_to_end() -> Result<()> {
    let world = World::start().await?;
    let (symbol, _) = publish(&world, &[30, 20]).await?;
    let path = format!("/v1/stocks/{symbol}/prices?limit=1");
    let first = get(&world, &path).await?;
    assert_eq!(prices(&first), ["30.5"]);
    let token = first["nextPageToken"].as_str().context("a token")?.to_owned();
    // What happens after the beginning of the walk, and before its end, is part of it; what comes later is not.
    publish(&world, &[10, -1]).await?;
    let rest = get(
        &world,
        &format!("/v1/stocks/{symbol}/prices?limit=9&pageToken={token}"),
    )
    .await?;
    assert_eq!(prices(&rest), ["20.5", "10.5"]);
    assert_eq!(rest.get("nextPageToken"), None);
    let ask = |path: String| world.get(&path).key(&world.key);
    for other in [
        format!("/v1/stocks/{symbol}/prices?from=2026-01-01T00:00:00Z&pageToken={token}"),
        format!("/v1/stocks/XOM/prices?pageToken={token}"),
        format!("/v1/stocks?pageToken={token}"),
    ] {
        ask(other)
            .refused(400, "invalid_page_token", &["/pageToken other_filter"])
            .await?;
    }
    for forged in ["", "AAAA", &token[1..]] {
        ask(format!("{path}&pageToken={forged}"))
            .refused(400, "invalid_page_token", &["/pageToken forged"])
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_names_its_parameter() -> Result<()> {
    let world = World::start().await?;
    let symbol = world.symbol();
    let check = async |query: &str, errors: &[&str], hint: &str| {
        let path = format!("/v1/stocks/{symbol}/prices?{query}");
        let answer = world.get(&path).key(&world.key);
        let answer = answer.refused(400, "invalid_query", errors).await?;
        let details = answer.json()["errors"].to_string();
        assert!(details.contains(hint), "{query}: {details}");
        anyhow::Ok(())
    };
    check("from=yesterday", &["/from not_a_time"], "2026-12-31T23:59:00Z").await?;
    check("to=2026-13-01T00:00:00Z", &["/to not_a_time"], "RFC 3339").await?;
    check("limit=501", &["/limit out_of_range"], "from 1 to 500").await?;
    check("form=2026-01-01T00:00:00Z", &["/form unknown_field"], "not known").await?;
    let hours = |hours: i64| Timestamp::now() - SignedDuration::from_hours(hours);
    let (early, late) = (hours(2), hours(1));
    let both = ["/from out_of_range", "/to out_of_range"];
    check(&format!("from={late}&to={early}"), &both, "must not be after to").await?;
    let future = hours(-1);
    check(
        &format!("from={future}"),
        &["/from out_of_range"],
        "must not be after to",
    )
    .await?;
    let too_old = hours(24 * 91);
    check(&format!("from={too_old}"), &["/from out_of_range"], "90 days").await?;
    check(&format!("to={too_old}"), &["/to out_of_range"], "90 days").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_apart_from_what_cannot_be_read() -> Result<()> {
    let world = World::start().await?;
    let symbol = world.symbol();
    for unknown in ["NOSUCH", "a%20b", "%F0%9F%98%80"] {
        world
            .get(&format!("/v1/stocks/{unknown}/prices"))
            .key(&world.key)
            .refused(404, "stock_not_found", &[])
            .await?;
    }
    // The simulator's own times are long past: a known stock without changes in the range is no mistake.
    let none = get(&world, &format!("/v1/stocks/{symbol}/prices")).await?;
    assert_eq!(none, json!({"symbol": symbol, "items": []}));

    world.dynamodb.stop()?;
    world
        .get(&format!("/v1/stocks/{symbol}/prices"))
        .key(&world.key)
        .refused(503, "price_store_unavailable", &[])
        .await?;
    world.get("/v1/stocks").key(&world.key).gives(200).await?;
    Ok(())
}

fn queries(world: &World) -> u64 {
    world.dynamodb.requests().get("Query").copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guessed_symbol_costs_little() -> Result<()> {
    let world = World::start().await?;
    let from = Timestamp::now() - SignedDuration::from_hours(24 * 90);
    let before = queries(&world);
    world
        .get(&format!("/v1/stocks/NOSUCH/prices?from={from}"))
        .key(&world.key)
        .refused(404, "stock_not_found", &[])
        .await?;
    let cost = queries(&world) - before;
    assert!((1..=10).contains(&cost), "{cost} queries");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_that_is_listed_no_more_is_found_by_its_last_prices() -> Result<()> {
    let world = World::start().await?;
    let day = 60 * 24;
    let (symbol, times) = publish(&world, &[day * 20, day * 5]).await?;
    let published = world
        .publish_with(|quotes| quotes.retain(|quote| quote.symbol.as_str() != symbol))
        .await?;
    world.wait_for_snapshot(published.meta.id).await?;
    let path = format!("/v1/stocks/{symbol}/prices");
    let from = times[0];
    let list = get(&world, &format!("{path}?from={from}")).await?;
    assert_eq!(prices(&list), ["28800.5", "7200.5"]);
    let ask = |query: String| world.get(&format!("{path}?{query}")).key(&world.key);
    // Its last price lies further back than it is looked for.
    let to = times[1] - SignedDuration::from_hours(1);
    ask(format!("from={from}&to={to}"))
        .refused(404, "stock_not_found", &[])
        .await?;
    let to = from + SignedDuration::from_hours(24);
    ask(format!("from={from}&to={to}")).gives(200).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_do_not_pile_up_while_the_store_is_silent() -> Result<()> {
    let world = World::start().await?;
    let path = format!("/v1/stocks/{}/prices", world.symbol());
    world.dynamodb.hang()?;
    let all = (0..40).map(|_| world.get(&path).key(&world.key).send());
    let answers = futures::future::join_all(all).await;
    let mut shed = 0;
    for answer in answers {
        let answer = answer?;
        match answer.json()["code"].as_str() {
            Some("overloaded") => {
                answer.is_problem(503, "overloaded", &[]);
                shed += 1;
            }
            _ => answer.is_problem(503, "price_store_unavailable", &[]),
        }
    }
    assert!((1..=24).contains(&shed), "{shed}");
    Ok(())
}
