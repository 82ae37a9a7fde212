//! The lease: of several processes that could do the same work, one does it.
//!
//! Observation decides, as in client-go's leader election: a contender takes over only after it has
//! seen the holder's (fence, beat) unchanged for the whole time to live by its own monotonic clock.
//! Wall clocks play no part, so that a replica whose clock is off neither steals a lease nor waits for
//! ever. A lease only saves work; what keeps a paused holder from doing harm is its [`Fence`], which
//! every take raises and which the pointer remembers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::SnapshotStore;
use super::error::{StoreError, sort};
use super::items::{self, Item};
use super::publish::lost;

/// Which take of a lease a write belongs to; each take has a higher one than all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// Of a writer without a lease (tools, tests): below every fence that a lease gives.
    pub const NONE: Self = Self(0);

    pub(crate) fn new(fence: u64) -> Self {
        Self(fence)
    }

    /// The figure itself, for messages.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// One process that would like to hold a lease; keep it, because what it has seen of the holder so far is how it
/// comes to take over.
pub struct Contender {
    store: SnapshotStore,
    name: &'static str,
    ttl: Duration,
    /// Told to others in their messages, and different in every contender.
    me: String,
    seen: Option<Observation>,
}

/// A holder as it was first seen like this.
struct Observation {
    state: State,
    since: Instant,
}

/// What the item says. Without an owner it is free.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    owner: Option<String>,
    fence: Fence,
    beat: i64,
}

/// A lease that is held: renewed in the background every third of its time to live until it is dropped. Dropping it
/// ends the renewals, so that others take over after the time to live; [`Lease::release`] lets them at once.
pub struct Lease {
    held: Arc<Held>,
    _renewals: DropGuard,
}

struct Held {
    store: SnapshotStore,
    name: &'static str,
    owner: String,
    fence: Fence,
    ttl: Duration,
    /// Ours until then at least: counted from before the last renewal that succeeded was sent.
    until: Mutex<Instant>,
    lost: CancellationToken,
}

impl SnapshotStore {
    /// Joins those who want the lease `name`. No network yet. All contenders of a name use the same `ttl`.
    pub fn contender(&self, name: &'static str, ttl: Duration) -> Contender {
        // The name of the pod, where there is one.
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "process".into());
        let id = Uuid::new_v4().simple().to_string();
        Contender {
            store: self.clone(),
            name,
            ttl,
            me: format!("{host}/{}/{}", std::process::id(), &id[..8]),
            seen: None,
        }
    }

    fn lease_update(&self, name: &str) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(items::lease_key(name)))
            .expression_attribute_names("#owner", "owner")
    }

    async fn lease_state(&self, name: &str) -> Result<Option<State>, StoreError> {
        let Some(item) = self.item(items::lease_key(name)).await? else {
            return Ok(None);
        };
        state(&item).map(Some)
    }

    /// The fence of the pointer: a lease that was deleted must not begin below it again.
    async fn pointer_fence(&self) -> Result<Fence, StoreError> {
        match self.pointer_item().await? {
            Some(item) => items::fence(&item),
            None => Ok(Fence::NONE),
        }
    }
}

fn state(item: &Item) -> Result<State, StoreError> {
    Ok(State {
        owner: items::text(item, "owner").map(str::to_owned),
        fence: items::fence(item)?,
        beat: items::optional_integer(item, "beat")?.unwrap_or_default(),
    })
}

impl Contender {
    /// Takes the lease if it is free or its holder has not been heard of for the time to live. `None`: somebody else
    /// holds it; ask again later (a third of the ttl is a good pace).
    ///
    /// # Errors
    /// Those of the store. A failure changes nothing in what was seen.
    pub async fn try_take(&mut self) -> Result<Option<Lease>, StoreError> {
        let taken = self.try_take_steps().await;
        self.store.clone().seen(taken)
    }

    async fn try_take_steps(&mut self) -> Result<Option<Lease>, StoreError> {
        let found = self.store.lease_state(self.name).await?;
        if let Some(state) = &found
            && !self.may_take(state)
        {
            return Ok(None);
        }
        let fence = match &found {
            Some(state) => state.fence,
            None => self.store.pointer_fence().await?,
        };
        let fence = Fence(fence.0 + 1);
        // Before the request: the others count from when they see it, which is later.
        let started = Instant::now();
        if !self.take(found.as_ref(), fence).await? {
            return Ok(None);
        }
        self.seen = None;
        tracing::debug!(lease = self.name, fence = fence.0, "lease taken");
        Ok(Some(self.held(fence, started)))
    }

    /// Whether the lease is free or was seen unchanged for long enough. Remembers what it sees.
    fn may_take(&mut self, state: &State) -> bool {
        if state.owner.is_none() {
            return true;
        }
        match &self.seen {
            Some(seen) if seen.state == *state => seen.since.elapsed() >= self.ttl,
            _ => {
                self.seen = Some(Observation {
                    state: state.clone(),
                    since: Instant::now(),
                });
                false
            }
        }
    }

