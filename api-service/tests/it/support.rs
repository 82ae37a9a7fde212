//! A world for one test: its own database, DynamoDB stand-in, simulator and service; and requests in one line.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use fuse_domain::{Quote, Snapshot};
use fuse_harness::dynamodb::DynamoDb;
use fuse_harness::postgres::{Postgres, as_service};
use fuse_harness::proc::Proc;
use fuse_harness::wait;
use fuse_market::{CrawlLimits, Fence, SnapshotStore, VendorClient, crawl};
use fuse_platform::config::{Reader, Sources, VendorConfig};
use fuse_platform::{Metrics, aws};
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use uuid::Uuid;
use vendor_simulator::{Simulator, SimulatorConfig};

/// The first admin key of every world.
pub const BOOTSTRAP: &str = "bootstrap-key-of-the-tests-0123456789";

/// Generous, because many tests share two cores; a test that passes never waits that long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a world is made of.
pub struct Setup {
    /// Of the service, on top of the usual ones.
    pub env: Vec<(&'static str, String)>,
    /// Where the service finds the database instead of directly; as the owner, like the world's own.
    pub database_url: Option<String>,
    /// Whether the schema is there.
    pub migrate: bool,
    /// Age in seconds of the snapshot that is published before the service starts. `None`: there is none, and the vendor is
    /// away, so that the service cannot crawl it itself.
    pub publish: Option<i64>,
    pub simulator: SimulatorConfig,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            env: Vec::new(),
            database_url: None,
            migrate: true,
            publish: Some(0),
            simulator: SimulatorConfig::default(),
        }
    }
}

/// Everything of one test; stops with it.
pub struct World {
    pub api: Api,
    pub simulator: Simulator,
    pub dynamodb: DynamoDb,
    /// URL of the database as the owner of the tables, past any proxy; the service uses another role.
    pub database_url: String,
    /// Of the user below, with the scopes read and trade.
    pub key: String,
    pub user: Uuid,
    market: Market,
}

