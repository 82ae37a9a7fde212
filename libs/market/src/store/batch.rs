//! Batch writes: 25 items a request, paced, a few in flight, leftovers written again with backoff.
//!
//! DynamoDB answers 200 and hands back what it did not write (`UnprocessedItems`); the SDK does not
//! retry that, so it is done here, bounded and counted. Throttled and failed requests are the SDK's to retry.

use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::SnapshotStore;
use super::block::MOVERS_OF_BLOCK;
use super::error::{StoreError, sort};
use super::items::{Item, MOVER_PK, MOVER_SK};
use crate::backoff::full_jitter;

const BATCH_ITEMS_MAX: usize = 25;
/// Pages are large; smaller requests stay far from the attempt deadline.
const BATCH_BYTES_MAX: usize = 400_000;
/// DynamoDB's own limit is 400 KiB an item, names of attributes included.
const ITEM_BYTES_MAX: usize = 400 * 1_024;
const BATCHES_IN_FLIGHT: usize = 4;
/// A write unit pays for this much of one item.
const UNIT_BYTES: usize = 1_024;
const ROUNDS_MAX: u32 = 8;
const BACKOFF_BASE: Duration = Duration::from_millis(50);
const BACKOFF_CAP: Duration = Duration::from_secs(2);

/// What the index of movers holds of an item: the keys of both, and the movers.
const INDEXED: [&str; 5] = ["pk", "sk", MOVER_PK, MOVER_SK, MOVERS_OF_BLOCK];

/// The bytes that DynamoDB counts for an item, near enough.
fn bytes_of(item: &Item) -> usize {
    bytes_where(item, |_| true)
}

/// Those of some of its attributes.
fn bytes_where(item: &Item, counts: impl Fn(&str) -> bool) -> usize {
    let bytes = |value: &AttributeValue| match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(blob) => blob.as_ref().len(),
        _ => 16,
    };
    item.iter()
        .filter(|(name, _)| counts(name))
        .map(|(name, value)| name.len() + bytes(value))
        .sum()
}

/// The write units of an item, and of its entry in the index if it has one.
fn units_of(item: &Item) -> u64 {
    let entry = if item.contains_key(MOVER_SK) {
        bytes_where(item, |name| INDEXED.contains(&name))
    } else {
        0
    };
    (bytes_of(item).div_ceil(UNIT_BYTES) + entry.div_ceil(UNIT_BYTES)) as u64
}

impl SnapshotStore {
    /// Writes all items, in no particular order, and gives the write units that they took. Items with equal keys
    /// must not be among them.
    ///
    /// # Errors
    /// `Oversize` before anything is sent.
    pub(super) async fn write_all(&self, items: Vec<Item>) -> Result<u64, StoreError> {
        if let Some((item, bytes)) = items
            .iter()
            .map(|item| (item, bytes_of(item)))
            .find(|(_, bytes)| *bytes > ITEM_BYTES_MAX)
        {
            let key = |name| super::items::text(item, name).unwrap_or_default();
            return Err(StoreError::Oversize {
                what: format!("item {} / {}", key("pk"), key("sk")),
                bytes,
            });
        }
        stream::iter(batches(items))
            .map(|batch| self.write_batch(batch))
            .buffer_unordered(BATCHES_IN_FLIGHT)
            .try_fold(0, |sum, units| async move { Ok(sum + units) })
            .await
    }

    async fn write_batch(&self, items: Vec<Item>) -> Result<u64, StoreError> {
        let units = items.iter().map(units_of).sum();
        let put = |item| {
            let put = PutRequest::builder().set_item(Some(item)).build();
            let built = |_| StoreError::corrupt("a write without an item");
            put.map(|put| WriteRequest::builder().put_request(put).build())
                .map_err(built)
        };
        let mut left = items.into_iter().map(put).collect::<Result<Vec<_>, _>>()?;
        self.pace.take(units).await;
        for round in 0..ROUNDS_MAX {
            let answer = self
                .bulk
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
                return Ok(units);
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

fn batches(items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut batches: Vec<Vec<Item>> = Vec::with_capacity(items.len().div_ceil(BATCH_ITEMS_MAX));
    let mut bytes = 0;
    for item in items {
        let size = bytes_of(&item);
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
    use aws_sdk_dynamodb::primitives::Blob;

    use super::super::items::string;
    use super::*;

    fn item(bytes: usize) -> Item {
        Item::from([("b".into(), AttributeValue::B(Blob::new(vec![0; bytes - 1])))])
    }

    fn sizes(bytes: &[usize]) -> Vec<usize> {
        let items = bytes.iter().map(|&bytes| item(bytes)).collect();
        batches(items).iter().map(Vec::len).collect()
    }

    #[test]
    fn batches_keep_both_limits() {
        assert_eq!(sizes(&[]), [0_usize; 0]);
        assert_eq!(sizes(&[10; 25]), [25]);
        assert_eq!(sizes(&[10; 60]), [25, 25, 10]);
        assert_eq!(sizes(&[100_000; 9]), [4, 4, 1]);
        assert_eq!(sizes(&[399_000, 2_000, 10]), [1, 2], "a large item goes alone");
    }

    #[test]
    fn units_are_whole_kibibytes_of_the_table_and_of_the_index() {
        let units = [1, 1_024, 1_025, 300_000].map(|bytes| units_of(&item(bytes.max(2))));
        assert_eq!(units, [1, 1, 2, 293]);
        let mut mover = item(3_000);
        mover.insert(MOVER_SK.into(), string("m"));
        assert_eq!(units_of(&mover), 3 + 1, "the index holds the movers only");
        mover.insert(MOVERS_OF_BLOCK.into(), string("m".repeat(1_100)));
        assert_eq!(units_of(&mover), 5 + 2);
    }
}