    /// Writes us into the item, unless it is not any more what we saw.
    async fn take(&mut self, found: Option<&State>, fence: Fence) -> Result<bool, StoreError> {
        let update = self
            .store
            .lease_update(self.name)
            .update_expression("SET #owner = :me, fence = :fence, beat = :zero, #until = :until")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":me", items::string(&self.me))
            .expression_attribute_values(":fence", items::number(fence.0))
            .expression_attribute_values(":zero", items::number(0))
            .expression_attribute_values(":until", until(self.ttl));
        let update = match found {
            None => update.condition_expression("attribute_not_exists(pk)"),
            Some(State {
                owner: None, fence, ..
            }) => update
                .condition_expression("attribute_not_exists(#owner) AND fence = :seen_fence")
                .expression_attribute_values(":seen_fence", items::number(fence.0)),
            Some(State {
                owner: Some(owner),
                fence,
                beat,
            }) => update
                .condition_expression("#owner = :seen_owner AND fence = :seen_fence AND beat = :seen_beat")
                .expression_attribute_values(":seen_owner", items::string(owner))
                .expression_attribute_values(":seen_fence", items::number(fence.0))
                .expression_attribute_values(":seen_beat", items::number(*beat)),
        };
        match update.send().await {
            Ok(_) => Ok(true),
            Err(error) if lost(error.as_service_error()) => self.is_ours_after_all(fence).await,
            Err(error) => Err(sort("UpdateItem", &self.store.table, &error)),
        }
    }

    /// Somebody was quicker; or it was us: the SDK tries again after a lost answer, and then our own first write is
    /// what is in the way.
    async fn is_ours_after_all(&mut self, fence: Fence) -> Result<bool, StoreError> {
        let Some(state) = self.store.lease_state(self.name).await? else {
            return Ok(false);
        };
        if state.owner.as_deref() == Some(&self.me) && state.fence == fence {
            return Ok(true);
        }
        self.may_take(&state);
        Ok(false)
    }

    fn held(&self, fence: Fence, started: Instant) -> Lease {
        let held = Arc::new(Held {
            store: self.store.clone(),
            name: self.name,
            owner: self.me.clone(),
            fence,
            ttl: self.ttl,
            until: Mutex::new(started + self.ttl),
            lost: CancellationToken::new(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(renew_until(stop.clone(), Arc::clone(&held)));
        Lease {
            held,
            _renewals: stop.drop_guard(),
        }
    }

    /// Who held the lease when it was last refused to us: for messages.
    pub fn seen_holder(&self) -> Option<&str> {
        self.seen.as_ref()?.state.owner.as_deref()
    }
}

impl Lease {
    /// To be given to [`SnapshotStore::publish`].
    pub fn fence(&self) -> Fence {
        self.held.fence
    }

    /// Whether it was lost: somebody else took it, or it could not be renewed for its time to live.
    pub fn is_lost(&self) -> bool {
        self.held.lost.is_cancelled() || Instant::now() >= *self.held.until()
    }

    /// Waits until it is lost. For a `select!` round the work that it guards.
    pub async fn lost(&self) {
        self.held.lost.cancelled().await;
    }

    /// Gives it back, so that the next contender takes it at once. If that fails, others wait for the ttl.
    pub async fn release(self) {
        let Self { held, _renewals } = self;
        drop(_renewals);
        if let Err(error) = held.store.seen(held.release().await) {
            tracing::debug!(%error, lease = held.name, "lease not given back, it runs out by itself");
        }
    }
}

impl Held {
    fn until(&self) -> MutexGuard<'_, Instant> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when it is somebody else's. Repeating it is harmless.
    async fn renew(&self, beat: i64) -> Result<bool, StoreError> {
        let update = self
            .ours()
            .update_expression("SET beat = :beat, #until = :until")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":beat", items::number(beat))
            .expression_attribute_values(":until", until(self.ttl));
        self.done(update).await
    }

    async fn release(&self) -> Result<bool, StoreError> {
        self.done(self.ours().update_expression("REMOVE #owner")).await
    }

    fn ours(&self) -> UpdateItemFluentBuilder {
        self.store
            .lease_update(self.name)
            .condition_expression("#owner = :me AND fence = :fence")
            .expression_attribute_values(":me", items::string(&self.owner))
            .expression_attribute_values(":fence", items::number(self.fence.0))
    }

    async fn done(&self, update: UpdateItemFluentBuilder) -> Result<bool, StoreError> {
        match update.send().await {
            Ok(_) => Ok(true),
            Err(error) if lost(error.as_service_error()) => Ok(false),
            Err(error) => Err(sort("UpdateItem", &self.store.table, &error)),
        }
    }
}

/// For people who look into the table; nobody decides by it.
fn until(ttl: Duration) -> aws_sdk_dynamodb::types::AttributeValue {
    let now = Timestamp::now();
    items::number(now.saturating_add(ttl).unwrap_or(now).as_millisecond())
}

async fn renew_until(stop: CancellationToken, held: Arc<Held>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = renew_until_lost(&held) => {
            tracing::warn!(lease = held.name, fence = held.fence.0, "lease lost");
            held.lost.cancel();
        }
    }
}

async fn renew_until_lost(held: &Held) {
    let mut beat = 0;
    let mut pause = held.ttl / 3;
    loop {
        tokio::time::sleep(pause).await;
        let (started, until) = (Instant::now(), *held.until());
        if started >= until {
            return;
        }
        match tokio::time::timeout_at(until, held.renew(beat + 1)).await {
            Ok(Ok(true)) => {
                *held.until() = started + held.ttl;
                beat += 1;
                pause = held.ttl / 3;
            }
            Ok(Ok(false)) | Err(_) => return,
            Ok(Err(error)) => {
                tracing::debug!(%error, lease = held.name, "lease not renewed yet");
                pause = held.ttl / 10;
            }
        }
    }
}
