//! Publishing a snapshot: pages, then history, then the pointer.
//!
//! Every step is idempotent, so a publish that broke half-way is simply done again by the next
//! pass, and what an abandoned one left behind expires. Nothing that is written before the pointer
//! moves can make anything older: pages belong to their snapshot, and a block of history to its snapshot and its hour.

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use fuse_domain::{Quote, Snapshot};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::SnapshotStore;
use super::block;
use super::error::{StoreError, sort};
use super::items::{self, PAGES_KEPT_SECS, Pointer};
use super::lease::Fence;
use super::pages::EncodedPages;

/// A pointer that lies further ahead than this came from a clock that is wrong, and does not stand in the way of a
/// right one.
const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(60);

/// What a publish did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The pointer names this snapshot now.
    Flipped {
        /// Those that were written, for whoever else keeps them.
        pages: EncodedPages,
        /// Price changes.
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
    /// Makes `snapshot` the current one, unless a newer one is or the lease is somebody else's by now. `previous` is
    /// what it is compared with: only prices that differ become history; without it all do.
    ///
    /// # Errors
    /// Those of the store; the current snapshot is what it was before. `Oversize` before anything is written.
    pub async fn publish(
        &self,
        snapshot: &Snapshot,
        previous: Option<&Snapshot>,
        fence: Fence,
    ) -> Result<Published, StoreError> {
        let published = self.publish_steps(snapshot, previous, fence).await;
        if let Err(StoreError::Oversize { .. }) = &published {
            self.metrics.oversize();
        }
        self.seen(published)
    }

    async fn publish_steps(
        &self,
        snapshot: &Snapshot,
        previous: Option<&Snapshot>,
        fence: Fence,
    ) -> Result<Published, StoreError> {
        let now = Timestamp::now();
        let pages = EncodedPages::of(snapshot).await?;
        let pointer = Pointer {
            id: snapshot.meta.id,
            taken_at: snapshot.meta.taken_at,
            tick_at: snapshot.meta.tick_at,
            pages: pages.count(),
            count: snapshot.meta.count,
            fence,
        };
        // The flip decides; looking first only saves the writes of those who are late.
        if let Some(item) = self.pointer_item().await?
            && let Some(late) = late(&items::pointer(&item)?, &pointer, now)
        {
            return Ok(late);
        }
        let kept_until = now.as_second().saturating_add(PAGES_KEPT_SECS);
        let mut write_units = self
            .write_all(items::pages(&snapshot.meta, &pages, kept_until))
            .await?;
        let repriced: Vec<_> = repriced(snapshot, previous).collect();
        let history_written = repriced.len();
        write_units += self.write_all(block::blocks(&repriced, &snapshot.meta)).await?;
        if let Some(late) = self.flip(&pointer, kept_until).await? {
            return Ok(late);
        }
        Ok(Published::Flipped {
            pages,
            history_written,
            write_units,
        })
    }

    /// Makes the pages of the current snapshot stay for another two days when less than one is left, as in an outage
    /// of the vendor. To be called before every pass: it costs one read, and nothing is written in ordinary operation.
    pub async fn keep_current(&self) -> Result<(), StoreError> {
        let kept = self.keep_current_steps(Timestamp::now()).await;
        self.seen(kept)
    }

    async fn keep_current_steps(&self, now: Timestamp) -> Result<(), StoreError> {
        let Some(item) = self.pointer_item().await? else {
            return Ok(());
        };
        let kept_until = items::optional_integer(&item, "kept_until")?.unwrap_or_default();
        if kept_until.saturating_sub(now.as_second()) > PAGES_KEPT_SECS / 2 {
            return Ok(());
        }
        let (pointer, until) = (items::pointer(&item)?, now.as_second() + PAGES_KEPT_SECS);
        for page in 0..pointer.pages {
            self.keep_page(pointer.id, page, until).await?;
        }
        self.note_kept(pointer.id, until).await?;
        tracing::info!(snapshot.id = %pointer.id, snapshot.taken_at = %pointer.taken_at, "pages of the current snapshot are kept for longer");
        Ok(())
    }

    async fn keep_page(&self, id: Uuid, page: usize, until: i64) -> Result<(), StoreError> {
        let kept = self
            .bulk
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(items::page_key(id, page)))
            // An update of a collected page must not bring back an empty one.
            .condition_expression("attribute_exists(pk)")
            .update_expression("SET expires_at = :until")
            .expression_attribute_values(":until", items::number(until))
            .send()
            .await;
        match kept {
            Ok(_) => Ok(()),
            Err(error) if lost(error.as_service_error()) => Ok(()),
            Err(error) => Err(sort("UpdateItem", &self.table, &error)),
        }
    }

    async fn note_kept(&self, id: Uuid, until: i64) -> Result<(), StoreError> {
        let noted = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(items::pointer_key()))
            .condition_expression("id = :id")
            .update_expression("SET kept_until = :until")
            .expression_attribute_values(":id", items::string(id.to_string()))
            .expression_attribute_values(":until", items::number(until))
            .send()
            .await;
        match noted {
            Ok(_) => Ok(()),
            // It moved on meanwhile.
            Err(error) if lost(error.as_service_error()) => Ok(()),
            Err(error) => Err(sort("UpdateItem", &self.table, &error)),
        }
    }

    /// Moves the pointer, unless that would be wrong: then what stood in the way.
    async fn flip(&self, to: &Pointer, kept_until: i64) -> Result<Option<Published>, StoreError> {
        let time = |at: Timestamp| items::number(at.as_millisecond());
        let now = Timestamp::now();
        let flipped = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(items::pointer_key()))
            .update_expression(
                "SET id = :id, taken_at = :taken_at, tick_at = :tick_at, pages = :pages, #count = :count, \
                 fence = :fence, kept_until = :kept_until",
            )
            .condition_expression(
                "attribute_not_exists(pk) OR ((taken_at < :taken_at OR taken_at > :ahead) \
                 AND (attribute_not_exists(fence) OR fence <= :fence))",
            )
            .expression_attribute_names("#count", "count")
            .expression_attribute_values(":id", items::string(to.id.to_string()))
            .expression_attribute_values(":taken_at", time(to.taken_at))
            .expression_attribute_values(":tick_at", time(to.tick_at))
            .expression_attribute_values(":ahead", time(now.saturating_add(AHEAD_MAX).unwrap_or(now)))
            .expression_attribute_values(":pages", items::number(to.pages))
            .expression_attribute_values(":count", items::number(to.count))
            .expression_attribute_values(":fence", items::number(to.fence.get()))
            .expression_attribute_values(":kept_until", items::number(kept_until))
            .send()
            .await;
        match flipped {
            Ok(_) => Ok(None),
            Err(error) if lost(error.as_service_error()) => {
                let Some(item) = self.pointer_item().await? else {
                    return Ok(Some(Published::Older));
                };
                let current = items::pointer(&item)?;
                // The SDK tries again after a lost answer; then our own first write is what is in the way.
                if current.id == to.id {
                    return Ok(None);
                }
                Ok(Some(late(&current, to, now).unwrap_or(Published::Older)))
            }
            Err(error) => Err(sort("UpdateItem", &self.table, &error)),
        }
    }
}

