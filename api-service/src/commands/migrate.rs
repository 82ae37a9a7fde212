//! `api-service migrate`: what the migration Job runs.

use std::time::{Duration, Instant};

use fuse_ledger::{Ledger, LedgerError, SCHEMA_VERSION};
use fuse_platform::config::{DatabaseConfig, Reader};
use fuse_platform::{BoxError, Context};

/// Pause between two tries while the database is away.
const PAUSE: Duration = Duration::from_secs(1);

/// What `migrate` needs.
#[derive(Debug)]
pub struct MigrateConfig {
    database: DatabaseConfig,
    wait: Duration,
}

impl MigrateConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            database: DatabaseConfig::read(reader),
            wait: reader.duration_secs(
                "database.migrate_wait_secs",
                60,
                0..=3600,
                "Seconds that migrate waits for a database that is away",
            ),
        }
    }
}

/// Brings the schema up to date and says what it did. A schema newer than this program is fine: migrations only add.
pub async fn migrate(context: Context, config: MigrateConfig) -> Result<(), BoxError> {
    let ledger = Ledger::new(&config.database, &context.metrics)?;
    let deadline = Instant::now() + config.wait;
    let mut was_told = false;
    loop {
        match attempt(&ledger).await {
            Ok(()) => return Ok(()),
            Err(error) if error.retryable() && Instant::now() < deadline => {
                if !was_told {
                    tracing::warn!(error = %error, wait_secs = config.wait.as_secs(), "the database is away; waiting for it");
                    was_told = true;
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = context.shutdown.soft.cancelled() => return Err("stopped before the database answered".into()),
        }
    }
}

async fn attempt(ledger: &Ledger) -> Result<(), LedgerError> {
    let before = ledger.schema_version().await?.unwrap_or(0);
    let after = ledger.migrate().await?;
    if after > SCHEMA_VERSION {
        println!(
            "The schema is at version {after}, newer than the {SCHEMA_VERSION} of this program: nothing to do."
        );
    } else if after == before {
        println!("The schema is at version {after} already: nothing to do.");
    } else {
        println!("The schema went from version {before} to {after}.");
    }
    Ok(())
}
