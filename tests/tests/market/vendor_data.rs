//! What clients see of a vendor that tells nonsense or forgets a stock. (reliability: T16)

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::client::{Answer, ApiClient, order_for};
use fuse_harness::services::Service;
use fuse_harness::wait;
use serde_json::Value;
use uuid::Uuid;
use vendor_simulator::{ItemFault, Rule};

use crate::redis::{all_follow, good_pass};
use crate::world::{SOON, World};

pub const WHOLE_LIST: &str = "/v1/stocks?limit=500";
/// Of a quote that an order is checked against, and of a price that is not marked.
const QUOTE_AGE_MAX: &str = "6";

/// One replica over one vendor, and a user who trades.
pub struct Scene {
    pub world: World,
    pub symbols: Vec<String>,
    pub api: Service,
    client: ApiClient,
}

impl Scene {
    /// All stocks have these prices, tick by tick; the first of them is published.
    pub fn start(settings: &[(&str, &str)], prices: &[&str]) -> Result<Self> {
        // A loaded machine makes no answer of the vendor late.
        let patient = [
            ("FUSE_VENDOR__PAGE_TIMEOUT_MILLIS", "10000"),
            ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "10000"),
        ];
        let world = World::start(&[&patient, settings].concat())?;
        let symbols = world.vendor.symbols();
        for symbol in &symbols {
            set_prices(&world, symbol, prices)?;
        }
        good_pass(&world)?;
        let api = world.api()?;
        let client = world.client(&api);
        let client = client.with_key(client.create_user_key("vendor data")?);
        Ok(Self {
            world,
            symbols,
            api,
            client,
        })
    }

    /// One pass, which the replica shows.
    pub fn pass(&self) -> Result<()> {
        good_pass(&self.world)?;
        let replica = std::slice::from_ref(&self.api);
        all_follow(&self.world, replica, "the vendor's data change", SOON)
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        self.client.get(path)?.expect(200)
    }

    fn stock(&self, symbol: &str) -> Result<Value> {
        self.get(&format!("/v1/stocks/{symbol}"))
    }

    /// Waits for a list that fits.
    fn wait_for_list(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(what, SOON, || self.get(WHOLE_LIST).ok().filter(|list| fits(list)))
            .map_err(|error| self.api.proc().explain(error))
    }

    fn place(&self, order: &Value) -> Result<Answer> {
        self.client.place(&Uuid::new_v4().to_string(), order)
    }

    /// The answer refuses for this reason, the order is kept as that, and the vendor was not called.
    fn is_refused(&self, order: &Value, key: &str, status: u16, reason: &str) -> Result<()> {
        let sent = self.world.vendor.counters().buys.received;
        let problem = self.client.place(key, order)?.expect(status)?;
        ensure!(problem["code"] == reason, "refused otherwise: {problem}");
        let id = problem["orderId"].as_str().context("no order was kept")?;
        let kept = self.get(&format!("/v1/orders/{id}"))?;
        ensure!(
            kept["status"] == "rejected" && kept["reason"] == reason && kept["symbol"] == order["symbol"],
            "kept otherwise: {kept}"
        );
        ensure!(
            self.world.vendor.counters().buys.received == sent,
            "the vendor was called"
        );
        Ok(())
    }
}

/// Prices by tick from tick 0; the last one stays.
pub fn set_prices(world: &World, symbol: &str, texts: &[&str]) -> Result<()> {
    let prices = texts.iter().map(|text| text.parse());
    let prices = prices.collect::<Result<Vec<_>, _>>()?;
    ensure!(world.vendor.set_prices(symbol, prices), "no {symbol}");
    Ok(())
}

pub fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

pub fn item<'l>(list: &'l Value, symbol: &str) -> &'l Value {
    let found = items(list).iter().find(|item| item["symbol"] == symbol);
    found.unwrap_or(&Value::Null)
}

/// The symbols of the items that fit.
pub fn symbols_where(list: &Value, fits: impl Fn(&Value) -> bool) -> BTreeSet<&str> {
    let fitting = items(list).iter().filter(|item| fits(item));
    fitting.filter_map(|item| item["symbol"].as_str()).collect()
}

pub fn set(symbols: &[String]) -> BTreeSet<&str> {
    symbols.iter().map(String::as_str).collect()
}

/// Whether the item was fetched by the crawl of its list's snapshot.
fn is_fresh(list: &Value, item: &Value) -> bool {
    item["asOf"] == list["snapshot"]["takenAt"]
}

#[test]
fn a_stock_with_a_nonsense_price_keeps_its_older_one_and_is_sold_no_more_when_that_is_too_old() -> Result<()>
{
    let settings = [
        ("FUSE_REFRESH__INTERVAL_SECS", "1"),
        ("FUSE_ORDERS__MAX_QUOTE_AGE_SECS", QUOTE_AGE_MAX),
        ("FUSE_STOCKS__STALE_AFTER_SECS", QUOTE_AGE_MAX),
    ];
    let scene = Scene::start(&settings, &["100", "101"])?;
    let [bad, good] = [&scene.symbols[0], &scene.symbols[1]];
    let refresher = scene.world.refresher()?;
    scene
        .world
        .rule(Rule::on_items(&[bad], ItemFault::PriceNegative))?;
    scene.world.vendor.tick(1);
    let list = scene.wait_for_list("the others' new prices", |list| {
        item(list, good)["price"] == "101"
    })?;
    let others = set(&scene.symbols[1..]);
    ensure!(
        symbols_where(&list, |item| item["price"] == "101" && is_fresh(&list, item)) == others,
        "the others: {list}"
    );
    let kept = item(&list, bad).clone();
    ensure!(
        kept["price"] == "100" && kept["listed"] == true && !is_fresh(&list, &kept),
        "not the older price with its own age: {kept}"
    );

    let stale = wait::until("the mark of an old price", SOON, || {
        let stock = scene.stock(bad).ok()?;
        (stock["snapshot"]["stale"] == true).then_some(stock)
    })
    .map_err(|error| refresher.proc().explain(error))?;
    ensure!(
        stale["asOf"] == kept["asOf"] && stale["price"] == "100",
        "its price has another age than before: {stale}, {kept}"
    );
    scene.is_refused(&order_for(&stale)?, "too-old", 503, "quote_stale")?;
    let other = scene.stock(good)?;
    ensure!(
        other["snapshot"]["stale"] == false,
        "the others are stale: {other}"
    );
    scene.place(&order_for(&other)?)?.expect(201)?;

    scene.world.vendor.clear_rules();
    let list = scene.wait_for_list("its new price", |list| item(list, bad)["price"] == "101")?;
    ensure!(is_fresh(&list, item(&list, bad)), "new, and not fresh: {list}");
    scene.place(&order_for(item(&list, bad))?)?.expect(201)?;
    Ok(())
}

