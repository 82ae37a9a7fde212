//! Every column of what the check covers: whichever value is changed behind the service's back, it is noticed, and the row is
//! named. The columns are read from the schema, so a new one is noticed, covered or listed here with a reason.

use anyhow::{Context as _, Result, ensure};
use fuse_domain::Amount;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::histories::{End, play_step};
use super::{until_chained, verify};
use crate::support::{Fixture, fill, fixture, request};

/// Tables with what tells their rows apart, and the state of a row.
const TABLES: &[(&str, &str, &str)] = &[
    ("orders", "order_id::text", "status"),
    ("order_events", "order_id || ' ' || status", "status"),
    ("holdings", "symbol", "''"),
    ("portfolios", "portfolio_id::text", "''"),
    ("order_event_chain", "link::text", "''"),
];

/// Columns whose change is not noticed, in rows of these states (none: of all), and why that is right.
const LEFT_OUT: &[(&str, &str, &[&str], &str)] = &[
    (
        "orders",
        "attempts",
        &["submitted", "unknown"],
        "not final before the order has ended; from then on the chain holds it",
    ),
    (
        "orders",
        "answer_status",
        &["submitted"],
        "the schema refuses an answer without an outcome: orders_answer_fits_status",
    ),
    (
        "orders",
        "answer_body",
        &["submitted"],
        "the schema refuses an answer without an outcome: orders_answer_fits_status",
    ),
    (
        "orders",
        "updated_at",
        &[],
        "the events have the times that count",
    ),
    (
        "holdings",
        "updated_at",
        &[],
        "the events have the times that count",
    ),
    ("portfolios", "name", &[], "a label for people"),
    ("portfolios", "created_at", &[], "no order depends on it"),
    (
        "portfolios",
        "updated_at",
        &[],
        "the events have the times that count",
    ),
    (
        "order_event_chain",
        "made_at",
        &[],
        "a link may be made at any time after its events",
    ),
];

/// Rows of every shape: each column is null in some and filled in others wherever it may be both. Two links.
async fn ledger() -> Result<Fixture> {
    let fixture = fixture().await?;
    let ends = [
        End::Rejected,
        End::Submitted,
        End::Unknown,
        End::Failed,
        End::ResolvedFilled,
    ];
    for (number, end) in ends.into_iter().enumerate() {
        play_step(&fixture, fixture.user, number, (0, number % 3, 1_000, end)).await?;
    }
    until_chained(&fixture, 9).await?;
    let when = "2026-03-02T10:00:02Z";
    let mut order = fixture.submit("all", request("AAPL", "1.5", "10.25"), when);
    order.client_order_id = Some("own".to_owned());
    order.notional = Some(Amount::parse_client("20")?);
    order.key_id = Some(uuid::Uuid::now_v7());
    let order = fixture.placed(order).await?;
    let settlement = fixture.settlement(order.id, fill("10.25", "1.5"), when);
    fixture.ledger.settle(settlement).await?;
    until_chained(&fixture, 11).await?;
    Ok(fixture)
}

/// One column of one row.
struct Cell {
    table: &'static str,
    key: &'static str,
    /// The row's own.
    value: String,
    state: String,
    column: String,
    kind: String,
    may_be_null: bool,
}

impl Cell {
    /// Another value, and none.
    fn changes(&self) -> Vec<String> {
        let column = &self.column;
        let other = match self.kind.as_str() {
            "uuid" => "gen_random_uuid()".to_owned(),
            "text" => format!("coalesce({column}, '') || 'x'"),
            "numeric" | "bigint" | "integer" | "smallint" => format!("coalesce({column}, 0) + 1000"),
            "timestamp with time zone" => {
                format!("coalesce({column}, '2026-03-02T10:00:00Z') + interval '1 microsecond'")
            }
            "bytea" => format!("set_byte({column}, 0, get_byte({column}, 0) # 1)"),
            "json" => r#"'[{"reached": "changed"}]'"#.to_owned(),
            // Before all others; one that is close may be taken.
            "xid8" => "'3'".to_owned(),
            kind => panic!("write down how a value of the type {kind} ({column}) is changed"),
        };
        let mut changes = vec![other];
        if self.may_be_null {
            changes.push("null".to_owned());
        }
        changes
    }

    fn is_left_out(&self) -> bool {
        LEFT_OUT.iter().any(|(table, column, states, _)| {
            (*table, *column) == (self.table, self.column.as_str())
                && (states.is_empty() || states.contains(&self.state.as_str()))
        })
    }
}

/// As the owner of the tables, without their triggers and without their rules for values.
struct Intruder(PgConnection);

