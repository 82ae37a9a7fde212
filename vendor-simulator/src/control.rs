//! The control port: JSON in, JSON out, for tests and people; never reachable by the service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State as Shared_;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::counters::Executed;
use crate::rules::Rule;
use crate::server::{Gate, Shared};
use crate::simulator::{SETTLE_DEADLINE, SETTLE_POLL, add_rule};

type Vendor = Shared_<Arc<Shared>>;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/control/state", get(state))
        .route("/control/executed", get(executed))
        .route("/control/rules", post(add_rules).delete(clear_rules))
        .route("/control/tick", post(tick))
        .route("/control/prices", post(prices))
        .route("/control/reset", post(reset))
        .with_state(shared)
}

async fn state(Shared_(shared): Vendor) -> Json<Value> {
    let refusing = shared.is_refusing();
    let mut state = serde_json::to_value(shared.vendor().state()).expect("plain data");
    state["refusing_connects"] = refusing.into();
    Json(state)
}

async fn executed(Shared_(shared): Vendor) -> Json<Vec<Executed>> {
    Json(shared.vendor().executed().to_vec())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Rules {
    Many(Vec<Value>),
    One(Value),
}

async fn add_rules(Shared_(shared): Vendor, Json(rules): Json<Rules>) -> Response {
    let rules = match rules {
        Rules::Many(rules) => rules,
        Rules::One(rule) => vec![rule],
    };
    // All or none: a script with a mistake must not half apply.
    let parsed: Result<Vec<Rule>, String> = rules
        .into_iter()
        .map(|rule| {
            let rule: Rule = serde_json::from_value(rule).map_err(|error| error.to_string())?;
            crate::rules::check(&rule).map_err(|error| error.to_string())?;
            Ok(rule)
        })
        .collect();
    match parsed {
        Ok(rules) => {
            for rule in rules {
                add_rule(&shared, rule).expect("checked above");
            }
            settle(&shared).await;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => refused(&error),
    }
}

async fn clear_rules(Shared_(shared): Vendor) -> StatusCode {
    shared.vendor().rules().clear();
    shared.set_gate(Gate::Open);
    settle(&shared).await;
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tick {
    #[serde(default = "one")]
    by: u32,
}

fn one() -> u32 {
    1
}

async fn tick(Shared_(shared): Vendor, Json(tick): Json<Tick>) -> Json<Value> {
    Json(json!({ "tick": shared.vendor().tick(tick.by) }))
}

/// `{"AAPL": ["220.67", "221"]}`: prices by tick from tick 0, the last one stays.
async fn prices(Shared_(shared): Vendor, Json(prices): Json<BTreeMap<String, Vec<String>>>) -> Response {
    for (symbol, texts) in prices {
        let parsed: Option<Vec<Decimal>> = texts
            .iter()
            .map(|text| Decimal::from_str_exact(text).ok().filter(|p| *p > Decimal::ZERO))
            .collect();
        let Some(parsed) = parsed else {
            return refused(&format!("a price of {symbol} is not a decimal above 0"));
        };
        if !shared.vendor().list_prices(&symbol, parsed) {
            return refused(&format!("no stock {symbol}, or no price for it"));
        }
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn reset(Shared_(shared): Vendor) -> StatusCode {
    shared.vendor().reset();
    shared.set_gate(Gate::Open);
    settle(&shared).await;
    StatusCode::NO_CONTENT
}

/// Waits until the vendor's port follows its gate, so that a test may go on at once.
async fn settle(shared: &Shared) {
    let deadline = Instant::now() + SETTLE_DEADLINE;
    while !shared.gate_settled() && Instant::now() < deadline {
        tokio::time::sleep(SETTLE_POLL).await;
    }
}

fn refused(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
}
