//! The one way to PostgreSQL. What must stay true:
//!
//! * One statement is one transaction: there is no `begin()` in this crate but the migrations'. (A cancelled
//!   `begin()` leaves a pooled connection inside a transaction, and the next user's write is lost.)
//! * Writes run in a task of their own, so that a caller which goes away cannot cut one in the middle. Those of
//!   orders share a statement with what is queued: see `orders/writer.rs`.
//! * Nothing waits without an end: acquiring, a statement, a lock, an idle transaction.
//! * Nothing connects at start. A database that is away is [`LedgerError::Unavailable`], and it recovers by itself.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_platform::config::DatabaseConfig;
use fuse_platform::{Metrics, Secret};
use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use tokio::sync::Notify;

use crate::metrics::LedgerMetrics;
use crate::orders::{Change, Writer};
use crate::{LedgerError, SubmitOrder};

/// A connection outside the pool (a migration) is given this long to come up.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Kept open, so that a burst does not begin with handshakes.
const MIN_CONNECTIONS: u32 = 1;
/// Beside the pool, for the two writers of orders: slow reads must not keep an order from being written.
const WRITER_CONNECTIONS: u32 = 2;
/// A statement waits this long for a row that another one holds.
const LOCK_TIMEOUT_MILLIS: u32 = 2_000;
/// The server's answer to a statement may come this much later than its own limit for it.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);
/// The server ends a transaction that sits idle; none ever should.
const IDLE_IN_TRANSACTION_MILLIS: u32 = 5_000;
/// A migration waits this long for a table that a running statement uses, then fails and is run again.
const MIGRATION_LOCK_TIMEOUT_MILLIS: u32 = 10_000;
/// Connections are renewed, so that a failed-over or grown server gets its share.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

pub(crate) type PgQuery<'q> = Query<'q, sqlx::Postgres, PgArguments>;

/// All SQL of the project. Cheap to clone; the clones share one pool and one queue for each kind of write.
#[derive(Clone)]
pub struct Ledger {
    db: Db,
    options: PgConnectOptions,
    pub(crate) places: Writer<SubmitOrder>,
    pub(crate) settles: Writer<Change>,
    pub(crate) metrics: LedgerMetrics,
}

/// The pool, and how a statement is run.
#[derive(Clone)]
pub(crate) struct Db {
    pool: PgPool,
    /// Our own end of a statement: the server's limit says nothing when the server's machine is gone.
    answer_within: Duration,
    /// Told by every statement that was answered: who waits for the database need not look for itself.
    pub(crate) alive: Arc<Notify>,
    pub(crate) metrics: LedgerMetrics,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ledger(…)")
    }
}

impl Ledger {
    /// Prepares the pool without connecting; needs to be called inside a tokio runtime.
    ///
    /// # Errors
    /// `Address` when the configured URL is not one of a PostgreSQL database.
    pub fn new(config: &DatabaseConfig, metrics: &Metrics) -> Result<Self, LedgerError> {
        Self::with_statement_timeout(config, metrics, config.statement_timeout)
    }

    /// The same with another limit for one statement: a report reads a whole day.
    ///
    /// # Errors
    /// As [`Ledger::new`].
    pub fn with_statement_timeout(
        config: &DatabaseConfig,
        metrics: &Metrics,
        statement_timeout: Duration,
    ) -> Result<Self, LedgerError> {
        let options = PgConnectOptions::from_str(config.url.reveal().expose_secret())
            .map_err(LedgerError::Address)?
            .application_name("fuse");
        let statement_millis = statement_timeout.as_millis().to_string();
        let session = options.clone().options([
            ("statement_timeout", statement_millis),
            ("lock_timeout", LOCK_TIMEOUT_MILLIS.to_string()),
            // What was acknowledged must survive the server's crash, however the server is configured.
            ("synchronous_commit", "on".to_owned()),
            // Where a server expects many rows it compiles the statement first, by default: 0.15 s for each of the small pieces that
            // the chain is read in.
            ("jit", "off".to_owned()),
            (
                "idle_in_transaction_session_timeout",
                IDLE_IN_TRANSACTION_MILLIS.to_string(),
            ),
        ]);
        let pool = |connections: u32, kept: u32| {
            PgPoolOptions::new()
                .min_connections(kept)
                .max_connections(connections)
                .acquire_timeout(config.acquire_timeout)
                .max_lifetime(MAX_LIFETIME)
                .idle_timeout(IDLE_TIMEOUT)
                .connect_lazy_with(session.clone())
        };
        let metrics = LedgerMetrics::register(metrics);
        let db = Db {
            pool: pool(
                config.max_connections,
                MIN_CONNECTIONS.min(config.max_connections),
            ),
            answer_within: statement_timeout + ANSWER_MARGIN,
            alive: Arc::default(),
            metrics: metrics.clone(),
        };
        let writes = Db {
            pool: pool(WRITER_CONNECTIONS, 0),
            ..db.clone()
        };
        Ok(Self {
            places: Writer::start(writes.clone()),
            settles: Writer::start(writes),
            db,
            options,
            metrics,
        })
    }

