//! A real Prometheus that scrapes what it is told, every second.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::ports::Port;
use crate::proc::{self, Proc};
use crate::{background, rundir, wait};

const START_DEADLINE: Duration = Duration::from_secs(60);
const QUERY_DEADLINE: Duration = Duration::from_secs(10);

/// One series of an instant query.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A running Prometheus; dropping it stops it and removes its data.
#[derive(Debug)]
pub struct Prometheus {
    proc: Proc,
    port: Port,
    dir: PathBuf,
}

impl Prometheus {
    /// Scrapes `/metrics` of each address, by job.
    ///
    /// # Errors
    /// When Prometheus is not installed (the message names the package) or does not start.
    pub fn start<'a>(jobs: impl IntoIterator<Item = (&'a str, SocketAddr)>) -> Result<Self> {
        Self::start_with(&scrape_config(jobs), &[])
    }

    /// Starts with this configuration; rule files are copied beside it, to be named in it by their file names.
    ///
    /// # Errors
    /// As [`Prometheus::start`].
    pub fn start_with(config: &str, rule_files: &[&Path]) -> Result<Self> {
        let program = proc::find_program("prometheus", "prometheus", &[])?;
        let dir = rundir::unique_path("prometheus", "")?;
        fs::create_dir_all(&dir)?;
        for file in rule_files {
            let name = file.file_name().context("a file name")?;
            fs::copy(file, dir.join(name)).with_context(|| format!("copy {}", file.display()))?;
        }
        fs::write(dir.join("prometheus.yml"), config)?;
        let port = Port::reserve()?;
        let proc = Proc::build("prometheus", program)
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={}", port.on_loopback()))
            .arg("--web.enable-lifecycle")
            .start()?;
        let prometheus = Self { proc, port, dir };
        prometheus
            .proc
            .wait_for_http(&format!("{}/-/ready", prometheus.url()), START_DEADLINE)?;
        Ok(prometheus)
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.port.on_loopback())
    }

    /// An instant query that gives a vector or a scalar; empty when nothing matches.
    ///
    /// # Errors
    /// When PromQL is wrong or there is no answer.
    pub fn query(&self, promql: &str) -> Result<Vec<Sample>> {
        let request = background::http_client()
            .get(format!("{}/api/v1/query", self.url()))
            .query(&[("query", promql)])
            .timeout(QUERY_DEADLINE);
        let body = background::block_on(async move { request.send().await?.text().await })?;
        parse(&body).with_context(|| format!("query {promql}"))
    }

    /// Blocks until the query gives at least one series; returns them.
    ///
    /// # Errors
    /// When `deadline` has passed, or PromQL is wrong.
    pub fn wait_for(&self, promql: &str, deadline: Duration) -> Result<Vec<Sample>> {
        wait::until(&format!("data for {promql}"), deadline, || {
            match self.query(promql) {
                Ok(samples) if samples.is_empty() => None,
                other => Some(other),
            }
        })?
    }

    /// Reads the configuration again after it was replaced.
    ///
    /// # Errors
    /// When Prometheus refuses it.
    pub fn reconfigure(&self, config: &str) -> Result<()> {
        fs::write(self.dir.join("prometheus.yml"), config)?;
        let request = background::http_client().post(format!("{}/-/reload", self.url()));
        let status = background::block_on(async move { request.send().await.map(|answer| answer.status()) })?;
        if !status.is_success() {
            bail!("Prometheus refused the configuration: {}", self.proc.log_tail());
        }
        Ok(())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.proc.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The configuration that [`Prometheus::start`] makes.
#[must_use]
pub fn scrape_config<'a>(jobs: impl IntoIterator<Item = (&'a str, SocketAddr)>) -> String {
    let mut by_job: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (job, address) in jobs {
        by_job.entry(job).or_default().push(address.to_string());
    }
    let mut config =
        "global: {scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}\nscrape_configs:\n"
            .to_owned();
    for (job, targets) in by_job {
        // Strings of JSON are strings of YAML.
        let (job, targets) = (serde_json::json!(job), serde_json::json!(targets));
        config.push_str(&format!(
            "  - job_name: {job}\n    static_configs: [{{targets: {targets}}}]\n"
        ));
    }
    config
}

#[derive(Deserialize)]
struct Answer {
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Series>),
    Scalar((f64, String)),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

fn parse(body: &str) -> Result<Vec<Sample>> {
    let answer: Answer = serde_json::from_str(body).context("not Prometheus's JSON")?;
    let number = |text: &str| match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        text => text.parse::<f64>(),
    };
    match (answer.error, answer.data) {
        (Some(error), _) => bail!("{error}"),
        (None, Some(Data::Vector(series))) => series
            .into_iter()
            .map(|series| {
                Ok(Sample {
                    value: number(&series.value.1)?,
                    labels: series.metric,
                })
            })
            .collect(),
        (None, Some(Data::Scalar((_, value)))) => Ok(vec![Sample {
            labels: BTreeMap::new(),
            value: number(&value)?,
        }]),
        _ => bail!("neither a vector nor a scalar"),
    }
}
