//! The managed services that a deployment needs, as real processes on this machine: PostgreSQL, the DynamoDB stand-in,
//! a mail sink and the simulated vendor, started together. `xtask dev`, `xtask up` and the tests of the whole share it.
//! A part that the caller brings itself (by its URL) is not started.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vendor_simulator::{Simulator, SimulatorConfig};

use crate::{
    dynamodb::DynamoDb,
    postgres::{self, Postgres, PostgresOptions},
    services,
    smtp::{SmtpOptions, SmtpSink},
};

/// Name of the database.
const DATABASE: &str = "fuse";
/// The vendor changes its prices this often, and so does the simulated one when it runs by the wall clock.
const VENDOR_TICK: Duration = Duration::from_secs(300);

/// What to start; `Default` is everything on loopback, with data that goes away, prices that stand still.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// An address beside loopback under which pods reach the parts.
    pub bridge: Option<IpAddr>,
    /// Networks of those pods, such as `10.88.0.0/16`.
    pub clients: Vec<String>,
    /// Where the database and the mails stay; absent: they go with the stack.
    pub dir: Option<PathBuf>,
    /// Let the simulated vendor's prices change every five minutes of the wall clock.
    pub follow_wall_clock: bool,
    /// A database to use instead of a built-in one.
    pub database_url: Option<String>,
    /// A DynamoDB endpoint to use instead of the stand-in.
    pub dynamodb_endpoint: Option<String>,
    /// A mail server to use instead of the sink.
    pub smtp_url: Option<String>,
    /// A vendor to use instead of the simulated one: base URL and key.
    pub vendor: Option<(String, String)>,
}

/// Where everything is; what `xtask up` writes down for its next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// As the services' role where the database is built in.
    pub database_url: String,
    /// The same database as the role that owns the tables; absent where the caller brought a database.
    pub migration_url: Option<String>,
    pub dynamodb_endpoint: String,
    /// Whether that is the stand-in.
    pub is_stand_in: bool,
    pub smtp_url: String,
    /// Where each mail is kept as a file; absent when a real mail server is used or mails are kept in memory.
    pub mail_dir: Option<PathBuf>,
    pub vendor_url: String,
    pub vendor_key: String,
    /// The simulated vendor's control port.
    pub vendor_control_url: Option<String>,
}

/// The running parts; dropping it stops those that it started.
pub struct Stack {
    addresses: Addresses,
    /// Built-in parts, for tests that stop them; absent where the caller brought one.
    pub postgres: Option<Postgres>,
    pub dynamodb: Option<DynamoDb>,
    pub smtp: Option<SmtpSink>,
    pub simulator: Option<Simulator>,
}

impl Stack {
    /// Starts all parts that the options do not bring.
    ///
    /// # Errors
    /// When a part is not installed (the message names the package) or does not start.
    pub fn start(options: StackOptions) -> Result<Self> {
        let seen_at = options.bridge.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let postgres = options
            .database_url
            .is_none()
            .then(|| start_postgres(&options))
            .transpose()?;
        let dynamodb = match &options.dynamodb_endpoint {
            Some(_) => None,
            None => Some(DynamoDb::start_on(
                &options.bridge.into_iter().collect::<Vec<_>>(),
            )?),
        };
        let mail_dir = options.dir.as_ref().map(|dir| dir.join("mail"));
        let smtp = match &options.smtp_url {
            Some(_) => None,
            None => Some(SmtpSink::start_with(SmtpOptions {
                listen: options.bridge.into_iter().collect(),
                dir: mail_dir.clone(),
                ..SmtpOptions::default()
            })?),
        };
        let simulator = options
            .vendor
            .is_none()
            .then(|| start_simulator(seen_at, options.follow_wall_clock))
            .transpose()?;
        let (vendor_url, vendor_key) = match (&simulator, options.vendor) {
            (Some(simulator), _) => (simulator.vendor_url(), SimulatorConfig::default().api_key),
            (None, vendor) => vendor.context("no vendor")?,
        };
        let migration_url = postgres
            .as_ref()
            .map(|postgres| postgres.url_at(seen_at, DATABASE));
        let addresses = Addresses {
            database_url: options
                .database_url
                .or_else(|| migration_url.as_deref().map(postgres::as_service))
                .context("no database")?,
            migration_url,
            dynamodb_endpoint: options
                .dynamodb_endpoint
                .or_else(|| Some(dynamodb.as_ref()?.endpoint_at(seen_at)))
                .context("no DynamoDB")?,
            smtp_url: options
                .smtp_url
                .or_else(|| Some(smtp.as_ref()?.url_at(seen_at)))
                .context("no mail server")?,
            is_stand_in: dynamodb.is_some(),
            mail_dir: mail_dir.filter(|_| smtp.is_some()),
            vendor_url,
            vendor_key,
            vendor_control_url: simulator.as_ref().map(Simulator::control_url),
        };
        Ok(Self {
            addresses,
            postgres,
            dynamodb,
            smtp,
            simulator,
        })
    }

    /// Where everything is.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

impl Addresses {
    /// Brings the schema up to date, as the role that owns the tables.
    ///
    /// # Errors
    /// When `api-service migrate` fails; the message holds what it said.
    pub fn migrate(&self) -> Result<()> {
        services::migrate(&self.database_url, self.migration_url.as_deref())
    }

    /// Environment of a service that runs as a process beside these parts.
    #[must_use]
    pub fn service_envs(&self, admin_key: &str) -> Vec<(String, String)> {
        [
            ("FUSE_DATABASE__URL", self.database_url.as_str()),
            ("FUSE_DYNAMODB__ENDPOINT", &self.dynamodb_endpoint),
            ("FUSE_DYNAMODB__REGION", "us-east-1"),
            ("FUSE_DYNAMODB__TABLE_PREFIX", "fuse"),
            ("FUSE_VENDOR__BASE_URL", &self.vendor_url),
            ("FUSE_VENDOR__API_KEY", &self.vendor_key),
            ("FUSE_MAIL__SMTP_URL", &self.smtp_url),
            ("FUSE_MAIL__FROM", "report@fuse.example"),
            ("FUSE_REPORT__RECIPIENTS", "ops@fuse.example"),
            ("FUSE_AUTH__BOOTSTRAP_ADMIN_KEY", admin_key),
        ]
        .into_iter()
        // The stand-in takes any credentials; the SDK wants some. A real DynamoDB gets those of the caller.
        .chain(self.is_stand_in.then_some(("AWS_ACCESS_KEY_ID", "local")))
        .chain(self.is_stand_in.then_some(("AWS_SECRET_ACCESS_KEY", "local")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }
}

fn start_postgres(options: &StackOptions) -> Result<Postgres> {
    let postgres = Postgres::start_with(PostgresOptions {
        listen: options.bridge.into_iter().collect(),
        clients: options.clients.clone(),
        dir: options.dir.as_ref().map(|dir| dir.join("postgres")),
        ..PostgresOptions::default()
    })?;
    postgres.create_database(DATABASE)?;
    Ok(postgres)
}

fn start_simulator(ip: IpAddr, follow_wall_clock: bool) -> Result<Simulator> {
    let mut config = SimulatorConfig {
        listen: SocketAddr::new(ip, 0),
        ..SimulatorConfig::default()
    };
    if follow_wall_clock {
        let tick_secs = i64::try_from(VENDOR_TICK.as_secs())?;
        let now = Timestamp::now().as_second();
        config.epoch = Timestamp::from_second(now - now % tick_secs)?;
        config.auto_tick = Some(VENDOR_TICK);
    }
    Simulator::start(config).context("start the simulated vendor")
}
