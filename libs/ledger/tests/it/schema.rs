//! What the database refuses by itself, also to hand-written SQL.

use anyhow::Result;

use crate::support::{Fixture, fill, fixture, request};

/// The statement must be refused, with words that name the rule, and change nothing.
async fn refused(fixture: &Fixture, sql: &str, words: &str) -> Result<()> {
    let before = dump(fixture).await?;
    match fixture.by_hand(sql).await? {
        Ok(()) => anyhow::bail!("accepted: {sql}"),
        Err(error) => anyhow::ensure!(error.contains(words), "{sql}: refused, but with {error:?}"),
    }
    anyhow::ensure!(
        dump(fixture).await? == before,
        "refused, but it changed something: {sql}"
    );
    Ok(())
}

async fn dump(fixture: &Fixture) -> Result<String> {
    fixture
        .text(
            "select (select coalesce(json_agg(o order by order_id), '[]')::text from orders o)
                 || (select coalesce(json_agg(e order by txid, seq), '[]')::text from order_events e)
                 || (select coalesce(json_agg(h order by symbol), '[]')::text from holdings h)
                 || (select coalesce(json_agg(p order by portfolio_id), '[]')::text from portfolios p)",
        )
        .await
}

#[tokio::test]
async fn the_migration_can_be_repeated_and_run_twice_at_once() -> Result<()> {
    let url = fuse_harness::postgres::Postgres::shared()?.database()?;
    let metrics = fuse_platform::Metrics::new();
    let ledger = fuse_ledger::Ledger::new(&crate::support::config(&url), &metrics)?;
    assert_eq!(ledger.schema_version().await?, None);
    let user = ledger
        .create_user(uuid::Uuid::now_v7(), "early", jiff::Timestamp::UNIX_EPOCH)
        .await;
    assert!(
        matches!(user, Err(fuse_ledger::LedgerError::SchemaMissing(_))),
        "{user:?}"
    );
    let (one, two) = tokio::join!(ledger.migrate(), ledger.migrate());
    assert_eq!(
        (one?, two?),
        (fuse_ledger::SCHEMA_VERSION, fuse_ledger::SCHEMA_VERSION)
    );
    assert_eq!(ledger.migrate().await?, fuse_ledger::SCHEMA_VERSION);
    assert_eq!(ledger.schema_version().await?, Some(fuse_ledger::SCHEMA_VERSION));
    Ok(())
}

#[tokio::test]
async fn a_terminal_order_never_changes() -> Result<()> {
    let fixture = fixture().await?;
    let order = fixture
        .traded(
            "a",
            request("AAPL", "2", "10"),
            fill("10", "2"),
            "2026-03-02T10:00:00Z",
        )
        .await?;
    let id = order.id;
    for change in [
        "status = 'failed', reason = 'vendor_rejected'",
        "status = 'submitted'",
        "quantity = 3",
        "answer_body = 'x'",
        "updated_at = now()",
    ] {
        refused(
            &fixture,
            &format!("update orders set {change} where order_id = '{id}'"),
            "never changes",
        )
        .await?;
    }
    refused(
        &fixture,
        &format!("delete from orders where order_id = '{id}'"),
        "kept for good",
    )
    .await?;
    refused(&fixture, "truncate orders cascade", "kept for good").await
}

