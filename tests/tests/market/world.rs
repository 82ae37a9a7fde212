//! Backends and processes of one test.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use fuse_harness::client::ApiClient;
use fuse_harness::dynamodb::DynamoDb;
use fuse_harness::load::Target;
use fuse_harness::postgres::{Postgres, as_service};
use fuse_harness::services::{self, Service};
use fuse_harness::wait;
use serde_json::{Value, json};
use vendor_simulator::{Action, Latency, Operation, Rule, Simulator, SimulatorConfig};

/// For anything that a loaded machine does in the end.
pub const SOON: Duration = Duration::from_secs(60);
/// An admin's key, the same on every replica; also what page tokens are sealed with.
const ADMIN_KEY: &str = "an-admin-key-of-the-tests-0123456789";
const TABLE: &str = "test-market";
/// Pages of the simulated vendor's list as it is by default.
pub const PAGES: u64 = 5;

/// What one test stands on; each has its own.
pub struct World {
    pub vendor: Simulator,
    pub dynamodb: Arc<DynamoDb>,
    envs: Vec<(String, String)>,
}

impl World {
    /// Backends with a schema, no process yet. `settings` win over those that make waits short.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let config = SimulatorConfig::default();
        let vendor_key = config.api_key.clone();
        let vendor = Simulator::start(config)?;
        let dynamodb = Arc::new(DynamoDb::start()?);
        let owner = Postgres::shared()?.database()?;
        let service = as_service(&owner);
        let own = [
            ("FUSE_DATABASE__URL", service.clone()),
            ("FUSE_DYNAMODB__ENDPOINT", dynamodb.endpoint()),
            ("FUSE_DYNAMODB__TABLE_PREFIX", "test".to_owned()),
            ("FUSE_VENDOR__BASE_URL", vendor.vendor_url()),
            ("FUSE_VENDOR__API_KEY", vendor_key),
            ("FUSE_VENDOR__PAGE_TIMEOUT_MILLIS", "1000".to_owned()),
            ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "300".to_owned()),
            ("FUSE_STOCKS__POLL_MILLIS", "200".to_owned()),
            ("FUSE_LIFECYCLE__DRAIN_DELAY_SECS", "0".to_owned()),
            ("FUSE_AUTH__BOOTSTRAP_ADMIN_KEY", ADMIN_KEY.to_owned()),
        ];
        let settings = settings.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let envs: Vec<(String, String)> = own
            .into_iter()
            .chain(settings)
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        services::migrate(&service, Some(&owner))?;
        Ok(Self {
            vendor,
            dynamodb,
            envs,
        })
    }

    /// A replica that listens, ready or not, and reaches the vendor at this address.
    pub fn cold_api(&self, vendor: SocketAddr) -> Result<Service> {
        let vendor = ("FUSE_VENDOR__BASE_URL".to_owned(), format!("http://{vendor}"));
        let envs = self.envs.iter().cloned().chain([vendor]);
        Service::spawn_unready("api-service", &[], envs)
    }

    /// A replica that says that it is ready.
    pub fn ready_api(&self) -> Result<Service> {
        Service::spawn("api-service", &[], self.envs.clone())
    }

    /// A replica that holds prices.
    pub fn api(&self) -> Result<Service> {
        let api = self.ready_api()?;
        let client = self.client(&api);
        wait::until("prices", SOON, || {
            let answer = client.get("/v1/stocks?limit=1").ok()?;
            (answer.status == 200).then_some(())
        })
        .map_err(|error| api.proc().explain(error))?;
        Ok(api)
    }

    pub fn refresher(&self) -> Result<Service> {
        Service::spawn("cache-refresher", &[], self.envs.clone())
    }

    /// One pass, to its end.
    pub fn one_pass(&self) -> Result<Output> {
        Service::run("cache-refresher", &["--once"], self.envs.clone())
    }

    /// A client with an admin's key, which needs no database.
    pub fn client(&self, api: &Service) -> ApiClient {
        ApiClient::new(api.http_url(), None, ADMIN_KEY)
    }

    /// The same for the load generator.
    pub fn target(&self, api: &Service, path: &str) -> Result<Target> {
        Target::get(&api.http_url(), path, &[("x-api-key", ADMIN_KEY)])
    }

    /// Pages of the list that the vendor was asked for so far.
    pub fn list_requests(&self) -> u64 {
        self.vendor.counters().lists.received
    }

    /// Adds a rule at the vendor.
    pub fn rule(&self, rule: Rule) -> Result<()> {
        self.vendor.add_rule(rule).map_err(|error| anyhow!("{error}"))
    }

    /// Every page of the list takes so long from now on.
    pub fn slow_pages(&self, ms: u64) -> Result<()> {
        self.rule(Rule::on(Operation::List, Action::Latency(Latency::Fixed { ms })))
    }

    /// An item of the market table; `None` while there is none, or no table.
    pub fn item(&self, pk: &str, sk: &str) -> Option<Value> {
        item(&self.dynamodb, pk, sk)
    }

    /// The pointer as it is now.
    pub fn pointer(&self) -> Option<Pointer> {
        pointer(&self.dynamodb)
    }

    /// The same from a thread of its own.
    pub fn pointer_reader(&self) -> impl Fn() -> Option<Pointer> + Send + 'static {
        let dynamodb = Arc::clone(&self.dynamodb);
        move || pointer(&dynamodb)
    }
}

/// Snapshot, its time in milliseconds, and the fence of who moved it there.
pub type Pointer = (String, i64, i64);

fn pointer(dynamodb: &DynamoDb) -> Option<Pointer> {
    let item = item(dynamodb, "SNAPSHOT", "CURRENT")?;
    let number = |name: &str| item[name]["N"].as_str()?.parse().ok();
    let id = item["id"]["S"].as_str()?.to_owned();
    Some((id, number("taken_at")?, number("fence")?))
}

fn item(dynamodb: &DynamoDb, pk: &str, sk: &str) -> Option<Value> {
    let key = json!({"pk": {"S": pk}, "sk": {"S": sk}});
    let found = dynamodb
        .call("GetItem", &json!({"TableName": TABLE, "Key": key}))
        .ok()?;
    found.get("Item").cloned()
}
