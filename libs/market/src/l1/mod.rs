//! Redis between the replicas (L1): the pages of snapshots, the current pointer, and announcements of new ones.
//!
//! What must stay true:
//! * DynamoDB's pointer is the truth; Redis only saves time. Everything here may fail, hang, be flushed or lie, and
//!   nobody is wrong for it: what is read is complete and is what the pointer says, or it is not there.
//! * No failure of Redis reaches a caller, and no call here lasts longer than a fraction of a second when Redis hangs.

mod subscribe;

use fuse_domain::{Snapshot, Symbol};
use fuse_platform::Metrics;
use fuse_platform::config::RedisConfig;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::Pointer;

pub use subscribe::{Announcement, Heard, Subscription};

/// Redis cannot be used as configured: the URL is not one. Its text names no secret.
#[derive(Debug, thiserror::Error)]
#[error("redis.url cannot be used: {0}")]
pub struct L1Error(String);

/// Handle to Redis; clones share one connection. Making one needs no network.
#[derive(Clone)]
pub struct L1;

impl L1 {
    /// `None` when no Redis is configured. Keys and the channel begin with `prefix`: use the prefix of the tables,
    /// so that what belongs together is named alike.
    ///
    /// # Errors
    /// When the URL is none of Redis.
    pub fn new(config: &RedisConfig, prefix: &str, metrics: &Metrics) -> Result<Option<Self>, L1Error> {
        let _ = (config, prefix, metrics);
        todo!()
    }

    /// Stores the pages of a snapshot for an hour and makes `pointer` the current one here. After the flip in
    /// DynamoDB, before [`L1::announce`].
    pub async fn put(&self, pointer: &Pointer, snapshot: &Snapshot) {
        let _ = (pointer, snapshot);
        todo!()
    }

    /// The snapshot that the pointer names, if Redis has all of it. Counted in `snapshot_reads_total{layer="l1"}`.
    pub async fn load(&self, pointer: &Pointer) -> Option<Snapshot> {
        let _ = pointer;
        todo!()
    }

    /// A snapshot of the last hour by its id, for walks that began on it elsewhere.
    pub async fn load_id(&self, id: Uuid) -> Option<Snapshot> {
        let _ = id;
        todo!()
    }

    /// What Redis holds to be the current pointer. A hint: it may be older than DynamoDB's.
    pub async fn current(&self) -> Option<Pointer> {
        todo!()
    }

    /// Tells all subscribers of a new snapshot, with the symbols that moved significantly.
    pub async fn announce(&self, pointer: &Pointer, movers: &[Symbol]) {
        let _ = (pointer, movers);
        todo!()
    }

    /// Listens for announcements until `shutdown`, whatever Redis does meanwhile.
    pub fn subscribe(&self, shutdown: CancellationToken) -> Subscription {
        let _ = shutdown;
        todo!()
    }
}
