//! Clients are made without network and without credentials, and wait for nothing longer than configured.

#![cfg(all(feature = "aws", feature = "http-client"))]

use std::time::{Duration, Instant};

use fuse_platform::aws::{self, AwsConfig};
use fuse_platform::http_client::{self, HttpClientConfig};

#[tokio::test]
async fn aws_settings_need_neither_network_nor_credentials() {
    let config = AwsConfig {
        region: "eu-central-1".to_owned(),
        endpoint: Some("http://127.0.0.1:1/".parse().expect("a URL")),
        connect_timeout: Duration::from_millis(200),
        attempt_timeout: Duration::from_millis(300),
        operation_timeout: Duration::from_millis(800),
    };
    let started = Instant::now();
    let settings = aws::sdk_config(&config).await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(settings.region().map(AsRef::as_ref), Some("eu-central-1"));
    assert_eq!(settings.endpoint_url(), Some("http://127.0.0.1:1"));
    let timeouts = settings.timeout_config().expect("set");
    assert_eq!(
        timeouts.operation_attempt_timeout(),
        Some(Duration::from_millis(300))
    );
    assert_eq!(timeouts.operation_timeout(), Some(Duration::from_millis(800)));
    assert!(settings.credentials_provider().is_some());
}

fn client(total: Duration) -> reqwest::Client {
    let config = HttpClientConfig {
        connect_timeout: Duration::from_secs(1),
        read_timeout: total,
        total_timeout: total,
        pool_idle_timeout: Duration::from_secs(4),
        user_agent: "probe/1".to_owned(),
    };
    http_client::build(&config).expect("a client")
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let asked = client(Duration::from_millis(200)).get(url).send();
    let answer = tokio::time::timeout(Duration::from_secs(10), asked)
        .await
        .expect("given up by itself");
    let error = answer.expect_err("no answer");
    assert!(error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_not_a_way() {
    use axum::http::{StatusCode, header};
    let app = axum::Router::new().route(
        "/",
        axum::routing::get(async || (StatusCode::FOUND, [(header::LOCATION, "/other")])),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let shutdown = fuse_platform::Shutdown::new();
    let limits = fuse_platform::http_server::Limits {
        header_read_timeout: Duration::from_secs(5),
        keep_alive: Duration::from_secs(5),
        max_connections: 8,
    };
    let server = tokio::spawn(fuse_platform::http_server::serve(
        listener,
        app,
        shutdown.clone(),
        limits,
    ));
    let answer = client(Duration::from_secs(5))
        .get(url)
        .send()
        .await
        .expect("answered");
    assert_eq!(answer.status(), 302);
    shutdown.drain.cancel();
    server.await.expect("drained");
}
