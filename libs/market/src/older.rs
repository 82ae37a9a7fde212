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

/// Loaded snapshots held beside the view's three.
const LOADED_HELD: usize = 2;
/// Ids remembered as gone, so that a client that repeats itself costs no read each time.
const GONE_HELD: usize = 64;
/// A snapshot may be on its way: one that was not there is looked for again after this.
const GONE_FOR: Duration = Duration::from_secs(2);

/// Loads and holds a few; one load at a time.
#[derive(Default)]
pub(crate) struct Older(Mutex<Held>);

#[derive(Default)]
struct Held {
    loaded: VecDeque<Arc<Snapshot>>,
    gone: VecDeque<(Uuid, Instant)>,
}

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
        // Held over the load: those who ask for the same meanwhile find it loaded.
        let mut held = self.0.lock().await;
        if let Some(found) = held.loaded.iter().find(|snapshot| snapshot.meta.id == id) {
            return Ok(Some(Arc::clone(found)));
        }
        held.gone.retain(|(_, since)| since.elapsed() < GONE_FOR);
        if held.gone.iter().any(|(gone, _)| *gone == id) {
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
        let Some(snapshot) = found.map(Arc::new) else {
            held.gone.push_front((id, Instant::now()));
            held.gone.truncate(GONE_HELD);
            return Ok(None);
        };
        held.loaded.push_front(Arc::clone(&snapshot));
        held.loaded.truncate(LOADED_HELD);
        Ok(Some(snapshot))
    }
}
