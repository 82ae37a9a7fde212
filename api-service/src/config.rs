//! The keys of api-service, beside those that every process shares.

use std::time::Duration;

use fuse_domain::{Amount, OrderPolicy, Tolerance};
use fuse_market::CrawlLimits;
use fuse_platform::config::{
    AdminConfig, AuthConfig, DatabaseConfig, DynamoDbConfig, HttpConfig, Reader, RedisConfig, RefreshConfig,
    ReportConfig, Secret, VendorConfig,
};
use http::HeaderValue;
use secrecy::ExposeSecret as _;

use crate::auth::{BOOTSTRAP_KEY_MIN_CHARS, KeyRingSettings};
use crate::http::Limits;
use crate::market_data::Freshness;
use crate::orders::OrderSettings;
use crate::state::ReportSchedule;

/// Half of SHA-256 at least.
const PAGE_TOKEN_KEY_MIN_CHARS: usize = 32;
/// What an order may need beside the vendor: two writes with their waits.
const ORDER_MARGIN: Duration = Duration::from_secs(10);

/// Everything that `serve` needs.
#[derive(Debug)]
pub struct ServeConfig {
    /// Port for clients.
    pub http: HttpConfig,
    /// Port for probes and metrics.
    pub admin: AdminConfig,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// DynamoDB.
    pub dynamodb: DynamoDbConfig,
    /// Shares snapshots and limits between replicas, when there is one.
    pub redis: RedisConfig,
    /// Where stocks are bought.
    pub vendor: VendorConfig,
    /// What a crawl by this replica may take.
    pub crawl: CrawlLimits,
    /// First admin key.
    pub bootstrap_admin_key: Option<Secret>,
    /// Seals page tokens; the same on every replica.
    pub page_token_key: Option<Secret>,
    /// How long a key's record is believed.
    pub keys: KeyRingSettings,
    /// What orders may be.
    pub policy: OrderPolicy,
    /// After the vendor's deadline and this an order that nobody settled is given up as unknown.
    pub sweep_margin: Duration,
    /// Pause between two checks of the whole ledger; zero: none.
    pub verify_every: Duration,
    /// How orders are taken.
    pub orders: OrderSettings,
    /// How old is too old.
    pub freshness: Freshness,
    /// How often the pointer of the snapshot is looked at.
    pub poll: Duration,
    /// How often new prices are expected.
    pub interval: Duration,
    /// How long a reader waits for the very first prices.
    pub cold_wait: Duration,
    /// At most so often prices are fetched early because the vendor refused one that our quote allowed.
    pub early_pass_every: Duration,
    /// Limits of requests.
    pub limits: Limits,
    /// Origins of browsers that may call.
    pub origins: Vec<HeaderValue>,
    /// Most successful reads that are logged in a second.
    pub read_sample_per_sec: u64,
    /// When reports are due.
    pub report_schedule: ReportSchedule,
}

impl ServeConfig {
    /// Reads every key; mistakes are recorded in the reader.
    pub fn read(reader: &mut Reader) -> Self {
        let refresh = RefreshConfig::read(reader);
        let report = ReportConfig::read(reader);
        let vendor = VendorConfig::read(reader);
        let config = Self {
            http: HttpConfig::read(reader),
            admin: AdminConfig::read(reader),
            database: DatabaseConfig::read(reader),
            dynamodb: DynamoDbConfig::read(reader),
            redis: RedisConfig::read(reader),
            crawl: CrawlLimits::read(reader, &vendor),
            vendor,
            bootstrap_admin_key: bootstrap_admin_key(reader),
            page_token_key: page_token_key(reader),
            keys: keys(reader),
            policy: policy(reader),
            orders: orders(reader),
            sweep_margin: reader.duration_secs(
                "orders.sweep_margin_secs",
                30,
                1..=3600,
                "Seconds after the vendor's deadline (vendor.buy_timeout_millis) until an order that nobody settled becomes unknown",
            ),
            verify_every: reader.duration_secs(
                "audit.verify_every_secs",
                3600,
                0..=86_400,
                "Seconds between two checks of the whole ledger by one of the replicas; 0: none",
            ),
            freshness: Freshness {
                stale_after_secs: reader.number(
                    "stocks.stale_after_secs",
                    300,
                    1..=86_400,
                    "Seconds after which prices are marked stale",
                ),
                tick_secs: refresh.interval.as_secs(),
            },
            poll: reader.duration_millis(
                "stocks.poll_millis",
                1000,
                50..=60_000,
                "Milliseconds between two looks for a newer snapshot, while Redis does not tell of them",
            ),
            interval: refresh.interval,
            cold_wait: reader.duration_secs(
                "stocks.cold_wait_secs",
                10,
                0..=60,
                "Seconds that a reader waits for the very first crawl of prices",
            ),
            early_pass_every: reader.duration_secs(
                "stocks.early_pass_secs",
                15,
                1..=3600,
                "At most so often, in seconds, are prices fetched early because the vendor refused one that our quote allowed",
            ),
            limits: limits(reader),
            origins: origins(reader),
            read_sample_per_sec: reader.number(
                "log.read_sample_per_sec",
                100,
                1..=1_000_000,
                "Successful reads that are logged in a second, at most; beyond it they are sampled, and the share is logged",
            ),
            report_schedule: ReportSchedule {
                time_zone: report.time_zone,
                time: report.time,
            },
        };
        if config.limits.request_timeout < config.vendor.buy_timeout + ORDER_MARGIN {
            reader.mistake(
                "limits.request_timeout_secs",
                "leaves no time for an order; write at least ten seconds more than vendor.buy_timeout_millis",
            );
        }
        config
    }
}

