//! What surrounds the handlers: panics, time, concurrency, slow bodies, CORS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use api_service::http::{Guard, Limits, Observer, wrap};
use api_service::metrics::Metrics;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http_body_util::BodyExt as _;
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

use crate::support::{BOOTSTRAP, PATIENCE, Setup, World};

fn limits() -> Limits {
    Limits {
        body_max_bytes: 1024,
        body_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_millis(100),
        concurrency_max: 1,
        uri_max_bytes: 1024,
        headers_max_bytes: 1024,
    }
}

/// Handlers that misbehave, with everything around them.
fn misbehaving() -> Router {
    let metrics = Arc::new(Metrics::new(&fuse_platform::Metrics::new()));
    let router = Router::new()
        .route(
            "/panics",
            get(async || -> &'static str { panic!("private detail") }),
        )
        .route(
            "/hangs",
            get(async || std::future::pending::<&'static str>().await),
        )
        .route(
            "/fails",
            get(async || (http::StatusCode::IM_A_TEAPOT, "a library's own text")),
        );
    let guard = Guard::new(limits(), Arc::clone(&metrics));
    wrap(router, guard, Observer::new(metrics, 100), &[])
}

async fn check(path: &str, status: u16, code: &str) -> Result<Value> {
    ask(misbehaving(), path, status, code).await
}

async fn ask(router: Router, path: &str, status: u16, code: &str) -> Result<Value> {
    let request = http::Request::get(path).body(Body::empty())?;
    let response = router.oneshot(request).await?;
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let document: Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    assert_eq!(document["code"], code, "{document}");
    Ok(document)
}

#[tokio::test]
async fn a_panic_is_a_500_without_private_details() -> Result<()> {
    let document = check("/panics", 500, "internal_error").await?;
    assert!(!document.to_string().contains("private detail"));
    Ok(())
}

#[tokio::test]
async fn a_handler_that_hangs_is_a_504() -> Result<()> {
    let answered = tokio::time::timeout(PATIENCE, check("/hangs", 504, "request_timeout"));
    answered.await?.map(drop)
}

#[tokio::test]
async fn a_failure_of_a_library_becomes_a_document_too() -> Result<()> {
    let document = check("/fails", 400, "invalid_path").await?;
    assert!(!document.to_string().contains("library"));
    Ok(())
}

#[tokio::test]
async fn one_too_many_is_a_503() -> Result<()> {
    let router = misbehaving();
    let hanging = tokio::spawn(
        router
            .clone()
            .oneshot(http::Request::get("/hangs").body(Body::empty())?),
    );
    // The first one holds the only place as soon as it has been polled.
    fuse_harness::wait::until_async("the place to be taken", PATIENCE, || async {
        let request = http::Request::get("/nothing").body(Body::empty()).ok()?;
        let response = router.clone().oneshot(request).await.ok()?;
        (response.status() == 503).then_some(())
    })
    .await?;
    ask(router, "/nothing", 503, "overloaded").await?;
    assert_eq!(hanging.await??.status(), 504);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_a_408() -> Result<()> {
    let env = vec![("FUSE_LIMITS__BODY_TIMEOUT_SECS", "1".to_owned())];
    let world = World::with(Setup {
        env,
        ..Setup::default()
    })
    .await?;
    let mut stream = tokio::net::TcpStream::connect(world.api.url.trim_start_matches("http://")).await?;
    let head = format!(
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\nidempotency-key: slow\r\ncontent-type: application/json\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{{",
        world.key
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("\"code\":\"body_timeout\""),
        "{answer}"
    );
    assert_eq!(world.vendor_buys(), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_pages_may_call() -> Result<()> {
    let env = vec![("FUSE_CORS__ORIGINS", "https://app.example.com".to_owned())];
    let world = World::with(Setup {
        env,
        ..Setup::default()
    })
    .await?;
    let preflight = world
        .call(Method::OPTIONS, "/v1/orders")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "x-api-key,idempotency-key,if-match,content-type",
        )
        .gives(200)
        .await?;
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert_eq!(preflight.header("access-control-max-age"), Some("600"));
    let allowed = preflight
        .header("access-control-allow-headers")
        .unwrap_or_default();
    assert!(allowed.contains("if-match"), "{allowed}");
    // A failure must be readable for the page as well.
    let refused = world
        .get("/v1/stocks")
        .header("origin", "https://app.example.com")
        .refused(401, "key_missing", &[])
        .await?;
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    let other = world
        .get("/v1/stocks")
        .key(BOOTSTRAP)
        .header("origin", "https://evil.example")
        .gives(200)
        .await?;
    assert_eq!(other.header("access-control-allow-origin"), None);
    Ok(())
}
