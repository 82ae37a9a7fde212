//! A small blocking client of the REST API, for tests of the whole and for the developer commands.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{background, wait};

const ANSWER_DEADLINE: Duration = Duration::from_secs(40);

/// A client with one key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiClient {
    base_url: String,
    /// Sent as `Host`, for a service behind an Ingress.
    host: Option<String>,
    key: String,
}

/// An answer: status, headers that matter, body.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    /// Present on the repeat of an order.
    pub replayed: bool,
    /// In how many seconds it makes sense to come back, when the answer says so.
    pub retry_after_secs: Option<u64>,
    pub text: String,
}

impl Answer {
    /// The body as JSON; null when it is something else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The JSON body of an answer with this status.
    ///
    /// # Errors
    /// When the status is another one; the message holds the body.
    pub fn expect(&self, status: u16) -> Result<Value> {
        if self.status != status {
            bail!("expected {status}, got {}: {}", self.status, self.text);
        }
        Ok(self.json())
    }
}

impl ApiClient {
    /// A client of the API at `base_url`; `host` is the name that an Ingress routes by.
    #[must_use]
    pub fn new(base_url: impl Into<String>, host: Option<&str>, key: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            host: host.map(str::to_owned),
            key: key.into(),
        }
    }

    /// The same with another key.
    #[must_use]
    pub fn with_key(&self, key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            ..self.clone()
        }
    }

    /// # Errors
    /// When there is no answer.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send(background::http_client().get(self.url(path)))
    }

    /// # Errors
    /// When there is no answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(background::http_client().post(self.url(path)).json(body))
    }

    /// Places an order under this idempotency key.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn place(&self, idempotency_key: &str, order: &Value) -> Result<Answer> {
        let request = background::http_client()
            .post(self.url("/v1/orders"))
            .header("idempotency-key", idempotency_key)
            .json(order);
        self.send(request)
    }

    /// Makes a user with a key that reads and trades; needs an admin's key. Returns the key's text.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn create_user_key(&self, name: &str) -> Result<String> {
        let body = json!({"name": name, "userId": "new", "scopes": ["read", "trade"]});
        let answer = self.post("/v1/api-keys", &body)?.expect(201)?;
        let key = answer["key"].as_str().context("the answer holds no key")?;
        Ok(key.to_owned())
    }

    /// Waits until there are prices and buys a little of the first stock at its price; returns the order.
    ///
    /// # Errors
    /// When there are no prices in time, or the order is not filled.
    pub fn first_buy(&self, deadline: Duration) -> Result<Value> {
        let stocks = wait::until("prices", deadline, || {
            let answer = self.get("/v1/stocks?limit=1").ok()?;
            (answer.status == 200).then(|| answer.json())
        })?;
        let order = order_for(&stocks["items"][0])?;
        // Another replica may not have the first prices yet; it refuses, for good under this key, and buys nothing.
        let answer = wait::until("a replica with prices", deadline, || {
            let answer = self.place(&Uuid::now_v7().to_string(), &order);
            let is_waiting = answer
                .as_ref()
                .is_ok_and(|answer| answer.json()["code"] == "no_market_data");
            (!is_waiting).then_some(answer)
        })??;
        answer.expect(201)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let mut request = request.header("x-api-key", &self.key).timeout(ANSWER_DEADLINE);
        if let Some(host) = &self.host {
            request = request.header("host", host);
        }
        background::block_on(async move {
            let answer = request.send().await?;
            let header = |name: &str| {
                answer
                    .headers()
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_owned()
            };
            anyhow::Ok(Answer {
                status: answer.status().as_u16(),
                content_type: header("content-type"),
                replayed: header("idempotency-replayed") == "true",
                retry_after_secs: header("retry-after").parse().ok(),
                text: answer.text().await?,
            })
        })
        .context("no answer from the API")
    }
}

/// An order for a little of a stock, as the API lists it, at its price.
///
/// # Errors
/// When it has no price.
pub fn order_for(stock: &Value) -> Result<Value> {
    Ok(json!({
        "symbol": stock["symbol"],
        "side": "buy",
        "quantity": "1.5",
        "limitPrice": within_nine_decimals(stock["price"].as_str().context("a stock without a price")?),
    }))
}

/// A quote may have more decimals than an order may; cutting the rest stays far within 2 %.
fn within_nine_decimals(price: &str) -> &str {
    match price.find('.') {
        Some(point) if price.len() > point + 10 => &price[..point + 10],
        _ => price,
    }
}
