//! What clients sent and what they were told: the one side of the count.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use uuid::Uuid;

/// An answer that a client read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    pub status: u16,
    /// It said that it was given before.
    pub replayed: bool,
    pub body: String,
    /// Whether it says when to come back.
    pub retry_after: bool,
}

/// What an answer is worth to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The order is what it says, for good or until it is resolved.
    Outcome { order_id: Uuid },
    /// The order was taken; its outcome could not be stored yet (202 with an order that is still submitted).
    Receipt { order_id: Uuid },
    /// Nothing about an order of this request: try again.
    Nothing,
}

impl Got {
    /// The body as JSON; null when it is something else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    #[must_use]
    pub fn told(&self) -> Told {
        let body = self.json();
        let is_order = (200..300).contains(&self.status);
        let id = if is_order { &body["id"] } else { &body["orderId"] };
        let Some(order_id) = id.as_str().and_then(|id| id.parse().ok()) else {
            return Told::Nothing;
        };
        match (self.status, body["status"].as_str()) {
            // Its document names the order that is under way.
            (409, _) => Told::Nothing,
            (202, Some("submitted")) => Told::Receipt { order_id },
            _ => Told::Outcome { order_id },
        }
    }
}

/// Everything that happened under one idempotency key.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Index of its user.
    pub user: usize,
    pub order: Value,
    /// In the order in which they came. Answers to another order under the key are not among them.
    pub answers: Vec<Got>,
    /// Answers to another order under the same key, sent after an outcome.
    pub to_other: Vec<Got>,
    /// Requests that got no answer.
    pub unanswered: u64,
}

impl Entry {
    /// The first answer that told an outcome.
    #[must_use]
    pub fn outcome(&self) -> Option<&Got> {
        self.answers
            .iter()
            .find(|got| matches!(got.told(), Told::Outcome { .. }))
    }
}

/// All keys of a run.
#[derive(Debug, Default)]
pub struct Journal(Mutex<BTreeMap<String, Entry>>);

impl Journal {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before it is sent, so that a request without an answer is known as well.
    pub fn sends(&self, user: usize, key: &str, order: &Value) {
        self.lock().entry(key.to_owned()).or_insert_with(|| Entry {
            user,
            order: order.clone(),
            answers: Vec::new(),
            to_other: Vec::new(),
            unanswered: 0,
        });
    }

    pub(super) fn change(&self, key: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().get_mut(key) {
            change(entry);
        }
    }

    /// Notes what came of a request.
    pub fn gets(&self, key: &str, got: Option<&Got>) {
        self.change(key, |entry| match got {
            Some(got) => entry.answers.push(got.clone()),
            None => entry.unanswered += 1,
        });
    }

    #[must_use]
    pub fn entry(&self, key: &str) -> Option<Entry> {
        self.lock().get(key).cloned()
    }

    /// What another journal holds is held by this one too.
    pub fn take_in(&self, other: &Self) {
        self.lock().extend(other.entries());
    }

    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        self.lock().clone()
    }
}
