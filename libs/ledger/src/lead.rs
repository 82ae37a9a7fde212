//! One replica of all does the upkeep: whoever holds an advisory lock of the database.
//!
//! The lock only saves work: what is done under it is right also when two do it at once.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _};

use crate::pool::CONNECT_TIMEOUT;
use crate::{Ledger, LedgerError};

/// Of the lock, among all of this database.
const UPKEEP: i64 = 0x6675_7365_0001;
/// The lock's connection answers within this, or it is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The lock, held for as long as its connection lives. A process that dies loses it with the connection.
pub struct Lead(PgConnection);

impl std::fmt::Debug for Lead {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Lead")
    }
}

impl Ledger {
    /// Takes the lock, unless somebody else has it. On a connection of its own, outside the pool.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn try_lead(&self) -> Result<Option<Lead>, LedgerError> {
        let options = self.lead_options();
        let connecting = PgConnection::connect_with(&options);
        let mut connection = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected?,
            Err(_) => return Err(LedgerError::Unavailable(sqlx::Error::PoolTimedOut)),
        };
        let asking = sqlx::query("select pg_try_advisory_lock($1) as is_ours")
            .bind(UPKEEP)
            .fetch_one(&mut connection);
        let row = match tokio::time::timeout(ANSWER_WITHIN, asking).await {
            Ok(row) => row?,
            Err(_) => return Err(LedgerError::Unavailable(sqlx::Error::PoolTimedOut)),
        };
        if row.try_get::<bool, _>("is_ours")? {
            return Ok(Some(Lead(connection)));
        }
        let _ = connection.close().await;
        Ok(None)
    }
}

impl Lead {
    /// Whether the lock is still held; once false, it is lost.
    pub async fn holds(&mut self) -> bool {
        matches!(
            tokio::time::timeout(ANSWER_WITHIN, self.0.ping()).await,
            Ok(Ok(()))
        )
    }
}
