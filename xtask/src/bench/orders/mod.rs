//! `cargo xtask bench orders`: POST /v1/orders end to end over HTTP, in turns with pgbench running the same two writes on
//! the same server; what an order costs; and the same with millions of orders already there.

mod cost;
mod growth;
mod history;
mod ours;
mod pgbench;
mod scene;
mod throughput;
mod verify;

use anyhow::Result;
use clap::ValueEnum;
use uuid::Uuid;

use super::figure::{Figure, count};

/// Connections of the load, and clients of pgbench.
const CLIENTS: u16 = 64;
/// Portfolios are spread over so many users, each with a key of their own: as many keys as are used within the two seconds
/// that a replica believes what the database said about one.
const USERS: u64 = 250;
const PORTFOLIOS: u64 = 10_000;
const SYMBOLS: u64 = 40;

/// A part of the bench that runs by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Over 10,000 portfolios, beside pgbench.
    Spread,
    /// All on one portfolio and one symbol, beside pgbench.
    Hot,
    /// CPU time, time by phase and bytes of WAL of an order.
    Cost,
    /// With 10 million orders already there beside none (200,000 with --quick).
    Growth,
    /// `api-service verify` over 1 million orders.
    Verify,
}

/// Whom the orders go to. The same for ours and for pgbench.
#[derive(Clone, Copy)]
struct Reach {
    name: &'static str,
    users: u64,
    portfolios: u64,
    symbols: u64,
}

const SPREAD: Reach = Reach {
    name: "10,000 portfolios",
    users: USERS,
    portfolios: PORTFOLIOS,
    symbols: SYMBOLS,
};
const HOT: Reach = Reach {
    name: "one portfolio",
    users: 1,
    portfolios: 1,
    symbols: 1,
};

/// What a load came to, of ours or of pgbench.
struct Sample {
    orders: u64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Sample {
    /// One line for a person who waits.
    fn show(&self, round: u32, name: &str, more: &str) {
        println!(
            "round {round:>2} {name:<28} {:>7.0} orders/s  p50 {:>7.2} ms  p99 {:>7.2} ms{more}",
            self.per_second, self.p50_ms, self.p99_ms
        );
    }
}

/// All parts, or one.
pub fn measure(only: Option<Part>, quick: bool) -> Result<Vec<Figure>> {
    warn_if_busy();
    let mut figures = Vec::new();
    for part in Part::value_variants() {
        if only.is_some_and(|only| only != *part) {
            continue;
        }
        figures.extend(match part {
            Part::Spread => throughput::spread(quick)?,
            Part::Hot => throughput::hot(quick)?,
            Part::Cost => cost::measure(quick)?,
            Part::Growth => growth::measure(quick)?,
            Part::Verify => verify::measure(quick)?,
        });
    }
    Ok(figures)
}

/// Ours has a few threads and ten connections, pgbench 64: where others want the cores too, the kernel shares them by number
/// of processes, and the ratio says more about that than about ours.
fn warn_if_busy() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let minute = load.split(' ').next().and_then(|load| load.parse::<f64>().ok());
    if let Some(minute) = minute.filter(|minute| *minute > 1.0) {
        println!("the machine is busy (load {minute}): the ratios to pgbench will be too low");
    }
}

/// The id that stands for a number: its digits.
fn id(number: u64) -> Uuid {
    Uuid::from_u128(
        format!("{number}")
            .bytes()
            .fold(0, |id, digit| (id << 4) | u128::from(digit - b'0')),
    )
}

/// User and id of the n-th portfolio; the first of each user has the user's id. As in orders.sql and history.sql.
fn portfolio(number: u64, users: u64) -> (u64, Uuid) {
    let user = 1 + number % users;
    (user, id(user + 1000 * (number / users)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_their_digits() {
        assert_eq!(id(250).to_string(), "00000000-0000-0000-0000-000000000250");
        assert_eq!(portfolio(0, 250), (1, id(1)));
        assert_eq!(portfolio(9_999, 250), (250, id(39_250)));
        assert_eq!(portfolio(0, 1), (1, id(1)));
    }
}
