//! `cargo xtask up`: one custom resource becomes one filled order, one mail, and metrics, on a real cluster.
//!
//! Every step looks first whether it is done already, so that a second run is quick and changes nothing, and a run that
//! was interrupted goes on.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fuse_harness::client::ApiClient;
use fuse_harness::cluster::LocalCluster;
use fuse_harness::deployment::{self, Deployment, HOST, NAME, NAMESPACE, OPERATOR_NAMESPACE};
use fuse_harness::existing::Existing;
use fuse_harness::image::{self, Image};
use fuse_harness::kubectl::{Forward, Kubectl};
use fuse_harness::packages;
use fuse_harness::progress::Progress;
use fuse_harness::release::Helm;
use fuse_harness::tools::{Tool, Tools};
use serde::{Deserialize, Serialize};

use crate::backends::{self, Running, write_secret};
use crate::build::{self, Profile};
use crate::progress::Steps;
use crate::shell;
use crate::summary::{Summary, new_secret, text};

const READY_DEADLINE: Duration = Duration::from_secs(180);
const FIRST_PRICES_DEADLINE: Duration = Duration::from_secs(60);
/// Pods of the local cluster come from here.
const LOCAL_POD_NETWORK: &str = "10.88.0.0/16";
/// Pods of kind, k3d and minikube reach this machine from one of the private networks.
const PRIVATE_NETWORKS: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

