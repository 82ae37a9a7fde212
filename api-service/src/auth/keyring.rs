//! Keys that were verified a moment ago.
//!
//! A key's record is looked up in the database at most every [`KeyRingSettings::fresh_for`], so a revocation is honoured within that time on
//! every replica. While the database is away, a record confirmed within [`KeyRingSettings::stale_for`] still opens the door, so
//! that an outage of the database does not take prices away: whatever needs the database fails by itself then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fuse_ledger::{ApiKey, KeyRefused, KeyTextError, Ledger, Owner, PresentedKey, Scope};
use fuse_platform::Secret;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::Caller;
use crate::metrics::Metrics;
use crate::problem::{ApiError, Code};

/// Most records that are remembered; beyond it the old ones go first.
const RECORDS_MAX: usize = 10_000;

/// The first admin key: from a mounted secret, never stored. It works while the database is away.
pub struct BootstrapKey(pub Secret);

impl BootstrapKey {
    /// Compares hashes in constant time; the text is read again when its file changed.
    fn is(&self, text: &str) -> bool {
        let own = self.0.reveal();
        // The file may have been replaced since the start, by something that could be guessed.
        if own.expose_secret().chars().count() < BOOTSTRAP_KEY_MIN_CHARS {
            return false;
        }
        let own = Sha256::digest(own.expose_secret());
        let given = Sha256::digest(text);
        bool::from(own.as_slice().ct_eq(given.as_slice()))
    }
}

/// A key that somebody could guess would open everything.
pub const BOOTSTRAP_KEY_MIN_CHARS: usize = 24;

/// How long a record is believed.
#[derive(Clone, Copy, Debug)]
pub struct KeyRingSettings {
    /// Without asking the database.
    pub fresh_for: Duration,
    /// While the database cannot be asked.
    pub stale_for: Duration,
}

/// Finds and verifies keys.
pub struct KeyRing {
    ledger: Ledger,
    metrics: Arc<Metrics>,
    bootstrap: Option<BootstrapKey>,
    settings: KeyRingSettings,
    records: Mutex<HashMap<Uuid, (Instant, Arc<ApiKey>)>>,
}

impl KeyRing {
    /// An empty ring.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        metrics: Arc<Metrics>,
        bootstrap: Option<BootstrapKey>,
        settings: KeyRingSettings,
    ) -> Self {
        Self {
            ledger,
            metrics,
            bootstrap,
            settings,
            records: Mutex::default(),
        }
    }

    /// The caller behind a key. 401 when it opens nothing, 503 when that cannot be found out now.
    pub async fn caller(&self, text: &str, now: Timestamp) -> Result<Caller, ApiError> {
        if self.bootstrap.as_ref().is_some_and(|key| key.is(text)) {
            return Ok(Caller {
                label: "bootstrap".to_owned(),
                owner: Owner::Service,
                scopes: Scope::ALL.into_iter().collect(),
            });
        }
        let presented = PresentedKey::parse(text).map_err(|error| self.malformed(error))?;
        let key = self.record(presented.id).await?;
        let Some(key) = key else {
            return Err(self.refuse("unknown", Code::KeyInvalid, "This key is not known."));
        };
        key.verify(&presented, now).map_err(|refused| match refused {
            KeyRefused::Mismatch => self.refuse("mismatch", Code::KeyInvalid, "This key is not known."),
            KeyRefused::Revoked => self.refuse(
                "revoked",
                Code::KeyRevoked,
                "This key was revoked; use another one.",
            ),
            KeyRefused::Expired => self.refuse(
                "expired",
                Code::KeyExpired,
                "This key has expired; use another one.",
            ),
        })?;
        Ok(Caller {
            label: key.id.to_string(),
            owner: key.owner,
            scopes: key.scopes.clone(),
        })
    }

    /// Forgets a record, so that this replica honours a revocation at once.
    pub fn forget(&self, id: Uuid) {
        self.records().remove(&id);
    }

    fn malformed(&self, error: KeyTextError) -> ApiError {
        let detail = match error {
            KeyTextError::Shape => {
                "The key has the wrong form; it looks like fuse_ followed by an id and a secret."
            }
            KeyTextError::Checksum => "The key was mistyped or cut: its last characters do not fit the rest.",
        };
        self.refuse("malformed", Code::KeyInvalid, detail)
    }

    fn refuse(&self, reason: &'static str, code: Code, detail: &str) -> ApiError {
        self.metrics.auth_failure(reason);
        ApiError::new(code, detail)
    }

    async fn record(&self, id: Uuid) -> Result<Option<Arc<ApiKey>>, ApiError> {
        let known = self.records().get(&id).cloned();
        if let Some((confirmed, key)) = &known
            && confirmed.elapsed() < self.settings.fresh_for
        {
            return Ok(Some(Arc::clone(key)));
        }
        match self.ledger.find_key(id).await {
            Ok(Some(key)) => Ok(Some(self.remember(key))),
            Ok(None) => {
                self.forget(id);
                Ok(None)
            }
            Err(error) => match known {
                Some((confirmed, key))
                    if error.retryable() && confirmed.elapsed() < self.settings.stale_for =>
                {
                    Ok(Some(key))
                }
                _ => Err(error.into()),
            },
        }
    }

    fn remember(&self, key: ApiKey) -> Arc<ApiKey> {
        let key = Arc::new(key);
        let mut records = self.records();
        if records.len() >= RECORDS_MAX {
            let stale_for = self.settings.stale_for;
            records.retain(|_, (confirmed, _)| confirmed.elapsed() < stale_for);
        }
        if records.len() >= RECORDS_MAX {
            records.clear();
        }
        records.insert(key.id, (Instant::now(), Arc::clone(&key)));
        key
    }

    fn records(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, (Instant, Arc<ApiKey>)>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
