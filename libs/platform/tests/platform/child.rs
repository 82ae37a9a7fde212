//! A small process under test: this test binary starts itself, as one more test that is a process when asked to be.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fuse_platform::config::{AdminConfig, HttpConfig, VendorConfig};
use fuse_platform::{BoxError, Context, Process, Reader, Secret, http_server};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Set in a child: its command line, arguments separated by spaces.
const ARGUMENTS: &str = "PLATFORM_TEST_ARGUMENTS";

/// Longest wait for anything in these tests.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Config {
    http: HttpConfig,
    admin: AdminConfig,
    vendor: VendorConfig,
    password: Option<Secret>,
    mode: String,
}

pub fn read(reader: &mut Reader) -> Config {
    Config {
        http: HttpConfig::read(reader),
        admin: AdminConfig::read(reader),
        vendor: VendorConfig::read(reader),
        password: reader.secret("probe.password", "Password that must not be seen"),
        mode: reader.value("probe.mode", "serve", "What the process under test does"),
    }
}

async fn serve(context: Context, config: Config) -> Result<(), BoxError> {
    tracing::info!(password = ?config.password, vendor = ?config.vendor, "configured");
    let warm = context.readiness.condition("warm", "not warmed up yet");
    context
        .serve_admin(&config.admin, || serde_json::json!({"mode": "probe"}))
        .await?;
    match config.mode.as_str() {
        "error" => return Err("the cellar is flooded".into()),
        "vital" => context.shutdown.spawn_vital("pump", async {}),
        "panic" => context
            .shutdown
            .spawn_vital("pump", async { panic!("the pump broke") }),
        "cold" => {}
        _ => warm.met(),
    }
    let router = axum::Router::new()
        .route("/", axum::routing::get(async || "hello"))
        .route(
            "/slow",
            axum::routing::get(async || {
                tokio::time::sleep(Duration::from_secs(2)).await;
                "done"
            }),
        )
        .route(
            "/never",
            axum::routing::get(async || std::future::pending::<&str>().await),
        );
    let listener = http_server::bind(config.http.listen, "http").await?;
    http_server::serve(listener, router, context.shutdown, (&config.http).into()).await;
    Ok(())
}

/// Not a test by itself: the process, when the variable is there.
#[test]
fn child_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    let arguments = std::iter::once("probe").chain(arguments.split_whitespace());
    let code = match Process::<()>::try_parse_from("probe", "Process under test", read, arguments) {
        Ok(process) => process.run(read, serve),
        Err(error) => error.exit(),
    };
    std::process::exit(number(code));
}

// `main` would return the code; a test can only exit with a number.
fn number(code: ExitCode) -> i32 {
    (0..=u8::MAX)
        .find(|number| ExitCode::from(*number) == code)
        .map_or(-1, i32::from)
}

/// Variables with which the process starts well, on free ports.
pub const GOOD: &[(&str, &str)] = &[
    ("FUSE_HTTP__LISTEN", "127.0.0.1:0"),
    ("FUSE_ADMIN__LISTEN", "127.0.0.1:0"),
    ("FUSE_VENDOR__BASE_URL", "http://127.0.0.1:1"),
    ("FUSE_VENDOR__API_KEY", "vendor-hunter2"),
    ("FUSE_PROBE__PASSWORD", "probe-hunter2"),
];

/// A running process; killed when dropped.
pub struct Child {
    child: std::process::Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// How a process ended, with all it wrote.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Child {
    /// Starts it with exactly these `FUSE_` variables.
    pub fn start(arguments: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args([
            "--exact",
            "child::child_process",
            "--nocapture",
            "--test-threads=1",
        ]);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FUSE_") || name == "RUST_LOG")
        {
            command.env_remove(name);
        }
        command.env(ARGUMENTS, arguments).envs(variables.iter().copied());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let kept = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test runner's own words stand before the first line of the process.
                let own = line
                    .strip_prefix("test child::child_process ... ")
                    .unwrap_or(&line)
                    .to_owned();
                kept.lock().expect("no panic").push(own);
            }
        });
        Self {
            child,
            lines,
            reader: Some(reader),
        }
    }

    /// Starts it well, with more variables, and waits until it is ready.
    pub fn ready(more: &[(&str, &str)]) -> Self {
        let child = Self::start("", &[GOOD, more].concat());
        child.wait_for("ready");
        child
    }

    /// The first log line with this message.
    pub fn wait_for(&self, message: &str) -> serde_json::Value {
        let found = || self.log().into_iter().find(|line| line["message"] == message);
        wait_until(&format!("the line {message:?}"), found)
    }

    /// Log lines so far.
    pub fn log(&self) -> Vec<serde_json::Value> {
        let lines = self.lines.lock().expect("no panic");
        lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    pub fn http(&self) -> SocketAddr {
        self.address("http listening")
    }

    pub fn admin(&self) -> SocketAddr {
        self.address("admin listening")
    }

    fn address(&self, message: &str) -> SocketAddr {
        self.wait_for(message)["address"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("an address")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        nix::sys::signal::kill(Pid::from_raw(pid), signal).expect("signalled");
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let started = Instant::now();
        let status = wait_until("the end of the process", || {
            self.child.try_wait().expect("a child")
        });
        let took = started.elapsed();
        self.reader.take().expect("read once").join().expect("no panic");
        let mut stderr = String::new();
        self.child
            .stderr
            .take()
            .expect("piped")
            .read_to_string(&mut stderr)
            .expect("text");
        let stdout = self.lines.lock().expect("no panic").join("\n");
        Ended {
            code: status.code(),
            stdout,
            stderr,
            took,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until there is something, for [`PATIENCE`] at most.
pub fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Sends a request without waiting for its answer.
pub fn send(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )
    .expect("sent");
    stream
}

/// The status and body of the answer.
pub fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    (status, body.to_owned())
}

pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    answer(send(address, path))
}
