//! Growth: a distributed database keeps a user's rows on one node. That works for a table whose every key holds the user
//! and that draws its numbers from nothing which all nodes would have to share.

use anyhow::{Result, ensure};

use crate::support::{Fixture, fixture};

/// Tables that do not grow with the users, or that are copied to every node; each with its reason.
const EXEMPT: &[(&str, &str)] = &[
    ("_sqlx_migrations", "one row a migration"),
    (
        "api_keys",
        "looked up by the key alone, before its owner is known; copied to every node",
    ),
    ("reports", "one row a day"),
    ("report_deliveries", "one row a day and recipient"),
    ("report_runs", "one row a day"),
    (
        "order_event_chain",
        "one row per thousand events, made in the background",
    ),
];

/// What is wrong with each table of the schema, by its name. A foreign key of an exempt table is nobody's business here; one
/// from a growing table to whatever else has to hold the user on both ends.
const FINDINGS: &str = "
    with tables as (
        select c.oid, c.relname from pg_class c
        where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
    ), owner_column as (
        select t.oid, a.attnum from tables t join pg_attribute a on a.attrelid = t.oid and a.attname = 'user_id'
        where not a.attisdropped
    )
    select t.relname as name, 'has no column user_id' as finding
    from tables t where t.oid not in (select oid from owner_column)
    union all
    select t.relname, 'has no primary key'
    from tables t where not exists (select from pg_index x where x.indrelid = t.oid and x.indisprimary)
    union all
    select t.relname, format('has the unique index %s without user_id', x.indexrelid::regclass)
    from tables t join pg_index x on x.indrelid = t.oid
    where (x.indisunique or x.indisexclusion)
      and not exists (select from owner_column o where o.oid = t.oid and o.attnum = any (x.indkey[0:x.indnkeyatts - 1]))
    union all
    select t.relname, format('has the foreign key %s without user_id on both ends', k.conname)
    from tables t join pg_constraint k on k.conrelid = t.oid and k.contype = 'f'
    where not exists (
        select from unnest(k.conkey, k.confkey) as pair (own, other)
        join owner_column o on o.oid = k.conrelid and o.attnum = pair.own
        join owner_column r on r.oid = k.confrelid and r.attnum = pair.other)
    union all
    select t.relname, format('draws %I from an identity', a.attname)
    from tables t join pg_attribute a on a.attrelid = t.oid where a.attidentity <> '' and not a.attisdropped
    union all
    select t.relname, format('draws %I from a sequence', a.attname)
    from tables t join pg_attribute a on a.attrelid = t.oid
    join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where pg_get_expr(d.adbin, d.adrelid) ilike '%nextval%' and not a.attisdropped
    order by 1, 2";

/// What is wrong with the tables that are not exempt, as one sentence each.
async fn findings(fixture: &Fixture) -> Result<Vec<String>> {
    let text = fixture
        .text(&format!(
            "select coalesce(string_agg(name || ' ' || finding, E'\\n' order by name, finding), '') from ({FINDINGS}) f"
        ))
        .await?;
    let is_exempt = |line: &&str| {
        EXEMPT
            .iter()
            .any(|(table, _)| line.starts_with(&format!("{table} ")))
    };
    Ok(text
        .lines()
        .filter(|line| !is_exempt(line))
        .map(|line| {
            format!(
                "The table {line}: it would not grow past one machine. Put user_id into its primary key, every unique key and \
                 every foreign key, and draw nothing from a sequence; or write it into EXEMPT in libs/ledger/tests/it/growth.rs \
                 with the reason why it stays small or is copied to every node."
            )
        })
        .collect())
}

#[tokio::test]
async fn every_table_grows_with_its_users_or_stays_small() -> Result<()> {
    let fixture = fixture().await?;
    let found = findings(&fixture).await?;
    ensure!(found.is_empty(), "{}", found.join("\n"));
    let names = fixture
        .text("select string_agg(tablename, ' ') from pg_tables where schemaname = current_schema()")
        .await?;
    for (table, _) in EXEMPT {
        ensure!(
            names.split(' ').any(|name| name == *table),
            "{table} is exempt, but there is no such table"
        );
    }
    Ok(())
}

/// Each table that somebody could add in good faith, and what is said of it.
#[tokio::test]
async fn a_table_that_would_not_grow_is_refused_with_what_to_do() -> Result<()> {
    let fixture = fixture().await?;
    for (columns, finding) in [
        ("id uuid primary key", "has no column user_id"),
        ("user_id uuid not null, id uuid", "has no primary key"),
        (
            "id uuid primary key, user_id uuid",
            "has the unique index added_pkey without user_id",
        ),
        (
            "user_id uuid, id uuid, name text unique, primary key (user_id, id)",
            "has the unique index added_name_key without user_id",
        ),
        (
            "user_id uuid, id uuid, primary key (id) include (user_id)",
            "has the unique index added_pkey without user_id",
        ),
        (
            "user_id uuid primary key, day date references reports",
            "has the foreign key added_day_fkey without user_id on both ends",
        ),
        (
            "user_id uuid, portfolio uuid, primary key (user_id, portfolio), foreign key (portfolio) references users (user_id)",
            "has the foreign key added_portfolio_fkey without user_id on both ends",
        ),
        (
            "user_id uuid, n bigint generated always as identity, primary key (user_id, n)",
            "draws n from an identity",
        ),
        (
            "user_id uuid, n bigserial, primary key (user_id, n)",
            "draws n from a sequence",
        ),
    ] {
        let make = format!("create table added ({columns})");
        fixture.by_hand(&make).await?.map_err(anyhow::Error::msg)?;
        let found = findings(&fixture).await?;
        let words =
            format!("The table added {finding}: it would not grow past one machine. Put user_id into");
        ensure!(
            found.iter().any(|sentence| sentence.starts_with(&words)),
            "{columns}: {found:?}"
        );
        fixture
            .by_hand("drop table added")
            .await?
            .map_err(anyhow::Error::msg)?;
    }
    Ok(())
}
