//! Keys are nowhere: neither the vendor's nor a client's is in what an order leaves behind, whatever became of it.

use anyhow::{Context as _, Result, anyhow};
use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use fuse_harness::wait;
use reqwest::Method;
use serde_json::{Value, json};
use vendor_simulator::{Action, Body, BodyFault, Operation, Rule};

use crate::support::{Answer, Api, BOOTSTRAP, PATIENCE, Setup, World};

/// Told to the services as the vendor's key; no other text of theirs holds it.
const VENDOR_KEY: &str = "vendor-key-that-nobody-may-see-4711";

/// Every text that the orders of a test left behind, and where it was found.
#[derive(Default)]
struct Traces(Vec<(String, String)>);

impl Traces {
    fn answer(&mut self, answer: &Answer) {
        let text = format!("{} {:?} {}", answer.status, answer.headers, answer.text);
        self.0.push((format!("answer of {}", answer.path), text));
    }

    fn log(&mut self, name: &str, api: &Api) {
        self.0.push((format!("log of {name}"), api.proc.log()));
    }

    fn tables(&mut self, world: &World) -> Result<()> {
        let names = world.sql("select tablename from pg_tables where schemaname = 'public'")?;
        for table in names.lines() {
            let rows = world.sql(&format!("select whole::text from {table} whole"))?;
            self.0.push((format!("table {table}"), rows));
        }
        Ok(())
    }

    fn holding(&self, text: &str) -> Vec<&str> {
        let held = self.0.iter().filter(|(_, found)| found.contains(text));
        held.map(|(place, _)| place.as_str()).collect()
    }

    /// None of these texts is anywhere.
    fn hold_none_of(&self, secrets: &[&str]) {
        for secret in secrets {
            assert!(secret.len() > 12, "{secret} may be found by chance");
            assert_eq!(self.holding(secret), Vec::<&str>::new(), "{secret}");
        }
    }

    /// The same search finds this text there: it would find a secret, too.
    fn hold(&self, text: &str, places: &[&str]) {
        let found = self.holding(text);
        for place in places {
            assert!(
                found.contains(place),
                "{text} is not in {place}, but in {found:?}"
            );
        }
    }
}

/// The whole key, and the part of it that nobody else has.
fn secrets_of(key: &str) -> Result<[&str; 2]> {
    let secret = key.splitn(3, '_').nth(2).context("fuse_, an id and a secret")?;
    Ok([key, secret])
}

fn loud() -> Vec<(&'static str, String)> {
    vec![("FUSE_LOG__FILTER", "trace".to_owned())]
}

/// What the vendor can do to an order, and what its client is told.
fn fates() -> Vec<(Option<Action>, u16)> {
    let status = |status, body| Action::Status {
        status,
        body,
        executed: false,
        retry_after: None,
        location: None,
    };
    let truncated = Action::Body {
        fault: BodyFault::Truncated,
        executed: true,
    };
    vec![
        (None, 201),
        (Some(status(400, Body::Envelope)), 422),
        (Some(status(401, Body::Message)), 502),
        (Some(status(403, Body::Message)), 502),
        (Some(status(429, Body::Envelope)), 503),
        (Some(status(500, Body::Envelope)), 202),
        (Some(Action::Reset { executed: true }), 202),
        (Some(Action::NeverAnswer { executed: true }), 202),
        (Some(truncated), 202),
    ]
}

/// Echoes the vendor's key in every part of an answer, under the status that the quantity names in thousandths.
async fn echo(Path(symbol): Path<String>, headers: HeaderMap, Json(order): Json<Value>) -> Response {
    let key = headers["x-api-key"].to_str().expect("a key of the tests");
    let quantity = order["quantity"].as_f64().expect("a quantity");
    let status = (quantity * 1000.0).round() as u16;
    let body = json!({
        "status": status,
        "message": format!("x-api-key: {key}"),
        key: key,
        "data": {"key": key, "order": {"symbol": symbol, "price": order["price"], "quantity": quantity, "total": key}},
    });
    let status = StatusCode::from_u16(status).expect("a status of the tests");
    let headers = [("retry-after", key), ("location", key), ("x-api-key", key)];
    (status, headers, Json(body)).into_response()
}

