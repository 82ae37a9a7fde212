//! Snapshots that are not in the view, for walks that began elsewhere: on a replica that was replaced, or that is ahead
//! of this one. They are read back from Redis, which keeps pages for an hour, or from DynamoDB, which keeps them for two
//! days.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fuse_domain::Snapshot;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::l1::L1;
use crate::store::{SnapshotStore, StoreError};

/// Ids remembered as gone, so that a client that repeats itself costs no read each time.
const GONE_HELD: usize = 64;
/// A snapshot may be on its way: one that was not there is looked for again after this.
const GONE_FOR: Duration = Duration::from_secs(2);

/// Loads one at a time, and remembers what is gone. What it loads is the caller's to hold.
#[derive(Default)]
pub(crate) struct Older(Mutex<VecDeque<(Uuid, Instant)>>);

impl Older {
    /// `None` when it is kept nowhere any more, or not readably.
    ///
    /// # Errors
    /// When the store cannot be read, so that nothing is known.
    pub(crate) async fn get(
        &self,
        id: Uuid,
        l1: Option<&L1>,
        store: &SnapshotStore,
    ) -> Result<Option<Arc<Snapshot>>, StoreError> {
        // Held over the load, so that the snapshots in memory for it are one at a time.
        let mut known_gone = self.0.lock().await;
        known_gone.retain(|(_, since)| since.elapsed() < GONE_FOR);
        if known_gone.iter().any(|(gone, _)| *gone == id) {
            return Ok(None);
        }
        let cached = match l1 {
            Some(l1) => l1.load_id(id).await,
            None => None,
        };
        let found = match cached {
            Some(snapshot) => Some(snapshot),
            None => match store.load_id(id).await {
                // What cannot be read now cannot be read in a moment either: whoever walks on it must begin anew.
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::warn!(snapshot.id = %id, %error, "an older snapshot cannot be read; it counts as gone");
                    None
                }
                loaded => loaded?,
            },
        };
        if found.is_none() {
            known_gone.push_front((id, Instant::now()));
            known_gone.truncate(GONE_HELD);
        }
        Ok(found.map(Arc::new))
    }
}
