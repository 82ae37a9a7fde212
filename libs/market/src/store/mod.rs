//! The snapshot store (L2): one DynamoDB table `{prefix}-market`, laid out in [`items`].
//!
//! What must stay true:
//! * a reader that follows the pointer finds a complete snapshot, or an error, never a mixture;
//! * the pointer moves last, and only to a newer snapshot, whoever writes;
//! * the pages of the current snapshot never expire, so the last good one outlives any outage of
//!   the vendor; a superseded or abandoned one is kept for an hour, for walks in progress.

mod batch;
mod error;
mod history;
mod items;
mod lease;
mod metrics;
mod publish;
mod table;

use std::sync::Arc;

use aws_config::SdkConfig;
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
pub use publish::Published;
pub use table::TableState;

use error::sort;
use metrics::StoreMetrics;

/// Handle to the table; clones share one connection pool. Making one needs no network.
#[derive(Clone)]
pub struct SnapshotStore {
    client: Client,
    table: Arc<str>,
    metrics: StoreMetrics,
}

impl SnapshotStore {
    /// Table `{config.table_prefix}-market`, reached as `sdk` says.
    pub fn new(sdk: &SdkConfig, config: &DynamoDbConfig, metrics: &Metrics) -> Self {
        let table = format!("{}-market", config.table_prefix).into();
        Self {
            client: Client::new(sdk),
            table,
            metrics: StoreMetrics::new(metrics),
        }
    }

    /// Name of the table, for messages.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Creates the table when it is absent, and says so in the log. Repeating it is harmless.
    ///
    /// # Errors
    /// `NotAllowed` names the permission that is missing; `WrongKeys` when the table is not ours.
    pub async fn ensure_table(&self) -> Result<TableState, StoreError> {
        self.seen(table::ensure(&self.client, &self.table).await)
    }

    /// The current pointer; `None` before the first complete crawl.
    pub async fn current(&self) -> Result<Option<Pointer>, StoreError> {
        match self.seen(self.pointer_item().await)? {
            Some(item) => items::pointer(&item).map(Some),
            None => Ok(None),
        }
    }

    async fn pointer_item(&self) -> Result<Option<items::Item>, StoreError> {
        let found = self
            .client
            .get_item()
            .table_name(&*self.table)
            .set_key(Some(items::pointer_key()))
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
        loaded
    }

    /// A snapshot by its id, superseded ones too while their pages are kept: for walks that began on it elsewhere.
    /// `None` when it is not all there any more.
    pub async fn load_id(&self, id: Uuid) -> Result<Option<Snapshot>, StoreError> {
        let _ = id;
        todo!()
    }

    /// Keeps `dependency_up` true: an answer that we do not like is still an answer.
    fn seen<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.metrics
            .up(!matches!(result, Err(StoreError::Unavailable { .. })));
        result
    }

    async fn load_at(&self, pointer: &Pointer, now: Timestamp) -> Result<Snapshot, StoreError> {
        let mut quotes = Vec::with_capacity(pointer.count);
        let mut found = 0;
        let mut pages = self
            .client
            .query()
            .table_name(&*self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", items::string(items::pages_pk(pointer.id)))
            .into_paginator()
            .items()
            .send();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| sort("Query", &self.table, &error))?;
            if let Some(mut page) = items::page_quotes(&item, now)? {
                found += 1;
                quotes.append(&mut page);
            }
        }
        let snapshot = Snapshot::new(pointer.id, pointer.taken_at, quotes);
        if found != pointer.pages || snapshot.meta.count != pointer.count {
            return Err(StoreError::Incomplete {
                id: pointer.id,
                found,
                expected: pointer.pages,
            });
        }
        Ok(snapshot)
    }
}