/// Its base URL. It ends with the test.
async fn start_echo() -> Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = axum::Router::new().route("/stocks/{symbol}/buy", post(echo));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// Places an order at a replica, wants this status, and keeps what was told.
async fn place(traces: &mut Traces, api: &Api, key: &str, order: &Value, status: u16) -> Result<Value> {
    let call = api
        .call(Method::POST, "/v1/orders")
        .body("application/json", order.to_string());
    let answer = call.key(key).fresh().gives(status).await?;
    traces.answer(&answer);
    Ok(answer.json())
}

/// What a replica tells of orders later.
async fn read_all(traces: &mut Traces, world: &World, api: &Api) -> Result<()> {
    for path in [
        "/v1/orders?limit=200".to_owned(),
        format!("/v1/portfolios/{}", world.user),
        format!("/v1/portfolios/{}/history", world.user),
    ] {
        traces.answer(&api.call(Method::GET, &path).key(&world.key).gives(200).await?);
    }
    let keys = api.call(Method::GET, "/v1/api-keys").key(BOOTSTRAP);
    traces.answer(&keys.gives(200).await?);
    traces.0.push(("metrics".to_owned(), api.metrics().await?));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_leaves_a_key_behind_whatever_becomes_of_it() -> Result<()> {
    let world = World::with(Setup {
        env: loud(),
        ..Setup::default()
    })
    .await?;
    let mut traces = Traces::default();
    for (fault, status) in fates() {
        world.simulator.clear_rules();
        if let Some(action) = fault {
            let rule = Rule::on(Operation::Buy, action);
            world
                .simulator
                .add_rule(rule)
                .map_err(|error| anyhow!("{error}"))?;
        }
        place(&mut traces, &world.api, &world.key, &world.good_order(), status).await?;
    }
    world.simulator.away();
    place(&mut traces, &world.api, &world.key, &world.good_order(), 503).await?;
    let mut refused = world.good_order();
    refused["limitPrice"] = json!("0.000000001");
    let refused = place(&mut traces, &world.api, &world.key, &refused, 422).await?;
    let mistyped = format!("{}_", &world.key[..world.key.len() - 1]);
    place(&mut traces, &world.api, &mistyped, &world.good_order(), 401).await?;
    read_all(&mut traces, &world, &world.api).await?;
    traces.tables(&world)?;
    traces.log("the service", &world.api);

    let [key, secret] = secrets_of(&world.key)?;
    let [_, mistyped] = secrets_of(&mistyped)?;
    traces.hold_none_of(&["simulator-key", BOOTSTRAP, key, secret, mistyped]);
    let id = refused["orderId"].as_str().context("an order's id")?;
    traces.hold(
        id,
        &["table orders", "table order_events", "answer of /v1/orders"],
    );
    traces.hold(
        "vendor_forbidden",
        &["table orders", "answer of /v1/orders", "log of the service"],
    );
    traces.hold("http 500", &["table orders", "answer of /v1/orders"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_echoes_the_key_is_not_echoed() -> Result<()> {
    let world = World::start().await?;
    let mut env = loud();
    env.push(("FUSE_VENDOR__BASE_URL", start_echo().await?));
    env.push(("FUSE_VENDOR__API_KEY", VENDOR_KEY.to_owned()));
    let api = world.second_api_with(&env)?;
    wait::until_async("stocks", PATIENCE, || async {
        let stocks = api.call(Method::GET, "/v1/stocks").key(&world.key);
        (stocks.send().await.ok()?.status == 200).then_some(())
    })
    .await?;
    let mut traces = Traces::default();
    for (vendor, told) in [
        ("0.2", 201),
        ("0.401", 502),
        ("0.4", 422),
        ("0.5", 202),
        ("0.403", 502),
        ("0.307", 202),
        ("0.429", 503),
    ] {
        let mut order = world.good_order();
        order["quantity"] = json!(vendor);
        place(&mut traces, &api, &world.key, &order, told).await?;
    }
    read_all(&mut traces, &world, &api).await?;
    traces.tables(&world)?;
    traces.log("the service", &api);
    traces.hold("/v1/orders", &["log of the service"]);
    traces.hold_none_of(&[VENDOR_KEY]);
    for detail in ["http 200", "http 401", "http 500", "http 307"] {
        traces.hold(detail, &["table orders", "answer of /v1/orders"]);
    }
    Ok(())
}
