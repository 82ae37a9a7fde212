//! Our own processes: found or built once, started with free ports, ready when they say so.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::proc::{self, Proc};

const START_DEADLINE: Duration = Duration::from_secs(30);
const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);
const STOP_GRACE: Duration = Duration::from_secs(30);
/// Packages whose binaries the tests start.
const PACKAGES: [&str; 5] = [
    "api-service",
    "cache-refresher",
    "report-job",
    "operator",
    "vendor-simulator",
];

/// What the DynamoDB stand-in takes for credentials.
const AWS_ENVS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "harness"),
    ("AWS_SECRET_ACCESS_KEY", "harness"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// The folder of our binaries.
#[derive(Debug, Clone)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// `FUSE_BIN_DIR` when set; else they are built with cargo, once per process.
    ///
    /// # Errors
    /// When the folder lacks a binary or the build fails (the message holds the compiler's).
    pub fn locate() -> Result<&'static Self> {
        LOCATED
            .get_or_init(|| find_or_build().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("{error}"))
    }

    /// Settles for this process that binaries are in `dir`, for a caller that built them itself.
    ///
    /// # Errors
    /// When another folder was settled before. A binary that is missing there is an error where it is used.
    pub fn use_dir(dir: &Path) -> Result<()> {
        let located = LOCATED.get_or_init(|| Ok(Self { dir: dir.to_owned() }));
        match located {
            Ok(binaries) if binaries.dir == dir => Ok(()),
            _ => bail!("this process already took its binaries from another place"),
        }
    }

    /// # Errors
    /// When there is no such binary.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if !path.is_file() {
            bail!("{} does not exist", path.display());
        }
        Ok(path)
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

static LOCATED: OnceLock<Result<Binaries, String>> = OnceLock::new();

fn complete(dir: &Path) -> Result<Binaries> {
    let binaries = Binaries { dir: dir.to_owned() };
    for name in PACKAGES {
        binaries.path(name)?;
    }
    Ok(binaries)
}

fn find_or_build() -> Result<Binaries> {
    if let Some(dir) = std::env::var_os("FUSE_BIN_DIR") {
        return complete(Path::new(&dir)).context("FUSE_BIN_DIR");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(workspace_root()?)
        .args([
            "build",
            "--quiet",
            "--bins",
            "--message-format=json-render-diagnostics",
        ])
        .args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    let output = proc::run(&mut build, BUILD_DEADLINE).context("build our binaries")?;
    // Cargo tells where each executable lies, whatever target folder is configured.
    let text = String::from_utf8_lossy(&output.stdout);
    let executable = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no executable")?;
    let dir = executable.parent().context("a folder")?.to_owned();
    Ok(Binaries { dir })
}

/// The workspace's folder: the tests crate lies directly in it.
///
/// # Errors
/// When the crate's folder has no parent.
pub fn workspace_root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .ancestors()
        .find(|dir| dir.join("Cargo.lock").is_file())
        .map(Path::to_owned)
        .with_context(|| format!("no workspace above {}", manifest.display()))
}

/// What a service is started with besides its binary.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    pub args: Vec<String>,
    pub envs: Vec<(String, String)>,
    pub log_file: Option<PathBuf>,
    /// Give `FUSE_HTTP__LISTEN` and `FUSE_ADMIN__LISTEN` a free loopback port unless they are among `envs`.
    pub free_ports: bool,
    /// Our own `FUSE_` variables are kept from the child unless this is set.
    pub inherit_fuse_envs: bool,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            envs: Vec::new(),
            log_file: None,
            free_ports: true,
            inherit_fuse_envs: false,
        }
    }
}

