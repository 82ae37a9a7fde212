//! `api-service serve`: wires the parts and serves until asked to stop.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fuse_ledger::Ledger;
use fuse_market::{L1, Market, MarketParts, SnapshotStore, VendorClient, patient};
use fuse_platform::config::DatabaseConfig;
use fuse_platform::{BoxError, Context, Secret, aws, http_server};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret as _;
use serde_json::json;
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::audit::Auditor;
use crate::auth::{BootstrapKey, KeyRing};
use crate::commands::STATEMENT_TIMEOUT;
use crate::config::ServeConfig;
use crate::http;
use crate::metrics::Metrics;
use crate::orders::{Backlog, OrderDesk};
use crate::page_token::PageTokens;
use crate::probes::Probes;
use crate::routes::stock_prices::READERS_MAX;
use crate::shelf::Shelves;
use crate::state::{AppState, Parts};
use crate::upkeep::Upkeep;

/// One check runs at a time.
const AUDIT_CONNECTIONS: u32 = 1;
/// Beyond the time that PostgreSQL gives a statement: the way there and the commit.
const WRITE_MARGIN: Duration = Duration::from_secs(5);

/// Runs the service. Needs no dependency to be there: what is away answers 503 until it is back.
pub async fn serve(context: Context, config: ServeConfig) -> Result<(), BoxError> {
    let shutdown = context.shutdown.clone();
    let vendor = VendorClient::new(&config.vendor, &context.metrics)?;
    let store = store(&context, &config, (&config.dynamodb).into()).await;
    let parts = MarketParts {
        vendor: vendor.clone(),
        store: store.clone(),
        pass_store: self::store(&context, &config, patient((&config.dynamodb).into())).await,
        l1: L1::new(&config.redis, &config.dynamodb.table_prefix, &context.metrics)?,
        limits: config.crawl.clone(),
        interval: config.interval,
        poll: config.poll,
        cold_wait: config.cold_wait,
        early_pass_every: config.early_pass_every,
    };
    let market = Market::new(parts, &context.metrics, shutdown.drain.clone());
    let state = state(&context, &config, vendor, market.clone())?;
    let asked = context
        .readiness
        .condition("market", "the snapshot store was not asked yet");
    let follower = market.clone();
    shutdown.spawn_vital("market", async move { follower.run().await });
    shutdown.spawn_vital("shelves", state.shelves.clone().keep(shutdown.drain.clone()));
    tokio::spawn(async move {
        market.view().tried().await;
        asked.met();
    });
    let upkeep = Upkeep {
        ledger: state.ledger.clone(),
        auditor: state.auditor.clone(),
        submitted_max: config.vendor.buy_timeout + config.sweep_margin,
        verify_every: config.verify_every,
        metrics: Arc::clone(&state.metrics),
    };
    shutdown.spawn_vital("upkeep", upkeep.run(shutdown.soft.clone()));
    let probes = Probes::new(&context.metrics, state.clone(), store);
    shutdown.spawn_vital("probes", probes.run(shutdown.soft.clone()));
    // Before anybody is told that this replica is ready.
    let listener = http_server::bind(config.http.listen, "http").await?;
    context.serve_admin(&config.admin, status(state.clone())).await?;
    let router = http::build(state, &config.origins);
    http_server::serve(listener, router, shutdown, (&config.http).into()).await;
    Ok(())
}

async fn store(context: &Context, config: &ServeConfig, aws: aws::AwsConfig) -> SnapshotStore {
    SnapshotStore::new(&aws::sdk_config(&aws).await, &config.dynamodb, &context.metrics)
}

/// The parts, wired. Nothing connects here.
fn state(
    context: &Context,
    config: &ServeConfig,
    vendor: VendorClient,
    market: Market,
) -> Result<AppState, BoxError> {
    let metrics = Arc::new(Metrics::new(&context.metrics));
    let ledger = Ledger::new(&config.database, &context.metrics)?;
    let few = DatabaseConfig {
        max_connections: AUDIT_CONNECTIONS,
        ..config.database.clone()
    };
    let patient = Ledger::with_statement_timeout(&few, &context.metrics, STATEMENT_TIMEOUT)?;
    let desk = OrderDesk {
        ledger: ledger.clone(),
        vendor: vendor.clone(),
        market: market.clone(),
        policy: Arc::new(config.policy.clone()),
        backlog: Backlog::new(ledger.clone(), context.shutdown.clone(), Arc::clone(&metrics)),
        send_within: config.sweep_margin,
        write_ends_within: config.database.statement_timeout + WRITE_MARGIN,
        shutdown: context.shutdown.clone(),
        metrics: Arc::clone(&metrics),
    };
    let bootstrap = config.bootstrap_admin_key.clone();
    let tokens = page_tokens(config.page_token_key.as_ref().or(bootstrap.as_ref()));
    Ok(AppState::new(Parts {
        desk,
        auditor: Auditor::new(patient, context.shutdown.clone()),
        orders: config.orders,
        shelves: Shelves::new(market.clone(), tokens.clone(), Arc::clone(&metrics)),
        market,
        vendor,
        tokens,
        history_readers: Semaphore::new(READERS_MAX),
        keys: KeyRing::new(
            ledger.clone(),
            Arc::clone(&metrics),
            bootstrap.map(BootstrapKey::new),
            config.keys,
        ),
        ledger,
        limits: config.limits.clone(),
        freshness: config.freshness,
        report_schedule: config.report_schedule.clone(),
        read_sample_per_sec: config.read_sample_per_sec,
        metrics,
        openapi: Bytes::from(http::openapi().to_json()?),
    }))
}

/// Derived from what replicas share, so that a walk may change replica. The secret itself seals nothing.
fn page_tokens(secret: Option<&Secret>) -> PageTokens {
    let Some(secret) = secret else {
        tracing::warn!(
            "neither auth.page_token_key nor auth.bootstrap_admin_key is set: page tokens work on this replica only, until it restarts"
        );
        return PageTokens::new(&rand::random::<[u8; 32]>());
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().expose_secret().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(b"fuse page tokens 1");
    PageTokens::new(&mac.finalize().into_bytes())
}

/// What `/status` of the admin port says beside the frame's own figures.
fn status(state: AppState) -> impl Fn() -> serde_json::Value + Send + Sync + 'static {
    move || {
        let now = jiff::Timestamp::now();
        let snapshot = state.shelves.current().map(|shelf| Arc::clone(shelf.snapshot()));
        let hearing = state.market.hearing();
        let breakers = state.vendor.breakers();
        json!({
            "snapshot": snapshot.map(|snapshot| state.freshness.describe(&snapshot.meta, now)),
            "market": {"silentForSeconds": hearing.silent_for.as_secs(), "deaf": hearing.is_deaf},
            "vendor": {"list": breakers.list.as_str(), "buy": breakers.buy.as_str()},
            "dependencies": {
                "postgres": state.metrics.postgres_up.get() == 1,
                "dynamodb": state.metrics.dynamodb_up.get() == 1,
            },
            "settlementsWaiting": state.desk.backlog.waiting(),
            "requestsInFlight": state.metrics.http_in_flight.get(),
        })
    }
}
