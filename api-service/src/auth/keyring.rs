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
pub struct BootstrapKey {
    secret: Secret,
    /// Hash of the text, and when it was read; `None` while the text could be guessed.
    own: Mutex<Option<(Instant, Option<[u8; 32]>)>>,
}

/// How long the text of the secret is believed before its file is looked at again. No request should wait for a disk.
const BOOTSTRAP_KEY_FRESH_FOR: Duration = Duration::from_secs(1);

impl BootstrapKey {
    /// The key in this secret, whatever it says from time to time.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self {
            secret,
            own: Mutex::default(),
        }
    }

    /// Compares hashes in constant time.
    fn is(&self, text: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(text).into();
        self.own().is_some_and(|own| bool::from(own.ct_eq(&given)))
    }

    fn own(&self) -> Option<[u8; 32]> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, hash)) = *own
            && read.elapsed() < BOOTSTRAP_KEY_FRESH_FOR
        {
            return hash;
        }
        let text = self.secret.reveal();
        // The file may have been replaced since the start, by something that could be guessed.
        let is_long = text.expose_secret().chars().count() >= BOOTSTRAP_KEY_MIN_CHARS;
        let hash = is_long.then(|| Sha256::digest(text.expose_secret()).into());
        *own = Some((Instant::now(), hash));
        hash
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
    bootstrap: Option<(BootstrapKey, Caller)>,
    settings: KeyRingSettings,
    records: Mutex<HashMap<Uuid, Record>>,
}

/// A key as the database said, and whom it stands for.
#[derive(Clone)]
struct Record {
    confirmed: Instant,
    key: Arc<ApiKey>,
    caller: Caller,
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
            bootstrap: bootstrap.map(|key| (key, bootstrap_caller())),
            settings,
            records: Mutex::default(),
        }
    }

    /// The caller behind a key. 401 when it opens nothing, 503 when that cannot be found out now.
    pub async fn caller(&self, text: &str, now: Timestamp) -> Result<Caller, ApiError> {
        if let Some((key, caller)) = &self.bootstrap
            && key.is(text)
        {
            return Ok(caller.clone());
        }
        let presented = PresentedKey::parse(text).map_err(|error| self.malformed(error))?;
        let Some(record) = self.record(presented.id).await? else {
            return Err(self.refuse("unknown", Code::KeyInvalid, "This key is not known."));
        };
        record
            .key
            .verify(&presented, now)
            .map_err(|refused| match refused {
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
        Ok(record.caller)
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

    async fn record(&self, id: Uuid) -> Result<Option<Record>, ApiError> {
        let known = self.records().get(&id).cloned();
        if known
            .as_ref()
            .is_some_and(|known| known.confirmed.elapsed() < self.settings.fresh_for)
        {
            return Ok(known);
        }
        match self.ledger.find_key(id).await {
            Ok(Some(key)) => Ok(Some(self.remember(key))),
            Ok(None) => {
                self.forget(id);
                Ok(None)
            }
            Err(error) => match known {
                Some(known) if error.retryable() && known.confirmed.elapsed() < self.settings.stale_for => {
                    Ok(Some(known))
                }
                _ => Err(error.into()),
            },
        }
    }

    fn remember(&self, key: ApiKey) -> Record {
        let record = Record {
            confirmed: Instant::now(),
            caller: Caller {
                label: key.id.to_string().into(),
                owner: key.owner,
                scopes: key.scopes.iter().copied().collect(),
            },
            key: Arc::new(key),
        };
        let mut records = self.records();
        if records.len() >= RECORDS_MAX {
            let stale_for = self.settings.stale_for;
            records.retain(|_, record| record.confirmed.elapsed() < stale_for);
        }
        if records.len() >= RECORDS_MAX {
            records.clear();
        }
        records.insert(record.key.id, record.clone());
        record
    }

    fn records(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bootstrap_caller() -> Caller {
    Caller {
        label: "bootstrap".into(),
        owner: Owner::Service,
        scopes: Scope::ALL.into(),
    }
}
