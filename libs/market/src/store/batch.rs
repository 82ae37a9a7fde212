//! Batch writes: 25 items a request, leftovers written again with backoff.
//!
//! DynamoDB answers 200 and hands back what it did not write (`UnprocessedItems`); the SDK does not
//! retry that, so it is done here, bounded and counted.

use std::time::Duration;

use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};

use super::SnapshotStore;
use super::error::{StoreError, sort};
use super::items::Item;
use crate::backoff::full_jitter;

const BATCH_ITEMS_MAX: usize = 25;
/// Pages are large; smaller requests stay far from the attempt deadline.
const BATCH_BYTES_MAX: usize = 1_000_000;
const ROUNDS_MAX: u32 = 8;
const BACKOFF_BASE: Duration = Duration::from_millis(50);
const BACKOFF_CAP: Duration = Duration::from_secs(2);

/// An item with roughly the bytes that it takes on the wire.
pub(super) struct Weighed {
    pub item: Item,
    pub bytes: usize,
}

impl From<Item> for Weighed {
    fn from(item: Item) -> Self {
        let text = |value: &aws_sdk_dynamodb::types::AttributeValue| {
            value.as_s().or_else(|value| value.as_n()).map_or(16, String::len)
        };
        let bytes = item.iter().map(|(name, value)| name.len() + text(value)).sum();
        Self { item, bytes }
    }
}

impl SnapshotStore {
    /// Writes all items, in order of batches. Items with equal keys must not be among them.
    pub(super) async fn write_all(&self, items: Vec<Item>) -> Result<usize, StoreError> {
        let count = items.len();
        for batch in batches(items.into_iter().map(Weighed::from)) {
            self.write_batch(batch).await?;
        }
        Ok(count)
    }

    async fn write_batch(&self, items: Vec<Item>) -> Result<(), StoreError> {
        let put = |item| {
            let put = PutRequest::builder().set_item(Some(item)).build();
            let built = |_| StoreError::corrupt("a write without an item");
            put.map(|put| WriteRequest::builder().put_request(put).build())
                .map_err(built)
        };
        let mut left = items.into_iter().map(put).collect::<Result<Vec<_>, _>>()?;
        for round in 0..ROUNDS_MAX {
            let answer = self
                .client
                .batch_write_item()
                .request_items(&*self.table, left)
                .send()
                .await
                .map_err(|error| sort("BatchWriteItem", &self.table, &error))?;
            left = answer
                .unprocessed_items
                .and_then(|mut tables| tables.remove(&*self.table))
                .unwrap_or_default();
            if left.is_empty() {
                return Ok(());
            }
            self.metrics.unprocessed(left.len());
            tracing::warn!(
                dynamodb.unprocessed = left.len(),
                round,
                "DynamoDB left items of a batch unwritten, writing them again"
            );
            tokio::time::sleep(full_jitter(BACKOFF_BASE, BACKOFF_CAP, round)).await;
        }
        Err(StoreError::Unavailable {
            operation: "BatchWriteItem",
            detail: format!("{} items stayed unprocessed after {ROUNDS_MAX} tries", left.len()),
        })
    }
}

fn batches(items: impl Iterator<Item = Weighed>) -> Vec<Vec<Item>> {
    let mut batches: Vec<Vec<Item>> = Vec::new();
    let mut bytes = 0;
    for Weighed { item, bytes: size } in items {
        let full = bytes + size > BATCH_BYTES_MAX;
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_ITEMS_MAX && !full => batch.push(item),
            _ => {
                batches.push(vec![item]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(bytes: &[usize]) -> Vec<usize> {
        let items = bytes.iter().map(|&bytes| Weighed {
            item: Item::new(),
            bytes,
        });
        batches(items).iter().map(Vec::len).collect()
    }

    #[test]
    fn batches_keep_both_limits() {
        assert_eq!(sizes(&[]), [0_usize; 0]);
        assert_eq!(sizes(&[10; 25]), [25]);
        assert_eq!(sizes(&[10; 60]), [25, 25, 10]);
        assert_eq!(sizes(&[300_000; 7]), [3, 3, 1]);
        assert_eq!(
            sizes(&[2_000_000, 10, 10]),
            [1, 2],
            "an oversized item goes alone"
        );
    }
}
