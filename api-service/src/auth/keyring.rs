//! Keys that were verified a moment ago.
//!
//! A key's record is looked up in the database at most every [`KeyRingSettings::fresh_for`], so a revocation is honoured within that time on
//! every replica. While the database is away, a record confirmed within [`KeyRingSettings::stale_for`] still opens the door, so
//! that an outage of the database does not take prices away: whatever needs the database fails by itself then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_ledger::{KeyLimits, KeyRefused, KeyTextError, Ledger, Owner, PresentedKey, Scope};
use jiff::Timestamp;
use uuid::Uuid;

use super::Caller;
use super::bootstrap_key::BootstrapKey;
use super::records::{Failed, Lookup, Next, Outcome, Record, Records};
use crate::metrics::Metrics;
use crate::problem::{ApiError, Code};

/// How long a request waits for a lookup although it could go on with what is known: a database in good health answers long before.
const LOOKUP_PATIENCE: Duration = Duration::from_millis(250);

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
    records: Arc<Records>,
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
            records: Arc::new(Records::new(settings)),
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

    /// Forgets a record, so that this replica honours a revocation at once, also where the key is being looked up.
    pub fn forget(&self, id: Uuid) {
        self.records.forget(id);
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
        let (outcome, known) = match self.records.next(id, Instant::now()) {
            Next::Use(record) => return Ok(Some(record)),
            Next::Wait {
                outcome,
                known,
                begin,
            } => {
                if let Some(lookup) = begin {
                    self.look_up(lookup);
                }
                (outcome, known)
            }
        };
        let Some(known) = known else {
            return said(outcome).await.map_err(|failed| failed.error);
        };
        match tokio::time::timeout(LOOKUP_PATIENCE, said(outcome)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(failed)) if !failed.is_away => Err(failed.error),
            Ok(Err(_)) | Err(_) => Ok(Some(known)),
        }
    }

    /// In a task of its own: others wait for it too, whatever becomes of the request that began it.
    fn look_up(&self, lookup: Lookup) {
        let (ledger, records) = (self.ledger.clone(), Arc::clone(&self.records));
        tokio::spawn(async move {
            let found = ledger.find_key(lookup.id()).await.map_err(Failed::from);
            records.end(lookup, found, Instant::now());
        });
    }
}

/// What a lookup found.
async fn said(mut outcome: Outcome) -> Result<Option<Record>, Failed> {
    let found = match outcome.wait_for(Option::is_some).await {
        Ok(found) => found.clone(),
        Err(_) => None,
    };
    match found.as_deref() {
        Some(found) => found.clone(),
        // Only when the process ends, or the lookup panicked, which the panic hook has logged.
        None => Err(Failed {
            error: ApiError::internal("a key's lookup was broken off"),
            is_away: false,
        }),
    }
}

fn bootstrap_caller() -> Caller {
    Caller {
        label: "bootstrap".into(),
        key_id: None,
        limits: KeyLimits::default(),
        owner: Owner::Service,
        scopes: Scope::ALL.into(),
    }
}
