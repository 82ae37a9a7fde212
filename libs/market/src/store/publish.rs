//! Publishing a snapshot: pages, then changed quotes and history, then the pointer.
//!
//! Every step is idempotent, so a publish that broke half-way is simply done again by the next
//! pass, and what an abandoned one left behind expires.

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::ReturnValue;
use fuse_domain::{Quote, Snapshot};
use jiff::Timestamp;
use uuid::Uuid;

use super::SnapshotStore;
use super::error::{StoreError, sort};
use super::lease::Fence;
use super::items::{self, LeftBehind, Pointer, SUPERSEDED_PAGES_KEPT_SECS};

/// Conditional writes of quotes in flight at once: paced, so that a pass does not starve readers.
const QUOTE_WRITES_IN_FLIGHT: usize = 8;

/// What a publish did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The pointer names this snapshot now.
    Flipped {
        pages: usize,
        history_written: usize,
        /// Write units that pages and history took by our own reckoning, as the pacing counts them.
        write_units: u64,
    },
    /// A newer snapshot is current already; it stays.
    Older,
    /// Somebody took the lease after us and has published since; theirs stays.
    Fenced,
}

impl SnapshotStore {
    /// Makes `snapshot` the current one, unless a newer one is. `previous` is what it is compared
    /// with: only quotes that differ are written; without it all are.
    pub async fn publish(
        &self,
        snapshot: &Snapshot,
        previous: Option<&Snapshot>,
        fence: Fence,
    ) -> Result<Published, StoreError> {
        let pages = items::pages(snapshot)?;
        let pointer = Pointer {
            id: snapshot.meta.id,
            taken_at: snapshot.meta.taken_at,
            tick_at: snapshot.meta.tick_at,
            pages: pages.len(),
            count: snapshot.meta.count,
            fence,
        };
        let (changed, repriced) = changes(snapshot, previous);
        self.write_all(pages).await?;
        let quotes_written = self.write_quotes(&changed).await?;
        let history = repriced.iter().map(|quote| items::history(quote)).collect();
        let history_written = self.write_all(history).await?;
        if !self.flip(&pointer).await? {
            return Ok(Published::Older);
        }
        // The pointer is flipped: what follows tidies up, and `keep_current` does it again later.
        if let Err(error) = self.keep_current().await {
            tracing::warn!(%error, snapshot.id = %pointer.id, "expiry of snapshot pages not settled yet");
        }
        Ok(Published::Flipped {
            pages: pointer.pages,
            history_written,
            write_units: quotes_written as u64,
        })
    }

    /// Takes the expiry off the current snapshot's pages and puts one on its predecessor's.
    /// Idempotent; a refresher does it at its start, in case the last one died in between.
    pub async fn keep_current(&self) -> Result<(), StoreError> {
        let Some(item) = self.pointer_item().await? else {
            return Ok(());
        };
        let pointer = items::pointer(&item)?;
        for page in 0..pointer.pages {
            self.expire_page(pointer.id, page, None).await?;
        }
        if let Some(LeftBehind { id, pages }) = items::left_behind(&item)? {
            let expires_at = pointer.taken_at.as_second() + SUPERSEDED_PAGES_KEPT_SECS;
            for page in 0..pages {
                self.expire_page(id, page, Some(expires_at)).await?;
            }
        }
        Ok(())
    }

    /// Conditional on being newer; a quote that lost against a newer one is none of ours to write.
    async fn write_quotes(&self, quotes: &[&Quote]) -> Result<usize, StoreError> {
        let mut written = 0;
        for quote in quotes {
            written += usize::from(self.write_quote(quote).await?);
        }
        Ok(written)
    }

    async fn write_quote(&self, quote: &Quote) -> Result<bool, StoreError> {
        let written = self
            .client
            .put_item()
            .table_name(&*self.table)
            .set_item(Some(items::quote(quote)))
            .condition_expression("attribute_not_exists(pk) OR as_of < :as_of")
            .expression_attribute_values(":as_of", items::number(quote.as_of.as_millisecond()))
            .send()
            .await;
        match written {
            Ok(_) => Ok(true),
            Err(error) if lost(error.as_service_error()) => Ok(false),
            Err(error) => Err(sort("PutItem", &self.table, &error)),
        }
    }

    /// Moves the pointer if it is absent or older. It keeps the name of its predecessor.
    async fn flip(&self, to: &Pointer) -> Result<bool, StoreError> {
        let time = |at: Timestamp| items::number(at.as_millisecond());
        let flipped = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(items::pointer_key()))
            .update_expression(
                "SET previous_id = if_not_exists(id, :nobody), previous_pages = if_not_exists(pages, :none), \
                 id = :id, taken_at = :taken_at, tick_at = :tick_at, pages = :pages, #count = :count",
            )
            .condition_expression("attribute_not_exists(pk) OR taken_at < :taken_at")
            .expression_attribute_names("#count", "count")
            .expression_attribute_values(":nobody", items::string(Uuid::nil().to_string()))
            .expression_attribute_values(":none", items::number(0))
            .expression_attribute_values(":id", items::string(to.id.to_string()))
            .expression_attribute_values(":taken_at", time(to.taken_at))
            .expression_attribute_values(":tick_at", time(to.tick_at))
            .expression_attribute_values(":pages", items::number(to.pages))
            .expression_attribute_values(":count", items::number(to.count))
            .return_values(ReturnValue::None)
            .send()
            .await;
        match flipped {
            Ok(_) => Ok(true),
            // The SDK tries again after a lost answer; then our own first write is what is in the way.
            Err(error) if lost(error.as_service_error()) => {
                Ok(self.current().await?.is_some_and(|current| current.id == to.id))
            }
            Err(error) => Err(sort("UpdateItem", &self.table, &error)),
        }
    }

    async fn expire_page(&self, id: Uuid, page: usize, expires_at: Option<i64>) -> Result<(), StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(items::page_key(id, page)))
            // An update of a collected page must not bring back an empty one.
            .condition_expression("attribute_exists(pk)");
        let update = match expires_at {
            None => update.update_expression("REMOVE expires_at"),
            // A page that expires already keeps its time, so that repeating this moves nothing.
            Some(at) => update
                .update_expression("SET expires_at = if_not_exists(expires_at, :at)")
                .expression_attribute_values(":at", items::number(at)),
        };
        match update.send().await {
            Ok(_) => Ok(()),
            Err(error) if lost(error.as_service_error()) => Ok(()),
            Err(error) => Err(sort("UpdateItem", &self.table, &error)),
        }
    }
}

fn lost<E: ProvideErrorMetadata>(error: Option<&E>) -> bool {
    error.and_then(ProvideErrorMetadata::code) == Some("ConditionalCheckFailedException")
}

/// Quotes that differ from the previous snapshot, and those of them whose price does. A quote whose
/// `last_updated` alone moved is not changed: its price still stands since then.
fn changes<'a>(snapshot: &'a Snapshot, previous: Option<&Snapshot>) -> (Vec<&'a Quote>, Vec<&'a Quote>) {
    let before = |quote: &Quote| previous.and_then(|previous| previous.get(&quote.symbol));
    let same = |a: &Quote, b: &Quote| {
        a.price == b.price && a.change == b.change && a.name == b.name && a.sector == b.sector
    };
    let changed: Vec<_> = snapshot
        .quotes
        .iter()
        .filter(|quote| before(quote).is_none_or(|before| !same(quote, before)))
        .collect();
    let repriced = changed
        .iter()
        .copied()
        .filter(|quote| before(quote).is_none_or(|before| before.price != quote.price))
        .collect();
    (changed, repriced)
}