impl Intruder {
    async fn start(fixture: &Fixture) -> Result<Self> {
        let mut intruder = Self(fixture.connection().await?);
        intruder.run("set session_replication_role = replica").await?;
        for (table, _, _) in TABLES {
            intruder
                .run(&format!(
                    "create schema if not exists saved; create table saved.{table} as table {table};
                     do $$ declare rule name; begin
                         for rule in select conname from pg_constraint where conrelid = '{table}'::regclass and contype = 'c' loop
                             execute format('alter table {table} drop constraint %I', rule);
                         end loop;
                     end $$"
                ))
                .await?;
        }
        Ok(intruder)
    }

    async fn run(&mut self, sql: &str) -> Result<u64> {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.0)
            .await
            .with_context(|| sql.to_owned())?;
        Ok(done.rows_affected())
    }

    /// Whether it differs from what was there.
    async fn change(&mut self, cell: &Cell, to: &str) -> Result<bool> {
        let Cell {
            table,
            key,
            value,
            column,
            ..
        } = cell;
        let changed = self
            .run(&format!(
                "update {table} set {column} = {to} where {key} = '{value}' and ({to})::text is distinct from {column}::text"
            ))
            .await?;
        Ok(changed == 1)
    }

    async fn undo(&mut self, table: &str) -> Result<()> {
        let sql = format!("delete from {table}; insert into {table} select * from saved.{table}");
        self.run(&sql).await.map(drop)
    }

    async fn cells(&mut self) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for &(table, key, state) in TABLES {
            let sql = format!(
                "select {key} as value, {state} as state, column_name::text, data_type::text, is_nullable = 'YES' as may_be_null
                 from {table}, information_schema.columns
                 where table_schema = current_schema() and table_name = '{table}' order by 1, ordinal_position"
            );
            let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .fetch_all(&mut self.0)
                .await?;
            for row in rows {
                cells.push(Cell {
                    table,
                    key,
                    value: row.try_get("value")?,
                    state: row.try_get("state")?,
                    column: row.try_get("column_name")?,
                    kind: row.try_get("data_type")?,
                    may_be_null: row.try_get("may_be_null")?,
                });
            }
        }
        Ok(cells)
    }

    /// What the events of an order are called when they are missed.
    async fn places(&mut self) -> Result<Vec<(String, String)>> {
        let rows = sqlx::raw_sql(
            "select e.order_id::text, 'order_events, number ' || e.number - (c.total - c.events) || ' of link ' || c.link
             from (select order_id, row_number() over (order by txid, seq, user_id) as number from order_events) e
             join order_event_chain c on e.number > c.total - c.events and e.number <= c.total",
        )
        .fetch_all(&mut self.0)
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect()
    }
}

/// The changed row itself, or what hangs on it: an event of the order, the event at the end of the link.
fn is_named(cell: &Cell, places: &[(String, String)], row: &str) -> bool {
    match cell.table {
        "orders" | "order_events" => {
            let order = cell.value.split(' ').next().unwrap_or_default();
            row.contains(order) || places.iter().any(|(of, place)| of == order && place == row)
        }
        "order_event_chain" => row.starts_with("order_event"),
        table => row.starts_with(&format!("{table} ")),
    }
}

#[tokio::test]
async fn whichever_value_is_changed_it_is_noticed() -> Result<()> {
    let fixture = ledger().await?;
    ensure!(verify(&fixture).await?.is_valid());
    let mut intruder = Intruder::start(&fixture).await?;
    let places = intruder.places().await?;
    let mut wrong = Vec::new();
    for cell in intruder.cells().await? {
        for to in cell.changes() {
            let what = format!("{}.{} = {to} where {}", cell.table, cell.column, cell.value);
            if !intruder.change(&cell, &to).await? {
                ensure!(to == "null", "nothing was changed: {what}");
                continue;
            }
            let bad = verify(&fixture).await.with_context(|| what.clone())?.first_bad;
            match bad {
                Some(bad) if cell.is_left_out() => {
                    wrong.push(format!("{what}: is left out, but noticed: {bad:?}"));
                }
                Some(bad) if !is_named(&cell, &places, &bad.row) => wrong.push(format!("{what}: {bad:?}")),
                None if !cell.is_left_out() => {
                    wrong.push(format!("{what} (state {}): not noticed", cell.state));
                }
                _ => {}
            }
            intruder.undo(cell.table).await?;
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(verify(&fixture).await?.is_valid(), "all is undone");
    intruder.0.close().await?;
    Ok(())
}