impl World {
    /// With schema, snapshot and a user's key.
    pub async fn start() -> Result<Self> {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Result<Self> {
        let database_url = Postgres::shared()?.database()?;
        Self::on(database_url, setup).await
    }

    /// On a database that the test made.
    pub async fn on(database_url: String, setup: Setup) -> Result<Self> {
        let simulator = Simulator::start(setup.simulator.clone())?;
        let dynamodb = DynamoDb::start()?;
        let market = Market::new(&simulator, &dynamodb).await?;
        match setup.publish {
            Some(age_secs) => {
                let taken_at = Timestamp::now() - jiff::SignedDuration::from_secs(age_secs);
                market.publish(taken_at).await?;
            }
            None => simulator.away(),
        }
        let direct = environment(&database_url, &simulator, &dynamodb);
        let (user, key) = if setup.migrate {
            migrate(&database_url)?;
            let user = Uuid::now_v7();
            (user, make_key(&direct, Some(user), "read,trade")?)
        } else {
            (Uuid::nil(), String::new())
        };
        let mut env = direct;
        if let Some(url) = &setup.database_url {
            env.push(("FUSE_DATABASE__URL", as_service(url)));
        }
        env.extend(setup.env);
        let api = Api::start(&env)?;
        let world = Self {
            api,
            simulator,
            dynamodb,
            database_url,
            key,
            user,
            market,
        };
        if setup.publish.is_some() {
            world.wait_for_stocks().await?;
        }
        Ok(world)
    }

    /// Another replica over the same backends.
    pub fn second_api(&self) -> Result<Api> {
        self.second_api_with(&[])
    }

    /// The same with some settings of its own.
    pub fn second_api_with(&self, settings: &[(&'static str, String)]) -> Result<Api> {
        let mut env = environment(&self.database_url, &self.simulator, &self.dynamodb);
        env.extend_from_slice(settings);
        Api::start(&env)
    }

    /// Crawls the simulator and publishes the snapshot, as the cache-refresher does.
    pub async fn publish(&self) -> Result<Snapshot> {
        self.market.publish(Timestamp::now()).await
    }

    /// The same with quotes that a test changed.
    pub async fn publish_with(&self, change: impl FnOnce(&mut Vec<Quote>)) -> Result<Snapshot> {
        self.market.publish_with(Timestamp::now(), change).await
    }

    /// Until the service serves stocks.
    pub async fn wait_for_stocks(&self) -> Result<Answer> {
        wait::until_async("stocks", PATIENCE, || async {
            let answer = self.get("/v1/stocks").key(BOOTSTRAP).send().await;
            answer.ok().filter(|answer| answer.status == 200)
        })
        .await
        .map_err(|error| self.api.proc.explain(error))
    }

    /// Until the service serves this snapshot.
    pub async fn wait_for_snapshot(&self, id: Uuid) -> Result<()> {
        wait::until_async("the snapshot", PATIENCE, || async {
            let answer = self.get("/v1/clock").key(BOOTSTRAP).send().await.ok()?;
            (answer.json()["snapshot"]["id"] == json!(id)).then_some(())
        })
        .await
        .map_err(|error| self.api.proc.explain(error))
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub fn post(&self, path: &str, body: &Value) -> Call {
        self.call(Method::POST, path)
            .body("application/json", body.to_string())
    }

    pub fn call(&self, method: Method, path: &str) -> Call {
        self.api.call(method, path)
    }

    /// An order under a key of its own.
    pub fn order(&self, body: &Value) -> Call {
        self.post("/v1/orders", body)
            .key(&self.key)
            .header("idempotency-key", &Uuid::now_v7().to_string())
    }

    /// A body that buys one share of the first stock at its price.
    pub fn good_order(&self) -> Value {
        let symbol = self.symbol();
        let price = self
            .simulator
            .price(&symbol)
            .expect("the first stock has a price");
        json!({"symbol": symbol, "side": "buy", "quantity": "1", "limitPrice": price.normalize().to_string()})
    }

    pub fn symbol(&self) -> String {
        self.simulator
            .symbols()
            .first()
            .expect("there are stocks")
            .clone()
    }

    /// A key of another user or, without one, of a service.
    pub fn make_key(&self, user: Option<Uuid>, scopes: &str) -> Result<String> {
        let env = environment(&self.database_url, &self.simulator, &self.dynamodb);
        make_key(&env, user, scopes)
    }

    pub fn sql(&self, sql: &str) -> Result<String> {
        Postgres::shared()?.sql_at(&self.database_url, sql)
    }

    /// Orders, holdings and portfolio versions: what a refused request must not touch.
    pub fn ledger(&self) -> Result<String> {
        self.sql(
            "select (select count(*) from orders), (select count(*) from order_events), (select count(*) from holdings),
                    (select coalesce(sum(version), 0) from portfolios)",
        )
    }

    /// Buys that reached the vendor, and how many were executed.
    pub fn vendor_buys(&self) -> (u64, u64) {
        let buys = self.simulator.counters().buys;
        (buys.received, buys.executed)
    }
}

/// What a cache-refresher would do.
struct Market {
    vendor: VendorClient,
    store: SnapshotStore,
}

impl Market {
    async fn new(simulator: &Simulator, dynamodb: &DynamoDb) -> Result<Self> {
        let (url, endpoint) = (simulator.vendor_url(), dynamodb.endpoint());
        let mut reader = Reader::new(Sources::from_env([
            ("FUSE_VENDOR__BASE_URL", url.as_str()),
            ("FUSE_VENDOR__API_KEY", "simulator-key"),
            ("FUSE_DYNAMODB__ENDPOINT", endpoint.as_str()),
            // Nothing is tested about this writer, and the machine may be busy.
            ("FUSE_DYNAMODB__ATTEMPT_TIMEOUT_MILLIS", "10000"),
            ("FUSE_DYNAMODB__OPERATION_TIMEOUT_MILLIS", "30000"),
        ]));
        let vendor = VendorConfig::read(&mut reader);
        let dynamodb = fuse_platform::config::DynamoDbConfig::read(&mut reader);
        reader.finish()?;
        let metrics = Metrics::new();
        // The tests' own process has no credentials in its environment, and must not need any.
        let credentials = Credentials::new("test", "test", None, None, "test");
        let config = aws::sdk_config(&(&dynamodb).into())
            .await
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        let store = SnapshotStore::new(&config, &dynamodb, &metrics);
        store.ensure_table().await?;
        Ok(Self {
            vendor: VendorClient::new(&vendor, &metrics)?,
            store,
        })
    }

    async fn publish(&self, taken_at: Timestamp) -> Result<Snapshot> {
        let limits = CrawlLimits::with_deadline(PATIENCE);
        let crawl = crawl(&self.vendor, &limits, None, taken_at).await?;
        self.store.publish(&crawl.snapshot, None, Fence::NONE).await?;
        Ok(crawl.snapshot)
    }

    async fn publish_with(
        &self,
        taken_at: Timestamp,
        change: impl FnOnce(&mut Vec<Quote>),
    ) -> Result<Snapshot> {
        let limits = CrawlLimits::with_deadline(PATIENCE);
        let crawled = crawl(&self.vendor, &limits, None, taken_at).await?.snapshot;
        let mut quotes = crawled.quotes;
        change(&mut quotes);
        let snapshot = Snapshot::new(crawled.meta.id, taken_at, quotes);
        self.store.publish(&snapshot, None, Fence::NONE).await?;
        Ok(snapshot)
    }
}

fn environment(
    database_url: &str,
    simulator: &Simulator,
    dynamodb: &DynamoDb,
) -> Vec<(&'static str, String)> {
    vec![
        ("FUSE_HTTP__LISTEN", "127.0.0.1:0".to_owned()),
        ("FUSE_ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
        ("FUSE_LIFECYCLE__DRAIN_DELAY_SECS", "0".to_owned()),
        ("FUSE_STOCKS__POLL_MILLIS", "50".to_owned()),
        ("FUSE_DATABASE__URL", as_service(database_url)),
        // The machine may be busy; tests of a database that is away set it shorter.
        ("FUSE_DATABASE__ACQUIRE_TIMEOUT_MILLIS", "10000".to_owned()),
        // A key of another command must not disturb this one.
        ("FUSE_DATABASE__MIGRATE_WAIT_SECS", "30".to_owned()),
        ("FUSE_DYNAMODB__ENDPOINT", dynamodb.endpoint()),
        ("FUSE_DYNAMODB__REGION", "us-east-1".to_owned()),
        ("FUSE_VENDOR__BASE_URL", simulator.vendor_url()),
        ("FUSE_VENDOR__API_KEY", "simulator-key".to_owned()),
        ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "3000".to_owned()),
        ("FUSE_AUTH__BOOTSTRAP_ADMIN_KEY", BOOTSTRAP.to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
}

/// As the owner of the tables, for the services' role.
pub fn migrate(database_url: &str) -> Result<()> {
    let env = [
        ("FUSE_DATABASE__URL", as_service(database_url)),
        ("FUSE_DATABASE__MIGRATION_URL", database_url.to_owned()),
    ];
    run(&["migrate"], &env).map(drop)
}

fn make_key(env: &[(&'static str, String)], user: Option<Uuid>, scopes: &str) -> Result<String> {
    let user = user.map(|user| user.to_string());
    let mut args = vec!["keys", "create", "--name", "test", "--scopes", scopes];
    if let Some(user) = &user {
        args.extend(["--user", user]);
    }
    let printed = run(&args, env)?;
    let printed: Value = serde_json::from_str(&printed)?;
    let key = printed["key"].as_str().context("the command prints the key")?;
    Ok(key.to_owned())
}

/// Runs a command of the service to its end and gives what it printed.
pub fn run(args: &[&str], env: &[(&'static str, String)]) -> Result<String> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_api-service"))
        .args(args)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (*name, value)))
        .output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("api-service {args:?} ended with {}: {error}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A running service.
pub struct Api {
    pub proc: Proc,
    pub url: String,
    pub admin_url: String,
}

impl Api {
    pub fn start(env: &[(&'static str, String)]) -> Result<Self> {
        let proc = Proc::build("api-service", env!("CARGO_BIN_EXE_api-service"))
            .env_clear()
            .envs(env.iter().map(|(name, value)| (*name, value)))
            .start()?;
        let admin_url = listening(&proc, "admin listening")?;
        let url = listening(&proc, "http listening")?;
        Ok(Self { proc, url, admin_url })
    }

    pub fn call(&self, method: Method, path: &str) -> Call {
        Call(reqwest::Client::new().request(method, format!("{}{path}", self.url)))
    }

    /// All metrics as text.
    pub async fn metrics(&self) -> Result<String> {
        Ok(reqwest::get(format!("{}/metrics", self.admin_url))
            .await?
            .text()
            .await?)
    }

    /// The value of one series, such as `fuse_orders_total{reason="none",state="filled"}`.
    pub async fn metric(&self, series: &str) -> Result<f64> {
        let text = self.metrics().await?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = line.with_context(|| format!("{series} is not among the metrics"))?;
        Ok(value.parse()?)
    }

    /// Until a series has this value.
    pub async fn wait_for_metric(&self, series: &str, value: f64) -> Result<()> {
        wait::until_async(series, PATIENCE, || async {
            let found = self.metric(series).await.ok()?;
            (found == value).then_some(())
        })
        .await
        .map_err(|error| self.proc.explain(error))
    }

    pub async fn is_ready(&self) -> bool {
        let answer = reqwest::get(format!("{}/readyz", self.admin_url)).await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }
}

fn listening(proc: &Proc, message: &str) -> Result<String> {
    proc.wait_for_line(message, PATIENCE, |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let is_it = line["message"] == message;
        is_it.then(|| {
            line["address"]
                .as_str()
                .map(|address| format!("http://{address}"))
        })?
    })
}

/// A request being made.
pub struct Call(reqwest::RequestBuilder);

impl Call {
    pub fn key(self, key: &str) -> Self {
        self.header("x-api-key", key)
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub fn body(self, content_type: &str, body: impl Into<String>) -> Self {
        Self(self.0.header("content-type", content_type).body(body.into()))
    }

    /// An idempotency key of its own.
    pub fn fresh(self) -> Self {
        let key = Uuid::now_v7().to_string();
        self.header("idempotency-key", &key)
    }

    pub async fn send(self) -> Result<Answer> {
        let response = self.0.send().await?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            path: response.url().path().to_owned(),
            text: response.text().await?,
        })
    }

    /// Sends it and checks the whole problem document: `errors` are `"/pointer code"`.
    pub async fn refused(self, status: u16, code: &str, errors: &[&str]) -> Result<Answer> {
        let answer = self.send().await?;
        answer.is_problem(status, code, errors);
        Ok(answer)
    }

    /// Sends it and wants this status.
    pub async fn gives(self, status: u16) -> Result<Answer> {
        let answer = self.send().await?;
        assert_eq!(answer.status, status, "{}: {}", answer.path, answer.text);
        Ok(answer)
    }
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub path: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Everything that every failure has in common, and what this one is about.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str, errors: &[&str]) {
        assert_eq!(
            (self.status, self.header("content-type")),
            (status, Some("application/problem+json")),
            "{}",
            self.text
        );
        let document = self.json();
        let found: Vec<String> = document["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| {
                format!(
                    "{} {}",
                    entry["pointer"].as_str().unwrap_or("?"),
                    entry["code"].as_str().unwrap_or("?")
                )
            })
            .collect();
        assert_eq!(document["code"], code, "{}", self.text);
        assert_eq!(found, errors, "{}", self.text);
        assert_eq!(document["status"], status, "{}", self.text);
        assert_eq!(
            document["type"],
            format!("urn:fuse:problem:{code}"),
            "{}",
            self.text
        );
        assert_eq!(document["instance"], self.path, "{}", self.text);
        for member in ["title", "detail", "requestId"] {
            assert!(
                document[member].as_str().is_some_and(|text| !text.is_empty()),
                "{member}: {}",
                self.text
            );
        }
        if self.header("idempotency-replayed").is_none() {
            assert_eq!(
                document["requestId"].as_str(),
                self.header("x-request-id"),
                "{}",
                self.text
            );
        }
        if status == 503 {
            assert!(
                self.header("retry-after").is_some(),
                "a 503 says when to come back: {}",
                self.text
            );
        }
    }
}
