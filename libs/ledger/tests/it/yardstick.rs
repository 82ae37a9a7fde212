//! The yardstick of `cargo xtask bench orders` stays what it claims to be: the rows that the ledger writes, under the same
//! constraints and triggers.

use std::time::Duration;

use anyhow::{Context as _, Result};
use fuse_harness::postgres::Postgres;
use fuse_harness::{proc, rundir};

use crate::support::{Fixture, fill, fixture, request};

const SCRIPT: &str = include_str!("../../../../xtask/yardsticks/orders.sql");

/// Four clients, five orders each; returns what pgbench printed.
fn pgbench(fixture: &Fixture, script: &str) -> Result<String> {
    let file = rundir::unique_path("yardstick", "sql")?;
    std::fs::write(&file, script)?;
    let database = fixture.url.rsplit('/').next().context("a database")?;
    let mut command = Postgres::shared()?.client("pgbench", database);
    command
        .args([
            "--no-vacuum",
            "--protocol=prepared",
            "--client=4",
            "--transactions=5",
        ])
        .args(["--define=users=2", "--define=portfolios=4", "--define=symbols=2"])
        .args(["--define=answer_bytes=600", "--file"])
        .arg(&file);
    let output = proc::run(&mut command, Duration::from_secs(60))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How many sets of columns that are not null the rows of a table have.
async fn forms(fixture: &Fixture, table: &str) -> Result<String> {
    let sql = format!(
        "select count(distinct form)::text from (
             select (select string_agg(key, ',' order by key) from jsonb_each(to_jsonb(t)) where value <> 'null') as form
             from {table} t) as forms"
    );
    fixture.text(&sql).await
}

#[tokio::test]
async fn pgbench_writes_the_rows_that_the_ledger_writes() -> Result<()> {
    let fixture = fixture().await?;
    let order = request("S1", "1.5", "100.25");
    fixture
        .traded("ours", order, fill("100.25", "1.5"), "2026-03-02T10:00:01Z")
        .await?;
    fixture
        .by_hand(
            "insert into users (user_id, name, created_at)
             select lpad(u::text, 32, '0')::uuid, 'bench', now() from generate_series(1, 2) u;
             insert into portfolios (user_id, portfolio_id, name, created_at, updated_at)
             select lpad(u::text, 32, '0')::uuid, lpad((u + 1000 * k)::text, 32, '0')::uuid, 'bench', now(), now()
             from generate_series(1, 2) u, generate_series(0, 1) k",
        )
        .await?
        .map_err(anyhow::Error::msg)?;
    let both = SCRIPT.replace("-- one transaction: ", "");
    assert_ne!(both, SCRIPT);
    for script in [SCRIPT, &both] {
        let said = pgbench(&fixture, script)?;
        assert!(said.contains("actually processed: 20/20"), "{said}");
    }
    let counted = "select count(*) || ' ' || count(*) filter (where status = 'filled') from orders";
    assert_eq!(fixture.text(counted).await?, "41 41");
    assert_eq!(forms(&fixture, "orders").await?, "1");
    assert_eq!(forms(&fixture, "holdings").await?, "1");
    // Of the event before the vendor, and of the one after.
    assert_eq!(forms(&fixture, "order_events").await?, "2");
    let difference = "select (select sum(quantity) from holdings) = (select sum(fill_quantity) from orders)
        and (select sum(cost) from holdings) = (select sum(fill_total) from orders)
        and (select sum(version - 1) from portfolios) = (select count(*) from orders)";
    let agrees = fixture.text(&format!("select ({difference})::text")).await?;
    assert_eq!(agrees, "true", "orders, holdings and versions disagree");
    Ok(())
}