#[test]
fn more_than_five_percent_of_nonsense_is_refused_and_the_prices_before_it_are_served() -> Result<()> {
    let scene = Scene::start(&[("FUSE_REFRESH__INTERVAL_SECS", "1")], &["100", "101"])?;
    let (one_in_twenty, one_more) = (scene.symbols.len() / 20, scene.symbols.len() / 20 + 1);
    let bad_ones = |count: usize| -> Result<()> {
        let symbols: Vec<&str> = scene.symbols[..count].iter().map(String::as_str).collect();
        scene
            .world
            .rule(Rule::on_items(&symbols, ItemFault::PriceNegative))
    };
    let pointer = scene.world.pointer().context("a pointer")?;
    bad_ones(one_more)?;
    scene.world.vendor.tick(1);
    let refresher = scene.world.refresher()?;
    let counted = "fuse_vendor_rejected_payloads_total{reason=\"too_many_bad_items\",scope=\"pass\"}";
    wait::until("two refused passes", SOON, || {
        (refresher.metric(counted).ok()?? >= 2.0).then_some(())
    })
    .map_err(|error| refresher.proc().explain(error))?;
    let list = scene.get(WHOLE_LIST)?;
    ensure!(
        scene.world.pointer().as_ref() == Some(&pointer) && list["snapshot"]["id"] == pointer.0.as_str(),
        "another snapshot than before: {list}"
    );
    let all = set(&scene.symbols);
    let is_as_before = |item: &Value| item["price"] == "100" && is_fresh(&list, item);
    ensure!(symbols_where(&list, is_as_before) == all, "other prices: {list}");

    // Exactly one in twenty is not too many.
    refresher.stop()?;
    scene.world.vendor.clear_rules();
    bad_ones(one_in_twenty)?;
    scene.pass()?;
    let list = scene.get(WHOLE_LIST)?;
    ensure!(
        symbols_where(&list, |item| item["price"] == "100" && !is_fresh(&list, item))
            == set(&scene.symbols[..one_in_twenty]),
        "the bad ones do not keep their prices: {list}"
    );
    ensure!(
        symbols_where(&list, |item| item["price"] == "101" && is_fresh(&list, item))
            == set(&scene.symbols[one_in_twenty..]),
        "the others are not new: {list}"
    );
    Ok(())
}

#[test]
fn a_stock_that_vanishes_is_marked_and_not_sold_and_is_sold_again_when_it_is_back() -> Result<()> {
    let scene = Scene::start(&[], &["100"])?;
    let symbol = &scene.symbols[0];
    let before = scene.stock(symbol)?;
    let order = order_for(&before)?;
    let bought = scene.place(&order)?.expect(201)?;
    let portfolio = format!(
        "/v1/portfolios/{}",
        bought["portfolioId"].as_str().context("a portfolio")?
    );

    scene.world.rule(Rule::on_items(&[symbol], ItemFault::Vanish))?;
    scene.pass()?;
    let list = scene.get(WHOLE_LIST)?;
    ensure!(
        symbols_where(&list, |item| item["listed"] == true) == set(&scene.symbols[1..]),
        "listed otherwise: {list}"
    );
    for shown in [item(&list, symbol), &scene.stock(symbol)?] {
        ensure!(
            shown["listed"] == false && shown["price"] == "100" && shown["asOf"] == before["asOf"],
            "not marked with its last price and its true age: {shown}"
        );
    }
    let preview = scene.client.post("/v1/orders/preview", &order)?.expect(200)?;
    ensure!(
        preview["verdict"] == "rejected" && preview["reason"] == "unknown_symbol",
        "previewed otherwise: {preview}"
    );
    scene.is_refused(&order, "vanished", 422, "unknown_symbol")?;
    let held = &scene.get(&portfolio)?["holdings"][0];
    ensure!(
        held["symbol"] == symbol.as_str()
            && held["quantity"] == order["quantity"]
            && held["currentPrice"] == "100"
            && held["priceAsOf"] == before["asOf"],
        "what is held is not shown: {held}"
    );

    scene.world.vendor.clear_rules();
    scene.pass()?;
    let list = scene.get(WHOLE_LIST)?;
    let back = item(&list, symbol);
    ensure!(
        back["listed"] == true && is_fresh(&list, back),
        "not back: {back}"
    );
    let again = scene.client.place("vanished", &order)?;
    ensure!(
        again.status == 422 && again.replayed,
        "the refusal was forgotten: {again:?}"
    );
    scene.place(&order)?.expect(201)?;
    let held = &scene.get(&portfolio)?["holdings"][0];
    ensure!(held["quantity"] == "3", "not bought twice: {held}");
    ensure!(scene.world.vendor.executed().len() == 2);
    Ok(())
}
