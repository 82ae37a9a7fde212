//! The schema: embedded files of `/migrations`, run by one Job, forward only.

use std::borrow::Cow;

use fuse_platform::Secret;
use sqlx::Connection as _;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;

use crate::grants::{self, ServiceRole};
use crate::{Ledger, LedgerError, row};

/// Every migration in order: number, name, text. A test compares this list with the folder.
const FILES: &[(i64, &str, &str)] = &[
    (
        1,
        "accounts",
        include_str!("../../../migrations/0001_accounts.sql"),
    ),
    (2, "orders", include_str!("../../../migrations/0002_orders.sql")),
    (3, "reports", include_str!("../../../migrations/0003_reports.sql")),
    (4, "depth", include_str!("../../../migrations/0004_depth.sql")),
    (
        5,
        "key_limits",
        include_str!("../../../migrations/0005_key_limits.sql"),
    ),
    (
        6,
        "hot_portfolio",
        include_str!("../../../migrations/0006_hot_portfolio.sql"),
    ),
    (7, "lists", include_str!("../../../migrations/0007_lists.sql")),
];

/// The schema that this program needs. A newer one is fine: migrations only add.
pub const SCHEMA_VERSION: i64 = FILES[FILES.len() - 1].0;

/// What [`Ledger::migrate_as`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The schema's version before; `None` when there was none.
    pub before: Option<i64>,
    /// The version that is now there.
    pub version: i64,
    /// The role that the service uses.
    pub service: ServiceRole,
}

impl Ledger {
    /// The same as [`Ledger::migrate_as`] with the ledger's own role, which then owns the tables.
    ///
    /// # Errors
    /// As [`Ledger::migrate_as`].
    pub async fn migrate(&self) -> Result<i64, LedgerError> {
        Ok(self.migrate_as(None).await?.version)
    }

    /// Brings the schema up to [`SCHEMA_VERSION`] as the role of the URL `owner`, and grants the ledger's own role what it
    /// needs. Repeating it changes nothing, running it twice at once is serialised by PostgreSQL's advisory lock.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot be reached, `RoleMissing` (nothing is changed then), `Migration` when a
    /// file failed or was edited after it had been applied, `OwnerAddress` when the URL is none.
    pub async fn migrate_as(&self, owner: Option<&Secret>) -> Result<Migrated, LedgerError> {
        let mut connection = self.owner_connection(owner).await?;
        let migrated = self.migrate_on(&mut connection).await?;
        // The work is done and committed; a connection that fails to say goodbye changes nothing.
        let _ = connection.close().await;
        Ok(migrated)
    }

    pub(crate) async fn migrate_on(&self, connection: &mut PgConnection) -> Result<Migrated, LedgerError> {
        let before = version(connection).await?;
        let mut service = grants::find(connection, self.role()).await?;
        migrator().run(&mut *connection).await.map_err(migration_error)?;
        let version = version(connection).await?.ok_or(LedgerError::Corrupt {
            what: "schema version",
            detail: "no migration is recorded although all ran".to_owned(),
        })?;
        // A newer program has granted what its services need, and some of them may still run.
        if version <= SCHEMA_VERSION {
            grants::give(connection, &mut service).await?;
        }
        Ok(Migrated {
            before,
            version,
            service,
        })
    }

    /// Its own connection: a migration may run longer than a statement of the service.
    pub(crate) async fn owner_connection(&self, owner: Option<&Secret>) -> Result<PgConnection, LedgerError> {
        let options = self.migration_options(owner)?;
        let connecting = PgConnection::connect_with(&options);
        match tokio::time::timeout(crate::pool::CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(LedgerError::Unavailable(sqlx::Error::PoolTimedOut)),
        }
    }

    /// The newest migration that was applied; `None` when none ever was.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot be reached.
    pub async fn schema_version(&self) -> Result<Option<i64>, LedgerError> {
        match self.read("schema_version", sqlx::query(VERSION)).await {
            Ok(rows) => row::get(row::only(&rows, "schema version")?, "version"),
            Err(LedgerError::SchemaMissing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

const VERSION: &str = "select max(version) as version from _sqlx_migrations where success";

async fn version(connection: &mut PgConnection) -> Result<Option<i64>, LedgerError> {
    match sqlx::query(VERSION).fetch_one(connection).await {
        Ok(found) => row::get(&found, "version"),
        Err(error) => match LedgerError::from(error) {
            LedgerError::SchemaMissing(_) => Ok(None),
            other => Err(other),
        },
    }
}

fn migrator() -> Migrator {
    let mut migrator = Migrator::with_migrations(
        FILES
            .iter()
            .map(|&(version, name, sql)| {
                Migration::new(
                    version,
                    Cow::Borrowed(name),
                    MigrationType::Simple,
                    sql.into_sql_str(),
                    false,
                )
            })
            .collect(),
    );
    // An older program beside a newer schema (a rollback) has nothing to do and nothing to complain of.
    migrator.set_ignore_missing(true);
    migrator
}

/// An outage during the migration is an outage; everything else is the migration's own failure.
fn migration_error(error: MigrateError) -> LedgerError {
    match error {
        MigrateError::Execute(error) if is_outage(&error) => LedgerError::Unavailable(error),
        MigrateError::ExecuteMigration(error, _) if is_outage(&error) => LedgerError::Unavailable(error),
        other => LedgerError::Migration(other),
    }
}

fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => matches!(
            database.code().as_deref().and_then(|code| code.get(..2)),
            Some("08" | "53" | "57" | "58")
        ),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn every_file_of_the_folder_is_embedded_in_order() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
        let mut found: Vec<String> = std::fs::read_dir(&folder)
            .expect("the migrations folder is part of the repository")
            .map(|entry| {
                entry
                    .expect("a readable entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| name.ends_with(".sql"))
            .collect();
        found.sort();
        let embedded: Vec<String> = FILES
            .iter()
            .map(|(version, name, _)| format!("{version:04}_{name}.sql"))
            .collect();
        assert_eq!(found, embedded);
    }
}
