//! Many symbols: made from the seed, listed in time that does not depend on their number.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, ensure};
use vendor_simulator::{Simulator, SimulatorConfig};

use crate::{Bench, symbols};

fn with_symbols(symbols: usize, page_size: usize) -> SimulatorConfig {
    SimulatorConfig {
        symbols,
        page_size,
        ..SimulatorConfig::default()
    }
}

#[tokio::test]
async fn ten_thousand_symbols_come_on_four_hundred_pages() -> Result<()> {
    let bench = Bench::start_with(with_symbols(10_000, 25))?;
    let pages = bench.crawl(500).await?;
    ensure!(pages.len() == 400);
    let listed = symbols(&pages);
    ensure!(listed == bench.simulator.symbols());
    ensure!(listed.iter().collect::<BTreeSet<_>>().len() == 10_000);
    Ok(())
}

#[tokio::test]
async fn the_symbols_are_the_same_for_the_same_seed() -> Result<()> {
    let of = |seed| -> Result<Vec<String>> {
        let config = SimulatorConfig {
            seed,
            ..with_symbols(3_000, 25)
        };
        Ok(Simulator::start(config)?.symbols())
    };
    ensure!(of(5)? == of(5)?);
    ensure!(of(5)? != of(6)?);
    Ok(())
}

#[tokio::test]
async fn a_page_costs_the_same_whatever_the_number_of_symbols() -> Result<()> {
    let few = Bench::start_with(with_symbols(1_000, 25))?;
    let many = Bench::start_with(with_symbols(100_000, 25))?;
    let mut took = [0_u128; 2];
    // In turns, so that a busy machine slows both.
    for _ in 0..5 {
        for (bench, took) in [&few, &many].into_iter().zip(&mut took) {
            let started = Instant::now();
            ensure!(bench.crawl(40).await?.len() == 40);
            *took += started.elapsed().as_micros();
        }
    }
    // A page whose work grew with the list would take a hundred times as long.
    ensure!(
        took[1] < 5 * took[0],
        "{took:?} microseconds for 1,000 and 100,000 symbols"
    );
    Ok(())
}
