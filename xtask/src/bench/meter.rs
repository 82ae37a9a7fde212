//! Counts what writes cost: stands in front of the DynamoDB stand-in, asks it for the capacity that each call consumed, and
//! adds that up. The stand-in computes write units by DynamoDB's rules, index entries included.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use fuse_harness::background;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const WRITES: [&str; 5] = [
    "BatchWriteItem",
    "DeleteItem",
    "PutItem",
    "TransactWriteItems",
    "UpdateItem",
];

/// What one kind of write came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Requests.
    pub requests: u64,
    /// Items in them.
    pub items: u64,
    /// Write units.
    pub units: f64,
}

type Costs = BTreeMap<String, Cost>;

struct Shared {
    upstream: String,
    costs: Mutex<Costs>,
}

impl Shared {
    fn costs(&self) -> MutexGuard<'_, Costs> {
        self.costs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running meter; it ends with this process.
pub struct Meter {
    url: String,
    shared: Arc<Shared>,
}

impl Meter {
    /// In front of the DynamoDB at this URL.
    pub fn start(upstream: &str) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a port")?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            costs: Mutex::default(),
        });
        let router = Router::new()
            .fallback(pass)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        background::runtime().spawn(async move {
            let served = async { axum::serve(TcpListener::from_std(listener)?, router).await };
            if let Err(error) = served.await {
                eprintln!("the meter in front of DynamoDB ended: {error}");
            }
        });
        Ok(Self { url, shared })
    }

    /// What services take for DynamoDB's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Costs so far by operation; counting begins anew.
    pub fn take(&self) -> BTreeMap<String, Cost> {
        std::mem::take(&mut *self.shared.costs())
    }
}

async fn pass(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    match exchange(&shared, headers, body).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn exchange(shared: &Shared, mut headers: HeaderMap, mut body: Bytes) -> Result<Response> {
    let operation = headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .and_then(|target| target.rsplit_once('.'))
        .map_or_else(String::new, |(_, operation)| operation.to_owned());
    let is_write = WRITES.contains(&operation.as_str());
    let mut items = 0;
    if is_write {
        let mut input: Value = serde_json::from_slice(&body)?;
        items = items_in(&input);
        input["ReturnConsumedCapacity"] = json!("TOTAL");
        body = Bytes::from(input.to_string());
    }
    for name in ["content-length", "host"] {
        headers.remove(name);
    }
    let answer = background::http_client()
        .post(&shared.upstream)
        .headers(headers)
        .body(body)
        .send()
        .await?;
    let status = answer.status();
    let mut answer_headers = answer.headers().clone();
    for name in ["content-length", "transfer-encoding"] {
        answer_headers.remove(name);
    }
    let bytes = answer.bytes().await?;
    if is_write {
        let output: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let mut costs = shared.costs();
        let cost = costs.entry(operation).or_default();
        cost.requests += 1;
        cost.items += items;
        cost.units += units_in(&output);
    }
    Ok((status, answer_headers, bytes).into_response())
}

fn items_in(input: &Value) -> u64 {
    let batches = match (&input["RequestItems"], &input["TransactItems"]) {
        (Value::Object(tables), _) => tables.values().filter_map(Value::as_array).map(Vec::len).sum(),
        (_, Value::Array(items)) => items.len(),
        _ => 1,
    };
    u64::try_from(batches).unwrap_or(u64::MAX)
}

/// One table's consumption, or a list of them. A refused write consumes too, but does not say so: it counts as nothing.
fn units_in(output: &Value) -> f64 {
    let of = |table: &Value| table["CapacityUnits"].as_f64().unwrap_or(0.0);
    match &output["ConsumedCapacity"] {
        Value::Array(tables) => tables.iter().map(of).sum(),
        table => of(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_and_units_are_counted_over_tables() {
        assert_eq!(items_in(&json!({"RequestItems": {"a": [1, 2], "b": [3]}})), 3);
        assert_eq!(items_in(&json!({"TransactItems": [1, 2]})), 2);
        assert_eq!(items_in(&json!({"Item": {}})), 1);
        let list = json!({"ConsumedCapacity": [{"CapacityUnits": 2.0}, {"CapacityUnits": 1.5}]});
        assert_eq!(units_in(&list), 3.5);
        assert_eq!(
            units_in(&json!({"ConsumedCapacity": {"CapacityUnits": 4.0}})),
            4.0
        );
        assert_eq!(units_in(&json!({"message": "refused"})), 0.0);
    }
}
