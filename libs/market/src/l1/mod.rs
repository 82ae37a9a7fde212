//! Redis between the replicas (L1): the pages of snapshots, the current pointer, and announcements of new ones.
//!
//! ```text
//! {prefix}:snapshot:{id}   hash: meta (the pointer) and p0, p1, … (pages, the same bytes as in DynamoDB); 1 h
//! {prefix}:snapshot        the current pointer; 1 h
//! {prefix}:snapshots       channel of announcements
//! ```
//! What must stay true:
//! * DynamoDB's pointer is the truth; Redis only saves time. Everything here may fail, hang, be flushed or lie, and
//!   nobody is wrong for it: what is read is complete and is what the pointer says, or it is not there.
//! * No failure of Redis reaches a caller, and no call here lasts longer than a fraction of a second when Redis hangs.

mod link;
mod subscribe;
mod wire;

use std::sync::Arc;

use fuse_domain::{Snapshot, Symbol};
use fuse_platform::Metrics;
use fuse_platform::config::RedisConfig;
use prometheus::IntCounterVec;
use redis::{Cmd, Pipeline};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::{EncodedPages, Pointer, pages};
use link::{Failure, Link};
use subscribe::Listener;

pub use subscribe::{Heard, Subscription};
pub use wire::Announcement;

/// As long as anybody's view holds the snapshot, and longer than a walk takes.
const KEPT_SECS: u64 = 3_600;
/// Pages of one command; they have some 50 KB each.
const PAGES_AT_ONCE: usize = 8;
/// More are no snapshot of ours.
const PAGES_MAX: usize = 10_000;

/// Redis cannot be used as configured: the URL is not one. Its text names no secret.
#[derive(Debug, thiserror::Error)]
#[error("redis.url cannot be used: {0}")]
pub struct L1Error(String);

/// Handle to Redis; clones share one connection. Making one needs no network, but a tokio runtime.
#[derive(Clone)]
pub struct L1 {
    link: Link,
    listener: Listener,
    keys: Arc<Keys>,
    reads: IntCounterVec,
}

struct Keys {
    current: String,
    channel: String,
}

impl Keys {
    fn new(prefix: &str) -> Self {
        Self {
            current: format!("{prefix}:snapshot"),
            channel: format!("{prefix}:snapshots"),
        }
    }

    fn snapshot(&self, id: Uuid) -> String {
        format!("{}:{id}", self.current)
    }
}

impl L1 {
    /// `None` when no Redis is configured. Keys and the channel begin with `prefix`: use the prefix of the tables,
    /// so that what belongs together is named alike.
    ///
    /// # Errors
    /// When the URL is none of Redis.
    pub fn new(config: &RedisConfig, prefix: &str, metrics: &Metrics) -> Result<Option<Self>, L1Error> {
        let Some(url) = &config.url else {
            return Ok(None);
        };
        let client = link::client(url)?;
        Ok(Some(Self {
            link: Link::new(client.clone(), config, metrics)?,
            listener: Listener::new(client, config, metrics),
            keys: Arc::new(Keys::new(prefix)),
            reads: crate::store::reads(metrics),
        }))
    }

    /// Stores the pages of a snapshot for an hour and makes `pointer` the current one here. After the flip in
    /// DynamoDB, before [`L1::announce`].
    pub async fn put(&self, pointer: &Pointer, pages: &EncodedPages) {
        let _ = self.put_pages(pointer, pages.bytes()).await;
    }

    async fn put_pages(&self, pointer: &Pointer, pages: &[Vec<u8>]) -> Result<(), Failure> {
        let key = self.keys.snapshot(pointer.id);
        for (chunk, pages) in pages.chunks(PAGES_AT_ONCE).enumerate() {
            let mut hset = Cmd::new();
            hset.arg("HSET").arg(&key);
            for (page, bytes) in pages.iter().enumerate() {
                hset.arg(field(chunk * PAGES_AT_ONCE + page)).arg(&bytes[..]);
            }
            let mut pipeline = Pipeline::new();
            pipeline.add_command(hset).ignore();
            // With every part: a put that breaks off leaves nothing for ever.
            pipeline.cmd("EXPIRE").arg(&key).arg(KEPT_SECS).ignore();
            let () = self.link.run("put", &pipeline).await?;
        }
        // The pages are there before anything names them.
        let meta = wire::pointer_text(pointer);
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HSET").arg(&key).arg("meta").arg(&meta).ignore();
        let current = pipeline.cmd("SET").arg(&self.keys.current).arg(&meta);
        current.arg("EX").arg(KEPT_SECS).ignore();
        self.link.run("put", &pipeline).await
    }