    /// Answers when the database does: the probe of `dependency_up`.
    ///
    /// # Errors
    /// `Unavailable` when it does not.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        self.read("ping", sqlx::query("select 1")).await.map(drop)
    }

    /// Closes the pool: waits for statements that run, then says goodbye to the server.
    pub async fn close(&self) {
        self.db.pool.close().await;
    }

    /// Those of the URL `owner`, or our own.
    pub(crate) fn migration_options(&self, owner: Option<&Secret>) -> Result<PgConnectOptions, LedgerError> {
        let options = match owner {
            Some(url) => PgConnectOptions::from_str(url.reveal().expose_secret())
                .map_err(LedgerError::OwnerAddress)?
                .application_name("fuse"),
            None => self.options.clone(),
        };
        Ok(options.options([("lock_timeout", MIGRATION_LOCK_TIMEOUT_MILLIS.to_string())]))
    }

    /// The role that this ledger's statements run as.
    pub(crate) fn role(&self) -> &str {
        self.options.get_username()
    }

    /// The server finds out within half a minute that the other end is gone.
    pub(crate) fn lead_options(&self) -> PgConnectOptions {
        self.options.clone().options([
            // A process that stands still answers keepalives, but does not ask whether it still leads.
            ("idle_session_timeout", "10000"),
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ])
    }

    /// A statement that changes something: all or nothing, and not to be cut by the caller.
    pub(crate) async fn write(
        &self,
        name: &'static str,
        query: PgQuery<'static>,
    ) -> Result<Vec<PgRow>, LedgerError> {
        let db = self.db.clone();
        let task = tokio::spawn(async move { db.run(name, query).await });
        // The task is never aborted and does not panic; if the runtime ends, so does the answer's reader.
        task.await
            .unwrap_or(Err(LedgerError::Unavailable(sqlx::Error::WorkerCrashed)))
    }

    /// A statement that changes nothing.
    pub(crate) async fn read(
        &self,
        name: &'static str,
        query: PgQuery<'_>,
    ) -> Result<Vec<PgRow>, LedgerError> {
        self.db.run(name, query).await
    }

    /// Connections that are open, and how many of them do nothing.
    pub(crate) fn connections(&self) -> (u32, usize) {
        (self.db.pool.size(), self.db.pool.num_idle())
    }
}

impl Db {
    /// One statement, in the caller's own time: a caller that may be dropped in the middle uses [`Ledger::write`].
    pub(crate) async fn run(
        &self,
        name: &'static str,
        query: PgQuery<'_>,
    ) -> Result<Vec<PgRow>, LedgerError> {
        let asked = Instant::now();
        let acquired = self.pool.acquire().await;
        self.metrics.waited(asked.elapsed());
        let mut connection = acquired?;
        let began = Instant::now();
        let answer = tokio::time::timeout(self.answer_within, query.fetch_all(&mut *connection)).await;
        let rows = match answer {
            Ok(rows) => rows.map_err(LedgerError::from),
            Err(_) => {
                // The statement may still run or have run: its connection must not serve anybody else.
                drop(connection.detach());
                let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, "the database did not answer");
                Err(LedgerError::Unavailable(sqlx::Error::Io(silent)))
            }
        };
        self.metrics.queried(name, began.elapsed());
        match &rows {
            Ok(_) => self.alive.notify_waiters(),
            Err(error) => self.metrics.failed(error),
        }
        rows
    }
}
