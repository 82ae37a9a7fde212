//! Keys that several processes share. Each group is read with `Group::read(&mut reader)`; a process takes the groups
//! it needs and adds its own keys.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::{ConfigValue as _, HttpUrl, Reader, Secret};

/// The port for clients, and what it bears.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    /// A new connection must have sent its first request head by then.
    pub header_read_timeout: Duration,
    /// An idle connection is closed after this; longer than a proxy keeps idle connections (60 s in most), so that
    /// the proxy never sends a request into a connection that we are closing.
    pub keep_alive: Duration,
    pub max_connections: usize,
}

impl HttpConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            listen: reader.value(
                "http.listen",
                "127.0.0.1:8080",
                "Address that serves the clients' API",
            ),
            header_read_timeout: reader.duration_secs(
                "http.header_read_timeout_secs",
                10,
                1..=300,
                "Seconds for the first request head of a new connection",
            ),
            keep_alive: reader.duration_secs(
                "http.keep_alive_secs",
                75,
                1..=3600,
                "Seconds that a connection may be idle; more than the proxy in front allows",
            ),
            max_connections: count(reader.number(
                "http.max_connections",
                4096,
                1..=100_000,
                "Connections served at once; more wait",
            )),
        }
    }
}

/// The port for metrics, probes and status.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    pub listen: SocketAddr,
}

impl AdminConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            listen: reader.value(
                "admin.listen",
                "127.0.0.1:9090",
                "Address that serves /metrics /livez /readyz /status",
            ),
        }
    }
}

/// How a process ends. Read by [`crate::Process::run`] for every process.
#[derive(Debug, Clone)]
pub struct LifecycleConfig {
    /// Unready but still serving, until every proxy has taken notice.
    pub drain_delay: Duration,
    /// From the signal to the hard stop; below the pod's termination grace period.
    pub deadline: Duration,
}

impl LifecycleConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let drain_delay = reader.duration_secs(
            "lifecycle.drain_delay_secs",
            5,
            0..=300,
            "Seconds to go on serving, unready, after SIGTERM (none after Ctrl-C)",
        );
        let deadline = reader.duration_secs(
            "lifecycle.deadline_secs",
            25,
            1..=3600,
            "Seconds from the signal to the hard stop; less than the pod's grace period",
        );
        if drain_delay >= deadline {
            reader.mistake(
                "lifecycle.drain_delay_secs",
                "leaves no time to drain; write less than lifecycle.deadline_secs",
            );
        }
        Self {
            drain_delay,
            deadline,
        }
    }
}

/// Threads and logs. Read by [`crate::Process::run`] for every process.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    pub worker_threads: usize,
    pub log_filter: String,
}

impl RuntimeConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            worker_threads: reader.parsed(
                "runtime.worker_threads",
                "auto",
                "auto or a whole number from 1 to 64",
                "Worker threads; auto is the number of cores, at most 4",
                worker_threads,
            ),
            log_filter: reader.parsed(
                "log.filter",
                "info",
                "a level or a list such as info,fuse_market=debug",
                "What is logged; RUST_LOG, where set, has precedence",
                crate::telemetry::check_filter,
            ),
        }
    }
}

/// Beyond four threads these processes only use more memory.
const WORKER_THREADS_AUTO_MAX: usize = 4;

fn worker_threads(text: &str) -> Result<usize, &'static str> {
    if text == "auto" {
        return Ok(std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(WORKER_THREADS_AUTO_MAX));
    }
    let number: usize = text.parse().map_err(|_| "it is not a whole number")?;
    if (1..=64).contains(&number) {
        Ok(number)
    } else {
        Err("it is out of range")
    }
}

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
}

impl RedisConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            url: reader.secret_checked(
                "redis.url",
                "URL of Redis, redis://host:6379; without it no cache is shared",
                redis_url,
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

/// How often prices are fetched.
#[derive(Debug, Clone)]
pub struct RefreshConfig {
    pub interval: Duration,
}

impl RefreshConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            interval: reader.duration_secs(
                "refresh.interval_secs",
                300,
                1..=3600,
                "Seconds between two refreshes of the prices",
            ),
        }
    }
}

/// Keys of our own clients.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// The first admin key, in the usual form `fuse_{id}_{secret}{checksum}`.
    pub bootstrap_admin_key: Option<Secret>,
}

impl AuthConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            bootstrap_admin_key: reader.secret(
                "auth.bootstrap_admin_key",
                "First admin key, for a new installation",
            ),
        }
    }
}

/// Mail: by SES when its region is given, else by SMTP; neither is a report without mail.
#[derive(Debug, Clone)]
pub struct MailConfig {
    pub smtp_url: Option<Secret>,
    pub ses_region: Option<String>,
    pub from: String,
}

impl MailConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let smtp_url = reader.secret_checked(
            "mail.smtp_url",
            "URL of the mail server, smtp://user:password@host:587 or smtps://…",
            smtp_url,
        );
        let ses_region: Option<String> = reader.optional(
            "mail.ses_region",
            "AWS region of SES, to mail by SES instead of SMTP",
        );
        if smtp_url.is_some() && ses_region.is_some() {
            reader.mistake(
                "mail.ses_region",
                "is set together with mail.smtp_url; write only one of the two",
            );
        }
        let from = reader.parsed(
            "mail.from",
            "report@localhost",
            "a mail address, such as report@example.com",
            "Sender of the report",
            mail_address,
        );
        Self {
            smtp_url,
            ses_region,
            from,
        }
    }
}

fn smtp_url(text: &str) -> Result<(), &'static str> {
    let known = ["smtp://", "smtps://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if known {
        Ok(())
    } else {
        Err("a URL that begins with smtp:// or smtps://")
    }
}

// Only what is surely wrong: the mail library judges the rest.
fn mail_address(text: &str) -> Result<String, &'static str> {
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() && !text.contains(char::is_control) => {
            Ok(text.to_owned())
        }
        _ => Err("it is not a mail address"),
    }
}

/// The daily report.
#[derive(Debug, Clone)]
pub struct ReportConfig {
    pub recipients: Vec<String>,
    pub time_zone: TimeZone,
    /// Its IANA name, as configured.
    pub time_zone_name: String,
    /// Local time of the cut.
    pub time: jiff::civil::Time,
}

impl ReportConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let recipients = reader.list(
            "report.recipients",
            "Mail addresses that get the report, separated by commas",
        );
        for recipient in &recipients {
            if let Err(why) = mail_address(recipient) {
                let message = format!(
                    "{recipient:?} is refused: {why}; write addresses such as ops@example.com, separated by commas"
                );
                reader.mistake("report.recipients", message);
            }
        }
        let help = "Time zone whose days are reported";
        let time_zone = reader.value("report.time_zone", "Etc/UTC", help);
        let time_zone_name = reader.parsed("report.time_zone", "Etc/UTC", TimeZone::EXPECTED, help, |text| {
            Ok::<_, String>(text.to_owned())
        });
        let time = reader.parsed(
            "report.time",
            "23:59",
            "a time of day, such as 23:59",
            "Local time at which the day is cut",
            |text| jiff::civil::Time::strptime("%H:%M", text).map_err(|_| "it is not hours and minutes"),
        );
        Self {
            recipients,
            time_zone,
            time_zone_name,
            time,
        }
    }
}

// The ranges above keep every count below this.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
