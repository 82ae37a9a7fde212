//! A rollout migrates first, so for a while replicas run on a schema that is newer than they know; after a rollback they do so for good.
//! Orders go on while the schema changes under them, a replica starts on it, and the older `migrate` leaves it alone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::load::{self, Pace, Plan, Target, Until};
use fuse_harness::services::Service;
use fuse_harness::wait;

use crate::support::{Case, SOON, new_key};

const CLIENTS: u64 = 16;
const READS_PER_SEC: f64 = 30.0;

/// What the next release's migration may do while replicas of this one run: columns that they do not know, in each table of their writes;
/// a table, with a right that only the next release's service needs; the functions of both writes anew.
const MIGRATION: &str = "
    begin;
    set local lock_timeout = '200ms';
    alter table orders add column of_the_next_release text;
    alter table portfolios add column of_the_next_release text;
    alter table order_events add column of_the_next_release text;
    create table of_the_next_release (id uuid primary key);
    grant select, insert on of_the_next_release to fuse_service;
    do $$ declare own regprocedure; begin
        for own in select oid from pg_proc where proname in ('place_orders', 'settle_orders') loop
            execute pg_get_functiondef(own);
        end loop;
    end $$;
    insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        select max(version) + 1, 'of the next release', true, '', 0 from _sqlx_migrations;
    commit";

/// Everything that a migration could change: tables, columns and functions with the rights to them, and what is recorded of migrations.
const SCHEMA: &str = "
    select concat_ws(' ', 'table', relname, relkind, relowner, relacl) from pg_class where relnamespace = 'public'::regnamespace
    union all
    select concat_ws(' ', 'column', attrelid::regclass, attname, atttypid::regtype, attacl)
    from pg_attribute join pg_class c on c.oid = attrelid where c.relnamespace = 'public'::regnamespace
    union all
    select concat_ws(' ', 'function', oid::regprocedure, proowner, proacl, proconfig, md5(prosrc))
    from pg_proc where pronamespace = 'public'::regnamespace
    union all
    select concat_ws(' ', 'trigger', tgrelid::regclass, tgname, tgenabled) from pg_trigger
    union all
    select m::text from _sqlx_migrations m";

#[test]
fn replicas_go_on_and_start_on_a_schema_that_is_newer_than_they_are() -> Result<()> {
    let mut case = Case::start(2)?;
    let traffic = case.traffic(17, CLIENTS, case.world.urls())?;
    let reads = reads(&case)?;
    traffic.wait_for_more_outcomes(50)?;

    wait::until("the next release's migration", SOON, || {
        case.world.sql(MIGRATION).ok()
    })?;
    traffic
        .wait_for_more_outcomes(50)
        .context("on the newer schema")?;
    case.world.stop_replica(0)?;
    traffic
        .wait_for_more_outcomes(20)
        .context("on the other replica")?;
    // Ready, or it is an error.
    case.world.start_replica(0)?;
    for replica in [0, 1] {
        let (key, order) = (new_key(), case.unique_order());
        let got = case.place(replica, &key, &order)?;
        ensure!(
            got.status == 201,
            "replica {replica} on the newer schema: {got:?}"
        );
        let again = case.place(1 - replica, &key, &order)?;
        ensure!(again.replayed && again.body == got.body, "{again:?}");
    }

    let before = schema(&case)?;
    let said = migrate(&case)?;
    ensure!(
        said.contains("newer than the") && said.contains("nothing to do"),
        "migrate says: {said}"
    );
    let after = schema(&case)?;
    let changed: Vec<_> = before.symmetric_difference(&after).collect();
    ensure!(changed.is_empty(), "migrate changed {changed:#?}");
    traffic
        .wait_for_more_outcomes(50)
        .context("after the older migrate")?;
    reads.stop()?.all_good().context("what is read all the while")?;
    case.count_with(traffic)
}

/// What a user reads of the tables that change, at the replica that goes on.
fn reads(case: &Case) -> Result<load::Running> {
    let (url, user) = (case.world.urls().swap_remove(1), &case.users[0]);
    let key = [("x-api-key", user.key.as_str())];
    let paths = [
        "/v1/orders?limit=5".to_owned(),
        format!("/v1/portfolios/{}", user.id),
        format!("/v1/users/{}/portfolios", user.id),
    ];
    let targets = paths
        .iter()
        .map(|path| Target::get(&url, path, &key))
        .collect::<Result<Vec<_>>>()?;
    let plan = Plan {
        connections: 3,
        pace: Pace::PerSecond(READS_PER_SEC),
        until: Until::Elapsed(Duration::from_secs(3600)),
        inspect: None,
    };
    load::start(&targets, &plan)
}

fn schema(case: &Case) -> Result<BTreeSet<String>> {
    Ok(case.world.sql(SCHEMA)?.lines().map(str::to_owned).collect())
}

/// Runs `api-service migrate` as a rollout of this release would, with the role of the tables' owner; returns what it says.
fn migrate(case: &Case) -> Result<String> {
    let service = case.direct_url()?;
    let owner = case
        .world
        .postgres
        .url(&case.world.sql("select current_database()")?);
    let envs = [
        ("FUSE_DATABASE__URL", service),
        ("FUSE_DATABASE__MIGRATION_URL", owner),
    ];
    let output = Service::run("api-service", &["migrate"], envs)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "migrate ended with {}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}
