//! Real processes around one ledger: PostgreSQL behind a proxy, the simulated vendor, a cache-refresher and replicas of api-service.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use uuid::Uuid;
use vendor_simulator::{Rule, Simulator, SimulatorConfig};

use super::step::{Quote, User};
use crate::client::ApiClient;
use crate::dynamodb::DynamoDb;
use crate::figures;
use crate::ports::Port;
use crate::postgres::{Postgres, PostgresOptions};
use crate::proxy::TcpProxy;
use crate::services::{self, Service};

/// An admin's key, which needs no database.
pub const ADMIN_KEY: &str = "an-admin-key-of-the-tests-0123456789";
/// How long a buy may take at the vendor.
pub const BUY_TIMEOUT: Duration = Duration::from_millis(400);
/// No order is sent on a quote that is older than this.
pub(super) const MAX_QUOTE_AGE: Duration = Duration::from_secs(600);
/// A database with the schema and nothing else; each round copies it.
const TEMPLATE: &str = "template_of_rounds";
/// Stocks that orders are about.
const STOCKS: usize = 6;

/// What a world is made of; `Default` is quick and still loses nothing when a process is killed.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub postgres: PostgresOptions,
    /// Environment of the services, which wins over the harness's own.
    pub settings: Vec<(String, String)>,
}

/// A replica of api-service: its port stays when its process is another one.
pub(super) struct Replica {
    pub(super) port: Port,
    pub(super) service: Option<Service>,
}

/// What runs; dropping it stops everything.
pub struct World {
    pub postgres: Postgres,
    /// Between the services and PostgreSQL.
    pub proxy: TcpProxy,
    pub vendor: Simulator,
    pub(super) replicas: Vec<Replica>,
    /// Name of the database of this round.
    pub(super) database: String,
    pub(super) settings: Vec<(String, String)>,
    /// What processes that are gone said they should not have.
    pub(super) complaints: Vec<String>,
    _refresher: Service,
    _dynamodb: DynamoDb,
}

impl World {
    /// Backends with prices and a schema; no replica yet.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn start(options: Options) -> Result<Self> {
        let postgres = Postgres::start_with(quick(options.postgres))?;
        postgres.create_database(TEMPLATE)?;
        let proxy = TcpProxy::start(postgres.address())?;
        let config = SimulatorConfig::default();
        let vendor_key = config.api_key.clone();
        let vendor = Simulator::start(config)?;
        let dynamodb = DynamoDb::start()?;
        let own = [
            ("FUSE_DYNAMODB__ENDPOINT", dynamodb.endpoint()),
            ("FUSE_DYNAMODB__TABLE_PREFIX", "test".to_owned()),
            ("FUSE_VENDOR__BASE_URL", vendor.vendor_url()),
            ("FUSE_VENDOR__API_KEY", vendor_key),
            (
                "FUSE_VENDOR__BUY_TIMEOUT_MILLIS",
                BUY_TIMEOUT.as_millis().to_string(),
            ),
            (
                "FUSE_ORDERS__MAX_QUOTE_AGE_SECS",
                MAX_QUOTE_AGE.as_secs().to_string(),
            ),
            ("FUSE_STOCKS__POLL_MILLIS", "200".to_owned()),
            ("FUSE_LIFECYCLE__DRAIN_DELAY_SECS", "0".to_owned()),
            ("FUSE_AUTH__BOOTSTRAP_ADMIN_KEY", ADMIN_KEY.to_owned()),
            // What an outcome without an order waits for, and the longest that a hanging database is waited for.
            ("FUSE_DATABASE__STATEMENT_TIMEOUT_MILLIS", "1000".to_owned()),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let settings: Vec<(String, String)> = own.into_iter().chain(options.settings).collect();
        let url = postgres.service_url(TEMPLATE);
        // Each round's database is a copy of this one, with what is granted in it.
        services::migrate(&url, Some(&postgres.url(TEMPLATE)))?;
        let mut direct = settings.clone();
        direct.push(("FUSE_DATABASE__URL".to_owned(), url));
        let refresher = Service::spawn("cache-refresher", &[], direct)?;
        Ok(Self {
            postgres,
            proxy,
            vendor,
            replicas: Vec::new(),
            database: TEMPLATE.to_owned(),
            settings,
            complaints: Vec::new(),
            _refresher: refresher,
            _dynamodb: dynamodb,
        })
    }

