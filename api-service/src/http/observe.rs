//! The outermost middleware: request id, in-flight gauge, problem documents, metrics and the one log line of a request. Of many successful
//! reads only a share leaves a line.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::read_sample::{ReadSample, Share};
use super::request::{REQUEST_ID, RequestContext};
use crate::metrics::Metrics;
use crate::problem::{Cause, Code, Fault, MEDIA_TYPE, Problem};

/// Route label of requests that no route took.
pub const UNMATCHED: &str = "unmatched";

/// What it writes to.
pub struct Observer {
    metrics: Arc<Metrics>,
    reads: ReadSample,
}

impl Observer {
    /// With at most so many lines of successful reads a second.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, read_sample_per_sec: u64) -> Self {
        Self {
            metrics,
            reads: ReadSample::new(read_sample_per_sec),
        }
    }
}

/// Runs around everything else.
pub async fn observe(State(observer): State<Arc<Observer>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let context = RequestContext::of(request.headers(), request.uri().path());
    let seen = Seen {
        route: request.extensions().get::<MatchedPath>().cloned(),
        method: method_label(request.method()),
        trace_id: trace_id(request.headers()),
    };
    request.extensions_mut().insert(context.clone());
    let in_flight = InFlight::new(&observer.metrics);
    let mut response = next.run(request).await;
    drop(in_flight);

    let problem = take_problem(&mut response);
    let fault = problem
        .as_ref()
        .map_or(Fault::None, |problem| problem.code.fault());
    let code = problem.as_ref().map(|problem| problem.code.as_str());
    if let Some(problem) = problem {
        write_problem(&mut response, &problem, &context);
    }
    response.headers_mut().insert(REQUEST_ID, context.header());
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // What is not made to be kept is for the caller alone.
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    let ended = Instant::now();
    let seconds = ended.duration_since(started).as_secs_f64();
    let status = response.status();
    observer
        .metrics
        .request(seen.route(), seen.method, status, fault, seconds);
    if observer.leaves_a_line(&seen, status, ended) {
        log(&seen, &context, &response, code, seconds);
    }
    response
}

impl Observer {
    /// Errors and writes always do.
    fn leaves_a_line(&self, seen: &Seen, status: StatusCode, now: Instant) -> bool {
        let is_read = matches!(seen.method, "GET" | "HEAD" | "OPTIONS");
        if !is_read || status.is_client_error() || status.is_server_error() {
            return true;
        }
        let verdict = self.reads.count(now);
        if let Some(Share { seen, written }) = verdict.sampled {
            tracing::info!(
                reads.seen = seen,
                reads.written = written,
                "successful reads of the last second were sampled"
            );
        }
        if !verdict.write {
            self.metrics.http_unlogged.inc();
        }
        verdict.write
    }
}

/// What is known of a request before it is answered.
struct Seen {
    route: Option<MatchedPath>,
    method: &'static str,
    trace_id: Option<String>,
}

impl Seen {
    /// The template of the route: bounded, unlike the path.
    fn route(&self) -> &str {
        self.route.as_ref().map_or(UNMATCHED, MatchedPath::as_str)
    }
}

/// Counts a request as in flight until dropped, also when the client goes away.
struct InFlight<'m>(&'m Metrics);

impl<'m> InFlight<'m> {
    fn new(metrics: &'m Metrics) -> Self {
        metrics.http_in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.http_in_flight.dec();
    }
}

/// The problem of a failure. A failure without one was made by a library: it gets the code of its status.
fn take_problem(response: &mut Response) -> Option<Problem> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    let status = response.status();
    let is_failure = status.is_client_error() || status.is_server_error();
    let is_document = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value == MEDIA_TYPE);
    if !is_failure || is_document {
        return None;
    }
    Some(Problem::new(
        code_of(status),
        "The request was refused before it reached a handler.",
    ))
}

fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        status if status.is_client_error() => Code::InvalidPath,
        _ => Code::InternalError,
    }
}

fn write_problem(response: &mut Response, problem: &Problem, context: &RequestContext) {
    // A stored answer keeps its own bytes: they were rendered for the first request.
    if response.extensions().get::<Rendered>().is_some() {
        return;
    }
    let text = problem.render(&context.request_id, &context.instance);
    *response.status_mut() = problem.code.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(text);
}

/// Marks a response whose body is final although it carries a [`Problem`] for log and metrics.
#[derive(Clone, Copy)]
pub struct Rendered;

fn log(seen: &Seen, context: &RequestContext, response: &Response, code: Option<&str>, seconds: f64) {
    let status = response.status().as_u16();
    let duration_ms = (seconds * 1_000_000.0).round() / 1_000.0;
    let (route, method) = (seen.route(), seen.method);
    let request_id = context.request_id.as_str();
    let trace_id = seen.trace_id.as_deref();
    let code = code.unwrap_or_default();
    let caller = context.caller();
    let cause = response.extensions().get::<Cause>().map(|cause| cause.0.as_str());
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                http.route = route,
                http.method = method,
                http.status = status,
                duration_ms,
                request.id = request_id,
                trace.id = trace_id,
                key.id = caller,
                problem.code = code,
                cause,
                "request"
            )
        };
    }
    // An error means that someone must act: only what broke inside is one, a dependency that is away is a warning.
    match status {
        500 => line!(error),
        501.. => line!(warn),
        _ => line!(info),
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// The trace id of a W3C `traceparent`, when there is a valid one.
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let id = text.split('-').nth(1)?;
    let is_valid = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_valid.then(|| id.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_preflights_are_sampled_and_nothing_else_is() {
        let check = |method: &Method, status: u16, expected: [bool; 2]| {
            let metrics = Arc::new(Metrics::new(&fuse_platform::Metrics::new()));
            let observer = Observer::new(metrics, 1);
            let seen = Seen {
                route: None,
                method: method_label(method),
                trace_id: None,
            };
            let status = StatusCode::from_u16(status).expect("a status");
            let now = Instant::now();
            let lines = [(); 2].map(|()| observer.leaves_a_line(&seen, status, now));
            assert_eq!(lines, expected, "{method} {status}");
        };
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            check(&method, 200, [true, false]);
            check(&method, 404, [true, true]);
        }
        check(&Method::POST, 201, [true, true]);
        check(&Method::DELETE, 200, [true, true]);
    }
}
