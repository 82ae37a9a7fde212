//! Items with something wrong in them, on pages that are otherwise good.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vendor_simulator::{ItemFault, Rule, SimulatorConfig};

use crate::{Bench, item, items, symbols};

/// The text of page 1 with one fault in AAPL.
async fn page_with(fault: Value) -> Result<String> {
    let bench = Bench::start()?;
    bench
        .rule(json!({"action": {"type": "item", "fault": fault, "symbols": ["AAPL"]}}))
        .await?;
    let text = bench.list("").await?.text().await?;
    let counters = bench.simulator.counters().lists;
    ensure!(counters.shaped == 1 && counters.items_spoilt == 1, "{counters:?}");
    Ok(text)
}

/// AAPL's own text on a page.
fn aapl(page: &str) -> Result<&str> {
    let from = page.find("{\"symbol\":\"AAPL").context("AAPL")?;
    let to = page[from..].find('}').context("an end")?;
    Ok(&page[from..=from + to])
}

#[tokio::test]
async fn prices_are_everything_but_prices() -> Result<()> {
    let bench = Bench::start()?;
    let price = bench.simulator.price("AAPL").context("AAPL")?;
    for (fault, written) in [
        ("price_zero", "\"price\":0,".to_owned()),
        ("price_negative", format!("\"price\":-{price},")),
        ("price_string", format!("\"price\":\"{price}\",")),
        ("price_too_large", "\"price\":1e400,".to_owned()),
        ("price_nan", "\"price\":NaN,".to_owned()),
    ] {
        let page = page_with(json!(fault)).await?;
        ensure!(aapl(&page)?.contains(&written), "{fault}: {}", aapl(&page)?);
        let is_json = serde_json::from_str::<&serde_json::value::RawValue>(&page).is_ok();
        ensure!(is_json == (fault != "price_nan"), "{fault}");
    }
    let page = page_with(json!("price_absent")).await?;
    ensure!(!aapl(&page)?.contains("price"));
    let page = page_with(json!({"field": {"name": "price", "json": "0.000"}})).await?;
    ensure!(aapl(&page)?.contains("\"price\":0.000,"));
    let page = page_with(json!({"field": {"name": "change"}})).await?;
    ensure!(!aapl(&page)?.contains("change"));
    Ok(())
}

#[tokio::test]
async fn a_price_has_seventeen_digits_and_is_still_for_sale() -> Result<()> {
    let page = page_with(json!("price_noise")).await?;
    let (_, rest) = aapl(&page)?.split_once("\"price\":").context("a price")?;
    let (price, _) = rest.split_once(',').context("an end")?;
    ensure!(price.len() == 18 && price.ends_with("0000002"), "{price}");
    let bench = Bench::start()?;
    let answer = bench
        .buy("AAPL", &format!("{{\"price\":{price},\"quantity\":1}}"))
        .await?;
    ensure!(answer.status() == 200);
    Ok(())
}

#[tokio::test]
async fn texts_are_hostile() -> Result<()> {
    let page: Value = serde_json::from_str(&page_with(json!("unknown_fields")).await?)?;
    let aapl = item(std::slice::from_ref(&page), "AAPL").context("AAPL")?;
    ensure!(aapl["venue"]["open"][2].is_null() && aapl["price"].is_number());

    let page: Value = serde_json::from_str(&page_with(json!("markup_in_name")).await?)?;
    let aapl = item(std::slice::from_ref(&page), "AAPL").context("AAPL")?;
    let name = aapl["name"].as_str().context("a name")?;
    ensure!(name.contains("<script>") && name.contains("\" & "), "{name}");

    let page: Value = serde_json::from_str(&page_with(json!("non_ascii_symbol")).await?)?;
    let odd = symbols(std::slice::from_ref(&page))
        .into_iter()
        .find(|symbol| !symbol.is_ascii());
    ensure!(odd.is_some_and(|symbol| symbol.starts_with("AAPL")), "{odd:?}");

    let page: Value = serde_json::from_str(&page_with(json!("not_an_object")).await?)?;
    ensure!(items(std::slice::from_ref(&page)).contains(&&json!(7)));
    Ok(())
}

