//! What is remembered of keys, and who looks one up: all decisions, without the database itself.
//!
//! One lookup at a time for each key; those who ask for the key meanwhile share its outcome. After a lookup that failed, nobody is sent
//! to the database for [`AWAY_FOR`], as far as what is known suffices.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fuse_ledger::{ApiKey, LedgerError};
use tokio::sync::watch;
use uuid::Uuid;

use super::Caller;
use super::keyring::KeyRingSettings;
use crate::problem::ApiError;

/// Most records that are remembered; beyond it the old ones go first.
const RECORDS_MAX: usize = 10_000;
/// How long a database that was away is taken to be away still.
const AWAY_FOR: Duration = Duration::from_secs(1);

/// A key as the database said, and whom it stands for.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) key: Arc<ApiKey>,
    pub(super) caller: Caller,
    confirmed: Instant,
}

/// What a lookup found; `None`: there is no such key.
pub(super) type Found = Result<Option<Record>, Failed>;

/// A lookup came to nothing.
#[derive(Clone)]
pub(super) struct Failed {
    /// What a client is told that has nothing else.
    pub(super) error: ApiError,
    /// The database is away: what is known will do.
    pub(super) is_away: bool,
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        Self {
            is_away: error.retryable(),
            error: error.into(),
        }
    }
}

/// The outcome of a lookup in flight, once it is there.
pub(super) type Outcome = watch::Receiver<Option<Arc<Found>>>;

/// What to do about a key.
pub(super) enum Next {
    /// This will do.
    Use(Record),
    /// See what the lookup says. `known` suffices should it take long or fail.
    Wait {
        outcome: Outcome,
        known: Option<Record>,
        /// The caller is to do the lookup.
        begin: Option<Lookup>,
    },
}

/// A lookup to be done; give its end to [`Records::end`].
pub(super) struct Lookup {
    id: Uuid,
    number: u64,
    outcome: watch::Sender<Option<Arc<Found>>>,
}

impl Lookup {
    pub(super) fn id(&self) -> Uuid {
        self.id
    }
}

/// See the module.
pub(super) struct Records {
    settings: KeyRingSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: HashMap<Uuid, Record>,
    /// By number, so that one that is no longer wanted is known by not being here.
    lookups: HashMap<Uuid, (u64, Outcome)>,
    lookups_begun: u64,
    /// When the last lookup failed, unless another one succeeded since.
    away_since: Option<Instant>,
}

impl Records {
    pub(super) fn new(settings: KeyRingSettings) -> Self {
        Self {
            settings,
            state: Mutex::default(),
        }
    }

    pub(super) fn next(&self, id: Uuid, now: Instant) -> Next {
        let mut state = self.state();
        let age = |record: &Record| now.saturating_duration_since(record.confirmed);
        let known = state.records.get(&id).cloned();
        let known = known.filter(|known| age(known) < self.settings.stale_for.max(self.settings.fresh_for));
        if let Some(known) = &known {
            let is_fresh = age(known) < self.settings.fresh_for;
            let is_away = state
                .away_since
                .is_some_and(|since| now.saturating_duration_since(since) < AWAY_FOR);
            // After a failure the next lookup is a trial: one request is enough for that.
            let is_tried = state.away_since.is_some() && state.in_flight(id).is_some();
            if is_fresh || is_away || is_tried {
                return Next::Use(known.clone());
            }
        }
        if let Some(outcome) = state.in_flight(id) {
            let begin = None;
            return Next::Wait {
                outcome,
                known,
                begin,
            };
        }
        let (sender, outcome) = watch::channel(None);
        state.lookups_begun += 1;
        let number = state.lookups_begun;
        state.lookups.insert(id, (number, outcome.clone()));
        let begin = Some(Lookup {
            id,
            number,
            outcome: sender,
        });
        Next::Wait {
            outcome,
            known,
            begin,
        }
    }

    /// Remembers what a lookup found and tells those who wait for it.
    pub(super) fn end(&self, lookup: Lookup, found: Result<Option<ApiKey>, Failed>, now: Instant) {
        let found = found.map(|key| key.map(|key| record(key, now)));
        let mut state = self.state();
        match &found {
            Ok(_) => state.away_since = None,
            Err(failed) if failed.is_away => state.away_since = Some(now),
            Err(_) => {}
        }
        let is_wanted = state
            .lookups
            .get(&lookup.id)
            .is_some_and(|(number, _)| *number == lookup.number);
        // Otherwise the key was revoked while it was looked up: what was found may be older than that.
        if is_wanted {
            state.lookups.remove(&lookup.id);
            match &found {
                Ok(Some(record)) => state.remember(record.clone(), self.settings.stale_for, now),
                Ok(None) => {
                    state.records.remove(&lookup.id);
                }
                Err(_) => {}
            }
        }
        drop(state);
        lookup.outcome.send_replace(Some(Arc::new(found)));
    }

