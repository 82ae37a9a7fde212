//! A store of its own on a DynamoDB stand-in, snapshots to put into it, and looks past it into the table.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use fuse_domain::{Price, Quote, Snapshot, Symbol};
use fuse_harness::dynamodb::DynamoDb;
use fuse_market::{Pointer, Published, SnapshotStore, TableState};
use fuse_platform::Metrics;
use fuse_platform::aws::{AwsConfig, sdk_config};
use fuse_platform::config::{ConfigValue, DynamoDbConfig, HttpUrl};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

pub const TABLE: &str = "test-market";
/// For waits that end by themselves, on however slow a machine.
pub const SOON: Duration = Duration::from_secs(20);

/// A stand-in with the table made.
pub struct Stored {
    pub dynamodb: DynamoDb,
    pub store: SnapshotStore,
    pub metrics: Metrics,
}

pub fn config(address: SocketAddr) -> Result<DynamoDbConfig> {
    Ok(DynamoDbConfig {
        endpoint: Some(HttpUrl::from_text(&format!("http://{address}")).map_err(anyhow::Error::msg)?),
        region: "us-east-1".into(),
        table_prefix: "test".into(),
        connect_timeout: Duration::from_millis(500),
        attempt_timeout: Duration::from_secs(5),
        operation_timeout: Duration::from_secs(10),
        create_table: true,
        write_units_per_sec: 1_000_000,
    })
}

pub async fn store_of(config: &DynamoDbConfig, metrics: &Metrics) -> Result<SnapshotStore> {
    let credentials = Credentials::new("test", "test", None, None, "test");
    let sdk = sdk_config(&AwsConfig::from(config))
        .await
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    Ok(SnapshotStore::new(&sdk, config, metrics))
}

impl Stored {
    pub async fn start() -> Result<Self> {
        let (dynamodb, metrics) = (DynamoDb::start()?, Metrics::new());
        let store = store_of(&config(dynamodb.address())?, &metrics).await?;
        assert_eq!(store.ensure_table().await?, TableState::Created);
        Ok(Self {
            dynamodb,
            store,
            metrics,
        })
    }

    /// Another store on the same table, reached through `address`.
    pub async fn through(&self, address: SocketAddr) -> Result<SnapshotStore> {
        store_of(&config(address)?, &Metrics::new()).await
    }

    pub async fn pointer(&self) -> Result<Pointer> {
        Ok(self.store.current().await?.expect("a pointer"))
    }

    /// Every item of the table by its key.
    pub fn items(&self) -> Result<BTreeMap<(String, String), Value>> {
        let text = |item: &Value, name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
        let (mut items, mut scan) = (BTreeMap::new(), json!({"TableName": TABLE}));
        loop {
            let scanned = self.dynamodb.call("Scan", &scan)?;
            for item in scanned["Items"].as_array().cloned().unwrap_or_default() {
                items.insert((text(&item, "pk"), text(&item, "sk")), item);
            }
            match scanned.get("LastEvaluatedKey") {
                Some(key) if !key.is_null() => scan["ExclusiveStartKey"] = key.clone(),
                _ => return Ok(items),
            }
        }
    }

    /// How many keys begin like this.
    pub fn count(&self, pk: &str) -> Result<usize> {
        Ok(self
            .items()?
            .keys()
            .filter(|(key, _)| key.starts_with(pk))
            .count())
    }

    /// Lines of price changes that begin so, over all blocks: `"S00003 "` are those of a symbol, `""` are all.
    pub fn lines(&self, start: &str) -> Result<usize> {
        let start = format!(";{start}");
        let of = |item: &Value| {
            let points = item["points"]["S"].as_str();
            points.map_or(0, |points| points.matches(&start).count())
        };
        Ok(self.items()?.values().map(of).sum())
    }

    /// Overwrites one number of an item.
    pub fn set(&self, pk: &str, sk: &str, name: &str, value: i64) -> Result<()> {
        self.dynamodb.call(
            "UpdateItem",
            &json!({"TableName": TABLE,
                "Key": {"pk": {"S": pk}, "sk": {"S": sk}},
                "UpdateExpression": "SET #name = :value",
                "ExpressionAttributeNames": {"#name": name},
                "ExpressionAttributeValues": {":value": {"N": value.to_string()}}}),
        )?;
        Ok(())
    }

    pub fn delete(&self, pk: &str, sk: &str) -> Result<()> {
        self.dynamodb.call(
            "DeleteItem",
            &json!({"TableName": TABLE, "Key": {"pk": {"S": pk}, "sk": {"S": sk}}}),
        )?;
        Ok(())
    }

    pub fn metric(&self, sample: &str) -> Option<String> {
        metric(&self.metrics, sample)
    }
}

/// One sample, such as `vendor_retries_total{op="buy"}`.
pub fn metric(metrics: &Metrics, sample: &str) -> Option<String> {
    let text = String::from_utf8(metrics.encode()).expect("metrics are text");
    let wanted = format!("fuse_{sample} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&wanted))
        .map(str::to_owned)
}

/// A whole millisecond some seconds ago: what the store keeps.
pub fn ago(secs: i64) -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond() - secs * 1_000).expect("a time")
}

/// `count` quotes at one price each, taken `secs_ago`; `name_bytes` makes them large.
pub fn snapshot(count: usize, price: &str, secs_ago: i64, name_bytes: usize) -> Result<Snapshot> {
    let taken_at = ago(secs_ago);
    let quote = |n: usize| -> Result<Quote> {
        Ok(Quote {
            symbol: symbol(n),
            name: "n".repeat(name_bytes),
            sector: "Tech".into(),
            price: Price::parse(price)?,
            change: "-0.5".into(),
            last_updated: taken_at,
            as_of: taken_at,
            mover: false,
            listed: true,
        })
    };
    Ok(Snapshot::new(
        Uuid::now_v7(),
        taken_at,
        (0..count).map(quote).collect::<Result<_>>()?,
    ))
}

pub fn symbol(n: usize) -> Symbol {
    Symbol::parse(&format!("S{n:05}")).expect("a symbol")
}

/// Pages and lines of history, of a publish that has to succeed.
pub fn flipped(published: Published) -> (usize, usize) {
    match published {
        Published::Flipped {
            pages,
            history_written,
            ..
        } => (pages.count(), history_written),
        other => panic!("not flipped: {other:?}"),
    }
}
