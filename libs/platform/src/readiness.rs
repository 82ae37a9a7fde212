//! Whether this process can do its work: named conditions that must all be met, and not being asked to stop.
//!
//! Conditions are about this process only (started, a snapshot held), never about a shared dependency: one outage
//! would otherwise take every replica away at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

/// The conditions of a process. Cheap to clone; ready when there is no condition that is not met.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Why each is not met; `None` when it is.
    conditions: BTreeMap<&'static str, Option<String>>,
    stopping: bool,
    started: Instant,
    announced: bool,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            conditions: BTreeMap::new(),
            stopping: false,
            started: Instant::now(),
            announced: false,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Adds a condition that is not met yet, because of `reason`. Add all of them before the admin port is opened.
    #[must_use]
    pub fn condition(&self, name: &'static str, reason: impl Into<String>) -> Condition {
        self.set(name, Some(reason.into()));
        Condition {
            name,
            readiness: self.clone(),
        }
    }

    /// Whether every condition is met and nobody asked the process to stop.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.with(|state| state.is_ready())
    }

    /// Unready from now on.
    pub fn stop(&self) {
        self.with(|state| state.stopping = true);
    }

    /// The body of `/readyz`: `{"ready":false,"pending":[{"condition":"snapshot","reason":"…"}]}`.
    #[must_use]
    pub fn report(&self) -> Value {
        self.with(|state| {
            let unmet = state
                .conditions
                .iter()
                .filter_map(|(name, reason)| Some((*name, reason.as_deref()?)));
            let stopping = state.stopping.then_some(("running", "the process is stopping"));
            let pending: Vec<_> = unmet
                .chain(stopping)
                .map(|(condition, reason)| json!({"condition": condition, "reason": reason}))
                .collect();
            json!({"ready": pending.is_empty(), "pending": pending})
        })
    }

    /// Says once in the log that the process is ready, with the time that it took.
    pub(crate) fn announce(&self) {
        let took = self.with(|state| {
            let first = state.is_ready() && !state.announced;
            state.announced |= first;
            first.then(|| state.started.elapsed())
        });
        if let Some(took) = took {
            tracing::info!(
                duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "ready"
            );
        }
    }

    fn set(&self, name: &'static str, reason: Option<String>) {
        self.with(|state| state.conditions.insert(name, reason));
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn is_ready(&self) -> bool {
        !self.stopping && self.conditions.values().all(Option::is_none)
    }
}

/// One condition of a [`Readiness`], held by the part that knows. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Condition {
    pub fn met(&self) {
        self.readiness.set(self.name, None);
        self.readiness.announce();
    }

    pub fn unmet(&self, reason: impl Into<String>) {
        self.readiness.set(self.name, Some(reason.into()));
    }
}
