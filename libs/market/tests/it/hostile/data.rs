//! Items that are wrong: each costs its own symbol freshness and nothing else, until they are too many.

use anyhow::{Result, bail, ensure};
use vendor_simulator::{ItemFault, PagingFault, Rule};

use super::{SYMBOLS, World, quote};

/// A fault, the reason that it is counted under, and whether the item still says whose it is.
fn bad_items() -> Vec<(ItemFault, &'static str)> {
    let field = |name: &str, json: Option<&str>| ItemFault::Field {
        name: name.to_owned(),
        json: json.map(str::to_owned),
    };
    vec![
        (ItemFault::PriceZero, "price"),
        (ItemFault::PriceNegative, "price"),
        (ItemFault::PriceAbsent, "price"),
        (ItemFault::PriceString, "price"),
        (ItemFault::PriceTooLarge, "price"),
        (ItemFault::PriceNan, "price"),
        (field("price", Some("-Infinity")), "price"),
        (field("price", Some("null")), "price"),
        (field("price", Some("[1]")), "price"),
        (field("price", Some("0.12345678901234567890123456789")), "price"),
        (field("change", Some("NaN")), "change"),
        (field("change", None), "change"),
        (ItemFault::NonAsciiSymbol, "symbol"),
        (field("symbol", None), "symbol"),
        (field("symbol", Some("\"<b>AAPL</b>\"")), "symbol"),
        (ItemFault::NotAnObject, "not_an_object"),
        (ItemFault::LastUpdatedAbsent, "last_updated"),
        (field("lastUpdated", Some("\"yesterday\"")), "last_updated"),
        (ItemFault::LastUpdatedSkewed { ms: 86_400_000 }, "from_the_future"),
        (ItemFault::LastUpdatedSkewed { ms: -86_400_000 }, "older"),
        (ItemFault::LastUpdatedBackwards, "older"),
    ]
}

#[tokio::test]
async fn a_bad_item_keeps_its_last_good_quote_with_its_true_age_and_others_go_on() -> Result<()> {
    for (fault, reason) in bad_items() {
        let mut world = World::start()?;
        let before = world.crawl(None).await?.snapshot;
        world.tick();
        world.vendor.add_rule(Rule::on_items(&["AAPL"], fault.clone()))?;
        let crawled = world.crawl(Some(&before)).await;
        let crawled = crawled.map_err(|error| anyhow::anyhow!("{fault:?}: {error}"))?;
        let (held, kept) = (quote(&before, "AAPL"), quote(&crawled.snapshot, "AAPL"));
        ensure!(held.is_some(), "listed before");
        assert_eq!(
            kept.map(|quote| quote.price),
            held.map(|quote| quote.price),
            "{fault:?}"
        );
        assert_eq!(
            kept.map(|quote| quote.as_of),
            Some(before.meta.taken_at),
            "its true age: {fault:?}"
        );
        assert_eq!((crawled.kept, crawled.quarantined.len()), (1, 1), "{fault:?}");
        assert_eq!(crawled.snapshot.meta.count, SYMBOLS, "{fault:?}");
        for symbol in world.vendor.symbols().iter().filter(|symbol| *symbol != "AAPL") {
            let fresh = quote(&crawled.snapshot, symbol).expect("listed");
            assert_eq!(fresh.as_of, world.now, "{symbol} beside {fault:?}");
            assert_eq!(
                Some(fresh.price.as_decimal()),
                world.vendor.price(symbol),
                "{symbol}"
            );
        }
        assert_eq!(world.rejected("item", reason), 1, "{fault:?}");

        world.vendor.clear_rules();
        let healed = world.crawl(Some(&crawled.snapshot)).await?.snapshot;
        let healed = quote(&healed, "AAPL").expect("listed");
        assert_eq!(healed.as_of, world.now, "well again after {fault:?}");
    }
    Ok(())
}

#[tokio::test]
async fn five_percent_bad_are_borne_and_one_more_refuses_the_pass() -> Result<()> {
    let mut world = World::start()?;
    let before = world.crawl(None).await?.snapshot;
    world.tick();
    let symbols = world.vendor.symbols();
    let bad: Vec<&str> = symbols.iter().step_by(17).map(String::as_str).collect();
    ensure!(bad.len() == 6);
    world
        .vendor
        .add_rule(Rule::on_items(&bad[..5], ItemFault::PriceNegative))?;
    let crawled = world.crawl(Some(&before)).await?;
    assert_eq!((crawled.kept, crawled.snapshot.meta.count), (5, SYMBOLS));
    assert_eq!(world.rejected("item", "price"), 5);

    world
        .vendor
        .add_rule(Rule::on_items(&bad[5..], ItemFault::PriceString))?;
    let Err(refused) = world.crawl(Some(&before)).await else {
        bail!("6 of 100 are bad");
    };
    assert_eq!(refused.reason(), "too_many_bad_items");
    assert_eq!(world.rejected("pass", "too_many_bad_items"), 1);
    Ok(())
}

