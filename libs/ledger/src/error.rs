//! What can go wrong between us and PostgreSQL, sorted by what the caller can do about it.

use sqlx::migrate::MigrateError;

/// A statement did not do what was asked. Nothing is half written: every statement is all or nothing.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No connection, a lost connection, or a server that is starting, stopping or out of room.
    /// A write may still have been committed when the connection was lost after it was sent.
    #[error("the database cannot be used now: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Too many writes wait, or the last one found the database away: this one was not begun.
    #[error("the database does not keep up, so the write was not begun")]
    Busy,
    /// The schema is not there or older than this program, or our role was not granted what it needs: the migration has
    /// not run yet.
    #[error("the database schema is not ready: run `api-service migrate` ({0})")]
    SchemaMissing(#[source] sqlx::Error),
    /// A deadlock, a lock timeout or a statement timeout: nothing was written, the same call may succeed.
    #[error("the database gave up on a contended statement: {0}")]
    Conflict(#[source] sqlx::Error),
    /// A constraint or trigger refused the write. A defect in the caller, or hand-made data.
    #[error("the database refused the write: {0}")]
    Refused(#[source] sqlx::Error),
    /// A stored value is not one that this program could have written.
    #[error("the ledger holds a value that cannot be read: {what}: {detail}")]
    Corrupt {
        /// The column or statement.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The migration failed; whatever it had done is rolled back.
    #[error("the migration failed: {0}")]
    Migration(#[source] MigrateError),
    /// The configured address is not one of a PostgreSQL database.
    #[error("database.url is not a PostgreSQL address: {0}")]
    Address(#[source] sqlx::Error),
    /// The same of the address that migrations use.
    #[error("database.migration_url is not a PostgreSQL address: {0}")]
    OwnerAddress(#[source] sqlx::Error),
    /// Tables cannot be distributed here.
    #[error(
        "the Citus extension is not in this database, so its tables stay on one server and nothing was changed: {what_to_do}"
    )]
    CitusMissing {
        /// A clause.
        what_to_do: &'static str,
    },
    /// The user of `database.url` is unknown to the server.
    #[error(
        "the role {role:?} of database.url does not exist; let an administrator of the database run: {statement}"
    )]
    RoleMissing {
        /// Its name.
        role: String,
        /// What makes it.
        statement: String,
    },
}

impl LedgerError {
    /// Whether the same call may succeed later without anybody changing anything but the database's state.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Busy | Self::SchemaMissing(_) | Self::Conflict(_) => true,
            Self::Refused(_)
            | Self::Corrupt { .. }
            | Self::Migration(_)
            | Self::Address(_)
            | Self::OwnerAddress(_)
            | Self::CitusMissing { .. }
            | Self::RoleMissing { .. } => false,
        }
    }

    /// Whether a write that failed so may have been committed all the same: its connection was lost after it was sent.
    pub fn may_be_written(&self) -> bool {
        match self {
            // Without a connection nothing was sent.
            Self::Unavailable(cause) => !matches!(cause, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed),
            Self::Busy
            | Self::SchemaMissing(_)
            | Self::Conflict(_)
            | Self::Refused(_)
            | Self::Corrupt { .. }
            | Self::Migration(_)
            | Self::Address(_)
            | Self::OwnerAddress(_)
            | Self::CitusMissing { .. }
            | Self::RoleMissing { .. } => false,
        }
    }

    /// The same once more, for each caller of a statement that they shared.
    pub(crate) fn again(&self) -> Self {
        let told = |error: &sqlx::Error| sqlx::Error::Protocol(error.to_string());
        match self {
            // What `may_be_written` tells apart stays what it is.
            Self::Unavailable(sqlx::Error::PoolTimedOut) => Self::Unavailable(sqlx::Error::PoolTimedOut),
            Self::Unavailable(sqlx::Error::PoolClosed) => Self::Unavailable(sqlx::Error::PoolClosed),
            Self::Unavailable(error) => Self::Unavailable(told(error)),
            Self::Busy => Self::Busy,
            Self::SchemaMissing(error) => Self::SchemaMissing(told(error)),
            Self::Conflict(error) => Self::Conflict(told(error)),
            Self::Refused(error) => Self::Refused(told(error)),
            other => corrupt("answer", other),
        }
    }

    /// The label of `db_retryable_errors_total`, where the error is one to count there.
    pub(crate) fn retryable_kind(&self) -> Option<&'static str> {
        let Self::Conflict(sqlx::Error::Database(error)) = self else {
            return None;
        };
        Some(match error.code().as_deref() {
            Some("40P01") => "deadlock",
            Some("40001") => "serialization",
            Some("55P03") => "lock_timeout",
            _ => "statement_timeout",
        })
    }
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                by_sqlstate(&code, error)
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            _ => Self::Corrupt {
                what: "answer",
                detail: error.to_string(),
            },
        }
    }
}

/// By the classes of PostgreSQL's appendix A, "PostgreSQL Error Codes".
fn by_sqlstate(code: &str, error: sqlx::Error) -> LedgerError {
    match code {
        "40001" | "40P01" | "55P03" | "57014" => LedgerError::Conflict(error),
        // An undefined table, column or function; a privilege that `migrate` grants.
        "42P01" | "42703" | "42883" | "42501" => LedgerError::SchemaMissing(error),
        // A raised exception without a code, a violated constraint, a bad value.
        "P0001" => LedgerError::Refused(error),
        // A wrong password or database name can be put right on the server, so it is an outage as well.
        "3D000" | "28000" | "28P01" => LedgerError::Unavailable(error),
        // A standby: a failover is under way.
        "25006" => LedgerError::Unavailable(error),
        // An idle transaction was ended by the server.
        "25P03" => LedgerError::Unavailable(error),
        _ => match code.get(..2) {
            // Connection, resources (connections, memory, disk), operator intervention, system error.
            Some("08" | "53" | "57" | "58") => LedgerError::Unavailable(error),
            _ => LedgerError::Refused(error),
        },
    }
}

/// Names a value of the ledger that could not be read back.
pub(crate) fn corrupt(what: &'static str, detail: impl std::fmt::Display) -> LedgerError {
    LedgerError::Corrupt {
        what,
        detail: detail.to_string(),
    }
}
