//! `api-service migrate`: what the migration Job runs.

use std::time::{Duration, Instant};

use fuse_ledger::{Ledger, LedgerError, Migrated, SCHEMA_VERSION, ServiceRole};
use fuse_platform::config::{DatabaseConfig, Reader, migration_url};
use fuse_platform::{BoxError, Context, Secret};

/// Pause between two tries while the database is away.
const PAUSE: Duration = Duration::from_secs(1);

/// What `migrate` needs.
#[derive(Debug)]
pub struct MigrateConfig {
    /// As the services use it; its role is granted what they need.
    database: DatabaseConfig,
    /// As the owner of the tables.
    owner: Option<Secret>,
    wait: Duration,
}

impl MigrateConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            database: DatabaseConfig::read(reader),
            owner: migration_url(reader),
            wait: reader.duration_secs(
                "database.migrate_wait_secs",
                60,
                0..=3600,
                "Seconds that migrate waits for a database that is away",
            ),
        }
    }
}

/// Brings the schema up to date, distributes it if asked to, and says what it did. A schema newer than this program is fine: migrations only add.
pub async fn migrate(context: Context, config: MigrateConfig, distribute: bool) -> Result<(), BoxError> {
    let ledger = Ledger::new(&config.database, &context.metrics)?;
    let deadline = Instant::now() + config.wait;
    let mut was_told = false;
    loop {
        match attempt(&ledger, config.owner.as_ref(), distribute).await {
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

async fn attempt(ledger: &Ledger, owner: Option<&Secret>, distribute: bool) -> Result<(), LedgerError> {
    if !distribute {
        tell(&ledger.migrate_as(owner).await?);
        return Ok(());
    }
    let distributed = ledger.distribute(owner).await?;
    tell(&distributed.migrated);
    println!(
        "{}",
        if distributed.was_done {
            "The tables are distributed by user already: nothing to do."
        } else {
            "The tables are distributed by user now."
        }
    );
    Ok(())
}

fn tell(migrated: &Migrated) {
    let (before, after) = (migrated.before.unwrap_or(0), migrated.version);
    if after > SCHEMA_VERSION {
        println!(
            "The schema is at version {after}, newer than the {SCHEMA_VERSION} of this program: nothing to do."
        );
    } else if after == before {
        println!("The schema is at version {after} already: nothing to do.");
    } else {
        println!("The schema went from version {before} to {after}.");
    }
    if let Some(line) = weakness(&migrated.service) {
        println!("{line}");
    }
}

/// What keeps the schema's rules from binding the service itself.
fn weakness(service: &ServiceRole) -> Option<String> {
    let name = &service.name;
    if service.is_owner {
        return Some(format!(
            "Note: the rules of the schema hold against everyone, but the role {name} of database.url owns the tables and could \
             switch them off; give migrate its own role with database.migration_url (docs/operations.md, \"Two roles\")."
        ));
    }
    let ways = service.loopholes.join("; it ");
    (!ways.is_empty()).then(|| {
        format!(
            "Note: the role {name} of database.url could get around the rules of the schema: it {ways} \
             (docs/operations.md, \"Two roles\")."
        )
    })
}
