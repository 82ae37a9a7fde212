//! Limits of one request and of all requests together. What is too much is refused at once and cheaply.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::problem::{ApiError, Code};

/// Limits around every handler.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest body, in bytes.
    pub body_max_bytes: usize,
    /// Longest time for a body to arrive.
    pub body_timeout: Duration,
    /// Longest time for an answer. Longer than everything an order waits for: its own deadlines come first.
    pub request_timeout: Duration,
    /// Most requests at once; more are refused with 503.
    pub concurrency_max: usize,
    /// Longest path and query, in bytes.
    pub uri_max_bytes: usize,
    /// Largest headers in all, in bytes. Below the limit of the connection itself, whose refusal has no body.
    pub headers_max_bytes: usize,
}

/// State of the guard.
pub struct Guard {
    limits: Limits,
    permits: Semaphore,
    metrics: Arc<Metrics>,
}

impl Guard {
    /// A guard with nothing in flight.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            permits: Semaphore::new(limits.concurrency_max),
            limits,
            metrics,
        }
    }

    fn check_sizes(&self, request: &Request) -> Result<(), ApiError> {
        let uri = request
            .uri()
            .path_and_query()
            .map_or(0, |path| path.as_str().len());
        if uri > self.limits.uri_max_bytes {
            let detail = format!("Path and query may have {} bytes.", self.limits.uri_max_bytes);
            return Err(ApiError::new(Code::UriTooLong, detail));
        }
        let headers: usize = request
            .headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if headers > self.limits.headers_max_bytes {
            let detail = format!(
                "All headers together may have {} bytes.",
                self.limits.headers_max_bytes
            );
            return Err(ApiError::new(Code::HeadersTooLarge, detail));
        }
        Ok(())
    }
}

/// Refuses what is too much, and ends what takes too long.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if let Err(error) = guard.check_sizes(&request) {
        return error.into_response();
    }
    let Ok(_permit) = guard.permits.try_acquire() else {
        guard.metrics.shed("concurrency");
        let detail = "This replica answers as many requests as it can. Send it again shortly.";
        return ApiError::new(Code::Overloaded, detail).into_response();
    };
    match tokio::time::timeout(guard.limits.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => ApiError::new(
            Code::RequestTimeout,
            "The answer was not ready in time. An order may still be placed: send the same request with the same Idempotency-Key to learn its outcome.",
        )
        .into_response(),
    }
}
