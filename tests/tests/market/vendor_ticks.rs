//! What clients see of prices that change while they are read, and of all that change at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::load::{self, Pace, Plan, Until};
use fuse_harness::wait;
use serde_json::Value;
use vendor_simulator::{Action, Operation, Rule};

use crate::vendor_data::{Scene, WHOLE_LIST, item, items, set, set_prices, symbols_where};
use crate::world::{PAGES, SOON};

/// A crawl takes five times this, so that clients read in its midst.
const PAGE_MS: u64 = 100;

/// By snapshot, what a whole list held.
type Contents = BTreeMap<String, Value>;

/// Reads whole lists until stopped: a snapshot that is told in two ways is a finding.
fn read_on(scene: &Scene, contents: &Arc<Mutex<Contents>>) -> Result<load::Running> {
    let contents = Arc::clone(contents);
    load::start(
        &[scene.world.target(&scene.api, WHOLE_LIST)?],
        &Plan {
            connections: 2,
            pace: Pace::PerSecond(50.0),
            until: Until::Elapsed(Duration::from_secs(600)),
            inspect: Some(Arc::new(move |reply| {
                let list: Value = serde_json::from_slice(reply.body).map_err(|error| error.to_string())?;
                let id = list["snapshot"]["id"].as_str().ok_or("no snapshot")?.to_owned();
                let mut contents = contents.lock().unwrap_or_else(PoisonError::into_inner);
                let known = contents.entry(id).or_insert_with(|| list["items"].clone());
                if *known == list["items"] {
                    Ok(())
                } else {
                    Err(format!("one snapshot, told in two ways: {known}, then {list}"))
                }
            })),
        },
    )
}

/// The whole walk from its first page on, as one list with the snapshot that all its pages had.
fn walk(scene: &Scene, path: &str, mut page: Value) -> Result<Value> {
    let mut whole = page.clone();
    while let Some(token) = page["nextPageToken"].as_str() {
        let next = scene.get(&format!("{path}&pageToken={token}"))?;
        ensure!(
            next["snapshot"]["id"] == whole["snapshot"]["id"] && next["total"] == whole["total"],
            "the walk went astray: {next}"
        );
        let added = items(&next).to_vec();
        whole["items"].as_array_mut().context("items")?.extend(added);
        page = next;
    }
    Ok(whole)
}

fn priced<'l>(list: &'l Value, price: &str) -> BTreeSet<&'l str> {
    symbols_where(list, |item| item["price"] == price)
}

#[test]
fn a_tick_in_the_middle_of_a_crawl_gives_one_snapshot_to_every_reader() -> Result<()> {
    const PATH: &str = "/v1/stocks?limit=7";
    let scene = Scene::start(&[], &["100", "200"])?;
    let (before_tick, after_tick) = scene
        .symbols
        .split_at(scene.symbols.len() / usize::try_from(PAGES)? * 2);
    let contents: Arc<Mutex<Contents>> = Arc::default();
    let readers = read_on(&scene, &contents)?;
    let old = scene.get(PATH)?;
    scene.world.slow_pages(PAGE_MS)?;
    let tick = Rule::on(Operation::List, Action::Tick { by: 1, before: true });
    scene.world.rule(tick.page(3).times(1))?;
    scene.pass()?;
    let mixed = scene.get(PATH)?;
    scene.pass()?;
    let new = scene.get(PATH)?;

    let [old, mixed, new] = [
        walk(&scene, PATH, old)?,
        walk(&scene, PATH, mixed)?,
        walk(&scene, PATH, new)?,
    ];
    ensure!(priced(&old, "100") == set(&scene.symbols), "before: {old}");
    ensure!(
        priced(&mixed, "100") == set(before_tick) && priced(&mixed, "200") == set(after_tick),
        "of the crawl with the tick: {mixed}"
    );
    ensure!(priced(&new, "200") == set(&scene.symbols), "after: {new}");
    // Of each stock the vendor's own time, whatever the page that it was on.
    for symbol in &scene.symbols {
        let [old, mixed, new] = [&old, &mixed, &new].map(|list| &item(list, symbol)["lastUpdated"]);
        let of_the_crawl = if before_tick.contains(symbol) { old } else { new };
        ensure!(
            mixed == of_the_crawl && old != new,
            "{symbol}: {old}, {mixed}, {new}"
        );
    }
    wait::until("readers of every snapshot", SOON, || {
        (contents.lock().unwrap_or_else(PoisonError::into_inner).len() >= 3).then_some(())
    })?;
    readers.stop()?.all_good()?;
    let contents = contents.lock().unwrap_or_else(PoisonError::into_inner);
    let read: Contents = [old, mixed, new]
        .into_iter()
        .filter_map(|list| Some((list["snapshot"]["id"].as_str()?.to_owned(), list["items"].clone())))
        .collect();
    ensure!(*contents == read, "read: {contents:?}, walked: {read:?}");
    Ok(())
}

#[test]
fn when_all_prices_change_those_by_two_percent_are_the_movers() -> Result<()> {
    let scene = Scene::start(&[], &["100"])?;
    let next = ["101.99", "98.01", "102", "98", "150", "0.5"];
    for (number, symbol) in scene.symbols.iter().enumerate() {
        set_prices(&scene.world, symbol, &[next[number.min(next.len() - 1)]])?;
    }
    scene.world.vendor.tick(1);
    scene.pass()?;
    let (others, movers) = scene.symbols.split_at(2);
    for (is_mover, symbols) in [(true, movers), (false, others)] {
        let path = format!("/v1/stocks?limit=7&movers={is_mover}");
        let found = walk(&scene, &path, scene.get(&path)?)?;
        ensure!(found["total"] == symbols.len(), "{is_mover}: {found}");
        ensure!(
            symbols_where(&found, |item| item["mover"] == is_mover) == set(symbols),
            "{is_mover}: {found}"
        );
        for item in items(&found) {
            let price = scene
                .world
                .vendor
                .price(item["symbol"].as_str().unwrap_or_default());
            ensure!(item["price"] == price.context("a price")?.to_string(), "{item}");
        }
    }
    // They moved then, and stand still since.
    scene.pass()?;
    let found = scene.get("/v1/stocks?movers=true")?;
    ensure!(found["total"] == 0 && items(&found).is_empty(), "{found}");
    Ok(())
}
