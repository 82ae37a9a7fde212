//! Orders at random prices and sizes around the edges of the band, against running services, compared with a model that
//! computes with integers only.

use anyhow::{Context as _, Result};
use fuse_harness::client::ApiClient;
use fuse_harness::figures::{DECIMALS, parse, text, text_of};
use fuse_harness::random::Random;
use fuse_harness::services::{Binaries, Service, ServiceOptions};
use fuse_harness::stack::{Stack, StackOptions};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

use super::Violations;
use crate::build::{self, Profile};
use crate::summary::new_secret;

/// Orders of one run.
const ORDERS: u32 = 20;

/// Services that all runs share; each run has a user of its own.
pub struct Session {
    _stack: Stack,
    _api: Service,
    _refresher: Service,
    admin: ApiClient,
    stocks: Vec<(String, i128)>,
}

impl Session {
    pub fn start() -> Result<Self> {
        Binaries::use_dir(&build::binaries(Profile::Dev)?)?;
        let stack = Stack::start(StackOptions::default())?;
        let admin_key = new_secret();
        let envs = stack.addresses().service_envs(&admin_key);
        stack.addresses().migrate()?;
        let start = |name: &str| {
            let service = Service::launch(
                name,
                ServiceOptions {
                    envs: envs.clone(),
                    ..ServiceOptions::default()
                },
            )?;
            service.wait_ready(Duration::from_secs(20))?;
            anyhow::Ok(service)
        };
        let (api, refresher) = (start("api-service")?, start("cache-refresher")?);
        let admin = ApiClient::new(api.http_url(), None, admin_key);
        admin
            .with_key(admin.create_user_key("warm-up")?)
            .first_buy(Duration::from_secs(30))?;
        let list = admin.get("/v1/stocks?limit=100")?.expect(200)?;
        let stocks = list["items"]
            .as_array()
            .context("no stocks")?
            .iter()
            .filter_map(|stock| {
                // Quotes with more decimals than an order may have would need another model.
                Some((
                    stock["symbol"].as_str()?.to_owned(),
                    parse(stock["price"].as_str()?)?,
                ))
            });
        let stocks = stocks.collect();
        Ok(Self {
            _stack: stack,
            _api: api,
            _refresher: refresher,
            admin,
            stocks,
        })
    }

    /// One run: a new user places orders; every answer and the holdings at the end must be the model's.
    pub fn run(&mut self, seed: u64) -> Result<Violations> {
        let mut random = Random(seed);
        let mut violations = Violations::new();
        let client = self
            .admin
            .with_key(self.admin.create_user_key(&format!("seed {seed}"))?);
        let mut held: std::collections::BTreeMap<String, (i128, i128)> = std::collections::BTreeMap::new();
        let mut portfolio = None;
        for number in 0..ORDERS {
            let (symbol, quote) = &self.stocks[random.below(self.stocks.len() as u64) as usize];
            let offer = near_the_edge(*quote, &mut random);
            let quantity = 1 + i128::from(random.below(5_000_000_000));
            let order = json!({"symbol": symbol, "side": "buy", "quantity": text(quantity), "limitPrice": text(offer)});
            let key = Uuid::new_v4().to_string();
            let answer = client.place(&key, &order)?;
            let is_legal = offer > 0 && 50 * (offer - quote).abs() <= *quote;
            let expected = if is_legal { 201 } else { 422 };
            if answer.status != expected {
                violations.push(format!(
                    "order {number} at quote {}: {order}: expected {expected}, got {}: {}",
                    text(*quote),
                    answer.status,
                    answer.text
                ));
                continue;
            }
            let again = client.place(&key, &order)?;
            if again.text != answer.text || !again.replayed {
                violations.push(format!(
                    "order {number}: the repeat differs: {} / {}",
                    answer.text, again.text
                ));
            }
            if is_legal {
                let body = answer.json();
                portfolio = body["portfolioId"].as_str().map(str::to_owned);
                let price = body["fill"]["price"].as_str().and_then(parse).unwrap_or_default();
                let entry = held.entry(symbol.clone()).or_default();
                entry.0 += quantity;
                entry.1 += price * quantity;
            }
        }
        if let Some(portfolio) = portfolio {
            let body = client.get(&format!("/v1/portfolios/{portfolio}"))?.expect(200)?;
            compare(&body, &held, &mut violations);
        }
        Ok(violations)
    }
}

fn compare(
    portfolio: &serde_json::Value,
    held: &std::collections::BTreeMap<String, (i128, i128)>,
    violations: &mut Violations,
) {
    let holdings = portfolio["holdings"].as_array().cloned().unwrap_or_default();
    if holdings.len() != held.len() {
        violations.push(format!(
            "{} holdings, the model has {}",
            holdings.len(),
            held.len()
        ));
    }
    for holding in holdings {
        let symbol = holding["symbol"].as_str().unwrap_or_default();
        let Some((quantity, cost)) = held.get(symbol) else {
            violations.push(format!("{symbol} is held, but was never bought"));
            continue;
        };
        if holding["quantity"] != text(*quantity) || holding["cost"] != text_of(*cost, 2 * DECIMALS) {
            let model = (text(*quantity), text_of(*cost, 2 * DECIMALS));
            violations.push(format!(
                "{symbol}: {} for {}, the model has {model:?}",
                holding["quantity"], holding["cost"]
            ));
        }
    }
}

/// An offer within three smallest steps of an edge of the band, or anywhere within 4 % of the quote.
fn near_the_edge(quote: i128, random: &mut Random) -> i128 {
    let wobble = i128::from(random.below(7)) - 3;
    match random.below(3) {
        0 => quote + quote / 50 + wobble,
        1 => quote - quote / 50 + wobble,
        _ => quote - quote / 25 + i128::from(random.below(1_000_001)) * quote / 25 * 2 / 1_000_000,
    }
}