fn bootstrap_admin_key(reader: &mut Reader) -> Option<Secret> {
    let key = AuthConfig::read(reader).bootstrap_admin_key;
    if let Some(key) = &key
        && key.reveal().expose_secret().chars().count() < BOOTSTRAP_KEY_MIN_CHARS
    {
        let message = "the secret (not shown) could be guessed; write a key of at least 24 characters";
        reader.mistake("auth.bootstrap_admin_key", message);
    }
    key
}

fn page_token_key(reader: &mut Reader) -> Option<Secret> {
    reader.secret_checked(
        "auth.page_token_key",
        "Seals page tokens, the same on every replica; without it they depend on the bootstrap key",
        |text| match text.chars().count() {
            PAGE_TOKEN_KEY_MIN_CHARS.. => Ok(()),
            _ => Err("at least 32 random characters"),
        },
    )
}

fn keys(reader: &mut Reader) -> KeyRingSettings {
    KeyRingSettings {
        fresh_for: reader.duration_secs(
            "auth.key_fresh_secs",
            2,
            0..=60,
            "Seconds until a revoked key is refused by every replica",
        ),
        stale_for: reader.duration_secs(
            "auth.key_stale_secs",
            300,
            0..=86_400,
            "Seconds that a known key goes on working while the database is away",
        ),
    }
}

fn policy(reader: &mut Reader) -> OrderPolicy {
    OrderPolicy {
        tolerance: reader.parsed(
            "orders.price_tolerance_percent",
            "2",
            "a percentage from 0 to 99.9999 with at most 4 decimals",
            "How far a limit price may be from the quote, in percent of the quote",
            Tolerance::parse,
        ),
        max_quote_age_secs: reader.number(
            "orders.max_quote_age_secs",
            600,
            1..=86_400,
            "Oldest quote that an order is checked against, in seconds",
        ),
        max_notional: reader.parsed(
            "orders.max_notional",
            "10000000",
            "an amount such as 10000000",
            "Largest price times quantity of an order",
            Amount::parse,
        ),
    }
}

fn orders(reader: &mut Reader) -> OrderSettings {
    let max_per_day = reader.number(
        "orders.max_per_day_per_key",
        0,
        0..=i32::MAX.unsigned_abs().into(),
        "Orders in a day (UTC) of a key without such a limit of its own, those that were rejected not counted; 0: any number",
    );
    OrderSettings {
        require_idempotency_key: reader.value(
            "orders.require_idempotency_key",
            "true",
            "Whether an order without Idempotency-Key is refused; otherwise a key is made for it, and a repeat buys again",
        ),
        max_per_day_per_key: u32::try_from(max_per_day).ok().filter(|max| *max > 0),
    }
}

fn limits(reader: &mut Reader) -> Limits {
    Limits {
        body_max_bytes: count(reader.number(
            "limits.body_max_bytes",
            65_536,
            1_024..=16_777_216,
            "Largest body of a request",
        )),
        body_timeout: reader.duration_secs(
            "limits.body_timeout_secs",
            10,
            1..=300,
            "Seconds for a body to arrive",
        ),
        request_timeout: reader.duration_secs(
            "limits.request_timeout_secs",
            30,
            1..=300,
            "Seconds for an answer; more than an order may take",
        ),
        concurrency_max: count(reader.number(
            "limits.concurrency_max",
            1024,
            1..=100_000,
            "Requests answered at once; more get 503",
        )),
        uri_max_bytes: 8 * 1024,
        headers_max_bytes: 16 * 1024,
    }
}

fn origins(reader: &mut Reader) -> Vec<HeaderValue> {
    let mut origins = Vec::new();
    let help = "Origins of web pages that may call this API, such as https://app.example.com";
    for origin in reader.list("cors.origins", help) {
        let has_scheme = origin.starts_with("https://") || origin.starts_with("http://");
        match HeaderValue::from_str(&origin) {
            Ok(value) if has_scheme && !origin.ends_with('/') => origins.push(value),
            _ => {
                let message = format!(
                    "{origin:?} is refused: write an origin such as https://app.example.com, without a path"
                );
                reader.mistake("cors.origins", message);
            }
        }
    }
    origins
}

// The ranges above keep every count below this.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
