//! The apply ledger: is a PATCH needed at all?
//!
//! For each child that was applied: the hash of what we sent and the fingerprint of what came back. As long as both
//! are what they were, applying again could change nothing, so nothing is sent: steady state costs no request. After a
//! restart the ledger is empty, which costs one round of PATCHes that change nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::facts::{ChildFact, ObjectId};

/// What was sent and what came back, per child.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<HashMap<ObjectId, Entry>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    uid: String,
    desired: u64,
    live: u64,
}

impl Ledger {
    /// Whether this child already is what is wanted, as far as we manage it.
    pub fn is_in_sync(&self, id: &ObjectId, desired: u64, live: &ChildFact) -> bool {
        self.with(|entries| {
            entries.get(id).is_some_and(|entry| {
                entry.uid == live.uid && entry.desired == desired && entry.live == live.fingerprint
            })
        })
    }

    /// Remembers a PATCH and its answer.
    pub fn record(&self, id: ObjectId, desired: u64, answer: &ChildFact) {
        let entry = Entry {
            uid: answer.uid.clone(),
            desired,
            live: answer.fingerprint,
        };
        self.with(|entries| entries.insert(id, entry));
    }

    /// Forgets a child that was pruned or is gone with its service.
    pub fn forget(&self, id: &ObjectId) {
        self.with(|entries| entries.remove(id));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<ObjectId, Entry>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{ChildState, Kind};

    fn fact(uid: &str, fingerprint: u64) -> ChildFact {
        ChildFact {
            uid: uid.into(),
            resource_version: 1,
            instance: "trading".into(),
            owner: None,
            is_deleting: false,
            fingerprint,
            state: ChildState::Plain,
        }
    }

    #[test]
    fn only_the_same_object_with_the_same_contents_is_in_sync() {
        let id = ObjectId {
            kind: Kind::Service,
            namespace: "fuse".into(),
            name: "trading-api".into(),
        };
        let ledger = Ledger::default();
        assert!(!ledger.is_in_sync(&id, 1, &fact("u", 7)), "never applied");
        ledger.record(id.clone(), 1, &fact("u", 7));
        assert!(ledger.is_in_sync(&id, 1, &fact("u", 7)));
        assert!(!ledger.is_in_sync(&id, 2, &fact("u", 7)), "the wish changed");
        assert!(
            !ledger.is_in_sync(&id, 1, &fact("u", 8)),
            "somebody changed the object"
        );
        assert!(
            !ledger.is_in_sync(&id, 1, &fact("v", 7)),
            "another object of that name"
        );
        ledger.forget(&id);
        assert!(!ledger.is_in_sync(&id, 1, &fact("u", 7)));
    }
}