/// A running process of ours; killed on drop.
#[derive(Debug)]
pub struct Service {
    proc: Proc,
    http: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Service {
    /// Starts it and waits until `/readyz` says ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the message holds its log.
    pub fn spawn<K, V>(name: &str, args: &[&str], envs: impl IntoIterator<Item = (K, V)>) -> Result<Self>
    where
        K: Into<String>,
        V: Into<String>,
    {
        let service = Self::launch(name, options(args, envs))?;
        service.wait_ready(START_DEADLINE)?;
        Ok(service)
    }

    /// Starts it and waits until it listens, ready or not: for tests of start-up without a backend.
    ///
    /// # Errors
    /// When it ends or does not listen in time.
    pub fn spawn_unready<K, V>(
        name: &str,
        args: &[&str],
        envs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self>
    where
        K: Into<String>,
        V: Into<String>,
    {
        Self::launch(name, options(args, envs))
    }

    /// Starts it with all options and waits for its `… listening` lines: `admin listening` always, `http listening` for api-service.
    ///
    /// # Errors
    /// When it ends or does not listen in time.
    pub fn launch(name: &str, options: ServiceOptions) -> Result<Self> {
        let program = Binaries::locate()?.path(name)?;
        let mut builder = Proc::build(name, program).args(&options.args);
        if let Some(log) = &options.log_file {
            builder = builder.log_file(log);
        }
        if !options.inherit_fuse_envs {
            builder = builder
                .env_clear()
                .envs(std::env::vars_os().filter(|(key, _)| !key.to_string_lossy().starts_with("FUSE_")));
        }
        // The SDK would look for credentials in the machine's metadata service, which is not there.
        for (key, value) in AWS_ENVS {
            if std::env::var_os(key).is_none() {
                builder = builder.env(key, value);
            }
        }
        let serves_http = name == "api-service";
        if options.free_ports {
            builder = builder.env("FUSE_ADMIN__LISTEN", "127.0.0.1:0");
            if serves_http {
                builder = builder.env("FUSE_HTTP__LISTEN", "127.0.0.1:0");
            }
        }
        // Later ones win.
        let proc = builder.envs(options.envs).start()?;
        let admin = Some(listening(&proc, "admin")?);
        let http = serves_http.then(|| listening(&proc, "http")).transpose()?;
        Ok(Self { proc, http, admin })
    }

    /// Runs a command of ours to its end, such as `api-service keys create …` or `report-job --date …`.
    ///
    /// # Errors
    /// When it cannot start or takes longer than 120 s. A status other than 0 is no error here.
    pub fn run<K, V>(name: &str, args: &[&str], envs: impl IntoIterator<Item = (K, V)>) -> Result<Output>
    where
        K: AsRef<std::ffi::OsStr>,
        V: AsRef<std::ffi::OsStr>,
    {
        let mut command = Command::new(Binaries::locate()?.path(name)?);
        command.args(args).stdin(Stdio::null());
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("FUSE_") {
                command.env_remove(key);
            }
        }
        command
            .envs(
                AWS_ENVS
                    .iter()
                    .filter(|(key, _)| std::env::var_os(key).is_none())
                    .copied(),
            )
            .env("FUSE_ADMIN__LISTEN", "127.0.0.1:0")
            .envs(envs);
        proc::output(&mut command, Duration::from_secs(120))
    }

    /// Base URL of its HTTP port, without a slash at its end.
    ///
    /// # Panics
    /// When the process serves no HTTP.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http.expect("api-service has an HTTP port"))
    }

    /// # Panics
    /// When the process has no admin port.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.expect("every service has an admin port")
    }

    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address())
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.proc.pid()
    }

    #[must_use]
    pub fn proc(&self) -> &Proc {
        &self.proc
    }

    /// Blocks until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the message holds its log.
    pub fn wait_ready(&self, deadline: Duration) -> Result<()> {
        self.proc
            .wait_for_http(&format!("{}/readyz", self.admin_url()), deadline)
    }

    /// All its log lines that are JSON.
    #[must_use]
    pub fn logs(&self) -> Vec<Value> {
        self.proc
            .log()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Its whole output.
    #[must_use]
    pub fn log_text(&self) -> String {
        self.proc.log()
    }

    /// Blocks until a log line fits; returns it.
    ///
    /// # Errors
    /// When the deadline passes or the process ends first.
    pub fn wait_for_log(
        &self,
        what: &str,
        deadline: Duration,
        mut fits: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        self.proc.wait_for_line(what, deadline, |line| {
            let value = serde_json::from_str(line).ok()?;
            fits(&value).then_some(value)
        })
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn metrics(&self) -> Result<String> {
        let url = format!("{}/metrics", self.admin_url());
        Ok(crate::background::http_get(&url, Duration::from_secs(5))?.1)
    }

    /// The value of one series, given as it is written in `/metrics`, such as `fuse_orders_total{outcome="filled"}`.
    ///
    /// # Errors
    /// When there is no answer; `Ok(None)` when there is no such series.
    pub fn metric(&self, series: &str) -> Result<Option<f64>> {
        Ok(self.metrics()?.lines().find_map(|line| {
            let value = line.strip_prefix(series)?.strip_prefix(' ')?;
            value.parse().ok()
        }))
    }

    /// SIGTERM, then SIGKILL after 30 s; returns how it ended.
    ///
    /// # Errors
    /// When it survives.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.proc.terminate(STOP_GRACE)
    }

    /// SIGKILL, as a crash.
    ///
    /// # Errors
    /// When it survives.
    pub fn kill9(&self) -> Result<ExitStatus> {
        self.proc.kill()
    }
}

/// Runs `api-service migrate` for services that use `database_url`, as the owner of the tables where there is one.
///
/// # Errors
/// When it fails; the message holds what it said.
pub fn migrate(database_url: &str, migration_url: Option<&str>) -> Result<()> {
    let owner = migration_url.map(|url| ("FUSE_DATABASE__MIGRATION_URL", url));
    let envs = [("FUSE_DATABASE__URL", database_url)].into_iter().chain(owner);
    let output = Service::run("api-service", &["migrate"], envs)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        bail!("api-service migrate ended with {}:\n{said}", output.status);
    }
    Ok(())
}

fn options<K: Into<String>, V: Into<String>>(
    args: &[&str],
    envs: impl IntoIterator<Item = (K, V)>,
) -> ServiceOptions {
    ServiceOptions {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        envs: envs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
        ..ServiceOptions::default()
    }
}

/// Reads `{"message":"admin listening","address":"127.0.0.1:1234"}`; flat or below `fields`.
fn listening(proc: &Proc, which: &str) -> Result<SocketAddr> {
    let message = format!("{which} listening");
    proc.wait_for_line(&message, START_DEADLINE, |line| {
        let value: Value = serde_json::from_str(line).ok()?;
        [&value, &value["fields"]]
            .into_iter()
            .find(|fields| fields["message"] == message.as_str())?["address"]
            .as_str()?
            .parse()
            .ok()
    })
}
