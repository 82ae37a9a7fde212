//! Checks the whole ledger, one check at a time, and keeps what the last one found.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fuse_ledger::{Ledger, LedgerError, Verification, VerifyOptions};
use fuse_platform::Shutdown;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

/// Who asks again within this after a check has ended gets its result: a check that took longer than a request may is
/// asked for twice.
const FRESH_FOR: SignedDuration = SignedDuration::from_secs(60);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Auditor {
    /// With statements that may take minutes.
    ledger: Ledger,
    shutdown: Shutdown,
    running: Arc<Mutex<()>>,
    last: Arc<RwLock<Option<Arc<Verification>>>>,
}

impl Auditor {
    /// Nothing checked yet.
    #[must_use]
    pub fn new(ledger: Ledger, shutdown: Shutdown) -> Self {
        Self {
            ledger,
            shutdown,
            running: Arc::default(),
            last: Arc::default(),
        }
    }

    /// Checks everything now, or waits for the check that runs.
    pub async fn verify(&self) -> Result<Arc<Verification>, LedgerError> {
        let asked = Timestamp::now();
        let _alone = self.running.lock().await;
        if let Some(found) = self.last().filter(|found| found.at >= asked) {
            return Ok(found);
        }
        let found = self.ledger.verify(&VerifyOptions::default(), |_| ()).await;
        let found = Arc::new(found.inspect_err(|error| {
            tracing::warn!(error = %error, "the ledger could not be checked");
        })?);
        match &found.first_bad {
            None => tracing::info!(
                events = found.events,
                holdings = found.holdings,
                "the ledger was checked"
            ),
            Some(bad) => tracing::error!(
                ledger.invariant = bad.invariant.as_str(),
                ledger.row = bad.row,
                problem = bad.problem,
                "the ledger is not what it should be: stop buying and keep everything as it is"
            ),
        }
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&found));
        Ok(found)
    }

    /// The result of a check that ended within the last minute or ends within `wait`; `None` when it takes longer. It
    /// goes on meanwhile.
    pub async fn verify_within(&self, wait: Duration) -> Option<Result<Arc<Verification>, LedgerError>> {
        let now = Timestamp::now();
        if let Some(found) = self
            .last()
            .filter(|found| now.duration_since(found.at) < FRESH_FOR)
        {
            return Some(Ok(found));
        }
        let auditor = self.clone();
        let check = self.shutdown.spawn(async move { auditor.verify().await });
        match tokio::time::timeout(wait, check).await {
            Ok(found) => Some(found.unwrap_or(Err(LedgerError::Busy))),
            Err(_) => None,
        }
    }

    fn last(&self) -> Option<Arc<Verification>> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