/// Why `to` must not replace `current`, if it must not: the flip's condition in words of ours.
fn late(current: &Pointer, to: &Pointer, now: Timestamp) -> Option<Published> {
    if to.fence < current.fence {
        return Some(Published::Fenced);
    }
    let ahead = current.taken_at.duration_since(now) > AHEAD_MAX;
    (to.taken_at <= current.taken_at && !ahead).then_some(Published::Older)
}

pub(super) fn lost<E: ProvideErrorMetadata>(error: Option<&E>) -> bool {
    error.and_then(ProvideErrorMetadata::code) == Some("ConditionalCheckFailedException")
}

/// Quotes whose price differs from the previous snapshot. One whose `last_updated` alone moved is not among them: its
/// price still stands since then. Nor is one that the vendor no longer lists, as that is our old knowledge of it.
fn repriced<'a>(snapshot: &'a Snapshot, previous: Option<&'a Snapshot>) -> impl Iterator<Item = &'a Quote> {
    // Both are sorted by symbol, so one walk over each is enough.
    let mut before = previous
        .map_or(&[][..], |previous| &previous.quotes)
        .iter()
        .peekable();
    snapshot.quotes.iter().filter(move |quote| {
        while before.next_if(|before| before.symbol < quote.symbol).is_some() {}
        let same = before
            .peek()
            .is_some_and(|before| before.symbol == quote.symbol && before.price == quote.price);
        !same && quote.listed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_replace_the_current_pointer() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let pointer = |second, fence| Pointer {
            id: Uuid::nil(),
            taken_at: at(second),
            tick_at: at(second),
            pages: 1,
            count: 1,
            fence: Fence::new(fence),
        };
        let now = at(1_000);
        for (current, to, expected) in [
            ((900, 1), (950, 1), None),
            ((900, 1), (950, 2), None),
            ((900, 2), (950, 1), Some(Published::Fenced)),
            ((900, 1), (900, 1), Some(Published::Older)),
            ((900, 1), (899, 1), Some(Published::Older)),
            // Seconds ahead are what clocks do; minutes are a wrong clock.
            ((1_060, 1), (999, 1), Some(Published::Older)),
            ((1_061, 1), (999, 1), None),
            ((1_600, 2), (999, 1), Some(Published::Fenced)),
        ] {
            let found = late(&pointer(current.0, current.1), &pointer(to.0, to.1), now);
            assert_eq!(found, expected, "{current:?} -> {to:?}");
        }
    }
}
