//! Keeps a [`MarketView`] at the snapshot that the store's pointer names.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::store::{SnapshotStore, StoreError};
use crate::view::MarketView;

/// What the last look at the store showed; only a change is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    NotTried,
    Following,
    /// The store answers, and nothing was published yet.
    Nothing,
    Away(&'static str),
}

/// Polls the pointer every `poll` until `shutdown`. Whatever the store does, the view keeps what it
/// has and the loop goes on; its age says how old that is.
pub async fn follow(store: SnapshotStore, view: MarketView, shutdown: CancellationToken, poll: Duration) {
    let mut ticks = interval(poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut link = Link::NotTried;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // A panic in here would leave this replica deaf for good, with nothing to show for it.
        let looked = AssertUnwindSafe(look(&store, &view)).catch_unwind();
        let next = tokio::select! {
            () = shutdown.cancelled() => return,
            looked = looked => looked.unwrap_or(Link::Away("panic")),
        };
        view.mark_tried();
        view.measure_age(Timestamp::now());
        if next != link {
            report(&store, &view, next);
            link = next;
        }
    }
}

async fn look(store: &SnapshotStore, view: &MarketView) -> Link {
    match refresh(store, view).await {
        Ok(true) => Link::Following,
        Ok(false) => Link::Nothing,
        Err(error) => {
            tracing::debug!(%error, "snapshot store not read");
            // The texts of one kind differ by operation, which is no transition worth a line.
            Link::Away(error.code())
        }
    }
}

/// Whether there is a snapshot to follow.
async fn refresh(store: &SnapshotStore, view: &MarketView) -> Result<bool, StoreError> {
    let Some(pointer) = store.current().await? else {
        return Ok(false);
    };
    if view
        .current()
        .is_some_and(|current| current.meta.taken_at >= pointer.taken_at)
    {
        return Ok(true);
    }
    // Should the pointer move on while we read, the next look finds the newer one.
    let snapshot = store.load(&pointer).await?;
    if view.offer(snapshot) {
        tracing::info!(
            snapshot.id = %pointer.id,
            snapshot.symbols = pointer.count,
            snapshot.taken_at = %pointer.taken_at,
            "snapshot loaded"
        );
    }
    Ok(true)
}

fn report(store: &SnapshotStore, view: &MarketView, link: Link) {
    let dynamodb_table = store.table();
    let held = view.current().map(|current| current.meta.taken_at.to_string());
    match link {
        Link::NotTried => {}
        Link::Following => tracing::info!(dynamodb_table, "following the snapshot store"),
        Link::Nothing => tracing::info!(dynamodb_table, "no snapshot published yet, waiting"),
        Link::Away(reason) => tracing::warn!(
            dynamodb_table,
            reason,
            held_since = held,
            "snapshot store not readable; serving what is held, trying on"
        ),
    }
}
