//! A refresher as a process, between the vendor simulator and the DynamoDB stand-in.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use fuse_harness::background::http_get;
use fuse_harness::dynamodb::DynamoDb;
use fuse_harness::proc::Proc;
use fuse_harness::wait;
use serde_json::{Value, json};
use vendor_simulator::{Simulator, SimulatorConfig};

pub const SOON: Duration = Duration::from_secs(30);
const TABLE: &str = "test-market";

pub struct World {
    pub vendor: Simulator,
    pub dynamodb: DynamoDb,
    vendor_key: String,
}

impl World {
    pub fn start() -> Result<Self> {
        let config = SimulatorConfig::default();
        let vendor_key = config.api_key.clone();
        Ok(Self {
            vendor: Simulator::start(config)?,
            dynamodb: DynamoDb::start()?,
            vendor_key,
        })
    }

    pub fn vendor_key(&self) -> &str {
        &self.vendor_key
    }

    /// A refresher with a pass a second.
    pub fn refresher(&self) -> Result<Refresher> {
        self.refresher_with(&[])
    }

    /// The same with more variables.
    pub fn refresher_with(&self, envs: &[(&str, &str)]) -> Result<Refresher> {
        let process = self.spawn(&[], envs)?;
        let address = process.wait_for_line("its admin port", SOON, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "admin listening").then(|| line["address"].as_str()?.parse().ok())?
        })?;
        Ok(Refresher { process, address })
    }

    pub fn spawn(&self, args: &[&str], envs: &[(&str, &str)]) -> Result<Proc> {
        Proc::build("cache-refresher", env!("CARGO_BIN_EXE_cache-refresher"))
            .args(args)
            .env_clear()
            .envs([
                ("FUSE_ADMIN__LISTEN", "127.0.0.1:0"),
                ("FUSE_VENDOR__BASE_URL", &self.vendor.vendor_url()),
                ("FUSE_VENDOR__API_KEY", &self.vendor_key),
                ("FUSE_VENDOR__PAGE_TIMEOUT_MILLIS", "2000"),
                ("FUSE_DYNAMODB__ENDPOINT", &self.dynamodb.endpoint()),
                ("FUSE_DYNAMODB__TABLE_PREFIX", "test"),
                ("FUSE_REFRESH__INTERVAL_SECS", "1"),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
            ])
            .envs(envs.iter().copied())
            .start()
    }

    fn item(&self, pk: &str, sk: &str) -> Option<Value> {
        let key = json!({"pk": {"S": pk}, "sk": {"S": sk}});
        let found = self
            .dynamodb
            .call("GetItem", &json!({"TableName": TABLE, "Key": key}))
            .ok()?;
        found.get("Item").cloned()
    }

    /// Id of the current snapshot; `None` while there is no pointer or no table.
    pub fn current(&self) -> Option<String> {
        Some(self.item("SNAPSHOT", "CURRENT")?["id"]["S"].as_str()?.to_owned())
    }

    /// Number of symbols that the pointer tells.
    pub fn count(&self) -> Option<String> {
        Some(
            self.item("SNAPSHOT", "CURRENT")?["count"]["N"]
                .as_str()?
                .to_owned(),
        )
    }

    /// The newest price in a symbol's history, whichever block it is in: lines of `;SYMBOL MILLISECOND PRICE CHANGE` in
    /// blocks by day, hour and snapshot. Of one time the last snapshot's word counts.
    pub fn price(&self, symbol: &str) -> Option<String> {
        let scanned = self.dynamodb.call("Scan", &json!({"TableName": TABLE})).ok()?;
        let start = format!(";{symbol} ");
        let line = |item: &Value| {
            let (_, line) = item["points"]["S"].as_str()?.split_once(&start)?;
            let (millis, rest) = line.split_once(' ')?;
            let (pk, sk) = (item["pk"]["S"].as_str()?, item["sk"]["S"].as_str()?);
            let at = (
                pk.to_owned(),
                sk.get(..2)?.to_owned(),
                millis.parse::<u32>().ok()?,
            );
            Some((at, sk.to_owned(), rest.split(' ').next()?.to_owned()))
        };
        let lines = scanned["Items"].as_array()?.iter().filter_map(line);
        lines.max().map(|(_, _, price)| price)
    }
}

pub struct Refresher {
    pub process: Proc,
    address: SocketAddr,
}

impl Refresher {
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        http_get(&format!("http://{}{path}", self.address), Duration::from_secs(5))
    }

    /// The value of one sample, such as `snapshot_symbols`.
    pub fn metric(&self, sample: &str) -> Result<String> {
        let (_, text) = self.get("/metrics")?;
        let wanted = format!("fuse_{sample} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&wanted))
            .map(str::to_owned)
            .with_context(|| format!("no {sample} in {text}"))
    }

    /// Waits until a counter of results has moved.
    pub fn wait_for_result(&self, result: &str) -> Result<()> {
        let sample = format!(r#"snapshot_refreshes_total{{result="{result}"}}"#);
        self.wait(&format!("a pass that ends with {result}"), || {
            self.metric(&sample).is_ok_and(|count| count != "0").then_some(())
        })
    }

    pub fn wait<T>(&self, what: &str, condition: impl FnMut() -> Option<T>) -> Result<T> {
        wait::until(what, SOON, condition).map_err(|error| self.process.explain(error))
    }

    /// Ready, whatever is away.
    pub fn assert_ready(&self) -> Result<()> {
        let (status, body) = self.get("/readyz")?;
        assert_eq!(status, 200, "{body}");
        Ok(())
    }
}
