//! Child processes that never outlive the test: killed by their own pid on drop, and by the kernel (`PR_SET_PDEATHSIG`, set through
//! util-linux `setpriv`) when the test process ends in any other way: Ctrl-C, panic, `process::exit`, SIGKILL.
//!
//! The death signal follows the *thread* that forked, not the process, so all children are started by one thread that never ends.

mod command;
mod record;

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

pub use command::{find_program, missing_package, output, run};
pub use record::PidRecord;

use crate::{rundir, wait};
use command::{describe, tail};

/// Lines of a child's log that an error message shows.
const LOG_TAIL_LINES: usize = 40;

/// What is to be started; see [`Proc::build`].
pub struct ProcBuilder {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    env_clear: bool,
    dir: Option<PathBuf>,
    user: Option<(u32, u32)>,
    log: Option<PathBuf>,
    death_signal: Signal,
    detached: bool,
}

impl ProcBuilder {
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn envs<I, K, V>(self, envs: I) -> Self
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        envs.into_iter().fold(self, |builder, (k, v)| builder.env(k, v))
    }

    /// Start from an empty environment instead of ours.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self
    }

    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Run as this user and group (needs root). Supplementary groups are dropped.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Where stdout and stderr go, appended; otherwise a file in the run directory.
    #[must_use]
    pub fn log_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// What the kernel sends when our process is gone. Default SIGKILL; a stopped child obeys nothing milder.
    #[must_use]
    pub fn death_signal(mut self, signal: Signal) -> Self {
        self.death_signal = signal;
        self
    }

    /// Let the child outlive us, in a session of its own: for `xtask up` only. Keep its [`Proc::record`] to stop it later.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    fn command(&self, log: &Path) -> Result<Command> {
        let wrapper = if self.detached && self.user.is_none() {
            find_program("setsid", "util-linux", &[])?
        } else {
            find_program("setpriv", "util-linux", &[])?
        };
        let mut command = Command::new(wrapper);
        if !self.detached {
            command.args(["--pdeathsig", signal_name(self.death_signal)]);
            // A group of its own: Ctrl-C reaches only us, and we stop the children in order.
            command.process_group(0);
        }
        if let Some((uid, gid)) = self.user {
            command.arg(format!("--reuid={uid}"));
            command.arg(format!("--regid={gid}"));
            command.arg("--clear-groups");
        }
        command.arg("--");
        if !self.detached {
            // We may have died before the death signal was set; then the parent is another.
            command.args(["/bin/sh", "-c", r#"[ "$PPID" = "$0" ] && exec "$@""#]);
            command.arg(std::process::id().to_string());
        }
        command.arg(&self.program).args(&self.args);
        if self.env_clear {
            command.env_clear();
        }
        command.envs(self.envs.iter().map(|(k, v)| (k, v)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open log file {}", log.display()))?;
        command.stdin(Stdio::null());
        command.stderr(out.try_clone().context("clone log handle")?);
        command.stdout(out);
        Ok(command)
    }

    /// Starts the child; returns as soon as it is forked.
    ///
    /// # Errors
    /// When the program or `setpriv` is missing, or the log file cannot be written.
    pub fn start(self) -> Result<Proc> {
        if !self.program.exists() {
            bail!("{}: {} does not exist", self.name, self.program.display());
        }
        let log = match &self.log {
            Some(path) => path.clone(),
            None => rundir::unique_path(&self.name, "log")?,
        };
        let log_starts_at = std::fs::metadata(&log).map_or(0, |meta| meta.len());
        let command = self.command(&log)?;
        let child = spawn_from_keeper(command)
            .with_context(|| format!("start {} ({})", self.name, self.program.display()))?;
        Ok(Proc {
            name: self.name,
            pid: child.id(),
            detached: self.detached,
            child: Mutex::new(child),
            log,
            log_starts_at,
        })
    }
}

/// A running (or ended) child with its own log file. Killed and reaped on drop, unless detached.
#[derive(Debug)]
pub struct Proc {
    name: String,
    pid: u32,
    detached: bool,
    child: Mutex<Child>,
    log: PathBuf,
    log_starts_at: u64,
}

impl Proc {
    /// `name` is for messages and the log file; `program` an existing path (see [`find_program`]).
    #[must_use]
    pub fn build(name: &str, program: impl Into<PathBuf>) -> ProcBuilder {
        ProcBuilder {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            envs: Vec::new(),
            env_clear: false,
            dir: None,
            user: None,
            log: None,
            death_signal: Signal::SIGKILL,
            detached: false,
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything that this child has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.log_starts_at).unwrap_or(0);
        String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
    }

    /// The last lines of the log, for error messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log(), LOG_TAIL_LINES)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Identifies this child beyond its pid, so that a later process can stop it safely.
    ///
    /// # Errors
    /// When it is already gone.
    pub fn record(&self) -> Result<PidRecord> {
        PidRecord::of(self.pid).with_context(|| format!("{} is gone", self.name))
    }

    /// Sends a signal to the child alone. Nothing happens when it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        // Not reaped before this point, so the pid is still ours and nobody else's.
        if child.try_wait().context("look at the child")?.is_some() {
            return Ok(());
        }
        signal::kill(nix_pid(self.pid), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Waits for the child's end.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait_exit(&self, deadline: Duration) -> Result<ExitStatus> {
        wait::until(&format!("the end of {}", self.name), deadline, || {
            self.exit_status()
        })
        .map_err(|error| self.explain(error))
    }

    /// SIGTERM, then SIGKILL when it has not ended within `grace`. Returns how it ended.
    ///
    /// # Errors
    /// When even SIGKILL does not end it within 10 s.
    pub fn terminate(&self, grace: Duration) -> Result<ExitStatus> {
        self.stop_with(Signal::SIGTERM, grace)
    }

    /// Like [`Proc::terminate`] with another first signal.
    ///
    /// # Errors
    /// When even SIGKILL does not end it within 10 s.
    pub fn stop_with(&self, first: Signal, grace: Duration) -> Result<ExitStatus> {
        self.signal(first)?;
        if let Ok(status) = self.wait_exit(grace) {
            return Ok(status);
        }
        self.kill()
    }

    /// SIGKILL to the child (and to what it left in its process group); returns how it ended.
    ///
    /// # Errors
    /// When it does not end within 10 s.
    pub fn kill(&self) -> Result<ExitStatus> {
        {
            let mut child = self.child();
            if let Some(status) = child.try_wait().context("look at the child")? {
                return Ok(status);
            }
            if !self.detached {
                // Our own group (made at the start), and its leader is not reaped: nobody else can be hit.
                let _ = signal::killpg(nix_pid(self.pid), Signal::SIGKILL);
            }
            let _ = child.kill();
        }
        self.wait_exit(Duration::from_secs(10))
    }

    /// Waits until `find` gives something for one line of the log.
    ///
    /// # Errors
    /// When the deadline passes or the child ends first; the message holds the log's tail.
    pub fn wait_for_line<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        self.wait_until(what, deadline, || self.log().lines().find_map(&mut find))
    }

    /// Waits until `address` accepts connections.
    ///
    /// # Errors
    /// As [`Proc::wait_for_line`].
    pub fn wait_for_port(&self, address: SocketAddr, deadline: Duration) -> Result<()> {
        self.wait_until(&format!("{address} to accept"), deadline, || {
            wait::accepts(address).then_some(())
        })
    }

    /// Waits until GET `url` (plain HTTP) answers 2xx.
    ///
    /// # Errors
    /// As [`Proc::wait_for_line`].
    pub fn wait_for_http(&self, url: &str, deadline: Duration) -> Result<()> {
        self.wait_until(&format!("{url} to answer 2xx"), deadline, || {
            crate::background::http_get(url, Duration::from_secs(2))
                .is_ok_and(|(status, _)| (200..300).contains(&status))
                .then_some(())
        })
    }

    /// Waits for any condition, giving up early when the child ends.
    ///
    /// # Errors
    /// As [`Proc::wait_for_line`].
    pub fn wait_until<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let mut ended = None;
        wait::until(&format!("{}: {what}", self.name), deadline, || {
            // First look whether it has ended, then at the condition: a child may print its line and end.
            let status = self.exit_status();
            if let Some(value) = condition() {
                return Some(Some(value));
            }
            ended = status;
            status.map(|_| None)
        })
        .and_then(|value| {
            value.ok_or_else(|| {
                let how = ended.map_or_else(String::new, describe);
                anyhow!("{} ended ({how}) before {what}", self.name)
            })
        })
        .map_err(|error| self.explain(error))
    }

    /// Adds the tail of the log to an error.
    #[must_use]
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let tail = self.log_tail();
        error.context(format!(
            "{} (pid {}); its log {} ends:\n{tail}",
            self.name,
            self.pid,
            self.log.display()
        ))
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if !self.detached {
            let _ = self.kill();
        }
    }
}

type SpawnRequest = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Forks in the one thread that lives as long as the process.
fn spawn_from_keeper(command: Command) -> Result<Child> {
    static KEEPER: OnceLock<Mutex<mpsc::Sender<SpawnRequest>>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<SpawnRequest>();
        std::thread::Builder::new()
            .name("child-keeper".to_owned())
            .spawn(move || {
                while let Ok((mut command, answer)) = requests.recv() {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        Mutex::new(sender)
    });
    let (answer, answered) = mpsc::channel();
    keeper
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .context("the child-keeper thread is gone")?;
    Ok(answered.recv().context("the child-keeper thread is gone")??)
}

fn signal_name(signal: Signal) -> &'static str {
    signal.as_str().trim_start_matches("SIG")
}

fn nix_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("pids fit 31 bits"))
}
