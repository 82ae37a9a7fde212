//! Paging and bodies that are broken refuse the pass, counted by reason; the last good snapshot is what stays.

use anyhow::{Result, bail, ensure};
use fuse_market::ItemFault as Fault;
use vendor_simulator::{BodyFault, ItemFault, Operation, PagingFault, Rule};

use super::{PAGES, SYMBOLS, World, body, quote};

fn page(page: usize, fault: PagingFault) -> Rule {
    Rule::on_page(page, fault)
}

fn every_page(fault: PagingFault) -> Rule {
    Rule::on(Operation::List, vendor_simulator::Action::Paging { fault })
}

fn list(fault: BodyFault) -> Rule {
    body(Operation::List, fault)
}

#[tokio::test]
async fn what_breaks_a_pass_is_counted_and_the_next_one_is_whole() -> Result<()> {
    for (rules, reason) in [
        (vec![page(4, PagingFault::RepeatedToken)], "token_loop"),
        (vec![page(8, PagingFault::LoopTo(3))], "token_loop"),
        (vec![every_page(PagingFault::EndlessTokens)], "too_many_pages"),
        (vec![page(4, PagingFault::TokenAbsent)], "too_many_missing"),
        (vec![page(4, PagingFault::TokenNull)], "too_many_missing"),
        (vec![page(1, PagingFault::TokenEmpty)], "too_many_missing"),
        (vec![Rule::on_items(&[], ItemFault::Vanish)], "empty"),
        (vec![list(BodyFault::Truncated)], "unreadable"),
        (vec![list(BodyFault::InvalidJson).page(7)], "unreadable"),
        (vec![list(BodyFault::MissingData)], "unreadable"),
        (vec![list(BodyFault::MissingItems)], "unreadable"),
        (
            vec![list(BodyFault::Deep { depth: 100_000 })],
            "too_many_bad_items",
        ),
        (
            vec![list(BodyFault::Huge {
                bytes: 100 << 20,
                announced: false,
            })],
            "unreadable",
        ),
        (vec![list(BodyFault::ManyItems { items: 100_000 })], "unreadable"),
        (
            vec![list(BodyFault::GzipBomb {
                inflated_bytes: 1 << 30,
            })],
            "unreadable",
        ),
        (vec![html_page()], "unreadable"),
    ] {
        let mut world = World::start()?;
        let before = world.crawl(None).await?.snapshot;
        world.tick();
        let what = format!("{rules:?}");
        world.rules(rules)?;
        let Err(refused) = world.crawl(Some(&before)).await else {
            bail!("taken: {what}");
        };
        assert_eq!(refused.reason(), reason, "{what}");
        ensure!(refused.is_bad_data(), "{what}");
        assert_eq!(world.rejected("pass", reason), 1, "{what}");

        world.vendor.clear_rules();
        let client = crate::fixture::Client::of_url(&world.vendor.vendor_url(), "simulator-key")?;
        // Another client: this one's breaker may be open, and rightly so.
        world.client = client;
        let next = world.crawl(Some(&before)).await?.snapshot;
        assert_eq!(next.meta.count, SYMBOLS, "after {what}");
    }
    Ok(())
}

/// HTTP 200 with a proxy's page.
fn html_page() -> Rule {
    let action = vendor_simulator::Action::Status {
        status: 200,
        body: vendor_simulator::Body::Html,
        executed: false,
        retry_after: None,
        location: None,
    };
    Rule::on(Operation::List, action)
}

#[tokio::test]
async fn what_is_odd_but_whole_gives_the_same_snapshot() -> Result<()> {
    let plain = World::start()?.crawl(None).await?;
    for (rules, pages) in [
        (vec![page(PAGES, PagingFault::TokenAbsent)], PAGES),
        (vec![page(PAGES, PagingFault::TokenNull)], PAGES),
        (vec![page(PAGES, PagingFault::TokenEmpty)], PAGES),
        (vec![page(5, PagingFault::EmptyPage)], PAGES + 1),
        (vec![page(2, PagingFault::BiggerPage { times: 3 })], PAGES - 2),
        (vec![every_page(PagingFault::BiggerPage { times: 10 })], 1),
        // The label is not the shape: nothing is known about the labels that the vendor writes.
        (vec![list(BodyFault::ContentType("text/html".to_owned()))], PAGES),
    ] {
        let what = format!("{rules:?}");
        let world = World::start()?;
        world.rules(rules)?;
        let crawled = world.crawl(None).await?;
        assert_eq!(crawled.snapshot.quotes, plain.snapshot.quotes, "{what}");
        assert_eq!((crawled.pages, crawled.duplicates), (pages, 0), "{what}");
        for fault in Fault::ALL {
            assert_eq!(world.rejected("item", fault.as_str()), 0, "{what}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_list_that_stays_shorter_is_believed_in_the_end() -> Result<()> {
    let mut world = World::start()?;
    let before = world.crawl(None).await?.snapshot;
    world.vendor.add_rule(page(4, PagingFault::TokenAbsent))?;
    let mut refused = 0;
    let shorter = loop {
        world.tick();
        match world.crawl(Some(&before)).await {
            Ok(crawled) => break crawled.snapshot,
            Err(error) => assert_eq!(error.reason(), "too_many_missing"),
        }
        refused += 1;
        ensure!(refused < 100, "never believed");
    };
    ensure!(refused >= 3, "not by one accident: {refused}");
    assert_eq!(quote(&shorter, "NVDA").map(|quote| quote.as_of), Some(world.now));
    Ok(())
}
