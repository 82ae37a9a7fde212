//! The market that walks go over: two replicas, a refresher that publishes a snapshot a second, and a keeper that remembers
//! what each snapshot holds and lets old ones expire.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vendor_simulator::{Simulator, SimulatorConfig};

use super::{Stock, unpack};
use crate::client::ApiClient;
use crate::dynamodb::DynamoDb;
use crate::redis::Redis;
use crate::services::{Service, ServiceOptions};
use crate::stack::{Stack, StackOptions};
use crate::wait;

/// An admin's key, the same on every replica; also what page tokens are sealed with.
const ADMIN_KEY: &str = "an-admin-key-of-the-tests-0123456789";
const TABLE: &str = "fuse-market";
const SYMBOLS: usize = 150;
const DEADLINE: Duration = Duration::from_secs(60);
/// How often the keeper looks for a new snapshot.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The stocks of one snapshot.
pub(super) type Stocks = Arc<Vec<Stock>>;

/// What is known of snapshots, from the table alone.
#[derive(Default)]
struct Known {
    stocks: HashMap<String, Stocks>,
    /// Newest last; those that expired are not among them.
    kept: Vec<String>,
    /// A walk on one of these may end with 410.
    expired: HashMap<String, Stocks>,
}

/// What walks need; they share it.
pub(super) struct Market {
    pub(super) replicas: [String; 2],
    pub(super) key: String,
    known: Arc<Mutex<Known>>,
    dynamodb: Arc<DynamoDb>,
    redis: Redis,
}

/// The processes behind a market.
pub(super) struct Running {
    stop: Arc<AtomicBool>,
    keeper: JoinHandle<Result<()>>,
    _services: Vec<Service>,
    _stack: Stack,
}

impl Market {
    /// Starts everything; there are prices when it returns.
    pub(super) fn start(settings: &[(&str, &str)]) -> Result<(Self, Running)> {
        let config = SimulatorConfig {
            symbols: SYMBOLS,
            page_size: 50,
            ..SimulatorConfig::default()
        };
        let vendor_key = config.api_key.clone();
        let vendor = Simulator::start(config)?;
        let dynamodb = Arc::new(DynamoDb::start()?);
        let stack = Stack::start(StackOptions {
            vendor: Some((vendor.vendor_url(), vendor_key)),
            dynamodb_endpoint: Some(dynamodb.endpoint()),
            ..StackOptions::default()
        })?;
        let redis = Redis::start()?;
        let mut envs = stack.addresses().service_envs(ADMIN_KEY);
        let redis_url = redis.url();
        let own = [
            ("FUSE_REDIS__URL", redis_url.as_str()),
            ("FUSE_REFRESH__INTERVAL_SECS", "1"),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
        ];
        for (key, value) in own.iter().chain(settings) {
            envs.push(((*key).to_owned(), (*value).to_owned()));
        }
        stack.addresses().migrate()?;
        let services = ["cache-refresher", "api-service", "api-service"]
            .into_iter()
            .map(|name| {
                let options = ServiceOptions {
                    envs: envs.clone(),
                    ..ServiceOptions::default()
                };
                let service = Service::launch(name, options)?;
                service.wait_ready(DEADLINE)?;
                Ok(service)
            })
            .collect::<Result<Vec<_>>>()?;
        let replicas = [services[1].http_url(), services[2].http_url()];
        for url in &replicas {
            let client = ApiClient::new(url, None, ADMIN_KEY);
            wait::until("first prices", DEADLINE, || {
                (client.get("/v1/stocks").ok()?.status == 200).then_some(())
            })?;
        }
        let key = ApiClient::new(&replicas[0], None, ADMIN_KEY).create_user_key("walks")?;
        let market = Self {
            replicas,
            key,
            known: Arc::default(),
            dynamodb,
            redis,
        };
        let (known, dynamodb) = (Arc::clone(&market.known), Arc::clone(&market.dynamodb));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let keeper = std::thread::spawn(move || keep(&known, &dynamodb, &vendor, &stopped));
        let running = Running {
            stop,
            keeper,
            _services: services,
            _stack: stack,
        };
        Ok((market, running))
    }

    /// What a snapshot holds. The keeper may need a moment for one that a replica has just shown.
    pub(super) async fn stocks(&self, id: &str) -> Result<Stocks> {
        wait::until_async(&format!("snapshot {id} in the table"), DEADLINE, async || {
            let known = locked(&self.known);
            known.stocks.get(id).or_else(|| known.expired.get(id)).cloned()
        })
        .await
    }

    /// Of the newest snapshot.
    pub(super) async fn stocks_of_newest(&self) -> Result<Stocks> {
        wait::until_async("a first snapshot", DEADLINE, async || {
            let known = locked(&self.known);
            known.stocks.get(known.kept.last()?).cloned()
        })
        .await
    }