    /// The same with replicas, for a test that has one round only.
    ///
    /// # Errors
    /// As [`World::start`] and [`World::round`].
    pub fn with_replicas(count: usize, options: Options) -> Result<Self> {
        let mut world = Self::start(options)?;
        world.round(count)?;
        Ok(world)
    }

    /// Begins anew: an empty ledger, a vendor without a past, new replicas. Nothing of the round before remains.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn round(&mut self, replicas: usize) -> Result<()> {
        self.replicas.clear();
        self.complaints.clear();
        let old = std::mem::replace(&mut self.database, format!("round_{}", Uuid::now_v7().simple()));
        if old != TEMPLATE {
            self.postgres
                .sql("postgres", &format!("drop database {old} with (force)"))?;
        }
        self.postgres.sql(
            "postgres",
            &format!("create database {} template {TEMPLATE}", self.database),
        )?;
        self.vendor.reset();
        for index in 0..replicas {
            self.replicas.push(Replica {
                port: Port::reserve()?,
                service: None,
            });
            self.start_replica(index)?;
        }
        Ok(())
    }

    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn replica(&self, index: usize) -> &Service {
        self.replicas[index]
            .service
            .as_ref()
            .expect("the test started this replica")
    }

    /// How many there are, running or not.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas.len()
    }

    /// Base URLs of all replicas, which stay the same when one is started again.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let url = |replica: &Replica| format!("http://{}", replica.port.on_loopback());
        self.replicas.iter().map(url).collect()
    }

    /// A client of one replica with this key.
    #[must_use]
    pub fn client(&self, index: usize, key: &str) -> ApiClient {
        ApiClient::new(&self.urls()[index], None, key)
    }

    /// A user with so many portfolios beside the default one.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn user(&self, name: &str, more_portfolios: usize) -> Result<User> {
        let admin = self.client(0, ADMIN_KEY);
        let body = json!({"name": name, "userId": "new", "scopes": ["read", "trade"]});
        let made = admin.post("/v1/api-keys", &body)?.expect(201)?;
        let key = made["key"].as_str().context("a key")?.to_owned();
        let id: Uuid = made["userId"].as_str().context("a user")?.parse()?;
        let client = self.client(0, &key);
        let mut portfolios = vec![id];
        for number in 0..more_portfolios {
            let path = format!("/v1/users/{id}/portfolios");
            let made = client.post(&path, &json!({"name": format!("number {number}")}))?;
            portfolios.push(made.expect(201)?["id"].as_str().context("an id")?.parse()?);
        }
        Ok(User { id, key, portfolios })
    }

    /// Some stocks and their prices as they are served.
    ///
    /// # Errors
    /// When there are none.
    pub fn quotes(&self) -> Result<Vec<Quote>> {
        let list = self
            .client(0, ADMIN_KEY)
            .get("/v1/stocks?limit=100")?
            .expect(200)?;
        let stocks = list["items"].as_array().context("stocks")?;
        // A price with more decimals than an order may have cannot be ordered at.
        let quote = |stock: &Value| {
            Some(Quote {
                symbol: stock["symbol"].as_str()?.to_owned(),
                price: figures::parse(stock["price"].as_str()?)?,
            })
        };
        Ok(stocks.iter().filter_map(quote).take(STOCKS).collect())
    }

    /// Adds a rule at the vendor.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn rule(&self, rule: Rule) -> Result<()> {
        self.vendor.add_rule(rule).map_err(|error| anyhow!("{error}"))
    }

    /// Rows of this round's ledger, asked directly.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.postgres.sql(&self.database, sql)
    }

    /// The one number that a query gives.
    ///
    /// # Errors
    /// When it gives something else.
    pub fn count(&self, sql: &str) -> Result<u64> {
        let text = self.sql(sql)?;
        text.parse().with_context(|| format!("{sql} gave {text:?}"))
    }
}

/// A crash of a process loses nothing that it had given to the kernel, so syncing to the disk can be left out; waiting for the commit
/// cannot.
fn quick(mut options: PostgresOptions) -> PostgresOptions {
    options.settings.insert(0, ("fsync".to_owned(), "off".to_owned()));
    options
}
