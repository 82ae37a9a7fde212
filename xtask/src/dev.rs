//! `cargo xtask dev`: the services as plain processes, without Kubernetes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fuse_harness::client::ApiClient;
use fuse_harness::packages;
use fuse_harness::services::{Service, ServiceOptions};
use fuse_harness::stack::{Stack, StackOptions};

use crate::build::{self, Profile};
use crate::progress::Steps;
use crate::summary::{Summary, new_secret, text};

/// Whether everything runs and somebody listens for Ctrl-C.
static WAITING: AtomicBool = AtomicBool::new(false);
const FIRST_PRICES_DEADLINE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub struct Args {
    /// A PostgreSQL of yours instead of a built-in one.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// A DynamoDB endpoint instead of the stand-in.
    #[arg(long, value_name = "URL")]
    dynamodb_endpoint: Option<String>,
    /// A Redis; without it the services run without one.
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// A mail server instead of the sink.
    #[arg(long, value_name = "URL")]
    smtp_url: Option<String>,
    /// A vendor instead of the simulated one; orders then buy for real.
    #[arg(long, value_name = "URL", requires = "vendor_key_file")]
    vendor_url: Option<String>,
    /// The file that holds that vendor's key.
    #[arg(long, value_name = "FILE", requires = "vendor_url")]
    vendor_key_file: Option<PathBuf>,
    /// Seconds between two passes of the refresher.
    #[arg(long, value_name = "SECONDS")]
    refresh_interval: Option<u64>,
    /// Where the API listens.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: String,
    /// Keep the database and the mails here; without it they go when you stop.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Compile for speed.
    #[arg(long)]
    release: bool,
    /// Leave after the first order instead of waiting for Ctrl-C.
    #[arg(long)]
    once: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let stop = stop_signal()?;
    let mut steps = Steps::start();
    let profile = if args.release {
        Profile::Release
    } else {
        Profile::Dev
    };
    let bin_dir = steps.step("binaries", |_| build::binaries(profile))?;
    fuse_harness::services::Binaries::use_dir(&bin_dir)?;
    let ready = Steps::start();
    let admin_key = new_secret();
    let (stack, envs) = steps.step("backends", |lines| {
        if args.database_url.is_none() {
            packages::ensure(&packages::BACKENDS[..1], lines)?;
        }
        let stack = Stack::start(stack_options(args)?)?;
        let envs = envs(args, &stack, &admin_key);
        Ok((stack, envs))
    })?;
    steps.step("database schema", |_| {
        migrate(&envs, stack.addresses().migration_url.as_deref())
    })?;
    let (api, refresher) = steps.step("services", |_| {
        let api = launch("api-service", &envs, Some(&args.listen))?;
        let refresher = launch("cache-refresher", &envs, None)?;
        Ok((api, refresher))
    })?;
    let admin = ApiClient::new(api.http_url(), None, &admin_key);
    let key = admin.create_user_key("dev")?;
    if args.vendor_url.is_none() {
        let order = steps.step("first order", |_| {
            admin.with_key(&key).first_buy(FIRST_PRICES_DEADLINE)
        })?;
        let seconds = ready.elapsed_secs();
        steps.say(format!(
            "bought {} {} {seconds:.1}s after the build",
            text(&order["quantity"]),
            text(&order["symbol"])
        ));
    }
    let addresses = stack.addresses();
    Summary {
        first: None,
        api_url: api.http_url(),
        key,
        admin_key,
        metrics: vec![
            format!("api       {}/metrics", api.admin_url()),
            format!("refresher {}/metrics", refresher.admin_url()),
        ],
        mail: match &addresses.mail_dir {
            Some(dir) => dir.display().to_string(),
            None if stack.smtp.is_some() => "kept in memory; see them with --data-dir DIR".to_owned(),
            None => addresses.smtp_url.clone(),
        },
        report: format!("{} {}", report_env(&envs), bin_dir.join("report-job").display()),
        vendor_control: addresses.vendor_control_url.clone(),
        dashboards: "charts/fuse-operator/files/dashboards".to_owned(),
        stop: "Ctrl-C".to_owned(),
    }
    .print();
    if !args.once {
        wait_for_stop(&stop, &[&api, &refresher])?;
    }
    steps.say("stopping");
    api.stop()?;
    refresher.stop()?;
    Ok(())
}

