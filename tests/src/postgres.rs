//! A real PostgreSQL: initdb and postgres in a directory of their own, over TCP with a password.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, Uid, User};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::ports::Port;
use crate::proc::{self, Proc};
use crate::rundir;

/// Owns what the migrations make.
const SUPERUSER: &str = "fuse";
/// What the services run as: a role that owns nothing.
const SERVICE: &str = "fuse_service";
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_GRACE: Duration = Duration::from_secs(20);

/// Settings; `Default` is one instance on loopback, on a free port, that survives a crash (fsync on).
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Addresses to listen on; loopback is always among them.
    pub listen: Vec<IpAddr>,
    /// Networks besides loopback from which clients may come, such as `10.88.0.0/16`.
    pub clients: Vec<String>,
    pub port: Option<u16>,
    /// Off is faster and loses data only when the machine itself stops.
    pub fsync: bool,
    /// Where data and password stay when the instance is dropped; otherwise both go with it.
    pub dir: Option<PathBuf>,
    /// Further settings of postgresql.conf.
    pub settings: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            clients: Vec::new(),
            port: None,
            fsync: true,
            dir: None,
            settings: Vec::new(),
        }
    }
}

/// A PostgreSQL instance. Dropping it stops it (and removes its data, unless a directory was given).
#[derive(Debug)]
pub struct Postgres {
    options: PostgresOptions,
    bin: PathBuf,
    port: Port,
    dir: PathBuf,
    password: String,
    run_as: Option<(u32, u32)>,
    /// What the kernel sends when our process dies. A paused instance obeys only SIGKILL; a shared one is never paused and gets SIGQUIT,
    /// after which PostgreSQL removes its shared memory.
    death_signal: Signal,
    proc: Option<Proc>,
}

