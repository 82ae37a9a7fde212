//! The services as shipped, on real backends of this machine, for the benches to measure.

use std::fs::OpenOptions;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use fuse_harness::client::ApiClient;
use fuse_harness::dynamodb::DynamoDb;
use fuse_harness::postgres::as_service;
use fuse_harness::services::{self, Binaries, Service, ServiceOptions};
use fuse_harness::stack::{Stack, StackOptions};
use fuse_harness::wait;
use vendor_simulator::{Simulator, SimulatorConfig};

use crate::build::{self, Profile};
use crate::summary::new_secret;

/// For a process to listen, be ready, or hold its first prices.
pub const READY_DEADLINE: Duration = Duration::from_secs(60);

/// Backends with a schema, a vendor of the wanted size, and the settings that lead services to them.
pub struct World {
    stack: Stack,
    pub vendor: Simulator,
    admin_key: String,
    envs: Vec<(String, String)>,
}

impl World {
    /// Starts the backends; the binaries are those of a release build.
    pub fn start(vendor: SimulatorConfig) -> Result<Self> {
        Self::start_on(vendor, None)
    }

    /// The same on a database of the harness, by its owner's URL.
    pub fn start_on(vendor: SimulatorConfig, owner: Option<String>) -> Result<Self> {
        Binaries::use_dir(&build::binaries(Profile::Release)?)?;
        let vendor_key = vendor.api_key.clone();
        let vendor = Simulator::start(vendor).context("start the simulated vendor")?;
        let stack = Stack::start(StackOptions {
            vendor: Some((vendor.vendor_url(), vendor_key)),
            database_url: owner.as_deref().map(as_service),
            ..StackOptions::default()
        })?;
        let admin_key = new_secret();
        let envs = stack.addresses().service_envs(&admin_key);
        match owner {
            Some(owner) => Self::migrate(&owner)?,
            None => stack.addresses().migrate()?,
        }
        Ok(Self {
            stack,
            vendor,
            admin_key,
            envs,
        })
    }

    /// Brings the schema of a database up to date, as its owner.
    pub fn migrate(owner: &str) -> Result<()> {
        services::migrate(&as_service(owner), Some(owner))
    }

    /// Runs a command to its end; `envs` win over the world's own.
    pub fn run(&self, name: &str, args: &[&str], envs: &[(&str, &str)]) -> Result<Output> {
        Service::run(name, args, self.envs_with(envs))
    }

    fn envs_with(&self, envs: &[(&str, &str)]) -> Vec<(String, String)> {
        let more = envs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.envs.iter().cloned().chain(more).collect()
    }

    /// The DynamoDB stand-in.
    pub fn dynamodb(&self) -> Result<&DynamoDb> {
        self.stack
            .dynamodb
            .as_ref()
            .context("the stand-in was not started")
    }

    /// Starts a process; `envs` win over the world's own.
    pub fn launch(&self, name: &str, envs: &[(&str, &str)]) -> Result<Service> {
        Service::launch(
            name,
            ServiceOptions {
                envs: self.envs_with(envs),
                ..ServiceOptions::default()
            },
        )
    }

    /// The same, ready.
    pub fn launch_ready(&self, name: &str, envs: &[(&str, &str)]) -> Result<Service> {
        let service = self.launch(name, envs)?;
        service.wait_ready(READY_DEADLINE)?;
        Ok(service)
    }

    /// A client of this replica with the admin's key.
    pub fn admin(&self, api: &Service) -> ApiClient {
        ApiClient::new(api.http_url(), None, &self.admin_key)
    }

    /// A key of a user, as a client has one.
    pub fn user_key(&self, api: &Service) -> Result<String> {
        self.admin(api).create_user_key("bench")
    }
}

/// Waits until a GET of `path` answers 200 and its JSON fits.
pub fn wait_for_json<T>(
    client: &ApiClient,
    path: &str,
    what: &str,
    deadline: Duration,
    mut fits: impl FnMut(&serde_json::Value) -> Option<T>,
) -> Result<T> {
    let mut last = String::new();
    wait::until(what, deadline, || {
        let answer = client.get(path).ok()?;
        let found = (answer.status == 200).then(|| fits(&answer.json())).flatten();
        last = answer.text;
        found
    })
    .map_err(|error| anyhow!("{error:#}; the last answer was: {last:.300}"))
}

/// Empties a service's log file, so that a long run stays bounded. It is opened for appending, so the next line stands at
/// its beginning.
pub fn empty_log(service: &Service) -> Result<()> {
    let path = service.proc().log_path();
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .with_context(|| format!("empty {}", path.display()))?;
    Ok(())
}

/// Bytes as megabytes of a million.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