/// Ctrl-C or a termination signal ends the wait instead of the process, so that everything is stopped in order.
fn stop_signal() -> Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    ctrlc::set_handler(move || {
        // During start-up leaving at once is right; the children end with us.
        if !WAITING.load(Ordering::SeqCst) || sender.send(()).is_err() {
            std::process::exit(130);
        }
    })
    .context("could not listen for Ctrl-C")?;
    Ok(receiver)
}

fn wait_for_stop(stop: &mpsc::Receiver<()>, services: &[&Service]) -> Result<()> {
    WAITING.store(true, Ordering::SeqCst);
    loop {
        match stop.recv_timeout(Duration::from_millis(500)) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
        }
        for service in services {
            if !service.proc().is_running() {
                bail!(
                    "{} ended by itself:\n{}",
                    service.proc().name(),
                    service.proc().log_tail()
                );
            }
        }
    }
}

fn stack_options(args: &Args) -> Result<StackOptions> {
    let vendor = match (&args.vendor_url, &args.vendor_key_file) {
        (Some(url), Some(file)) => {
            let key = std::fs::read_to_string(file)
                .with_context(|| format!("could not read the vendor's key from {}", file.display()))?;
            Some((url.clone(), key.trim().to_owned()))
        }
        _ => None,
    };
    Ok(StackOptions {
        dir: args.data_dir.clone(),
        follow_wall_clock: true,
        database_url: args.database_url.clone(),
        dynamodb_endpoint: args.dynamodb_endpoint.clone(),
        smtp_url: args.smtp_url.clone(),
        vendor,
        ..StackOptions::default()
    })
}

/// What the services get: our settings, over them the flags, over them every `FUSE_…` variable that was given to us.
fn envs(args: &Args, stack: &Stack, admin_key: &str) -> Vec<(String, String)> {
    let mut envs = stack.addresses().service_envs(admin_key);
    if let Some(url) = &args.redis_url {
        envs.push(("FUSE_REDIS__URL".into(), url.clone()));
    }
    if let Some(seconds) = args.refresh_interval {
        envs.push(("FUSE_REFRESH__INTERVAL_SECS".into(), seconds.to_string()));
    }
    // Start-up without the pauses that only a load balancer needs.
    envs.push(("FUSE_LIFECYCLE__DRAIN_DELAY_SECS".into(), "0".into()));
    for (key, value) in std::env::vars() {
        if key.starts_with("FUSE_") && key != "FUSE_BIN_DIR" {
            // A secret given as a file takes the place of ours.
            let plain = key.strip_suffix("_FILE").unwrap_or(&key).to_owned();
            envs.retain(|(name, _)| *name != key && *name != plain);
            envs.push((key, value));
        }
    }
    envs
}

fn launch(name: &str, envs: &[(String, String)], listen: Option<&String>) -> Result<Service> {
    let mut envs = envs.to_vec();
    if let Some(listen) = listen
        && !envs.iter().any(|(key, _)| key == "FUSE_HTTP__LISTEN")
    {
        envs.push(("FUSE_HTTP__LISTEN".into(), listen.clone()));
    }
    let service = Service::launch(
        name,
        ServiceOptions {
            envs,
            ..ServiceOptions::default()
        },
    )?;
    service.wait_ready(Duration::from_secs(20))?;
    Ok(service)
}

/// As the owner of the tables, where the database is ours or its owner was given to us.
fn migrate(envs: &[(String, String)], owner: Option<&str>) -> Result<()> {
    let is_ours =
        |name: &str| std::env::var_os(name).is_none() && std::env::var_os(format!("{name}_FILE")).is_none();
    let owner = owner.filter(|_| is_ours("FUSE_DATABASE__URL") && is_ours("FUSE_DATABASE__MIGRATION_URL"));
    let owner = owner.map(|url| ("FUSE_DATABASE__MIGRATION_URL".to_owned(), url.to_owned()));
    let envs = envs.iter().cloned().chain(owner);
    let output = Service::run("api-service", &["migrate"], envs)?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        bail!("api-service migrate ended with {}:\n{log}", output.status);
    }
    Ok(())
}

/// The variables that a report by hand needs, ready to paste.
fn report_env(envs: &[(String, String)]) -> String {
    let wanted = ["FUSE_DATABASE__URL", "FUSE_MAIL__", "FUSE_REPORT__"];
    let pairs = envs
        .iter()
        .filter(|(key, _)| wanted.iter().any(|prefix| key.starts_with(prefix)));
    pairs
        .map(|(key, value)| format!("{key}='{value}'"))
        .collect::<Vec<_>>()
        .join(" ")
}
