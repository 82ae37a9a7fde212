//! What the processes talk to.

use std::time::Duration;

use crate::config::HttpUrl;
use crate::{Reader, Secret};

/// PostgreSQL.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    pub url: Secret,
    pub max_connections: u32,
    /// Waiting longer than this for a connection is an answer of 503.
    pub acquire_timeout: Duration,
    pub statement_timeout: Duration,
}

impl DatabaseConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            url: reader.required_secret_checked(
                "database.url",
                "URL of the PostgreSQL database, postgres://user:password@host/name",
                postgres_url,
            ),
            max_connections: u32::try_from(reader.number(
                "database.max_connections",
                10,
                1..=1000,
                "Connections to the database per process",
            ))
            .unwrap_or(u32::MAX),
            acquire_timeout: reader.duration_millis(
                "database.acquire_timeout_millis",
                1000,
                50..=30_000,
                "Milliseconds to wait for a database connection",
            ),
            statement_timeout: reader.duration_millis(
                "database.statement_timeout_millis",
                5000,
                50..=600_000,
                "Milliseconds that one statement may take",
            ),
        }
    }
}

/// The URL that `migrate` uses, as the role that owns the tables; `None`: it uses the service's own.
pub fn migration_url(reader: &mut Reader) -> Option<Secret> {
    reader.secret_checked(
        "database.migration_url",
        "URL of the same database for migrate, as the role that owns the tables; without it database.url, whose role could then switch the schema's rules off",
        postgres_url,
    )
}

fn postgres_url(text: &str) -> Result<(), &'static str> {
    let known = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if known {
        Ok(())
    } else {
        Err("a URL that begins with postgres:// or postgresql://")
    }
}

/// Redis; without it every process works by itself.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    pub url: Option<Secret>,
    pub connect_timeout: Duration,
    /// One answer.
    pub response_timeout: Duration,
    /// Between two PINGs of the subscriber; one that is not answered within as long ends its connection.
    pub heartbeat: Duration,
}

impl RedisConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            url: reader.secret_checked(
                "redis.url",
                "URL of Redis, redis://host:6379; without it no cache is shared",
                redis_url,
            ),
            connect_timeout: reader.duration_millis(
                "redis.connect_timeout_millis",
                200,
                10..=10_000,
                "Milliseconds to connect to Redis",
            ),
            response_timeout: reader.duration_millis(
                "redis.response_timeout_millis",
                100,
                10..=10_000,
                "Milliseconds for one answer of Redis",
            ),
            heartbeat: reader.duration_millis(
                "redis.heartbeat_millis",
                5000,
                50..=60_000,
                "Milliseconds between two PINGs of the subscriber; one that is not answered within as long ends its connection",
            ),
        }
    }
}

fn redis_url(text: &str) -> Result<(), &'static str> {
    let known = ["redis://", "rediss://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if known {
        Ok(())
    } else {
        Err("a URL that begins with redis:// or rediss://")
    }
}

/// DynamoDB. Credentials come from the SDK's own chain (environment, profile, web identity, instance).
#[derive(Debug, Clone)]
pub struct DynamoDbConfig {
    /// Another address than AWS's own, for tests and local work.
    pub endpoint: Option<HttpUrl>,
    pub region: String,
    /// Names of tables begin with it.
    pub table_prefix: String,
    pub connect_timeout: Duration,
    pub attempt_timeout: Duration,
    pub operation_timeout: Duration,
    /// Whether a missing table (or its index) may be made.
    pub create_table: bool,
    /// Write units a second that batches keep to; the first second may burst.
    pub write_units_per_sec: u32,
}

impl DynamoDbConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            endpoint: reader.optional(
                "dynamodb.endpoint",
                "Address of DynamoDB when it is not AWS's own",
            ),
            region: reader.parsed(
                "dynamodb.region",
                "us-east-1",
                "an AWS region, such as us-east-1",
                "AWS region of DynamoDB",
                region,
            ),
            table_prefix: reader.parsed(
                "dynamodb.table_prefix",
                "fuse",
                "3 to 32 letters, digits, '-' or '_'",
                "Beginning of the table names",
                table_prefix,
            ),
            connect_timeout: reader.duration_millis(
                "dynamodb.connect_timeout_millis",
                200,
                10..=60_000,
                "Milliseconds to connect to DynamoDB",
            ),
            attempt_timeout: reader.duration_millis(
                "dynamodb.attempt_timeout_millis",
                300,
                10..=60_000,
                "Milliseconds for one attempt of a DynamoDB call",
            ),
            operation_timeout: reader.duration_millis(
                "dynamodb.operation_timeout_millis",
                800,
                10..=120_000,
                "Milliseconds for a DynamoDB call with its retries",
            ),
            create_table: reader.value(
                "dynamodb.create_table",
                "true",
                "Whether a pass makes a missing table or its index",
            ),
            write_units_per_sec: u32::try_from(reader.number(
                "dynamodb.write_units_per_sec",
                1_000,
                10..=1_000_000,
                "Write units a second that publishing a snapshot keeps to",
            ))
            .unwrap_or(u32::MAX),
        }
    }
}

fn region(text: &str) -> Result<String, &'static str> {
    let legal = !text.is_empty()
        && text.len() <= 32
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if legal {
        Ok(text.to_owned())
    } else {
        Err("a region has lower-case letters, digits and '-' only")
    }
}

fn table_prefix(text: &str) -> Result<String, &'static str> {
    let legal = (3..=32).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if legal {
        Ok(text.to_owned())
    } else {
        Err("a table name could not begin with it")
    }
}

/// The stock vendor.
#[derive(Debug, Clone)]
pub struct VendorConfig {
    pub base_url: HttpUrl,
    pub api_key: Secret,
    pub connect_timeout: Duration,
    /// One page of the list, connecting included.
    pub page_timeout: Duration,
    /// One buy, connecting and repeated connecting included.
    pub buy_timeout: Duration,
    /// All pages.
    pub crawl_timeout: Duration,
    /// Below the vendor's own, so that a buy never goes into a connection that the vendor is closing.
    pub pool_idle_timeout: Duration,
}

impl VendorConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            base_url: reader.required(
                "vendor.base_url",
                "https://vendor.example.com",
                "URL of the vendor's API",
            ),
            api_key: reader.required_secret("vendor.api_key", "Key for the vendor's API"),
            connect_timeout: reader.duration_millis(
                "vendor.connect_timeout_millis",
                2000,
                10..=60_000,
                "Milliseconds to connect to the vendor",
            ),
            page_timeout: reader.duration_millis(
                "vendor.page_timeout_millis",
                10_000,
                50..=120_000,
                "Milliseconds for one page of the vendor's list",
            ),
            buy_timeout: reader.duration_millis(
                "vendor.buy_timeout_millis",
                10_000,
                50..=120_000,
                "Milliseconds for one buy at the vendor",
            ),
            crawl_timeout: reader.duration_secs(
                "vendor.crawl_timeout_secs",
                120,
                1..=3600,
                "Seconds for a crawl of all pages",
            ),
            pool_idle_timeout: reader.duration_secs(
                "vendor.pool_idle_timeout_secs",
                4,
                0..=600,
                "Seconds that an idle connection to the vendor is kept",
            ),
        }
    }
}