#[tokio::test]
async fn times_are_skewed_absent_or_run_backwards() -> Result<()> {
    let time_of = |page: &str| -> Result<String> {
        let page: Value = serde_json::from_str(page)?;
        let item = item(std::slice::from_ref(&page), "AAPL").context("AAPL")?.clone();
        Ok(item["lastUpdated"].as_str().unwrap_or("absent").to_owned())
    };
    ensure!(time_of(&page_with(json!("last_updated_absent")).await?)? == "absent");
    let skewed = page_with(json!({"last_updated_skewed": {"ms": 86_400_000}})).await?;
    ensure!(time_of(&skewed)?.starts_with("2026-01-06T14:30:0"));
    let late = page_with(json!({"last_updated_skewed": {"ms": -3_600_000}})).await?;
    ensure!(time_of(&late)?.starts_with("2026-01-05T13:30:0"));

    let bench = Bench::start()?;
    bench
        .simulator
        .add_rule(Rule::on_items(&["AAPL"], ItemFault::LastUpdatedBackwards))?;
    for begins in ["2026-01-05T14:30:0", "2026-01-05T14:25:0", "2026-01-05T14:20:0"] {
        let time = time_of(&bench.list("").await?.text().await?)?;
        ensure!(time.starts_with(begins), "{time}");
        bench.simulator.tick(1);
    }
    Ok(())
}

#[tokio::test]
async fn a_stock_vanishes_and_comes_back() -> Result<()> {
    let bench = Bench::start()?;
    bench
        .simulator
        .add_rule(Rule::on_items(&["AAPL", "AMT"], ItemFault::Vanish))?;
    let pages = bench.crawl(9).await?;
    ensure!(pages.len() == 5 && items(&pages).len() == 38);
    ensure!(item(&pages, "AAPL").is_none() && item(&pages, "AMT").is_none());
    bench.simulator.clear_rules();
    ensure!(items(&bench.crawl(9).await?).len() == 40);
    Ok(())
}

#[tokio::test]
async fn a_rule_for_one_item_is_used_by_its_page_only() -> Result<()> {
    let bench = Bench::start()?;
    // PG stands on page 3.
    bench
        .rule(json!({"action": {"type": "item", "fault": "price_zero", "symbols": ["PG"]}, "times": 1}))
        .await?;
    let pages = bench.crawl(9).await?;
    ensure!(item(&pages, "PG").is_some_and(|pg| pg["price"] == 0));
    let (_, state) = bench.control("GET", "state", Value::Null).await?;
    ensure!(
        state["rules"][0]["matched"] == 1 && state["rules"][0]["used"] == 1,
        "{state}"
    );
    ensure!(
        item(&bench.crawl(9).await?, "PG").is_some_and(|pg| pg["price"] != 0),
        "spent"
    );
    Ok(())
}

#[tokio::test]
async fn a_share_of_the_items_is_drawn_from_the_seed() -> Result<()> {
    let mut by_seed = Vec::new();
    for seed in [1, 1, 2] {
        let bench = Bench::start_with(SimulatorConfig {
            seed,
            symbols: 1_000,
            page_size: 100,
            ..SimulatorConfig::default()
        })?;
        bench
            .rule(json!({"action": {"type": "item", "fault": "vanish", "one_in": 25}}))
            .await?;
        let pages = bench.crawl(20).await?;
        ensure!(
            symbols(&pages) == symbols(&bench.crawl(20).await?),
            "the same ones in each crawl"
        );
        let gone = 1_000 - items(&pages).len();
        ensure!((15..=70).contains(&gone), "{gone} of 1,000 at one in 25");
        by_seed.push(symbols(&pages).join(","));
    }
    ensure!(by_seed[0] == by_seed[1] && by_seed[1] != by_seed[2]);
    Ok(())
}

#[tokio::test]
async fn faults_of_items_pages_and_bodies_add_up() -> Result<()> {
    let bench = Bench::start()?;
    bench
        .rule(json!([
            {"action": {"type": "item", "fault": "price_zero", "symbols": ["NVDA"]}},
            {"action": {"type": "item", "fault": "vanish", "symbols": ["UNH"]}},
            {"match": {"page": 1}, "action": {"type": "paging", "fault": "token_null"}},
            {"action": {"type": "body", "fault": {"content_type": "text/plain"}}},
        ]))
        .await?;
    let answer = bench.list("").await?;
    ensure!(answer.headers()["content-type"] == "text/plain");
    let page: Value = answer.json().await?;
    let pages = [page];
    ensure!(item(&pages, "NVDA").is_some_and(|nvda| nvda["price"] == 0));
    ensure!(item(&pages, "UNH").is_none() && pages[0]["data"]["nextToken"].is_null());
    let bad = json!({"action": {"type": "item", "fault": "price_zero", "one_in": 0}});
    ensure!(bench.control("POST", "rules", bad).await?.0 == 400);
    Ok(())
}
