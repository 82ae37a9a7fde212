//! The lease: of several processes that could do the same work, one does it.
//!
//! Observation decides, as in client-go's leader election: a contender takes over only after it has
//! seen the holder's (fence, beat) unchanged for the whole time to live by its own monotonic clock.
//! Wall clocks play no part, so that a replica whose clock is off neither steals a lease nor waits for
//! ever. A lease only saves work; what keeps a paused holder from doing harm is its [`Fence`], which
//! every take raises and which the pointer remembers.

use std::time::Duration;

use super::SnapshotStore;
use super::error::StoreError;

/// Which take of a lease a write belongs to; each take has a higher one than all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// Of a writer without a lease (tools, tests): below every fence that a lease gives.
    pub const NONE: Self = Self(0);

    /// The figure itself, for messages.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// One process that would like to hold a lease; keep it, because what it has seen of the holder so far is how it
/// comes to take over.
pub struct Contender {
    _store: SnapshotStore,
}

/// A lease that is held: renewed in the background every third of its time to live until it is dropped. Dropping it
/// ends the renewals, so that others take over after the time to live; [`Lease::release`] lets them at once.
pub struct Lease {
    fence: Fence,
}

impl SnapshotStore {
    /// Joins those who want the lease `name`. No network yet. All contenders of a name use the same `ttl`.
    pub fn contender(&self, name: &'static str, ttl: Duration) -> Contender {
        let _ = (name, ttl);
        todo!()
    }
}

impl Contender {
    /// Takes the lease if it is free or its holder has not been heard of for the time to live. `None`: somebody else
    /// holds it; ask again later (a third of the ttl is a good pace).
    ///
    /// # Errors
    /// Those of the store. A failure changes nothing in what was seen.
    pub async fn try_take(&mut self) -> Result<Option<Lease>, StoreError> {
        todo!()
    }

    /// Who held the lease when it was last refused to us: for messages.
    pub fn seen_holder(&self) -> Option<&str> {
        todo!()
    }
}

impl Lease {
    /// To be given to [`SnapshotStore::publish`].
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Whether it was lost: somebody else took it, or it could not be renewed for its time to live.
    pub fn is_lost(&self) -> bool {
        todo!()
    }

    /// Waits until it is lost. For a `select!` round the work that it guards.
    pub async fn lost(&self) {
        todo!()
    }

    /// Gives it back, so that the next contender takes it at once. If that fails, others wait for the ttl.
    pub async fn release(self) {
        todo!()
    }
}