#[derive(clap::Args)]
pub struct Args {
    /// Use the local real cluster even if kubectl has another one.
    #[arg(long)]
    local: bool,
    /// Class of the Ingress on an existing cluster; without it the API is reached by port forwarding.
    #[arg(long, value_name = "CLASS", conflicts_with = "local")]
    ingress_class: Option<String>,
    /// Use the binaries in this folder instead of building them for release.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Say what would be done and on which cluster, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// The cluster that we work on.
enum Target {
    Existing(Existing),
    Local(Box<LocalCluster>),
}

/// What has to be the same in the next run.
#[derive(Serialize, Deserialize)]
struct Keys {
    admin: String,
    user: Option<String>,
    /// When the report runs; absent until the first one was run by hand.
    report_schedule: Option<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::start();
    let result = everything(args, &mut steps);
    if !args.dry_run {
        steps.report();
    }
    result.map(|summary| {
        if let Some(summary) = summary {
            summary.print();
        }
    })
}

fn everything(args: &Args, steps: &mut Steps) -> Result<Option<Summary>> {
    let dir = backends::state_dir()?;
    if args.dry_run {
        return dry_run(args, steps).map(|()| None);
    }
    // First of all: what is missing should be said before anything is started.
    steps.step("packages", |lines| packages::ensure(packages::BACKENDS, lines))?;
    let target = steps.step("cluster", |lines| find_cluster(args, lines))?;
    let bin_dir = match &args.bin_dir {
        Some(dir) => dir.clone(),
        None => steps.step("binaries", |_| build::binaries(Profile::Release))?,
    };
    let image = steps.step("image", |_| {
        let image = image::build(&bin_dir, &dir.join("images"))?;
        target.load(&image)?;
        Ok(image)
    })?;
    let kubeconfig = target.kubeconfig(&dir)?;
    let running = steps.step("backends", |_| {
        let kubectl = target.tools().path(Tool::Kubectl)?;
        let networks = target.pod_networks();
        backends::ensure(
            &dir.join("backends"),
            target.host_address()?,
            &networks,
            &kubeconfig,
            kubectl,
        )
    })?;
    let mut keys = Keys::load(&dir)?;
    let helm = Helm::new(target.tools(), target.kubectl())?;
    let deployment = Deployment {
        kubectl: target.kubectl(),
        helm: &helm,
        charts: &shell::root().join("charts"),
        image: &image,
        addresses: &running.addresses,
        admin_key: &keys.admin.clone(),
        ingress_class: target.ingress_class(args),
        refresh_interval_secs: 300,
        report_schedule: &keys.report_schedule(),
    };
    steps.step("charts", |lines| {
        let changed = deployment.install_charts()?;
        lines.say(if changed {
            "charts installed"
        } else {
            "charts are as they should be"
        });
        Ok(())
    })?;
    steps.step("resource", |lines| {
        for line in deployment.apply()?.lines() {
            lines.say(line);
        }
        deployment.wait_ready(READY_DEADLINE, lines).map(drop)
    })?;
    let (url, _forward) = target.api(args)?;
    let host = deployment.ingress_class.map(|_| HOST);
    if keys.user.is_none() {
        first_order(
            steps,
            &ApiClient::new(&url, host, &keys.admin),
            &mut keys,
            &dir,
            &deployment,
        )?;
    } else {
        steps.say("the first order and the first report were made by an earlier run");
    }
    Ok(Some(summary(&target, args, &running, keys)))
}

/// Buys a stock through the Ingress, shows the portfolio, runs the report; remembers that it did.
fn first_order(
    steps: &mut Steps,
    admin: &ApiClient,
    keys: &mut Keys,
    dir: &Path,
    deployment: &Deployment<'_>,
) -> Result<()> {
    let user_key = steps.step("key", |_| admin.create_user_key("up"))?;
    let client = admin.with_key(&user_key);
    steps.step("first order", |lines| {
        let order = client.first_buy(FIRST_PRICES_DEADLINE)?;
        lines.say(format!(
            "{}: {} {} at {} for {}",
            text(&order["status"]),
            text(&order["quantity"]),
            text(&order["symbol"]),
            text(&order["fill"]["price"]),
            text(&order["fill"]["total"]),
        ));
        let portfolio = client
            .get(&format!("/v1/portfolios/{}", text(&order["portfolioId"])))?
            .expect(200)?;
        for holding in portfolio["holdings"].as_array().into_iter().flatten() {
            lines.say(format!(
                "portfolio holds {} {}",
                text(&holding["quantity"]),
                text(&holding["symbol"])
            ));
        }
        Ok(())
    })?;
    steps.step("report", |lines| {
        let job = format!("{NAME}-report-by-up");
        // An interrupted run may have made it already; it is ours and its report is idempotent.
        let name = format!("job/{job}");
        deployment
            .kubectl
            .run(&["--namespace", NAMESPACE, "delete", &name, "--ignore-not-found"])?;
        deployment.run_report(&job)?;
        if let Some(mails) = &deployment.addresses.mail_dir {
            lines.say(format!("mail in {}", mails.display()));
        }
        Ok(())
    })?;
    keys.user = Some(user_key);
    keys.report_schedule = Some(deployment.report_schedule.to_owned());
    keys.save(dir)
}

fn summary(target: &Target, args: &Args, running: &Running, keys: Keys) -> Summary {
    let kubectl = target.kubectl_line();
    let api_url = match (target, target.ingress_class(args)) {
        // curl and browsers take names below localhost for this machine.
        (Target::Local(cluster), _) => format!("http://{HOST}:{}", cluster.ingress().port()),
        (Target::Existing(_), Some(_)) => format!("http://{HOST}"),
        (Target::Existing(_), None) => "http://127.0.0.1:8080".to_owned(),
    };
    let (mut metrics, mut stop) = (Vec::new(), "cargo xtask down");
    if matches!(target, Target::Existing(_)) {
        stop = "cargo xtask down --existing";
        metrics.push(format!(
            "{kubectl} -n {NAMESPACE} port-forward deployment/{NAME}-api 9090, then /metrics there"
        ));
    } else {
        metrics.push(format!("{} (Prometheus)", running.prometheus_url));
    }
    let first = target.ingress_class(args).is_none().then(|| {
        format!("{kubectl} -n {NAMESPACE} port-forward service/{NAME}-api 8080:80   (keep it running for the lines below)")
    });
    Summary {
        first,
        api_url,
        key: keys.user.unwrap_or_default(),
        admin_key: keys.admin,
        metrics,
        mail: running
            .addresses
            .mail_dir
            .as_ref()
            .map_or_else(String::new, |dir| dir.display().to_string()),
        report: format!("{kubectl} -n {NAMESPACE} create job --from=cronjob/{NAME}-report report-by-hand"),
        vendor_control: running.addresses.vendor_control_url.clone(),
        dashboards: format!(
            "{kubectl} -n {OPERATOR_NAMESPACE} get configmap fuse-operator-dashboards -o yaml"
        ),
        stop: stop.to_owned(),
    }
}

fn dry_run(args: &Args, steps: &Steps) -> Result<()> {
    let wanted = [packages::CLUSTER, packages::BACKENDS].concat();
    let missing: Vec<_> = packages::missing(&wanted)
        .iter()
        .map(|package| package.name)
        .collect();
    let existing = if args.local {
        None
    } else {
        Existing::current(&Progress::silent())?
    };
    match existing {
        Some(existing) => steps.say(format!(
            "would use the cluster that kubectl has: {}",
            existing.context
        )),
        None => steps
            .say("would start the local real cluster (or make one with kind, k3d or minikube if installed)"),
    }
    if missing.is_empty() {
        steps.say("every system package is there");
    } else {
        steps.say(format!("would install: {}", missing.join(" ")));
    }
    steps.say("would build the image, start the backends, install both charts, apply the resource, and buy one stock");
    Ok(())
}

fn find_cluster(args: &Args, lines: &Progress) -> Result<Target> {
    if let Some(cluster) = LocalCluster::attach(lines)? {
        return Ok(Target::Local(Box::new(cluster)));
    }
    if !args.local
        && let Some(existing) = Existing::find(lines)?
    {
        lines.say(format!("using the cluster {}", existing.context));
        return Ok(Target::Existing(existing));
    }
    lines.say("no cluster found: starting a local real one");
    Ok(Target::Local(Box::new(LocalCluster::start_detached(lines)?)))
}

impl Target {
    fn kubectl(&self) -> &Kubectl {
        match self {
            Self::Existing(existing) => existing.client(),
            Self::Local(cluster) => cluster.client(),
        }
    }

