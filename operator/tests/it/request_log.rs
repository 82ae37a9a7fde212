//! A layer under the operator's client that writes every request down.

use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};

use http::{Method, Request};
use tower::{Layer, Service};

/// Every request of an operator.
#[derive(Clone, Default, Debug)]
pub struct RequestLog(Arc<Mutex<Vec<String>>>);

impl RequestLog {
    /// All requests since the last call of `take`, as `VERB path as manager`.
    pub fn all(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// All requests but lists and watches of the kinds since the last call.
    pub fn take(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        all.into_iter()
            .filter(|request| !request.starts_with("LIST") && !request.starts_with("WATCH"))
            .collect()
    }
}

impl<S> Layer<S> for RequestLog {
    type Service = LoggedRequests<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LoggedRequests {
            log: self.clone(),
            inner,
        }
    }
}

#[derive(Clone)]
pub struct LoggedRequests<S> {
    log: RequestLog,
    inner: S,
}

impl<S, B> Service<Request<B>> for LoggedRequests<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let named = path.split('/').count() > collection_parts(path);
        let verb = match *request.method() {
            Method::GET if query.contains("watch=true") => "WATCH",
            Method::GET if !named => "LIST",
            _ => request.method().as_str(),
        };
        let manager = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("fieldManager="));
        let line = match manager {
            Some(manager) => format!("{verb} {path} as {manager}"),
            None => format!("{verb} {path}"),
        };
        self.log
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(line);
        self.inner.call(request)
    }
}

/// Parts of a path up to the plural, in a namespace: `/api/v1/namespaces/n/services` has 6.
fn collection_parts(path: &str) -> usize {
    let base = if path.starts_with("/apis/") { 5 } else { 4 };
    if path.contains("/namespaces/") {
        base + 2
    } else {
        base
    }
}