#[tokio::test]
async fn what_is_odd_but_legal_is_taken_exactly() -> Result<()> {
    let world = World::start()?;
    world.rules([
        Rule::on_items(&["AAPL"], ItemFault::PriceNoise),
        Rule::on_items(&["MSFT"], ItemFault::MarkupInName),
        Rule::on_items(&["NVDA"], ItemFault::UnknownFields),
    ])?;
    let crawled = world.crawl(None).await?;
    assert_eq!(
        (crawled.snapshot.meta.count, crawled.quarantined.len()),
        (SYMBOLS, 0)
    );
    let noisy = quote(&crawled.snapshot, "AAPL")
        .expect("listed")
        .price
        .to_string();
    ensure!(
        noisy.len() == 18 && noisy.ends_with("0000002"),
        "every digit: {noisy}"
    );
    let marked = &quote(&crawled.snapshot, "MSFT").expect("listed").name;
    assert_eq!(
        marked, r#"<script>alert('MSFT')</script><b>"MSFT" & Sons</b>"#,
        "text is kept as it is; who shows it escapes it"
    );
    let odd = quote(&crawled.snapshot, "NVDA").expect("listed");
    assert_eq!(Some(odd.price.as_decimal()), world.vendor.price("NVDA"));
    Ok(())
}

#[tokio::test]
async fn of_a_symbol_listed_twice_the_newer_is_kept_and_counted() -> Result<()> {
    let mut world = World::start()?;
    world.tick();
    world.tick();
    for (page, ticks_ago) in [(1, 1), (4, 2), (9, 0)] {
        let symbols = vec!["AAPL".to_owned()];
        world
            .vendor
            .add_rule(Rule::on_page(page, PagingFault::AlsoLists { symbols, ticks_ago }))?;
    }
    let crawled = world.crawl(None).await?;
    assert_eq!((crawled.duplicates, crawled.quarantined.len()), (3, 0));
    let kept = quote(&crawled.snapshot, "AAPL").expect("listed");
    assert_eq!(Some(kept.price.as_decimal()), world.vendor.price("AAPL"));
    assert_eq!(world.rejected("item", "duplicate_symbol"), 3);
    Ok(())
}

#[tokio::test]
async fn nobody_can_buy_a_vanished_stock_until_it_comes_back() -> Result<()> {
    let mut world = World::start()?;
    let symbol = fuse_domain::Symbol::parse("AAPL")?;
    let before = world.crawl(None).await?.snapshot;
    ensure!(before.quote_used(&symbol).is_some());
    world.tick();
    world
        .vendor
        .add_rule(Rule::on_items(&["AAPL"], ItemFault::Vanish))?;
    let without = world.crawl(Some(&before)).await?.snapshot;
    assert_eq!(without.quote_used(&symbol), None);
    world.tick();
    world.vendor.clear_rules();
    let again = world.crawl(Some(&without)).await?.snapshot;
    let used = again.quote_used(&symbol).expect("listed again");
    assert_eq!(
        (used.as_of, Some(used.price.as_decimal())),
        (world.now, world.vendor.price("AAPL"))
    );
    Ok(())
}

#[tokio::test]
async fn a_tick_in_the_middle_of_a_crawl_leaves_each_item_its_own_time() -> Result<()> {
    let mut world = World::start()?;
    let tick = vendor_simulator::Action::Tick { by: 1, before: false };
    let rule = Rule::on(vendor_simulator::Operation::List, tick).page(3).times(1);
    world.vendor.add_rule(rule)?;
    let mixed = world.crawl(None).await?.snapshot;
    let times = |symbol: &str| quote(&mixed, symbol).expect("listed").last_updated;
    let symbols = world.vendor.symbols();
    let (early, late) = (times(&symbols[0]), times(&symbols[SYMBOLS - 1]));
    ensure!(late.duration_since(early).as_secs() >= 298, "{early} and {late}");
    world.now += jiff::SignedDuration::from_secs(300);
    let after = world.crawl(Some(&mixed)).await?;
    ensure!(
        after.quarantined.is_empty(),
        "nothing looks older: {:?}",
        after.quarantined
    );
    for symbol in &symbols {
        let fresh = quote(&after.snapshot, symbol).expect("listed");
        assert_eq!(
            Some(fresh.price.as_decimal()),
            world.vendor.price(symbol),
            "{symbol}"
        );
    }
    Ok(())
}