    fn tools(&self) -> &Tools {
        match self {
            Self::Existing(existing) => existing.tools(),
            Self::Local(cluster) => cluster.tools(),
        }
    }

    fn load(&self, image: &Image) -> Result<()> {
        match self {
            Self::Existing(existing) => existing.loader.load(image),
            Self::Local(cluster) => cluster.load(image).map(drop),
        }
    }

    fn host_address(&self) -> Result<IpAddr> {
        match self {
            Self::Existing(existing) => existing.host_address(),
            Self::Local(cluster) => Ok(cluster.host_address()),
        }
    }

    fn pod_networks(&self) -> Vec<String> {
        match self {
            Self::Existing(_) => PRIVATE_NETWORKS.map(str::to_owned).to_vec(),
            Self::Local(_) => vec![LOCAL_POD_NETWORK.to_owned()],
        }
    }

    fn ingress_class<'a>(&self, args: &'a Args) -> Option<&'a str> {
        match self {
            Self::Existing(_) => args.ingress_class.as_deref(),
            Self::Local(_) => Some("traefik"),
        }
    }

    /// Where the API answers, as long as the second value lives.
    fn api(&self, args: &Args) -> Result<(String, Option<Forward>)> {
        match self {
            Self::Local(cluster) => Ok((format!("http://{}", cluster.ingress()), None)),
            Self::Existing(_) if args.ingress_class.is_some() => Ok((format!("http://{HOST}"), None)),
            Self::Existing(existing) => {
                let forward = existing
                    .client()
                    .forward(NAMESPACE, &format!("service/{NAME}-api"), 80)?;
                Ok((format!("http://{}", forward.address), Some(forward)))
            }
        }
    }

    /// A kubeconfig file of this cluster alone, for Prometheus.
    fn kubeconfig(&self, dir: &Path) -> Result<PathBuf> {
        match self {
            Self::Local(cluster) => Ok(cluster.kubeconfig()),
            Self::Existing(existing) => {
                let text = existing
                    .client()
                    .run(&["config", "view", "--minify", "--flatten", "--raw"])?;
                let file = dir.join("kubeconfig");
                write_secret(&file, text.as_bytes())?;
                Ok(file)
            }
        }
    }

    /// What a person types to reach this cluster.
    fn kubectl_line(&self) -> String {
        match self {
            Self::Existing(_) => "kubectl".to_owned(),
            Self::Local(cluster) => {
                let kubectl = cluster.tools().path(Tool::Kubectl);
                let kubectl =
                    kubectl.map_or_else(|_| "kubectl".to_owned(), |path| path.display().to_string());
                format!("{kubectl} --kubeconfig {}", cluster.kubeconfig().display())
            }
        }
    }
}

impl Keys {
    fn load(dir: &Path) -> Result<Self> {
        let file = dir.join("keys.json");
        match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is not understood; run `cargo xtask down`", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let keys = Self {
                    admin: new_secret(),
                    user: None,
                    report_schedule: None,
                };
                keys.save(dir)?;
                Ok(keys)
            }
            Err(error) => bail!("could not read {}: {error}", file.display()),
        }
    }

    /// That of the first report, so that another run changes nothing. Until then one by which the first report, run by hand,
    /// holds the first order at any time of day.
    fn report_schedule(&self) -> String {
        match &self.report_schedule {
            Some(kept) => kept.clone(),
            None => deployment::far_schedule(jiff::Timestamp::now()).to_owned(),
        }
    }

    fn save(&self, dir: &Path) -> Result<()> {
        write_secret(&dir.join("keys.json"), &serde_json::to_vec_pretty(self)?)
    }
}
