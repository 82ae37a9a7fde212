//! The simulator through its two ports, as a plain client sees it.

mod bodies;
mod buys;
mod determinism;
mod faults;
mod items;
mod paging;
mod process;
mod scale;
mod ticks;
mod wire;

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Client, Response};
use serde_json::Value;
use vendor_simulator::{Simulator, SimulatorConfig};

/// A simulator and a client that never keeps connections, so that each fault hits exactly one request.
struct Bench {
    simulator: Simulator,
    client: Client,
}

impl Bench {
    fn start() -> Result<Self> {
        Self::start_with(SimulatorConfig::default())
    }

    fn start_with(config: SimulatorConfig) -> Result<Self> {
        let client = Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()?;
        let simulator = Simulator::start(config)?;
        Ok(Self { simulator, client })
    }

    async fn list(&self, query: &str) -> reqwest::Result<Response> {
        self.client
            .get(format!("{}/stocks{query}", self.simulator.vendor_url()))
            .header("x-api-key", "simulator-key")
            .send()
            .await
    }

    /// One page by its token, as JSON.
    async fn page(&self, token: Option<&str>) -> Result<Value> {
        let query = token.map(|token| format!("?nextToken={}", encoded(token)));
        let answer = self.list(query.as_deref().unwrap_or("")).await?;
        anyhow::ensure!(answer.status() == 200, "{}", answer.status());
        Ok(answer.json().await?)
    }

    /// All pages, up to so many, with the tokens that the vendor gives.
    async fn crawl(&self, pages_max: usize) -> Result<Vec<Value>> {
        let mut pages = vec![self.page(None).await?];
        while pages.len() < pages_max {
            let Some(token) = next_token(&pages[pages.len() - 1]) else {
                break;
            };
            let token = token.to_owned();
            pages.push(self.page(Some(&token)).await?);
        }
        Ok(pages)
    }

    async fn buy(&self, symbol: &str, body: &str) -> reqwest::Result<Response> {
        self.client
            .post(format!("{}/stocks/{symbol}/buy", self.simulator.vendor_url()))
            .header("x-api-key", "simulator-key")
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send()
            .await
    }

    /// A buy at the current price.
    async fn good_buy(&self, symbol: &str) -> reqwest::Result<Response> {
        let price = self.simulator.price(symbol).expect("a known symbol");
        self.buy(symbol, &format!("{{\"price\":{price},\"quantity\":1}}"))
            .await
    }

    async fn control(&self, method: &str, path: &str, body: Value) -> Result<(u16, Value)> {
        let method = method.parse().context("a method")?;
        let url = format!("{}/control/{path}", self.simulator.control_url());
        let mut request = self.client.request(method, url);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        let value = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        Ok((status, value))
    }

    async fn rule(&self, rule: Value) -> Result<()> {
        let (status, answer) = self.control("POST", "rules", rule).await?;
        anyhow::ensure!(status == 204, "{answer}");
        Ok(())
    }
}

/// Percent-encodes everything that is not a letter or digit.
fn encoded(token: &str) -> String {
    token
        .bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

/// `None` for absent, `null` and `""`.
fn next_token(page: &Value) -> Option<&str> {
    page["data"]["nextToken"]
        .as_str()
        .filter(|token| !token.is_empty())
}

fn items(pages: &[Value]) -> Vec<&Value> {
    pages
        .iter()
        .filter_map(|page| page["data"]["items"].as_array())
        .flatten()
        .collect()
}

fn symbols(pages: &[Value]) -> Vec<&str> {
    items(pages)
        .iter()
        .filter_map(|item| item["symbol"].as_str())
        .collect()
}

fn item<'a>(pages: &'a [Value], symbol: &str) -> Option<&'a Value> {
    items(pages).into_iter().find(|item| item["symbol"] == symbol)
}