#[tokio::test]
async fn only_legal_steps_are_taken() -> Result<()> {
    let fixture = fixture().await?;
    let order = fixture
        .placed(fixture.submit("a", request("AAPL", "2", "10"), "2026-03-02T10:00:00Z"))
        .await?;
    let id = order.id;
    let update = |set: &str| format!("update orders set {set} where order_id = '{id}'");
    refused(
        &fixture,
        &update("status = 'rejected', reason = 'quote_stale'"),
        "cannot go from submitted to rejected",
    )
    .await?;
    refused(
        &fixture,
        &update("updated_at = now()"),
        "cannot go from submitted to submitted",
    )
    .await?;
    refused(
        &fixture,
        &update(
            "status = 'unknown', reason = 'interrupted', answer_status = 202, answer_body = '', quantity = 3",
        ),
        "never changes",
    )
    .await?;
    refused(
        &fixture,
        &update("status = 'filled', answer_status = 201, answer_body = ''"),
        "orders_fill_fits_status",
    )
    .await?;
    refused(
        &fixture,
        &update("status = 'filled', answer_status = 201, answer_body = '', fill_price = 10, fill_quantity = 2, fill_total = 20.01"),
        "orders_total_is_exact",
    )
    .await?;
    refused(
        &fixture,
        &update("status = 'unknown', answer_status = 202, answer_body = ''"),
        "orders_reason_fits_status",
    )
    .await?;
    refused(
        &fixture,
        &update("status = 'unknown', reason = 'interrupted'"),
        "orders_answer_fits_status",
    )
    .await?;
    let copy = |changed: &str| {
        format!(
            "insert into orders select (json_populate_record(o, '{changed}')).* from orders o where order_id = '{id}'"
        )
    };
    let other = r#""order_id":"00000000-0000-0000-0000-000000000001","idempotency_key":"b""#;
    refused(
        &fixture,
        &copy(&format!(r#"{{{other},"status":"filled"}}"#)),
        "begins as rejected or submitted",
    )
    .await?;
    for figure in ["0", "-1", "\"NaN\"", "\"Infinity\"", "1e19", "0.0000000001"] {
        for column in ["quantity", "limit_price"] {
            refused(
                &fixture,
                &copy(&format!(r#"{{{other},"{column}":{figure}}}"#)),
                "check",
            )
            .await?;
        }
    }
    refused(
        &fixture,
        &copy(&format!(
            r#"{{{other},"quote_price":null,"quote_as_of":null,"quote_snapshot_id":null}}"#
        )),
        "orders_sent_with_a_quote",
    )
    .await?;
    refused(
        &fixture,
        &copy(&format!(
            r#"{{{other},"portfolio_id":"00000000-0000-0000-0000-000000000002"}}"#
        )),
        "a portfolio that is not there",
    )
    .await?;
    refused(
        &fixture,
        &copy(r#"{"order_id":"00000000-0000-0000-0000-000000000001"}"#),
        "idempotency_key",
    )
    .await
}

#[tokio::test]
async fn events_are_append_only_and_name_their_own_transaction() -> Result<()> {
    let fixture = fixture().await?;
    let order = fixture
        .placed(fixture.submit("a", request("AAPL", "2", "10"), "2026-03-02T10:00:00Z"))
        .await?;
    refused(&fixture, "update order_events set at = now()", "kept for good").await?;
    refused(&fixture, "delete from order_events", "kept for good").await?;
    refused(&fixture, "truncate order_events", "kept for good").await?;
    let event = |status: &str, more: &str| {
        format!(
            "insert into order_events (user_id, order_id, from_status, status, reason, at, txid) values
             ('{}', '{}', {more}, '{status}', 'interrupted', now(), '3')",
            fixture.user, order.id
        )
    };
    refused(&fixture, &event("unknown", "null"), "order_events_legal_step").await?;
    let silent = event("unknown", "'submitted'").replace("'interrupted'", "null");
    refused(&fixture, &silent, "order_events_reason_fits_status").await?;
    refused(&fixture, &event("failed", "'filled'"), "from_status").await?;
    let of_nothing =
        event("unknown", "'submitted'").replace(&order.id.to_string(), &uuid::Uuid::nil().to_string());
    refused(&fixture, &of_nothing, "an order that is not there").await?;
    fixture
        .by_hand(&event("unknown", "'submitted'"))
        .await?
        .map_err(anyhow::Error::msg)?;
    assert_eq!(
        fixture
            .text("select count(*)::text from order_events where txid = '3'")
            .await?,
        "0"
    );
    refused(&fixture, &event("unknown", "'submitted'"), "duplicate key").await
}

#[tokio::test]
async fn holdings_and_versions_only_grow() -> Result<()> {
    let fixture = fixture().await?;
    fixture
        .traded(
            "a",
            request("AAPL", "2", "10"),
            fill("10", "2"),
            "2026-03-02T10:00:00Z",
        )
        .await?;
    refused(
        &fixture,
        "update holdings set quantity = 1, version = version + 1",
        "only grow",
    )
    .await?;
    refused(
        &fixture,
        "update holdings set cost = 0, version = version + 1",
        "only grow",
    )
    .await?;
    refused(&fixture, "update holdings set quantity = 3", "only grow").await?;
    refused(
        &fixture,
        "update holdings set quantity = 'NaN', version = version + 1",
        "check",
    )
    .await?;
    refused(
        &fixture,
        "update holdings set symbol = 'X', version = version + 1",
        "keeps its owner",
    )
    .await?;
    refused(&fixture, "delete from holdings", "kept for good").await?;
    refused(
        &fixture,
        "update portfolios set version = version - 1",
        "only grows",
    )
    .await?;
    refused(&fixture, "delete from portfolios", "kept for good").await?;
    refused(&fixture, "delete from users", "foreign key").await
}

#[tokio::test]
async fn a_sealed_report_never_changes_and_periods_neither_gap_nor_overlap() -> Result<()> {
    let fixture = fixture().await?;
    let seal = |date: &str, from: &str, txid: &str| {
        format!(
            "insert into reports (report_date, time_zone, cut_at, txid_upper, previous_date, previous_cut_at, previous_txid_upper, sealed_at)
             values ('{date}', 'UTC', '{date} 23:59Z', {txid}, {from}, now())"
        )
    };
    let xmin = "pg_snapshot_xmin(pg_current_snapshot())";
    fixture
        .by_hand(&seal("2026-03-02", "null, null, null", xmin))
        .await?
        .map_err(anyhow::Error::msg)?;
    let errors = [
        (seal("2026-03-03", "null, null, null", xmin), "reports_one_first"),
        (
            seal(
                "2026-03-03",
                "'2026-03-02', '2026-03-02 23:58Z', (select txid_upper from reports)",
                xmin,
            ),
            "does not continue",
        ),
        (
            seal(
                "2026-03-01",
                "'2026-03-02', '2026-03-02 23:59Z', (select txid_upper from reports)",
                xmin,
            ),
            "check",
        ),
        (
            seal(
                "2026-03-03",
                "'2026-03-02', '2026-03-02 23:59Z', (select txid_upper from reports)",
                "'9000000000'",
            ),
            "not finished",
        ),
        ("update reports set cut_at = now()".to_owned(), "is sealed"),
        (
            "update reports set content = '{}'".to_owned(),
            "reports_content_is_whole",
        ),
        ("delete from reports".to_owned(), "kept for good"),
    ];
    for (sql, words) in errors {
        match fixture.by_hand(&sql).await? {
            Ok(()) => anyhow::bail!("accepted: {sql}"),
            Err(error) => anyhow::ensure!(error.contains(words), "{sql}: {error:?}"),
        }
    }
    Ok(())
}