    /// Forgets a key, and whatever a lookup in flight will say about it.
    pub(super) fn forget(&self, id: Uuid) {
        let mut state = self.state();
        state.records.remove(&id);
        state.lookups.remove(&id);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The lookup of this key, unless it was broken off.
    fn in_flight(&self, id: Uuid) -> Option<Outcome> {
        let (_, outcome) = self.lookups.get(&id)?;
        outcome.has_changed().is_ok().then(|| outcome.clone())
    }

    fn remember(&mut self, record: Record, stale_for: Duration, now: Instant) {
        if self.records.len() >= RECORDS_MAX {
            self.records
                .retain(|_, record| now.saturating_duration_since(record.confirmed) < stale_for);
        }
        if self.records.len() >= RECORDS_MAX {
            self.records.clear();
        }
        self.records.insert(record.key.id, record);
    }
}

fn record(key: ApiKey, confirmed: Instant) -> Record {
    Record {
        confirmed,
        caller: Caller {
            label: key.id.to_string().into(),
            key_id: Some(key.id),
            owner: key.owner,
            limits: key.limits,
            scopes: key.scopes.iter().copied().collect(),
        },
        key: Arc::new(key),
    }
}

#[cfg(test)]
mod tests {
    use fuse_ledger::{KeyLimits, Owner, Scope};
    use jiff::Timestamp;

    use super::*;

    const FRESH_FOR: Duration = Duration::from_secs(2);
    const STALE_FOR: Duration = Duration::from_secs(300);

    fn records() -> Records {
        Records::new(KeyRingSettings {
            fresh_for: FRESH_FOR,
            stale_for: STALE_FOR,
        })
    }

    fn key(id: Uuid) -> ApiKey {
        ApiKey {
            id,
            sha256: [0; 32],
            name: "test".into(),
            owner: Owner::Service,
            scopes: [Scope::Read].into(),
            limits: KeyLimits::default(),
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
            revoked_at: None,
        }
    }

    fn away() -> Failed {
        let error = ApiError::internal("away");
        Failed { error, is_away: true }
    }

    /// Begins a lookup that must be begun now.
    fn begin(records: &Records, id: Uuid, now: Instant) -> Lookup {
        match records.next(id, now) {
            Next::Wait {
                begin: Some(lookup), ..
            } => lookup,
            Next::Wait { .. } => panic!("another lookup is in flight"),
            Next::Use(_) => panic!("a known record is used"),
        }
    }

    fn is_used(records: &Records, id: Uuid, now: Instant) -> bool {
        matches!(records.next(id, now), Next::Use(_))
    }

    fn joins(records: &Records, id: Uuid, now: Instant) -> bool {
        matches!(records.next(id, now), Next::Wait { begin: None, .. })
    }

    #[test]
    fn a_key_is_looked_up_once_for_all_who_ask() {
        let (records, id, now) = (records(), Uuid::now_v7(), Instant::now());
        let lookup = begin(&records, id, now);
        let Next::Wait {
            outcome,
            known,
            begin: None,
        } = records.next(id, now)
        else {
            panic!("the second one joins");
        };
        assert!(known.is_none() && outcome.borrow().is_none());
        // Another key has a lookup of its own.
        begin(&records, Uuid::now_v7(), now);
        records.end(lookup, Ok(Some(key(id))), now);
        let found = outcome.borrow().clone();
        assert!(found.is_some_and(|found| matches!(&*found, Ok(Some(record)) if record.key.id == id)));
        assert!(is_used(&records, id, now + FRESH_FOR / 2));
        // Known, and not believed without asking: all wait again.
        let _lookup = begin(&records, id, now + FRESH_FOR);
        assert!(joins(&records, id, now + FRESH_FOR));
    }

    #[test]
    fn a_lookup_that_was_broken_off_is_done_again() {
        let (records, id, now) = (records(), Uuid::now_v7(), Instant::now());
        drop(begin(&records, id, now));
        begin(&records, id, now);
    }

    #[test]
    fn a_database_that_is_away_is_tried_by_one_request_a_second() {
        let (records, id, mut now) = (records(), Uuid::now_v7(), Instant::now());
        let lookup = begin(&records, id, now);
        records.end(lookup, Ok(Some(key(id))), now);
        now += FRESH_FOR;
        let lookup = begin(&records, id, now);
        assert!(joins(&records, id, now), "nobody knows yet that it is away");
        records.end(lookup, Err(away()), now);
        assert!(is_used(&records, id, now + AWAY_FOR / 2));
        let unknown = Uuid::now_v7();
        drop(begin(&records, unknown, now + AWAY_FOR / 2));
        now += AWAY_FOR;
        let trial = begin(&records, id, now);
        assert!(is_used(&records, id, now), "the others do not wait for the trial");
        records.end(trial, Ok(Some(key(id))), now);
        let lookup = begin(&records, id, now + FRESH_FOR);
        assert!(joins(&records, id, now + FRESH_FOR), "it is back");
        drop(lookup);
        // What was confirmed too long ago is no longer known.
        let late = now + STALE_FOR;
        records.end(begin(&records, unknown, late), Err(away()), late);
        let next = records.next(id, late);
        assert!(matches!(next, Next::Wait { known: None, .. }));
    }

    #[test]
    fn a_revocation_is_not_undone_by_a_lookup_in_flight() {
        let (records, id, now) = (records(), Uuid::now_v7(), Instant::now());
        let before = begin(&records, id, now);
        records.forget(id);
        let after = begin(&records, id, now);
        records.end(before, Ok(Some(key(id))), now);
        assert!(joins(&records, id, now), "what was found before is not believed");
        records.end(after, Ok(None), now);
        drop(begin(&records, id, now));
    }
}
