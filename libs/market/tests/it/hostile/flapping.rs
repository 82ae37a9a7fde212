//! A vendor that fails every other call, by chance or in turns: few calls more than needed, buys exactly once, and no error replaces what
//! is held. (How often the breaker moves needs hours of virtual time: tested beside the gate.)

use anyhow::{Result, ensure};
use fuse_domain::{Outcome, Price, Quantity, Snapshot, Symbol};
use vendor_simulator::{Action, Body, Flap, Operation, Rule};

use super::{SYMBOLS, World};

/// So long a run that the retries which the budget allows at once are within the tenth as well.
const CALLS_NEEDED: u64 = 1_200;
const PASSES_MAX: usize = 5_000;

fn server_error(operation: Operation) -> Rule {
    Rule::on(
        operation,
        Action::Status {
            status: 500,
            body: Body::Envelope,
            executed: false,
            retry_after: None,
            location: None,
        },
    )
}

async fn many_passes(rule: Rule) -> Result<()> {
    let mut world = World::start()?;
    let mut held: Snapshot = world.crawl(None).await?.snapshot;
    world.vendor.add_rule(rule)?;
    let (mut good, mut failed) = (0, 0);
    let mut passes = 0;
    while needed(&world) < CALLS_NEEDED {
        passes += 1;
        ensure!(passes < PASSES_MAX, "{} calls needed so far", needed(&world));
        world.tick();
        match world.crawl(Some(&held)).await {
            Ok(crawled) => {
                assert_eq!(crawled.snapshot.meta.count, SYMBOLS, "never a part of the list");
                assert_eq!((crawled.kept, crawled.duplicates), (0, 0));
                held = crawled.snapshot;
                good += 1;
            }
            Err(error) => {
                ensure!(!error.is_bad_data(), "{error}");
                failed += 1;
            }
        }
    }
    let (needed, sent) = (needed(&world), world.vendor.counters().lists.received);
    println!("{good} passes good, {failed} failed; {sent} list calls, {needed} needed");
    ensure!(10 * sent <= 11 * needed, "{sent} calls for {needed} needed");
    ensure!(failed > 0, "the vendor was meant to fail");
    Ok(())
}

/// Pages that passes asked for, each counted once, whether the breaker let it be sent or not.
fn needed(world: &World) -> u64 {
    let outcomes = ["ok", "server_error", "breaker_open"];
    let of = |outcome: &&str| {
        world.count(&format!(
            r#"vendor_requests_total{{op="list",outcome="{outcome}"}}"#
        ))
    };
    outcomes.iter().map(of).sum::<u64>() - world.count(r#"vendor_retries_total{op="list"}"#)
}

/// By chance five in a row fail, so that the breaker takes part.
#[tokio::test]
async fn half_of_all_lists_failing_costs_a_tenth_more_calls_at_most() -> Result<()> {
    many_passes(server_error(Operation::List).probability(0.5)).await
}

/// Never so many in a row that the breaker opens: the budget alone holds the calls.
#[tokio::test]
async fn a_vendor_that_comes_and_goes_costs_a_tenth_more_calls_at_most() -> Result<()> {
    for (on, off) in [(1, 1), (4, 4), (2, 10)] {
        let mut rule = server_error(Operation::List);
        rule.on.flap = Some(Flap { on, off });
        many_passes(rule).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_buy_goes_to_a_flapping_vendor_once_or_not_at_all() -> Result<()> {
    let world = World::start()?;
    world
        .vendor
        .add_rule(server_error(Operation::Buy).probability(0.5))?;
    let (symbol, price) = (Symbol::parse("PNNY")?, Price::parse("0.25")?);
    let (mut filled, mut unknown, mut not_sent) = (0_u64, 0_u64, 0_u64);
    for n in 1..=100 {
        let quantity = Quantity::parse(&n.to_string())?;
        let bought = world.client.vendor.buy(&symbol, price, quantity).await;
        match bought.outcome {
            Outcome::Filled(_) => filled += 1,
            Outcome::Unknown(_) => unknown += 1,
            _ => not_sent += 1,
        }
        ensure!(bought.attempts.len() <= 1, "{:?}", bought.attempts);
    }
    let buys = world.vendor.counters().buys;
    println!("{filled} filled, {unknown} unknown, {not_sent} not sent");
    assert_eq!((buys.received, buys.executed), (filled + unknown, filled));
    assert_eq!(filled + unknown + not_sent, 100);
    ensure!(unknown > 0);
    Ok(())
}
