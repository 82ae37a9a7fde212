//! The connection for commands: tight deadlines, one retry, and one log line per change between away and back.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuse_platform::Metrics;
use fuse_platform::config::{RedisConfig, Secret};
use prometheus::{IntCounterVec, IntGauge};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, Pipeline, RedisError};
use secrecy::ExposeSecret;

use super::L1Error;

const RETRIES: usize = 1;
const RETRY_DELAY_MIN: Duration = Duration::from_millis(20);
const RETRY_DELAY_MAX: Duration = Duration::from_millis(100);

/// Redis did not do it. Said and counted already; the caller does without.
#[derive(Debug)]
pub(super) struct Failure;

#[derive(Clone)]
pub(super) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    settings: ConnectionManagerConfig,
    /// With a number that says which one it is.
    connection: Mutex<(u64, ConnectionManager)>,
    /// For one command, connecting included.
    limit: Duration,
    state: State,
}

struct State {
    /// 0 not tried, 1 away, 2 there.
    known: AtomicU8,
    up: IntGauge,
    errors: IntCounterVec,
}

pub(super) fn errors(metrics: &Metrics) -> IntCounterVec {
    metrics.counter_vec(
        "redis_errors_total",
        "Uses of Redis that failed; everything goes on without it",
        &[("op", &["put", "load", "current", "announce", "listen"])],
    )
}

pub(super) fn client(url: &Secret) -> Result<Client, L1Error> {
    // TLS takes the process's provider, which a library's test may not have installed.
    fuse_platform::tls::install_provider();
    Client::open(url.reveal().expose_secret()).map_err(|error| L1Error(reason(&error)))
}

impl Link {
    pub(super) fn new(client: Client, config: &RedisConfig, metrics: &Metrics) -> Result<Self, L1Error> {
        let settings = ConnectionManagerConfig::new()
            .set_number_of_retries(RETRIES)
            .set_min_delay(RETRY_DELAY_MIN)
            .set_max_delay(RETRY_DELAY_MAX)
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.response_timeout));
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), settings.clone())
            .map_err(|error| L1Error(reason(&error)))?;
        let shared = Shared {
            client,
            settings,
            connection: Mutex::new((0, connection)),
            limit: config.connect_timeout + config.response_timeout,
            state: State {
                known: AtomicU8::new(0),
                up: metrics.dependency_up("redis"),
                errors: errors(metrics),
            },
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, op: &str, command: &Cmd) -> Result<T, Failure> {
        let (number, mut connection) = self.shared.connection().clone();
        let asked = command.query_async(&mut connection);
        self.shared.bounded(op, number, asked).await
    }

    pub(super) async fn run<T: FromRedisValue>(&self, op: &str, pipeline: &Pipeline) -> Result<T, Failure> {
        let (number, mut connection) = self.shared.connection().clone();
        let asked = pipeline.query_async(&mut connection);
        self.shared.bounded(op, number, asked).await
    }
}

impl Shared {
    fn connection(&self) -> MutexGuard<'_, (u64, ConnectionManager)> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn bounded<T>(
        &self,
        op: &str,
        number: u64,
        asked: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Failure> {
        let answer = match tokio::time::timeout(self.limit, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(reason(&error)),
            Err(_) => Err("timeout".to_owned()),
        };
        self.state.known(op, answer.as_ref().err().map(String::as_str));
        answer.map_err(|_| self.replace(number))
    }

    /// The manager reconnects when a connection is closed, but it goes on with one that has fallen silent, and it
    /// gives its last failure to connect once more to the next command. A fresh one does neither.
    fn replace(&self, number: u64) -> Failure {
        let mut connection = self.connection();
        if connection.0 == number
            && let Ok(fresh) =
                ConnectionManager::new_lazy_with_config(self.client.clone(), self.settings.clone())
        {
            *connection = (number + 1, fresh);
        }
        Failure
    }
}

impl State {
    fn known(&self, op: &str, away: Option<&str>) {
        self.up.set(i64::from(away.is_none()));
        if away.is_some() {
            self.errors.with_label_values(&[op]).inc();
        }
        let now = if away.is_some() { 1 } else { 2 };
        let before = self.known.swap(now, Ordering::Relaxed);
        match away {
            _ if before == now => {}
            Some(reason) => tracing::warn!(reason, op, "Redis is away; going on without it"),
            None => tracing::info!("Redis answers"),
        }
    }
}

/// What kind of error it is. The texts of errors themselves can carry addresses.
pub(super) fn reason(error: &RedisError) -> String {
    match error.code() {
        Some(code) => code.to_owned(),
        None => error.category().to_owned(),
    }
}