    /// Waits until a newer snapshot than the newest of now is there.
    pub(super) async fn wait_for_refresh(&self) -> Result<()> {
        let newest = || locked(&self.known).kept.last().cloned();
        let before = newest();
        wait::until_async("a refresh", DEADLINE, async || (newest() != before).then_some(())).await
    }

    /// Whether the snapshot's pages were taken away.
    pub(super) fn is_expired(&self, id: &str) -> bool {
        locked(&self.known).expired.contains_key(id)
    }

    /// Takes the pages of a snapshot away, as time does; not of the newest ones, which no time takes away. Says whether it did.
    pub(super) fn expire(&self, id: &str) -> Result<bool> {
        let pages = {
            let mut known = locked(&self.known);
            let newest: Vec<&String> = known.kept.iter().rev().take(2).collect();
            let is_old = known.stocks.contains_key(id) && !newest.contains(&&id.to_owned());
            let Some(stocks) = is_old.then(|| known.stocks.remove(id)).flatten() else {
                return Ok(false);
            };
            known.kept.retain(|kept| kept != id);
            // Before the pages go: an answer may find them gone at any moment from here on.
            known.expired.insert(id.to_owned(), stocks);
            page_keys(&self.dynamodb, id)?
        };
        for key in pages {
            self.dynamodb
                .call("DeleteItem", &json!({"TableName": TABLE, "Key": key}))?;
        }
        self.redis.command(&["FLUSHALL"])?;
        Ok(true)
    }

    /// Snapshots seen, and expired ones among them.
    pub(super) fn counts(&self) -> (usize, usize) {
        let known = locked(&self.known);
        (known.stocks.len() + known.expired.len(), known.expired.len())
    }
}

impl Running {
    /// Stops everything; an error when the keeper did not do its work to the end.
    pub(super) fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.keeper
            .join()
            .map_err(|_| anyhow::anyhow!("the keeper of snapshots panicked"))?
    }
}

fn locked(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers every snapshot that the pointer names; prices change after each.
fn keep(known: &Mutex<Known>, dynamodb: &DynamoDb, vendor: &Simulator, stop: &AtomicBool) -> Result<()> {
    let mut last = String::new();
    while !stop.load(Ordering::Relaxed) {
        let key = json!({"pk": {"S": "SNAPSHOT"}, "sk": {"S": "CURRENT"}});
        let pointer = dynamodb.call("GetItem", &json!({"TableName": TABLE, "Key": key}))?;
        let id = pointer["Item"]["id"]["S"].as_str().unwrap_or_default();
        if !id.is_empty() && id != last {
            let stocks = Arc::new(read(dynamodb, id)?);
            let mut known = locked(known);
            known.stocks.insert(id.to_owned(), stocks);
            known.kept.push(id.to_owned());
            last = id.to_owned();
            vendor.tick(1);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn read(dynamodb: &DynamoDb, id: &str) -> Result<Vec<Stock>> {
    let mut stocks = Vec::new();
    for page in pages(dynamodb, id)? {
        let packed = page["quotes"]["B"].as_str().context("a page without quotes")?;
        let quotes: Vec<Value> = serde_json::from_slice(&unpack(&STANDARD.decode(packed)?)?)?;
        for quote in &quotes {
            stocks.push(stock(quote)?);
        }
    }
    ensure!(stocks.len() >= SYMBOLS, "a snapshot of {} stocks", stocks.len());
    Ok(stocks)
}

/// A stored quote as the list must show it.
fn stock(stored: &Value) -> Result<Stock> {
    let text = |field: &str| {
        let text = stored[field].as_str();
        text.map(str::to_owned)
            .with_context(|| format!("no {field} in a stored quote: {stored}"))
    };
    Ok(Stock {
        symbol: text("symbol")?,
        name: text("name")?,
        sector: text("sector")?,
        price: text("price")?,
        mover: stored["mover"] == true,
        listed: stored["unlisted"] != true,
    })
}

fn page_keys(dynamodb: &DynamoDb, id: &str) -> Result<Vec<Value>> {
    let pages = pages(dynamodb, id)?;
    Ok(pages
        .into_iter()
        .map(|page| json!({"pk": page["pk"], "sk": page["sk"]}))
        .collect())
}

fn pages(dynamodb: &DynamoDb, id: &str) -> Result<Vec<Value>> {
    let query = json!({
        "TableName": TABLE,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": format!("SNAPSHOT#{id}")}},
    });
    // A snapshot of this size fits into one answer, which may have a megabyte.
    let found = dynamodb.call("Query", &query)?;
    ensure!(
        found.get("LastEvaluatedKey").is_none_or(Value::is_null),
        "a snapshot in several answers"
    );
    Ok(found["Items"].as_array().cloned().unwrap_or_default())
}
