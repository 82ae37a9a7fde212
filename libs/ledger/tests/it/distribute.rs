//! Distributing, without Citus: it is refused where the extension is not there, and where a stand-in for it is, the calls
//! come in the order that Citus needs.

use anyhow::Result;
use fuse_harness::postgres::{Postgres, as_service};
use fuse_ledger::{Ledger, LedgerError};
use fuse_platform::{Metrics, Secret};

use crate::support::config;

#[tokio::test]
async fn without_the_extension_it_is_refused_and_nothing_changed() -> Result<()> {
    let postgres = Postgres::shared()?;
    let url = postgres.database()?;
    let ledger = Ledger::new(&config(&as_service(&url)), &Metrics::new())?;
    let error = ledger
        .distribute(Some(&Secret::from_text(url.as_str())))
        .await
        .expect_err("there is no Citus");
    assert!(
        matches!(error, LedgerError::CitusMissing { .. }) && !error.retryable(),
        "{error:?}"
    );
    assert_eq!(
        postgres.sql_at(&url, "select count(*) from pg_class where relname = 'orders'")?,
        "0"
    );
    Ok(())
}

/// Says that it is Citus, and writes down what is asked of it.
const STAND_IN: &str = "
    insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    values (99999, 'citus', 10, 'public'::regnamespace, false, '0');
    create schema citus;
    create table citus.calls (n serial, call text);
    create view public.pg_dist_partition as
        select to_regclass(call) as logicalrelid from citus.calls where call not like 'copy of %';
    create function public.create_reference_table(t regclass) returns void language sql
        as $$ insert into citus.calls (call) values ('copy of ' || t::text) $$;
    create function public.create_distributed_table(t regclass, c text, colocate_with text default 'default')
        returns void language plpgsql as $$ begin
            if exists (select from pg_constraint k where k.contype = 'f' and k.conrelid = t and k.confrelid <> t
                       and k.confrelid::regclass::text not in (select call from citus.calls))
               or exists (select from pg_constraint k where k.contype = 'f' and k.confrelid = t
                          and ('copy of ' || k.conrelid::regclass::text) in (select call from citus.calls)) then
                raise exception 'a foreign key of % leads to where Citus cannot follow', t;
            end if;
            if exists (select from pg_trigger g where g.tgrelid = t and g.tgnewtable is not null) then
                raise exception '% has a trigger that Citus cannot run where the rows are', t;
            end if;
            if current_setting('citus.enable_unsafe_triggers', true) is distinct from 'on' then
                raise exception '% has triggers', t;
            end if;
            insert into citus.calls (call) values (t::text);
        end $$";

#[tokio::test]
async fn users_are_spread_with_all_that_is_theirs_and_once() -> Result<()> {
    let postgres = Postgres::shared()?;
    let url = postgres.database()?;
    // Its view and functions lie in the schema as Citus's own do: as an extension's.
    postgres.sql_at(&url, STAND_IN)?;
    postgres.sql_at(
        &url,
        "insert into pg_depend select 'pg_class'::regclass, 'pg_dist_partition'::regclass, 0, 'pg_extension'::regclass, 99999, 0, 'e'",
    )?;
    let ledger = Ledger::new(&config(&as_service(&url)), &Metrics::new())?;
    let owner = Secret::from_text(url.as_str());
    let first = ledger.distribute(Some(&owner)).await?;
    assert!(!first.was_done && first.migrated.before.is_none(), "{first:?}");
    let calls = "select string_agg(call, ', ' order by n) from citus.calls";
    let expected = "copy of api_keys, users, portfolios, holdings, orders, order_events";
    assert_eq!(postgres.sql_at(&url, calls)?, expected);
    let keys = "select count(*) from pg_constraint where contype = 'f' and conrelid in ('orders'::regclass, 'order_events'::regclass)";
    assert_eq!(postgres.sql_at(&url, keys)?, "2", "keys in the place of triggers");
    let second = ledger.distribute(Some(&owner)).await?;
    assert!(second.was_done, "{second:?}");
    assert_eq!(postgres.sql_at(&url, calls)?, expected);
    Ok(())
}
