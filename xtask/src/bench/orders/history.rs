//! Orders that were there before: filled ones of a year, with their events and holdings, made inside of the database in
//! chunks. Every trigger and constraint looks at each of them.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fuse_harness::postgres::Postgres;
use jiff::{SignedDuration, Timestamp};

use super::scene::{Database, Scene};
use super::{PORTFOLIOS, SYMBOLS, USERS, count};
use crate::shell;

const CHUNK: &str = include_str!("../../../yardsticks/history.sql");
/// Orders of a chunk, which is one transaction.
const CHUNK_ORDERS: u64 = 100_000;
/// Chunks that are made at once: one for each core of a small machine.
const WORKERS: usize = 2;
/// The orders end a day ago: what is measured comes after them.
const DAYS: i64 = 300;
/// Of one chunk, and of what follows them all.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// On disk, of an order with its events, its indexes, its share of the hash chain and the versions that are dead; 2,041 were
/// seen of a million and a half, before there was a chain.
const BYTES_PER_ORDER: u64 = 2_200;
/// Beside them: WAL, and room for whoever else uses this disk.
const BYTES_RESERVED: u64 = 6_000_000_000;

/// Makes so many orders in a database that has users and no orders.
pub fn make(scene: &Scene, database: &Database, orders: u64) -> Result<()> {
    let postgres = &scene.postgres;
    ensure_space(postgres.dir(), orders)?;
    let begun = Instant::now();
    println!("making {orders} filled orders");
    let chunk = prepared(scene, orders)?;
    let next = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let work = || -> Result<()> {
        loop {
            let first = next.fetch_add(CHUNK_ORDERS, Ordering::Relaxed);
            if first >= orders {
                return Ok(());
            }
            let last = (first + CHUNK_ORDERS).min(orders) - 1;
            let sql = chunk
                .replace("{first}", &first.to_string())
                .replace("{last}", &last.to_string());
            postgres.sql_within(STATEMENT_DEADLINE, database.name, &sql)?;
            let done = done.fetch_add(last + 1 - first, Ordering::Relaxed) + last + 1 - first;
            println!("{done} of {orders} orders after {} s", begun.elapsed().as_secs());
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })?;
    book(postgres, database)?;
    println!(
        "made {orders} orders in {} s, {:.1} GB",
        begun.elapsed().as_secs(),
        count(size(postgres, database)?) / 1e9
    );
    Ok(())
}

fn prepared(scene: &Scene, orders: u64) -> Result<String> {
    let symbols = scene.vendor().symbols();
    ensure!(symbols.len() as u64 == SYMBOLS, "{} symbols", symbols.len());
    let quoted: Vec<String> = symbols.iter().map(|symbol| format!("'{symbol}'")).collect();
    let from = Timestamp::now() - SignedDuration::from_hours(24 * (DAYS + 1));
    Ok([
        ("users", USERS.to_string()),
        ("portfolios", PORTFOLIOS.to_string()),
        ("symbols", quoted.join(", ")),
        ("symbol_count", SYMBOLS.to_string()),
        ("count", orders.to_string()),
        ("days", DAYS.to_string()),
        ("from", from.to_string()),
    ]
    .iter()
    .fold(CHUNK.to_owned(), |sql, (name, value)| {
        sql.replace(&format!("{{{name}}}"), value)
    }))
}

/// Holdings and versions as the orders have it, then what autovacuum would otherwise do while orders are measured.
fn book(postgres: &Postgres, database: &Database) -> Result<()> {
    println!("booking holdings, vacuum, checkpoint");
    for sql in [
        "insert into holdings (user_id, portfolio_id, symbol, quantity, cost, version, updated_at)
         select user_id, portfolio_id, symbol, sum(fill_quantity), sum(fill_total), count(*), max(updated_at)
         from orders where status = 'filled' group by user_id, portfolio_id, symbol",
        "update portfolios p set version = p.version + m.fills, updated_at = greatest(p.updated_at, m.at)
         from (select user_id, portfolio_id, count(*) as fills, max(updated_at) as at
               from orders where status = 'filled' group by user_id, portfolio_id) m
         where p.user_id = m.user_id and p.portfolio_id = m.portfolio_id",
        "vacuum (analyze) orders, order_events, holdings, portfolios",
        "checkpoint",
    ] {
        postgres.sql_within(STATEMENT_DEADLINE, database.name, sql)?;
    }
    Ok(())
}

fn size(postgres: &Postgres, database: &Database) -> Result<u64> {
    let text = postgres.sql(database.name, "select pg_database_size(current_database())")?;
    text.parse().with_context(|| format!("{text} is no size"))
}

fn ensure_space(dir: &Path, orders: u64) -> Result<()> {
    let needed = orders * BYTES_PER_ORDER + BYTES_RESERVED;
    let free = free_bytes(dir)?;
    ensure!(
        free >= needed,
        "{orders} orders need about {:.0} GB of disk with what must stay free, and there are {:.0} GB at {}; free some, or point \
         TMPDIR at another disk",
        count(needed) / 1e9,
        count(free) / 1e9,
        dir.display()
    );
    Ok(())
}

fn free_bytes(dir: &Path) -> Result<u64> {
    let text = shell::output(
        Command::new("df")
            .args(["--block-size=1", "--output=avail"])
            .arg(dir),
    )?;
    let number = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
    number.with_context(|| format!("df said: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_disk_is_refused_in_words() {
        let dir = std::env::temp_dir();
        assert!(free_bytes(&dir).expect("df") > 0);
        let error = ensure_space(&dir, 1 << 40).expect_err("no disk is that large");
        assert!(format!("{error:#}").contains("need about"), "{error:#}");
    }
}
