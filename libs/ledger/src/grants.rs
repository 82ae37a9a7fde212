//! What the service's role may do in the database: granted here and nowhere else, by `migrate`, as the owner of the tables.
//!
//! The constraints and triggers of the schema bind everybody but the tables' owner, who could switch them off. So the
//! service speaks SQL as a role that owns nothing. It writes orders, events and holdings through two functions that run
//! with their owner's rights, and in no other way.

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::LedgerError;

/// What the role may do beside reading every table. Words of ours, put into statements as they are.
const TABLES: &[(&str, &str)] = &[
    ("users", "insert"),
    // Neither its version nor its owner: a version grows with a fill.
    (
        "portfolios",
        "insert (user_id, portfolio_id, name, created_at, updated_at), update (name, deleted_at, updated_at)",
    ),
    ("api_keys", "insert, update"),
    ("order_event_chain", "insert"),
    ("reports", "insert, update"),
    ("report_deliveries", "insert, update"),
    ("report_runs", "insert"),
];

/// What it may call.
const FUNCTIONS: &[&str] = &["place_orders", "settle_orders"];

/// What only the functions may write: whoever can do more than read these can write what never happened.
const GUARDED: &[&str] = &["orders", "order_events", "holdings"];

/// The first statement of every grant. Two migrations at once would meet in the catalogue's rows and one of them fail.
const ONE_AT_A_TIME: &str = "select pg_advisory_xact_lock(hashtextextended('fuse grants', 0))";

/// The role that the service speaks SQL as, seen from the migration's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRole {
    /// Its name: the user of `database.url`.
    pub name: String,
    /// Whether it is the role that migrates, too, and so owns the tables.
    pub is_owner: bool,
    /// Other ways in which it could get around the schema's rules, as clauses that go on from its name.
    pub loopholes: Vec<String>,
}

/// Finds the role before anything is changed.
pub(crate) async fn find(connection: &mut PgConnection, name: &str) -> Result<ServiceRole, LedgerError> {
    let found = sqlx::query(
        "select exists (select from pg_roles where rolname = $1) as is_there, $1 = current_user as is_owner,
                format('create role %I login password ''…''', $1) as statement",
    )
    .bind(name)
    .fetch_one(&mut *connection)
    .await?;
    if !found.try_get::<bool, _>("is_there")? {
        return Err(LedgerError::RoleMissing {
            role: name.to_owned(),
            statement: found.try_get("statement")?,
        });
    }
    Ok(ServiceRole {
        name: name.to_owned(),
        is_owner: found.try_get("is_owner")?,
        loopholes: Vec::new(),
    })
}

/// Takes everything from everybody who is not named, and gives the role what it needs; all at once, so that a service
/// which runs meanwhile never finds itself without. Repeating it changes nothing.
pub(crate) async fn give(connection: &mut PgConnection, role: &mut ServiceRole) -> Result<(), LedgerError> {
    let mut batch = vec![ONE_AT_A_TIME.to_owned()];
    // What is taken from an owner is gone: its own functions could not write any more.
    let from = if role.is_owner {
        None
    } else {
        Some(role.name.as_str())
    };
    batch.extend(statements(connection, from).await?);
    // Several statements in one message are one transaction.
    sqlx::raw_sql(sqlx::AssertSqlSafe(batch.join(";\n")))
        .execute(&mut *connection)
        .await?;
    if !role.is_owner {
        role.loopholes = loopholes(connection, &role.name).await?;
    }
    Ok(())
}

/// Written by the database, which knows how names are quoted. What belongs to an extension or to others is left alone.
const STATEMENTS: &str = "
    with own as (
        select c.oid, c.relkind, c.relname as name, format('%I.%I', n.nspname, c.relname) as quoted
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = current_schema() and c.relkind in ('r', 'p', 'v', 'm', 'S')
          and pg_has_role(c.relowner, 'usage')
          and not exists (select from pg_depend d
                          where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    ), routines as (
        select p.proname as name, p.oid::regprocedure::text as quoted
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname = current_schema() and pg_has_role(p.proowner, 'usage')
          and not exists (select from pg_depend d
                          where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
    ), grantees as (
        select 'public' as name
        union all
        select quote_ident($1) where $1 is not null
    ), service as (
        select quote_ident($1) as name where $1 is not null
    )
    select statement from (
        select 1 as step, format('revoke create on schema %I from public', current_schema()) as statement
        union all
        select 1, format('revoke all on schema %I from %s', current_schema(), s.name) from service s
        union all
        select 1, format('revoke all on %s %s from %s',
            case when o.relkind = 'S' then 'sequence' else 'table' end, o.quoted, g.name)
        from own o, grantees g
        union all
        select 1, format('revoke all on routine %s from %s', r.quoted, g.name) from routines r, grantees g
        union all
        select 2, format('grant usage on schema %I to %s', current_schema(), s.name) from service s
        union all
        select 2, format('grant select on table %s to %s', o.quoted, s.name) from own o, service s where o.relkind <> 'S'
        union all
        select 2, format('grant %s on table %I.%I to %s', g.what, current_schema(), g.name, s.name)
        from unnest($2::text[], $3::text[]) as g (name, what), service s
        union all
        select 2, format('grant execute on routine %s to %s', r.quoted, s.name)
        from routines r, service s where r.name = any ($4)
    ) all_of_them order by step, statement";

async fn statements(connection: &mut PgConnection, role: Option<&str>) -> Result<Vec<String>, LedgerError> {
    let (tables, what): (Vec<&str>, Vec<&str>) = TABLES.iter().copied().unzip();
    let rows = sqlx::query(STATEMENTS)
        .bind(role)
        .bind(tables)
        .bind(what)
        .bind(FUNCTIONS)
        .fetch_all(connection)
        .await?;
    texts(&rows)
}

/// What no grant of ours can take away. Membership counts, also through other roles.
const LOOPHOLES: &str = "
    with role as (select * from pg_roles where rolname = $1), own as (
        select c.oid, c.relname, c.relowner from pg_class c
        where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
    )
    select clause from (
        select 1 as place, 'is a superuser' as clause from role where rolsuper
        union all
        select 2, 'may make itself a member of other roles (createrole)' from role where rolcreaterole and not rolsuper
        union all
        select 3, format('has the rights of %I, which owns tables', pg_get_userbyid(o.relowner))
        from (select distinct relowner from own) o, role r
        where not r.rolsuper and pg_has_role(r.oid, o.relowner, 'member')
        union all
        select 4, format('may create objects in the schema %I', current_schema()) from role r
        where not r.rolsuper and has_schema_privilege(r.oid, current_schema(), 'create')
        union all
        select 5, format('may write into %I through another role', o.relname) from own o, role r
        where not r.rolsuper and o.relname = any ($2) and not pg_has_role(r.oid, o.relowner, 'member')
          and has_table_privilege(r.oid, o.oid, 'insert, update, delete, truncate, references, trigger')
    ) found order by place, clause";

async fn loopholes(connection: &mut PgConnection, role: &str) -> Result<Vec<String>, LedgerError> {
    let rows = sqlx::query(LOOPHOLES)
        .bind(role)
        .bind(GUARDED)
        .fetch_all(connection)
        .await?;
    texts(&rows)
}

fn texts(rows: &[PgRow]) -> Result<Vec<String>, LedgerError> {
    rows.iter()
        .map(|row| row.try_get(0).map_err(LedgerError::from))
        .collect()
}
