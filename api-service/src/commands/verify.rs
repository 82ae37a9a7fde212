//! `api-service verify`: the proof on the command line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fuse_domain::ChainHead;
use fuse_ledger::{Ledger, Progress, VerifyOptions};
use fuse_platform::config::{DatabaseConfig, Reader};
use fuse_platform::{BoxError, Context};

use crate::routes::audit_verify::VerificationBody;

/// Exit code of a ledger that is not what it should be; 1 is for a check that could not be made.
pub const EXIT_INVALID: u8 = 3;
/// One statement reads millions of rows.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);
/// Between two lines of progress.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// What `verify` needs.
#[derive(Debug)]
pub struct VerifyConfig {
    database: DatabaseConfig,
}

impl VerifyConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            database: DatabaseConfig::read(reader),
        }
    }
}

/// Checks everything and prints what was found as JSON; `is_valid` tells the caller for its exit code.
pub async fn verify(
    context: Context,
    config: VerifyConfig,
    anchors: Vec<ChainHead>,
    is_valid: Arc<AtomicBool>,
) -> Result<(), BoxError> {
    let ledger = Ledger::with_statement_timeout(&config.database, &context.metrics, STATEMENT_TIMEOUT)?;
    let mut told = Instant::now();
    let tell = move |progress: Progress| {
        if progress.step != "events" || told.elapsed() >= TOLD_EVERY {
            eprintln!("checked: {} {}", progress.rows, progress.step);
            told = Instant::now();
        }
    };
    let options = VerifyOptions { anchors };
    let found = tokio::select! {
        found = ledger.verify(&options, tell) => found?,
        () = context.shutdown.soft.cancelled() => return Err("stopped before everything was checked".into()),
    };
    println!("{}", serde_json::to_string(&VerificationBody::from(&found))?);
    is_valid.store(found.is_valid(), Ordering::Relaxed);
    if let Some(bad) = &found.first_bad {
        eprintln!(
            "the ledger is NOT what it should be: {}: {} ({})",
            bad.row,
            bad.problem,
            bad.invariant.as_str()
        );
    }
    Ok(())
}
