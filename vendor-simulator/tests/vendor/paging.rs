//! Tokens and pages that are not what they should be.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vendor_simulator::{PagingFault, Rule};

use crate::{Bench, item, items, next_token, symbols};

async fn with_fault(page: Option<usize>, fault: Value) -> Result<Bench> {
    let bench = Bench::start()?;
    let on = page.map_or(json!({}), |page| json!({"page": page}));
    bench
        .rule(json!({"match": on, "action": {"type": "paging", "fault": fault}}))
        .await?;
    Ok(bench)
}

#[tokio::test]
async fn the_last_page_ends_the_list_in_three_ways() -> Result<()> {
    for (fault, token) in [
        ("token_absent", None),
        ("token_null", Some(Value::Null)),
        ("token_empty", Some(json!(""))),
    ] {
        let bench = with_fault(Some(5), json!(fault)).await?;
        let pages = bench.crawl(9).await?;
        ensure!(pages.len() == 5 && symbols(&pages) == bench.simulator.symbols());
        ensure!(
            pages[4]["data"].get("nextToken") == token.as_ref(),
            "{}",
            pages[4]
        );
        ensure!(bench.simulator.counters().lists.shaped == 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_token_ends_the_list_in_the_middle() -> Result<()> {
    let bench = with_fault(Some(2), json!("token_absent")).await?;
    ensure!(symbols(&bench.crawl(9).await?).len() == 16);
    Ok(())
}

#[tokio::test]
async fn a_token_leads_to_its_own_page() -> Result<()> {
    let bench = with_fault(Some(3), json!("repeated_token")).await?;
    let pages = bench.crawl(6).await?;
    ensure!(next_token(&pages[1]) == next_token(&pages[2]));
    ensure!(symbols(&pages[2..3]) == symbols(&pages[5..6]));
    Ok(())
}

#[tokio::test]
async fn a_longer_loop_comes_back_to_an_earlier_page() -> Result<()> {
    let bench = with_fault(Some(4), json!({"loop_to": 2})).await?;
    let pages = bench.crawl(8).await?;
    let tokens: Vec<_> = pages
        .iter()
        .map(|page| next_token(page).expect("a token"))
        .collect();
    ensure!(tokens[3] == tokens[0] && tokens[4] == tokens[1] && tokens[7] == tokens[1]);
    ensure!(symbols(&pages[1..2]) == symbols(&pages[4..5]));
    Ok(())
}

#[tokio::test]
async fn new_tokens_come_for_ever() -> Result<()> {
    let bench = with_fault(None, json!("endless_tokens")).await?;
    let pages = bench.crawl(60).await?;
    ensure!(pages.len() == 60);
    let tokens: BTreeSet<_> = pages
        .iter()
        .map(|page| next_token(page).expect("a token"))
        .collect();
    ensure!(tokens.len() == 60, "each is new");
    ensure!(
        tokens
            .iter()
            .all(|token| ['+', '/', '='].iter().all(|&c| token.contains(c)))
    );
    ensure!(symbols(&pages[0..1]) == symbols(&pages[5..6]), "round and round");
    bench.simulator.clear_rules();
    let last = next_token(&pages[59]).context("a token")?.to_owned();
    bench.page(Some(&last)).await?;
    Ok(())
}

#[tokio::test]
async fn an_empty_page_with_a_token_loses_nothing() -> Result<()> {
    let bench = with_fault(Some(3), json!("empty_page")).await?;
    let pages = bench.crawl(9).await?;
    ensure!(pages.len() == 6);
    ensure!(items(&pages[2..3]).is_empty() && next_token(&pages[2]).is_some());
    ensure!(symbols(&pages) == bench.simulator.symbols());
    Ok(())
}

#[tokio::test]
async fn a_page_is_many_times_as_large() -> Result<()> {
    let bench = with_fault(Some(2), json!({"bigger_page": {"times": 3}})).await?;
    let pages = bench.crawl(9).await?;
    let sizes: Vec<_> = (0..pages.len()).map(|n| items(&pages[n..=n]).len()).collect();
    ensure!(sizes == [8, 24, 8], "{sizes:?}");
    ensure!(symbols(&pages) == bench.simulator.symbols());

    let bench = with_fault(None, json!({"bigger_page": {"times": 10}})).await?;
    let pages = bench.crawl(9).await?;
    ensure!(pages.len() == 1 && items(&pages).len() == 40);
    Ok(())
}

#[tokio::test]
async fn a_symbol_is_listed_twice_in_a_page_or_across_pages() -> Result<()> {
    let bench = Bench::start()?;
    bench.simulator.tick(3);
    for (page, symbol, ticks_ago) in [(1, "NVDA", 0), (2, "NVDA", 2)] {
        let symbols = vec![symbol.to_owned()];
        bench
            .simulator
            .add_rule(Rule::on_page(page, PagingFault::AlsoLists { symbols, ticks_ago }))?;
    }
    let pages = bench.crawl(9).await?;
    let of = |page: usize| -> Vec<&Value> {
        let items = items(&pages[page..=page]).into_iter();
        items.filter(|item| item["symbol"] == "NVDA").collect()
    };
    let (first, second) = (of(0), of(1));
    ensure!(first.len() == 2 && first[0] == first[1]);
    ensure!(second.len() == 1);
    let time = |item: &Value| item["lastUpdated"].as_str().map(str::to_owned);
    ensure!(time(second[0]) < time(first[0]), "two ticks older");
    ensure!(item(&pages, "UNH").is_some() && items(&pages).len() == 42);
    Ok(())
}

#[tokio::test]
async fn a_tick_falls_between_two_pages_of_a_crawl() -> Result<()> {
    let bench = Bench::start()?;
    bench
        .rule(json!({"match": {"page": 2}, "action": {"type": "tick", "by": 1}, "times": 1}))
        .await?;
    let pages = bench.crawl(9).await?;
    for (index, time) in ["14:30:0", "14:30:0", "14:35:0", "14:35:0", "14:35:0"]
        .iter()
        .enumerate()
    {
        for item in items(&pages[index..=index]) {
            let updated = item["lastUpdated"].as_str().context("a time")?;
            ensure!(updated.contains(time), "page {index}: {updated}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn paging_rules_that_make_no_sense_are_refused() -> Result<()> {
    let bench = Bench::start()?;
    for fault in [
        json!("token_missing"),
        json!({"loop_to": 1}),
        json!({"bigger_page": {"times": 0}}),
        json!({"also_lists": {"symbol": "NVDA"}}),
    ] {
        let rule = json!({"action": {"type": "paging", "fault": fault}});
        ensure!(bench.control("POST", "rules", rule).await?.0 == 400, "{fault}");
    }
    Ok(())
}
