//! The snapshot store (L2): one DynamoDB table `{prefix}-market`, laid out in [`items`].
//!
//! What must stay true:
//! * a reader that follows the pointer finds a complete snapshot, or an error, never a mixture;
//! * the pointer moves last, only to a newer snapshot and only for the newest holder of the lease, whoever writes;
//! * the pages of the current snapshot stay as long as anybody calls `keep_current`, so the last good one outlives
//!   any outage of the vendor; superseded and abandoned ones go after two days, long after walks over them.

mod batch;
mod block;
mod error;
mod history;
mod items;
mod lease;
mod metrics;
mod pace;
pub(crate) mod pages;
mod publish;
mod table;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use fuse_domain::Snapshot;
use fuse_platform::Metrics;
use fuse_platform::config::DynamoDbConfig;
use jiff::Timestamp;
use uuid::Uuid;

pub use error::StoreError;
pub use history::{HistoryPage, HistoryPoint, HistoryRange};
pub use items::Pointer;
pub use lease::{Contender, Fence, Lease};
pub use pages::EncodedPages;
pub use publish::Published;
pub use table::TableState;

pub(crate) use metrics::reads;

use error::sort;
use items::Page;
use metrics::StoreMetrics;
use pace::Pace;

/// Bulk writes are nobody's to wait for but a pass's, and throttling takes its time to end.
const BULK_ATTEMPTS_MAX: u32 = 8;
const BULK_BACKOFF_CAP: Duration = Duration::from_secs(1);
const BULK_ATTEMPT_MIN: Duration = Duration::from_secs(2);
const BULK_OPERATION_MIN: Duration = Duration::from_secs(15);

/// Handle to the table; clones share one connection pool. Making one needs no network.
#[derive(Clone)]
pub struct SnapshotStore {
    client: Client,
    /// For batches of items: more patient.
    bulk: Client,
    table: Arc<str>,
    may_create: bool,
    pace: Pace,
    metrics: StoreMetrics,
    /// That the table has no index was said.
    no_index_said: Arc<AtomicBool>,
}

impl SnapshotStore {
    /// Table `{config.table_prefix}-market`, reached as `sdk` says.
    pub fn new(sdk: &SdkConfig, config: &DynamoDbConfig, metrics: &Metrics) -> Self {
        Self {
            client: Client::new(sdk),
            bulk: bulk_client(sdk, config),
            table: format!("{}-market", config.table_prefix).into(),
            may_create: config.create_table,
            pace: Pace::new(config.write_units_per_sec),
            metrics: StoreMetrics::new(metrics),
            no_index_said: Arc::default(),
        }
    }

    /// Name of the table, for messages.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Creates the table when it is absent and the configuration allows it, and says so in the log. Repeating it is
    /// harmless.
    ///
    /// # Errors
    /// `TableMissing` names table, setting and permission; `NotAllowed` names the permission that is missing;
    /// `WrongKeys` when the table is not ours.
    pub async fn ensure_table(&self) -> Result<TableState, StoreError> {
        self.seen(table::ensure(&self.client, &self.table, self.may_create).await)
    }

    /// The current pointer; `None` before the first complete crawl.
    pub async fn current(&self) -> Result<Option<Pointer>, StoreError> {
        match self.seen(self.pointer_item().await)? {
            Some(item) => items::pointer(&item).map(Some),
            None => Ok(None),
        }
    }

    async fn pointer_item(&self) -> Result<Option<items::Item>, StoreError> {
        self.item(items::pointer_key()).await
    }

    async fn item(&self, key: items::Item) -> Result<Option<items::Item>, StoreError> {
        let found = self
            .client
            .get_item()
            .table_name(&*self.table)
            .set_key(Some(key))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| sort("GetItem", &self.table, &error))?;
        Ok(found.item)
    }

    /// Reads all pages of a snapshot. Pages past their expiry count as gone, collected or not.
    ///
    /// # Errors
    /// `Incomplete` when pages are gone: the pointer has moved on, or somebody deleted them.
    pub async fn load(&self, pointer: &Pointer) -> Result<Snapshot, StoreError> {
        let loaded = self.load_at(pointer, Timestamp::now()).await;
        self.metrics.read(match &loaded {
            Ok(_) => "hit",
            Err(StoreError::Incomplete { .. }) => "miss",
            Err(_) => "error",
        });
        self.seen(loaded)
    }

    /// A snapshot by its id, superseded ones too while their pages are kept: for walks that began on it elsewhere.
    /// `None` when it is not all there any more.
    pub async fn load_id(&self, id: Uuid) -> Result<Option<Snapshot>, StoreError> {
        let loaded = self.load_id_at(id, Timestamp::now()).await;
        self.metrics.read(match &loaded {
            Ok(Some(_)) => "hit",
            Ok(None) => "miss",
            Err(_) => "error",
        });
        self.seen(loaded)
    }

    /// Keeps `dependency_up` true: an answer that we do not like is still an answer.
    fn seen<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.metrics
            .up(!matches!(result, Err(StoreError::Unavailable { .. })));
        result
    }

    async fn load_at(&self, pointer: &Pointer, now: Timestamp) -> Result<Snapshot, StoreError> {
        let pages = self.pages(pointer.id, now).await?;
        let found = pages.len();
        let incomplete = StoreError::Incomplete {
            id: pointer.id,
            found,
            expected: pointer.pages,
        };
        if found != pointer.pages {
            return Err(incomplete);
        }
        let quotes = pages.into_iter().map(|page| page.quotes).collect();
        let snapshot = pages::decode(pointer.id, pointer.taken_at, pointer.count, quotes).await?;
        if snapshot.meta.count != pointer.count {
            return Err(incomplete);
        }
        Ok(snapshot)
    }

    async fn load_id_at(&self, id: Uuid, now: Timestamp) -> Result<Option<Snapshot>, StoreError> {
        let pages = self.pages(id, now).await?;
        let Some(first) = pages.first() else {
            return Ok(None);
        };
        let (taken_at, count) = (first.taken_at, first.count);
        if first.pages != pages.len() {
            return Ok(None);
        }
        let quotes = pages.into_iter().map(|page| page.quotes).collect();
        let snapshot = pages::decode(id, taken_at, count, quotes).await?;
        Ok((snapshot.meta.count == count).then_some(snapshot))
    }

    /// The pages that are left of a snapshot, in order.
    async fn pages(&self, id: Uuid, now: Timestamp) -> Result<Vec<Page>, StoreError> {
        let mut found = Vec::new();
        let mut items = self
            .client
            .query()
            .table_name(&*self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", items::string(items::pages_pk(id)))
            .into_paginator()
            .items()
            .send();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| sort("Query", &self.table, &error))?;
            found.extend(items::page(item, now)?);
        }
        Ok(found)
    }
}

fn bulk_client(sdk: &SdkConfig, config: &DynamoDbConfig) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.attempt_timeout.max(BULK_ATTEMPT_MIN))
        .operation_attempt_timeout(config.attempt_timeout.max(BULK_ATTEMPT_MIN))
        .operation_timeout(config.operation_timeout.max(BULK_OPERATION_MIN))
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(BULK_ATTEMPTS_MAX)
        .with_initial_backoff(Duration::from_millis(50))
        .with_max_backoff(BULK_BACKOFF_CAP);
    let config = aws_sdk_dynamodb::config::Builder::from(sdk)
        .timeout_config(timeouts)
        .retry_config(retries)
        .build();
    Client::from_conf(config)
}
