//! The DynamoDB stand-in: dynoxide in this process (SQLite in memory), behind a layer that counts and injects what it never does by itself
//! (throttling, server errors, unprocessed items), behind a proxy that can cut, hang and refuse.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::background;
use crate::ports::Port;
use crate::proxy::{ANY_LOOPBACK, Mode, TcpProxy};

/// As DynamoDB itself.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const TARGET: &str = "x-amz-target";
const AMZ_JSON: &str = "application/x-amz-json-1.0";

/// What goes wrong for the next requests of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynamoFault {
    /// `ProvisionedThroughputExceededException`; nothing is done.
    Throttle,
    /// `InternalServerError` with status 500; nothing is done.
    ServerError,
    /// It is done, and the answer is `InternalServerError` all the same: as when an answer is lost on its way.
    LostAnswer,
    /// `BatchWriteItem` and `BatchGetItem` only: the second half of each table's requests comes back unprocessed.
    Unprocessed,
}

#[derive(Debug, Default)]
struct Counted {
    requests: BTreeMap<String, u64>,
    /// Operation, fault, uses left.
    faults: Vec<(String, DynamoFault, u64)>,
}

#[derive(Debug)]
struct Layer {
    upstream: String,
    counted: Mutex<Counted>,
}

/// A running stand-in; dropping it stops it and forgets everything.
#[derive(Debug)]
pub struct DynamoDb {
    layer: Arc<Layer>,
    proxies: Vec<TcpProxy>,
    _port: Port,
    stop: CancellationToken,
}

impl DynamoDb {
    /// On loopback, on a free port, in memory.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start() -> Result<Self> {
        Self::start_on(&[])
    }

    /// Listens on these addresses besides loopback.
    ///
    /// # Errors
    /// As [`DynamoDb::start`].
    pub fn start_on(addresses: &[IpAddr]) -> Result<Self> {
        let mut listen = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        listen.extend(addresses.iter().filter(|ip| !ip.is_loopback()));
        let port = Port::reserve_on(&listen)?;
        let stop = CancellationToken::new();
        let database =
            dynoxide::Database::memory().map_err(|error| anyhow!("open the in-memory database: {error}"))?;
        let (store, store_address) = listen_anywhere()?;
        let stopped = stop.clone().cancelled_owned();
        background::runtime().spawn(dynoxide::server::serve_with_shutdown(store, database, stopped));
        let layer = Arc::new(Layer {
            upstream: format!("http://{store_address}/"),
            counted: Mutex::default(),
        });
        let (front, front_address) = listen_anywhere()?;
        let router = Router::new()
            .fallback(pass)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(&layer));
        let stopped = stop.clone();
        background::runtime().spawn(async move {
            tokio::select! {
                _ = axum::serve(front, router) => {}
                () = stopped.cancelled() => {}
            }
        });
        let proxies = listen
            .into_iter()
            .map(|ip| TcpProxy::start_on(SocketAddr::new(ip, port.number()), front_address))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            layer,
            proxies,
            _port: port,
            stop,
        })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.proxies[0].address()
    }

    /// The endpoint for the SDK; any region and any credentials are accepted.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The same through another address that it listens on.
    #[must_use]
    pub fn endpoint_at(&self, ip: IpAddr) -> String {
        format!("http://{}", SocketAddr::new(ip, self.address().port()))
    }

    /// Resets all connections and refuses new ones; the data stays.
    ///
    /// # Errors
    /// When the port does not follow within 5 s.
    pub fn stop(&self) -> Result<()> {
        self.set(Mode::Refuse)
    }

    /// Serves again, on the same port, with the data from before; also undoes [`DynamoDb::hang`].
    ///
    /// # Errors
    /// As [`DynamoDb::stop`].
    pub fn restart(&self) -> Result<()> {
        self.set(Mode::Forward)
    }

    /// Takes connections and requests and stays silent.
    ///
    /// # Errors
    /// As [`DynamoDb::stop`].
    pub fn hang(&self) -> Result<()> {
        self.set(Mode::Hang)
    }

    /// Resets all open connections; new ones are served.
    pub fn cut(&self) {
        self.proxies.iter().for_each(TcpProxy::cut);
    }

    /// Connections taken so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.proxies.iter().map(TcpProxy::accepted).sum()
    }

    fn set(&self, mode: Mode) -> Result<()> {
        self.proxies.iter().try_for_each(|proxy| proxy.set(mode))
    }

    /// The next `times` requests of this operation (such as `PutItem`) meet the fault.
    pub fn inject(&self, operation: &str, fault: DynamoFault, times: u64) {
        let mut counted = self.layer.counted();
        counted.faults.push((operation.to_owned(), fault, times));
    }

    pub fn clear_faults(&self) {
        self.layer.counted().faults.clear();
    }

    /// Requests so far, by operation, those that met a fault included.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.layer.counted().requests.clone()
    }

    /// Calls an operation with its JSON, as an SDK would, past proxy, counts and faults.
    ///
    /// # Errors
    /// When it answers another status than 200.
    pub fn call(&self, operation: &str, input: &Value) -> Result<Value> {
        let request = background::http_client()
            .post(&self.layer.upstream)
            .header(TARGET, format!("DynamoDB_20120810.{operation}"))
            .header("content-type", AMZ_JSON)
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=harness/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
            )
            .header("x-amz-date", "20260101T000000Z")
            .body(input.to_string());
        background::block_on(async move {
            let answer = request.send().await?;
            let status = answer.status();
            let text = answer.text().await?;
            if !status.is_success() {
                return Err(anyhow!("{status}: {text}"));
            }
            Ok(serde_json::from_str(&text)?)
        })
        .with_context(|| format!("DynamoDB {operation}"))
    }
}