impl Postgres {
    /// An instance of its own, for tests that stop or kill it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed (the message names the package) or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(PostgresOptions::default())
    }

    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(options: PostgresOptions) -> Result<Self> {
        Self::start_dying_by(options, Signal::SIGKILL)
    }

    /// The one instance of this test process, without fsync. Take a [`Postgres::database`] of your own in it.
    ///
    /// # Errors
    /// As [`Postgres::start`]; every caller gets the same error.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| {
                let options = PostgresOptions {
                    fsync: false,
                    ..PostgresOptions::default()
                };
                Self::start_dying_by(options, Signal::SIGQUIT).map_err(|error| format!("{error:#}"))
            })
            .as_ref()
            .map_err(|error| anyhow!("{error}"))
    }

    fn start_dying_by(options: PostgresOptions, death_signal: Signal) -> Result<Self> {
        let bin = find_bin_dir()?;
        let port = match options.port {
            Some(number) => Port::fixed(number)?,
            None => Port::reserve_on(&listen_addresses(&options))?,
        };
        let dir = match &options.dir {
            Some(dir) => dir.clone(),
            None => rundir::unique_path("postgres", "")?,
        };
        let mut postgres = Self {
            run_as: unprivileged_user()?,
            password: String::new(),
            options,
            bin,
            port,
            dir,
            death_signal,
            proc: None,
        };
        postgres.prepare()?;
        postgres.restart()?;
        postgres.ensure_service_role()?;
        Ok(postgres)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.on_loopback()
    }

    /// URL of a database of this name, which need not exist.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_at(IpAddr::V4(Ipv4Addr::LOCALHOST), database)
    }

    /// The same through another address that it listens on.
    #[must_use]
    pub fn url_at(&self, ip: IpAddr, database: &str) -> String {
        let address = SocketAddr::new(ip, self.port());
        format!("postgres://{SUPERUSER}:{}@{address}/{database}", self.password)
    }

    /// URL of a database of this name for the services: as a role that owns nothing and may do what `migrate` granted.
    #[must_use]
    pub fn service_url(&self, database: &str) -> String {
        as_service(&self.url(database))
    }

    /// A new, empty database of its own; returns its URL.
    ///
    /// # Errors
    /// When the instance does not answer.
    pub fn database(&self) -> Result<String> {
        let name = format!("test_{}", Uuid::now_v7().simple());
        self.create_database(&name)?;
        Ok(self.url(&name))
    }

    /// Creates the database unless it exists.
    ///
    /// # Errors
    /// When the instance does not answer.
    pub fn create_database(&self, name: &str) -> Result<()> {
        let exists = self.sql(
            "postgres",
            &format!("select 1 from pg_database where datname = '{name}'"),
        )?;
        if exists.is_empty() {
            self.sql("postgres", &format!("create database \"{name}\""))?;
        }
        Ok(())
    }

    /// Runs SQL through psql as the superuser; returns its rows as unaligned text, without a header.
    ///
    /// # Errors
    /// When psql fails; the message holds what it said.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        self.sql_within(Duration::from_secs(60), database, sql)
    }

    /// The same with another deadline, for statements that fill a database.
    ///
    /// # Errors
    /// As [`Postgres::sql`].
    pub fn sql_within(&self, deadline: Duration, database: &str, sql: &str) -> Result<String> {
        let mut psql = self.client("psql", database);
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        let output = proc::run(&mut psql, deadline)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// One of PostgreSQL's own clients, such as pgbench, that finds its way to a database here as the superuser.
    #[must_use]
    pub fn client(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port().to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGDATABASE", database)
            .env("PGPASSWORD", &self.password)
            .env("PGCONNECT_TIMEOUT", "5");
        command
    }

    /// The server's first process, of which all others are children; `None` while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.proc.as_ref().map(Proc::pid)
    }

    /// Where its data lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs SQL in the database of a URL that [`Postgres::database`] gave.
    ///
    /// # Errors
    /// As [`Postgres::sql`].
    pub fn sql_at(&self, url: &str, sql: &str) -> Result<String> {
        let database = url.rsplit('/').next().context("a database in the URL")?;
        self.sql(database, sql)
    }

    /// Stops it in order (fast shutdown: open transactions are rolled back).
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.resume()?;
        if let Some(proc) = self.proc.take() {
            proc.stop_with(Signal::SIGINT, STOP_GRACE)?;
        }
        Ok(())
    }

    /// SIGKILL, as a crash: the data directory is left as it is.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(proc) = self.proc.take() {
            // Its children notice by themselves that it is gone, unless they are stopped.
            let children = children_of(proc.pid());
            proc.kill()?;
            for child in children {
                let _ = signal::kill(child, Signal::SIGCONT);
            }
        }
        Ok(())
    }

    /// Starts it again on the same port with the same data; nothing to do when it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        if self.proc.is_some() {
            return self.resume();
        }
        // Processes of a killed instance hold its shared memory for a moment.
        let mut tries_left = 20;
        loop {
            match self.launch() {
                Ok(proc) => {
                    self.proc = Some(proc);
                    return Ok(());
                }
                Err(error) if tries_left > 0 && is_held_by_predecessor(&error) => {
                    tries_left -= 1;
                    std::thread::sleep(Duration::from_millis(250));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Stops the clock for the server and all its sessions (SIGSTOP): connections open and hang.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.signal_all(Signal::SIGSTOP)
    }

    /// Undoes [`Postgres::pause`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resume(&mut self) -> Result<()> {
        if self.proc.is_none() {
            return Ok(());
        }
        self.signal_all(Signal::SIGCONT)
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.proc.as_ref().is_some_and(Proc::is_running)
    }

    /// What the server logged since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        self.proc.as_ref().map(Proc::log).unwrap_or_default()
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        let proc = self.proc.as_ref().context("PostgreSQL is stopped")?;
        proc.signal(signal)?;
        for child in children_of(proc.pid()) {
            // A session may end at any moment.
            let _ = signal::kill(child, signal);
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The part of an administrator: see "Two roles" in docs/operations.md.
    fn ensure_service_role(&self) -> Result<()> {
        let roles = format!("select 1 from pg_roles where rolname = '{SERVICE}'");
        if self.sql("postgres", &roles)?.is_empty() {
            let password = service_password(&self.password);
            self.sql(
                "postgres",
                &format!("create role {SERVICE} login password '{password}'"),
            )?;
        }
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        let password_file = self.dir.join("password");
        if self.data().join("PG_VERSION").exists() {
            self.password = fs::read_to_string(&password_file)
                .with_context(|| format!("read {}", password_file.display()))?;
            return self.write_hba();
        }
        self.password = random_password();
        fs::create_dir_all(&self.dir).with_context(|| format!("create {}", self.dir.display()))?;
        fs::write(&password_file, &self.password)?;
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
        self.give_away(&self.dir)?;
        self.give_away(&password_file)?;
        let mut initdb = self.as_user(&self.bin.join("initdb"))?;
        initdb
            .args(["--no-sync", "--no-instructions", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "--auth=password", "-U", SUPERUSER])
            .arg("--pwfile")
            .arg(&password_file)
            .arg("-D")
            .arg(self.data())
            .current_dir(&self.dir);
        proc::run(&mut initdb, START_DEADLINE).context("initdb failed")?;
        self.write_hba()
    }

    fn write_hba(&self) -> Result<()> {
        let mut hba = "host all all 127.0.0.1/32 password\nhost all all ::1/128 password\n".to_owned();
        for network in &self.options.clients {
            hba.push_str(&format!("host all all {network} scram-sha-256\n"));
        }
        let path = self.data().join("pg_hba.conf");
        fs::write(&path, hba).with_context(|| format!("write {}", path.display()))?;
        self.give_away(&path)
    }

    fn give_away(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.run_as {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .with_context(|| format!("chown {}", path.display()))?;
        }
        Ok(())
    }

    fn as_user(&self, program: &Path) -> Result<Command> {
        let Some((uid, gid)) = self.run_as else {
            return Ok(Command::new(program));
        };
        let mut command = Command::new(proc::find_program("setpriv", "util-linux", &[])?);
        command
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"))
            .args(["--clear-groups", "--"])
            .arg(program);
        Ok(command)
    }

    fn launch(&self) -> Result<Proc> {
        let listen: Vec<String> = listen_addresses(&self.options)
            .iter()
            .map(ToString::to_string)
            .collect();
        let mut settings = vec![
            ("listen_addresses".to_owned(), listen.join(",")),
            ("port".to_owned(), self.port().to_string()),
            ("unix_socket_directories".to_owned(), String::new()),
            ("max_connections".to_owned(), "200".to_owned()),
            ("shared_buffers".to_owned(), "32MB".to_owned()),
            // In the data directory, so that nothing is left in /dev/shm after SIGKILL.
            ("dynamic_shared_memory_type".to_owned(), "mmap".to_owned()),
            ("timezone".to_owned(), "UTC".to_owned()),
            ("log_timezone".to_owned(), "UTC".to_owned()),
            ("logging_collector".to_owned(), "off".to_owned()),
        ];
        if !self.options.fsync {
            for key in ["fsync", "synchronous_commit", "full_page_writes"] {
                settings.push((key.to_owned(), "off".to_owned()));
            }
        }
        settings.extend(self.options.settings.iter().cloned());
        let mut builder = Proc::build("postgres", self.bin.join("postgres"))
            .arg("-D")
            .arg(self.data())
            .args(
                settings
                    .iter()
                    .flat_map(|(key, value)| ["-c".to_owned(), format!("{key}={value}")]),
            )
            .dir(&self.dir)
            .death_signal(self.death_signal);
        if let Some((uid, gid)) = self.run_as {
            builder = builder.user(uid, gid);
        }
        let proc = builder.start()?;
        proc.wait_for_line("to accept connections", START_DEADLINE, |line| {
            line.contains("database system is ready to accept connections")
                .then_some(())
        })?;
        Ok(proc)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.resume();
        if let Some(proc) = self.proc.take() {
            // Data that goes anyway needs no checkpoint; kept data gets one.
            let signal = if self.options.dir.is_some() {
                Signal::SIGINT
            } else {
                Signal::SIGQUIT
            };
            let _ = proc.stop_with(signal, STOP_GRACE);
        }
        if self.options.dir.is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// The URL of the services' role that belongs to an owner's URL which an instance gave, whatever address it goes through.
#[must_use]
pub fn as_service(url: &str) -> String {
    let (user, place) = url.rsplit_once('@').unwrap_or(("", url));
    let password = user.rsplit(':').next().unwrap_or_default();
    format!("postgres://{SERVICE}:{}@{place}", service_password(password))
}

/// Follows from the owner's, and not the other way round, so that a URL is enough to know both.
fn service_password(owners: &str) -> String {
    let digest = Sha256::digest(format!("{SERVICE} {owners}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn listen_addresses(options: &PostgresOptions) -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    addresses.extend(options.listen.iter().filter(|ip| !ip.is_loopback()));
    addresses
}

fn is_held_by_predecessor(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    text.contains("pre-existing shared memory block") || text.contains("lock file")
}

fn children_of(pid: u32) -> Vec<Pid> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

/// PostgreSQL refuses to run as root.
fn unprivileged_user() -> Result<Option<(u32, u32)>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).context("read the user database")? {
            return Ok(Some((user.uid.as_raw(), user.gid.as_raw())));
        }
    }
    bail!("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
}

/// The folder that holds initdb, postgres and psql: the newest of Debian's, else from PATH.
fn find_bin_dir() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists() && bin.join("postgres").exists())
        .collect();
    versions.sort();
    if let Some((_, bin)) = versions.pop() {
        return Ok(bin);
    }
    let initdb = proc::find_program("initdb", "postgresql", &[])?;
    let real = fs::canonicalize(&initdb)?;
    Ok(real.parent().context("a folder around initdb")?.to_owned())
}

/// In URL-safe characters. Two ids hold 148 random bits; the harness needs no generator of its own for that.
fn random_password() -> String {
    format!("{}{}", Uuid::now_v7().simple(), Uuid::now_v7().simple())
}
