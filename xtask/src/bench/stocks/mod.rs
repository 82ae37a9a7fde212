//! `cargo xtask bench stocks`: what a client of GET /v1/stocks gets, beside servers that do nothing but answer, during a
//! vendor outage, without Redis, and when everything is cold.

mod outage;
mod redis;
mod sample;
mod size;
mod stampede;
mod throughput;
mod yardsticks;

use anyhow::Result;
use clap::ValueEnum;

use super::figure::Figure;

/// A part of the bench that runs by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Beside a bare hyper server, express and fastify.
    Throughput,
    /// A page out of 10,000 symbols beside the same out of 150.
    Size,
    /// Healthy beside a full outage of the vendor, and buys in the outage.
    Outage,
    /// With Redis beside Redis gone, or hung.
    Redis,
    /// Three cold replicas on an empty table, 1,000 GETs at once.
    Stampede,
}

/// All parts, or one.
pub fn measure(only: Option<Part>, quick: bool) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for part in Part::value_variants() {
        if only.is_some_and(|only| only != *part) {
            continue;
        }
        figures.extend(match part {
            Part::Throughput => throughput::measure(quick)?,
            Part::Size => size::measure(quick)?,
            Part::Outage => outage::measure(quick)?,
            Part::Redis => redis::measure(quick)?,
            Part::Stampede => stampede::measure(quick)?,
        });
    }
    Ok(figures)
}
