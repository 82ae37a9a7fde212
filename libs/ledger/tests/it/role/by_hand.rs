//! Hand-written SQL as the services' role.

use anyhow::Result;
use uuid::Uuid;

use super::Scene;

#[tokio::test]
async fn orders_events_and_holdings_change_through_the_two_functions_only() -> Result<()> {
    let scene = Scene::start().await?;
    let (user, filled, submitted) = (scene.fixture.user, scene.filled, scene.submitted);
    let (unknown, other) = (scene.unknown, Uuid::now_v7());
    for (table, statements) in [
        (
            "order_events",
            vec![
                "update order_events set at = now()".to_owned(),
                "delete from order_events".to_owned(),
                "truncate order_events".to_owned(),
                format!(
                    "insert into order_events (user_id, order_id, from_status, status, reason, at)
                     values ('{user}', '{submitted}', 'submitted', 'failed', 'vendor_rejected', now())"
                ),
                "copy order_events from stdin".to_owned(),
            ],
        ),
        (
            "orders",
            vec![
                format!("update orders set status = 'submitted' where order_id = '{filled}'"),
                format!("update orders set quantity = 3 where order_id = '{filled}'"),
                format!("update orders set quantity = 3 where order_id = '{submitted}'"),
                format!(
                    "update orders set answer_status = 500, answer_body = '' where order_id = '{unknown}'"
                ),
                format!("update orders set idempotency_key = 'free' where order_id = '{filled}'"),
                format!("delete from orders where order_id = '{filled}'"),
                "truncate orders cascade".to_owned(),
                format!(
                    "insert into orders select (json_populate_record(o,
                        '{{\"order_id\":\"{other}\",\"idempotency_key\":\"x\"}}')).*
                     from orders o where order_id = '{filled}'"
                ),
                "begin; lock table orders in share mode".to_owned(),
                "select * from orders for update".to_owned(),
            ],
        ),
        (
            "holdings",
            vec![
                "update holdings set quantity = quantity + 1, version = version + 1".to_owned(),
                format!(
                    "insert into holdings (user_id, portfolio_id, symbol, quantity, cost, updated_at)
                     values ('{user}', '{user}', 'FREE', 1, 1, now())"
                ),
                "delete from holdings".to_owned(),
                "truncate holdings".to_owned(),
            ],
        ),
        (
            "portfolios",
            vec![
                "update portfolios set version = version - 1".to_owned(),
                "update portfolios set version = version + 1".to_owned(),
                "update portfolios set user_id = portfolio_id".to_owned(),
                format!(
                    "insert into portfolios (user_id, portfolio_id, name, version, created_at, updated_at)
                     values ('{user}', '{other}', 'x', 7, now(), now())"
                ),
                "delete from portfolios".to_owned(),
            ],
        ),
    ] {
        for sql in statements {
            let words = format!("permission denied for table {table}");
            scene.refused(&sql, &words).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_rules_cannot_be_switched_off() -> Result<()> {
    let scene = Scene::start().await?;
    for (words, statements) in SWITCHES {
        for sql in *statements {
            scene.refused(sql, words).await?;
        }
    }
    // Not an error to PostgreSQL, and of no effect.
    scene
        .idle("grant update on orders to fuse_service, public")
        .await?;
    for function in ["order_changes_legally", "refuse_change", "portfolio_goes_empty"] {
        let words = format!("permission denied for function {function}");
        scene.refused(&format!("select {function}()"), &words).await?;
    }
    Ok(())
}

/// The words of a refusal, and what meets it.
const SWITCHES: &[(&str, &[&str])] = &[
    (
        "must be owner of table orders",
        &[
            "alter table orders disable trigger all",
            "alter table orders disable trigger orders_change",
            "alter table orders drop constraint orders_total_is_exact",
            "alter table orders owner to current_user",
            "create rule r as on update to orders do instead nothing",
            "create index on orders (symbol)",
        ],
    ),
    (
        "must be owner of",
        &[
            "drop trigger orders_change on orders",
            "drop table order_event_chain",
            "drop function order_changes_legally cascade",
            "alter function settle_orders reset search_path",
            "alter function settle_orders security invoker",
        ],
    ),
    (
        "permission denied for table orders",
        &["create trigger t before insert on orders for each row
            execute function suppress_redundant_updates_trigger()"],
    ),
    (
        "permission denied for table _sqlx_migrations",
        &["update _sqlx_migrations set success = false"],
    ),
    (
        "permission denied for schema",
        &[
            "create or replace function order_changes_legally() returns trigger language plpgsql
             as $$ begin return new; end $$",
            "create function mine() returns int language sql as 'select 1'",
            "create table mine (n int)",
            "create view mine as select 1",
        ],
    ),
    ("permission denied for database", &["create schema mine"]),
    (
        "COPY to or from an external program",
        &["copy orders to program 'true'"],
    ),
    ("COPY to a file", &["copy orders to '/tmp/orders'"]),
    (
        "permission denied to set",
        &[
            "set session_replication_role = replica",
            "set role fuse",
            "set session authorization fuse",
        ],
    ),
    // Each version of PostgreSQL has its own words for these.
    (
        "",
        &["grant fuse to fuse_service", "alter role fuse_service superuser"],
    ),
];

#[tokio::test]
async fn the_chain_and_the_reports_stay_as_they_were_written() -> Result<()> {
    let scene = Scene::start().await?;
    for sql in [
        "update order_event_chain set hash = digests",
        "delete from order_event_chain",
        "truncate order_event_chain",
    ] {
        scene
            .refused(sql, "permission denied for table order_event_chain")
            .await?;
    }
    let continues = "does not continue the chain";
    for (link, total) in [(1, 2), (3, 2), (2, 3)] {
        scene.refused(&scene.link(link, total), continues).await?;
    }
    let forged = scene.link(2, 2).replace("repeat('00'", "repeat('03'");
    let forged = forged.replace(
        "(select hash from order_event_chain order by link desc limit 1)",
        "null",
    );
    scene.refused(&forged, continues).await?;
    scene.done(&scene.link(2, 2)).await?;

    scene
        .refused("update reports set cut_at = now()", "is sealed")
        .await?;
    scene
        .refused(
            "update reports set html = 'other'",
            "was computed and never changes",
        )
        .await?;
    scene
        .refused(
            "update reports set content = null, html = null, plain = null, computed_at = null",
            "was computed and never changes",
        )
        .await?;
    for table in ["reports", "report_deliveries", "report_runs"] {
        let words = format!("permission denied for table {table}");
        scene.refused(&format!("delete from {table}"), &words).await?;
        scene
            .refused(&format!("truncate {table} cascade"), &words)
            .await?;
    }
    Ok(())
}