    /// The snapshot that the pointer names, if Redis has all of it. Counted in `snapshot_reads_total{layer="l1"}`.
    pub async fn load(&self, pointer: &Pointer) -> Option<Snapshot> {
        let loaded = self.load_pages(pointer).await;
        self.counted(loaded)
    }

    /// A snapshot of the last hour by its id, for walks that began on it elsewhere.
    pub async fn load_id(&self, id: Uuid) -> Option<Snapshot> {
        let loaded = self.load_meta(id).await;
        self.counted(loaded)
    }

    fn counted(&self, loaded: Result<Option<Snapshot>, Failure>) -> Option<Snapshot> {
        let result = match &loaded {
            Ok(Some(_)) => "hit",
            Ok(None) => "miss",
            Err(_) => "error",
        };
        self.reads.with_label_values(&["l1", result]).inc();
        loaded.unwrap_or_default()
    }

    async fn load_meta(&self, id: Uuid) -> Result<Option<Snapshot>, Failure> {
        let mut hget = Cmd::new();
        hget.arg("HGET").arg(self.keys.snapshot(id)).arg("meta");
        let meta: Option<Vec<u8>> = self.link.ask("load", &hget).await?;
        let Some(meta) = meta else {
            return Ok(None);
        };
        match wire::pointer(&meta).filter(|pointer| pointer.id == id) {
            Some(pointer) => self.load_pages(&pointer).await,
            None => Err(unreadable(id, "its pointer")),
        }
    }

    async fn load_pages(&self, pointer: &Pointer) -> Result<Option<Snapshot>, Failure> {
        let key = self.keys.snapshot(pointer.id);
        if pointer.pages > PAGES_MAX {
            return Ok(None);
        }
        let mut pages = Vec::with_capacity(pointer.pages);
        while pages.len() < pointer.pages {
            let next = pages.len()..pointer.pages.min(pages.len() + PAGES_AT_ONCE);
            let mut hmget = Cmd::new();
            hmget
                .arg("HMGET")
                .arg(&key)
                .arg(next.map(field).collect::<Vec<_>>());
            let found: Vec<Option<Vec<u8>>> = self.link.ask("load", &hmget).await?;
            let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else {
                return Ok(None);
            };
            pages.extend(found);
        }
        let snapshot = pages::decode(pointer.id, pointer.taken_at, pointer.count, pages)
            .await
            .map_err(|error| unreadable(pointer.id, &error.to_string()))?;
        Ok((snapshot.meta.count == pointer.count).then_some(snapshot))
    }

    /// What Redis holds to be the current pointer. A hint: it may be older than DynamoDB's.
    pub async fn current(&self) -> Option<Pointer> {
        let mut get = Cmd::new();
        get.arg("GET").arg(&self.keys.current);
        let text: Option<Vec<u8>> = self.link.ask("current", &get).await.ok()?;
        wire::pointer(&text?)
    }

    /// Tells all subscribers of a new snapshot, with the symbols that moved significantly.
    pub async fn announce(&self, pointer: &Pointer, movers: &[Symbol]) {
        let mut publish = Cmd::new();
        publish
            .arg("PUBLISH")
            .arg(&self.keys.channel)
            .arg(wire::announcement_text(pointer, movers));
        let _: Result<i64, _> = self.link.ask("announce", &publish).await;
    }

    /// Listens for announcements until `shutdown`, whatever Redis does meanwhile.
    pub fn subscribe(&self, shutdown: CancellationToken) -> Subscription {
        self.listener.listen(self.keys.channel.clone(), shutdown)
    }
}

fn field(page: usize) -> String {
    format!("p{page}")
}

/// Something wrote there that is none of us.
fn unreadable(id: Uuid, what: &str) -> Failure {
    tracing::warn!(snapshot.id = %id, what, "Redis holds an unreadable snapshot; it is read from DynamoDB");
    Failure
}
