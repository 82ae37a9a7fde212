//! The admin port: `/metrics`, `/livez`, `/readyz`, `/status`. Never exposed to clients.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::http_server::{self, Limits};
use crate::lifecycle::Shutdown;
use crate::metrics::{self, Metrics};
use crate::readiness::Readiness;

/// Says what the process is doing, for `/status`: an object. Called per request, so it must be quick.
pub type StatusFn = Arc<dyn Fn() -> Value + Send + Sync>;

/// What the admin port of a process shows.
#[derive(Clone)]
pub struct AdminServer {
    pub process: &'static str,
    pub listen: SocketAddr,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub status: StatusFn,
}

/// A Prometheus or two, the kubelet and a person: more is a mistake.
const LIMITS: Limits = Limits {
    header_read_timeout: Duration::from_secs(5),
    keep_alive: Duration::from_secs(75),
    max_connections: 64,
};

/// Binds the port, then serves it in the background until the hard stop: metrics and probes answer during the drain.
///
/// # Errors
/// The port cannot be bound.
pub async fn serve(admin: AdminServer, shutdown: &Shutdown) -> io::Result<SocketAddr> {
    let listener = http_server::bind(admin.listen, "admin").await?;
    let address = listener.local_addr()?;
    admin.readiness.announce();
    tokio::spawn(http_server::serve(
        listener,
        router(admin),
        shutdown.until_hard(),
        LIMITS,
    ));
    Ok(address)
}

/// The routes by themselves, for tests.
pub fn router(admin: AdminServer) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .fallback(async || {
            (
                StatusCode::NOT_FOUND,
                "not found; there are /metrics /livez /readyz /status\n",
            )
        })
        .with_state(Arc::new((admin, jiff::Timestamp::now())))
}

type Shared = State<Arc<(AdminServer, jiff::Timestamp)>>;

async fn metrics(State(shared): Shared) -> Response {
    (
        [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)],
        shared.0.metrics.encode(),
    )
        .into_response()
}

async fn readyz(State(shared): Shared) -> Response {
    let report = shared.0.readiness.report();
    let status = if report["ready"] == true {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

async fn status(State(shared): Shared) -> Json<Value> {
    let (admin, started) = &*shared;
    Json(json!({
        "process": admin.process,
        "version": crate::VERSION,
        "revision": crate::REVISION,
        "startedAt": started.to_string(),
        "readiness": admin.readiness.report(),
        "status": (admin.status)(),
    }))
}
