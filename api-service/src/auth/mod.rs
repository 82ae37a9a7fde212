//! Who is asking, and what they may do.
//!
//! A key comes as `x-api-key` or as a bearer token, never in the address. Invariants: a key of a user sees only that user (everything
//! of others is "not found"); nothing about a key is told before its hash matched.

mod bootstrap_key;
mod extract;
mod keyring;
mod records;

use std::sync::Arc;

use fuse_ledger::{KeyLimits, Owner, Scope};
use uuid::Uuid;

pub use bootstrap_key::{BOOTSTRAP_KEY_MIN_CHARS, BootstrapKey};
pub use extract::{Admin, Reader, Reporter, Trader};
pub use keyring::{KeyRing, KeyRingSettings};

use crate::problem::{ApiError, Code};

/// A verified key. Cheap to clone: one is made per key, not per request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What the log calls it: the key's id, or `bootstrap`.
    pub label: Arc<str>,
    /// Of the key in the database; `None`: the bootstrap key.
    pub key_id: Option<Uuid>,
    /// Whom it acts for.
    pub owner: Owner,
    /// What it may order.
    pub limits: KeyLimits,
    scopes: Arc<[Scope]>,
}

impl Caller {
    /// Whether it may do this. `admin` includes every other scope.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// The only user that it sees; `None`: all.
    #[must_use]
    pub fn only_user(&self) -> Option<Uuid> {
        self.owner.user_id()
    }

    /// Fails with 404 unless it sees this user.
    pub fn check_sees(&self, user_id: Uuid) -> Result<(), ApiError> {
        match self.only_user() {
            Some(own) if own != user_id => Err(user_not_found()),
            _ => Ok(()),
        }
    }
}

/// The 404 of a user that is not there or not the caller's.
#[must_use]
pub fn user_not_found() -> ApiError {
    ApiError::new(
        Code::UserNotFound,
        "There is no such user, or this key does not belong to it.",
    )
}
