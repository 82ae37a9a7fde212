//! Figures: there from the start at zero, with bounded labels.

use anyhow::Result;
use fuse_harness::wait;
use reqwest::Method;
use serde_json::Value;

use crate::support::{BOOTSTRAP, PATIENCE, Setup, World};

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_at_zero_from_the_start() -> Result<()> {
    let world = World::start().await?;
    for series in [
        r#"fuse_http_requests_total{fault="none",method="POST",route="/v1/orders",status="2xx"}"#,
        r#"fuse_http_requests_total{fault="vendor",method="POST",route="/v1/orders",status="5xx"}"#,
        r#"fuse_http_requests_total{fault="none",method="GET",route="unmatched",status="4xx"}"#,
        r#"fuse_http_requests_total{fault="none",method="GET",route="/v1/stocks/{symbol}",status="3xx"}"#,
        r#"fuse_http_request_duration_seconds_count{method="GET",route="/v1/portfolios/{id}"}"#,
        r#"fuse_http_shed_total{reason="concurrency"}"#,
        r#"fuse_http_requests_unlogged_total"#,
        r#"fuse_stock_pages_total{result="made"}"#,
        r#"fuse_auth_failures_total{reason="revoked"}"#,
        r#"fuse_orders_total{reason="none",state="filled"}"#,
        r#"fuse_orders_total{reason="price_out_of_band",state="rejected"}"#,
        r#"fuse_orders_total{reason="vendor_timeout",state="unknown"}"#,
        r#"fuse_order_duration_seconds_count{phase="vendor"}"#,
        r#"fuse_order_conflicts_total"#,
        r#"fuse_order_settlements_waiting"#,
        r#"fuse_idempotency_hits_total{result="replay"}"#,
        r#"fuse_report_last_success_timestamp_seconds"#,
        r#"fuse_report_runs_total{result="delivered"}"#,
    ] {
        assert_eq!(world.api.metric(series).await?, 0.0, "{series}");
    }
    world.api.metric("fuse_snapshot_served_age_seconds_count").await?;
    world
        .api
        .metric(r#"fuse_snapshot_reads_total{layer="l0",result="stale"}"#)
        .await?;
    world.api.metric("fuse_http_in_flight_requests").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_make_no_new_series() -> Result<()> {
    let world = World::start().await?;
    let odd = || async {
        for path in [
            "/x",
            "/v1/stocks/AAPL",
            "/v1/stocks/%F0%9F%98%80",
            "/v1/orders/1",
            "/v1/reports/daily/x",
            "/../etc",
        ] {
            world.get(path).key(BOOTSTRAP).send().await?;
            world.call(Method::from_bytes(b"BREW")?, path).send().await?;
        }
        world.order(&world.good_order()).gives(201).await?;
        anyhow::Ok(())
    };
    odd().await?;
    let series = |text: String| {
        text.lines()
            .filter(|line| line.starts_with("fuse_http_") || line.starts_with("fuse_order"))
            .count()
    };
    let before = series(world.api.metrics().await?);
    odd().await?;
    let text = world.api.metrics().await?;
    assert_eq!(series(text.clone()), before);
    for secret in [world.symbol().as_str(), "etc", "BREW", &world.user.to_string()] {
        let leaks = text
            .lines()
            .any(|line| line.starts_with("fuse_http") && line.contains(&format!("\"{secret}\"")));
        assert!(!leaks, "{secret}");
    }
    let filled = world
        .api
        .metric(r#"fuse_orders_total{reason="none",state="filled"}"#)
        .await?;
    assert_eq!(filled, 2.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_log_line_tells_one_request() -> Result<()> {
    let world = World::start().await?;
    let mut body = world.good_order();
    body["symbol"] = "NOSUCH".into();
    let call = world.order(&body).header("x-request-id", "log-test").header(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    call.refused(422, "unknown_symbol", &["/symbol refused"]).await?;
    let lines: Vec<Value> = world
        .api
        .proc
        .wait_for_line("the line", crate::support::PATIENCE, |line| {
            line.contains("log-test").then(|| line.to_owned())
        })
        .map(|_| world.api.proc.log())?
        .lines()
        .filter(|line| line.contains("log-test"))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!(
        (&line["message"], &line["http.route"], &line["http.status"]),
        (&"request".into(), &"/v1/orders".into(), &422.into()),
        "{line}"
    );
    assert_eq!(
        (&line["problem.code"], &line["trace.id"]),
        (
            &"unknown_symbol".into(),
            &"0af7651916cd43dd8448eb211c80319c".into()
        )
    );
    assert!(
        line["key.id"].is_string() && line["duration_ms"].is_number(),
        "{line}"
    );
    assert!(!world.api.proc.log().contains("NOSUCH"), "no bodies in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_successful_reads_a_share_leaves_a_line_and_of_all_else_every_one() -> Result<()> {
    let world = World::with(Setup {
        env: vec![("FUSE_LOG__READ_SAMPLE_PER_SEC", "1".to_owned())],
        ..Setup::default()
    })
    .await?;
    let lines = |part: &str| {
        let log = world.api.proc.log();
        log.lines().filter(|line| line.contains(part)).count()
    };
    for number in 0..50 {
        let id = format!("read-{number}");
        let call = world.get("/v1/stocks?limit=1").key(&world.key);
        call.header("x-request-id", &id).gives(200).await?;
        let call = world.get("/v1/stocks?limit=0").key(&world.key);
        call.header("x-request-id", &format!("bad-{number}"))
            .gives(400)
            .await?;
    }
    let call = world.order(&world.good_order());
    call.header("x-request-id", "write-1").gives(201).await?;
    // The share of a second is told by the first read after it.
    wait::until_async("the share", PATIENCE, || async {
        world
            .get("/v1/stocks?limit=1")
            .key(&world.key)
            .send()
            .await
            .ok()?;
        (lines("were sampled") > 0 && lines("write-1") > 0).then_some(())
    })
    .await?;
    assert_eq!((lines("\"bad-"), lines("\"write-1\"")), (50, 1));
    let logged = lines("\"read-");
    assert!(logged < 50, "{logged} of 50");
    let unlogged = world.api.metric("fuse_http_requests_unlogged_total").await?;
    assert!(unlogged >= 1.0, "{unlogged}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_tells_the_status() -> Result<()> {
    let world = World::start().await?;
    let status: Value = reqwest::get(format!("{}/status", world.api.admin_url))
        .await?
        .json()
        .await?;
    let status = &status["status"];
    assert!(status["snapshot"]["id"].is_string(), "{status}");
    assert_eq!(status["vendor"]["buy"], "closed");
    assert_eq!(status["settlementsWaiting"], 0);
    Ok(())
}