impl Drop for DynamoDb {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Layer {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, operation: &str) -> Option<DynamoFault> {
        let mut counted = self.counted();
        *counted.requests.entry(operation.to_owned()).or_default() += 1;
        let (_, fault, left) = counted
            .faults
            .iter_mut()
            .find(|(op, _, left)| op == operation && *left > 0)?;
        *left -= 1;
        Some(*fault)
    }
}

fn listen_anywhere() -> Result<(TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(ANY_LOOPBACK).context("bind a loopback port")?;
    listener.set_nonblocking(true)?;
    let _entered = background::runtime().enter();
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn pass(State(layer): State<Arc<Layer>>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    if method == Method::GET {
        // Its own health check; no operation of DynamoDB.
        return "healthy".into_response();
    }
    let operation = headers
        .get(TARGET)
        .and_then(|target| target.to_str().ok())
        .and_then(|target| target.rsplit_once('.'))
        .map_or("", |(_, operation)| operation)
        .to_owned();
    match layer.meet(&operation) {
        None => forward(&layer, headers, body, None).await,
        Some(DynamoFault::LostAnswer) => {
            forward(&layer, headers, body, None).await;
            server_error()
        }
        Some(DynamoFault::Throttle) => refusal(
            StatusCode::BAD_REQUEST,
            "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        ),
        Some(DynamoFault::ServerError) => server_error(),
        Some(DynamoFault::Unprocessed) => match halve(&operation, &body) {
            Some((now, later)) => forward(&layer, headers, now, Some(later)).await,
            None => forward(&layer, headers, body, None).await,
        },
    }
}

fn server_error() -> Response {
    refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        "com.amazonaws.dynamodb.v20120810#InternalServerError",
    )
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let body = json!({"__type": code, "message": "injected by the test harness"});
    (status, [("content-type", AMZ_JSON)], body.to_string()).into_response()
}

/// What a batch answer is completed with.
struct Leftover {
    field: &'static str,
    requests: Value,
}

/// The first half of each table's requests, and the rest. `None` when it is no batch.
fn halve(operation: &str, body: &[u8]) -> Option<(Bytes, Leftover)> {
    let field = match operation {
        "BatchWriteItem" => "UnprocessedItems",
        "BatchGetItem" => "UnprocessedKeys",
        _ => return None,
    };
    let mut input: Value = serde_json::from_slice(body).ok()?;
    let mut later = input.get("RequestItems")?.clone();
    let tables = input["RequestItems"].as_object_mut()?;
    for (table, now) in tables.iter_mut() {
        let rest = later.get_mut(table)?;
        let (now, rest) = match operation {
            "BatchGetItem" => (now.get_mut("Keys")?, rest.get_mut("Keys")?),
            _ => (now, rest),
        };
        let now = now.as_array_mut()?;
        // At least one is done, so that a loop over the leftovers ends.
        let keep = now.len().div_ceil(2);
        now.truncate(keep);
        rest.as_array_mut()?.drain(..keep);
    }
    let later_tables = later.as_object_mut()?;
    later_tables.retain(|_, rest| {
        let requests = rest.get("Keys").unwrap_or(rest);
        requests.as_array().is_some_and(|all| !all.is_empty())
    });
    let leftover = Leftover {
        field,
        requests: later,
    };
    Some((Bytes::from(input.to_string()), leftover))
}

async fn forward(layer: &Layer, headers: HeaderMap, body: Bytes, leftover: Option<Leftover>) -> Response {
    match exchange(layer, headers, body, leftover).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn exchange(
    layer: &Layer,
    mut headers: HeaderMap,
    body: Bytes,
    leftover: Option<Leftover>,
) -> Result<Response> {
    headers.remove("content-length");
    headers.remove("host");
    let answer = background::http_client()
        .post(&layer.upstream)
        .headers(headers)
        .body(body)
        .send()
        .await?;
    let status = answer.status();
    let mut answer_headers = answer.headers().clone();
    answer_headers.remove("content-length");
    answer_headers.remove("transfer-encoding");
    let mut bytes = answer.bytes().await?;
    if let Some(leftover) = leftover.filter(|_| status.is_success()) {
        let mut output: Value = serde_json::from_slice(&bytes)?;
        output[leftover.field] = leftover.requests;
        bytes = Bytes::from(output.to_string());
        // It was that of the unchanged body.
        answer_headers.remove("x-amz-crc32");
    }
    Ok((status, answer_headers, bytes).into_response())
}
