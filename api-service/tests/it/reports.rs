//! Daily reports as they are stored.

use anyhow::Result;
use fuse_harness::postgres::as_service;

use crate::support::{BOOTSTRAP, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_read_in_the_form_that_is_accepted() -> Result<()> {
    let world = World::start().await?;
    let path = "/v1/reports/daily/2026-03-02";
    let get = |accept: &str| world.get(path).key(BOOTSTRAP).header("accept", accept);
    get("*/*").refused(404, "report_not_found", &[]).await?;
    store(&world).await?;
    let answer = world.get(path).key(BOOTSTRAP).gives(200).await?;
    assert_eq!(
        (answer.header("content-type"), answer.json()["date"].as_str()),
        (Some("application/json"), Some("2026-03-02"))
    );
    let answer = get("text/html").gives(200).await?;
    assert_eq!(
        (answer.header("content-type"), answer.text.as_str()),
        (Some("text/html; charset=utf-8"), "<p>report</p>")
    );
    assert!(answer.header("content-security-policy").is_some());
    get("text/csv")
        .refused(406, "not_acceptable", &["/Accept not_one_of"])
        .await?;
    Ok(())
}

/// As report-job does.
async fn store(world: &World) -> Result<()> {
    let metrics = fuse_platform::Metrics::new();
    let config = fuse_platform::config::DatabaseConfig {
        url: fuse_platform::Secret::from_text(as_service(&world.database_url)),
        max_connections: 1,
        acquire_timeout: crate::support::PATIENCE,
        statement_timeout: crate::support::PATIENCE,
    };
    let ledger = fuse_ledger::Ledger::new(&config, &metrics)?;
    let date = "2026-03-02".parse()?;
    ledger
        .seal(
            date,
            "Etc/UTC",
            "2026-03-02T23:59:00Z".parse()?,
            jiff::Timestamp::now(),
        )
        .await?;
    let content = fuse_ledger::ReportContent {
        json: r#"{"date":"2026-03-02"}"#.to_owned(),
        html: "<p>report</p>".to_owned(),
        plain: "report".to_owned(),
    };
    ledger
        .save_computed(date, content, jiff::Timestamp::now())
        .await?;
    Ok(())
}
