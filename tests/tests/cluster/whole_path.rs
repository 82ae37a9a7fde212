//! The mission once, on a real cluster: both charts, one FuseTradingService, and from then on only what a platform team
//! and their clients do: kubectl, REST through the Ingress, reading the mail, asking Prometheus.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fuse_harness::{
    client::ApiClient,
    cluster::{LocalCluster, footprint::Footprint},
    deployment::{Deployment, HOST, NAMESPACE, OPERATOR_NAMESPACE, far_schedule},
    image, monitoring,
    progress::Progress,
    prometheus::Prometheus,
    release::Helm,
    services::{Binaries, workspace_root},
    stack::{Stack, StackOptions},
    wait,
};
use serde_json::{Value, json};

use crate::machine;

/// The service should be Ready this long after `kubectl apply`; how it went is printed.
const READY_GOAL: Duration = Duration::from_secs(60);
/// It must be on a machine that has other work too.
const READY_WITHIN: Duration = Duration::from_secs(180);
const DEADLINE: Duration = Duration::from_secs(60);
const ADMIN_KEY: &str = "an-admin-key-for-this-test-only";

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no {pointer} in {value}"))
}

/// Until both replicas have prices: the Ingress takes turns between them.
fn wait_for_prices_everywhere(client: &ApiClient) -> Result<()> {
    let mut in_a_row = 0;
    wait::until("prices on both replicas", DEADLINE, || {
        let answer = client.get("/v1/stocks?limit=1");
        let has_prices = answer.is_ok_and(|answer| answer.status == 200);
        in_a_row = if has_prices { in_a_row + 1 } else { 0 };
        (in_a_row == 6).then_some(())
    })
}

/// Lists, buys, repeats, reads the portfolio; returns the order.
fn trade(client: &ApiClient) -> Result<Value> {
    let order = client.first_buy(DEADLINE)?;
    ensure!(text(&order, "/status")? == "filled", "{order}");
    let symbol = text(&order, "/symbol")?;
    wait_for_prices_everywhere(client)?;
    let stocks = client.get("/v1/stocks?limit=5")?.expect(200)?;
    ensure!(
        stocks["items"].as_array().is_some_and(|items| items.len() == 5),
        "{stocks}"
    );
    ensure!(stocks["snapshot"]["stale"] == false, "{stocks}");
    let again = json!({
        "symbol": symbol, "side": "buy", "quantity": "2", "limitPrice": text(&order, "/limitPrice")?,
    });
    let first = client.place("the-same-key", &again)?;
    let repeat = client.place("the-same-key", &again)?;
    first.expect(201)?;
    ensure!(
        repeat.text == first.text && repeat.replayed,
        "{} / {}",
        first.text,
        repeat.text
    );
    let portfolio = client
        .get(&format!("/v1/portfolios/{}", text(&order, "/portfolioId")?))?
        .expect(200)?;
    ensure!(text(&portfolio, "/holdings/0/symbol")? == symbol, "{portfolio}");
    ensure!(text(&portfolio, "/holdings/0/quantity")? == "3.5", "{portfolio}");
    let refused = client.place(
        "too-far",
        &json!({
            "symbol": symbol, "side": "buy", "quantity": "1", "limitPrice": "0.000000001",
        }),
    )?;
    ensure!(
        refused.status == 422 && refused.json()["code"] == "price_out_of_band",
        "{}",
        refused.text
    );
    ensure!(
        refused.content_type.starts_with("application/problem+json"),
        "{}",
        refused.content_type
    );
    Ok(order)
}

/// Runs the CronJob's Job by hand: exactly one mail, which holds the order.
fn report(deployment: &Deployment<'_>, stack: &Stack, order: &Value) -> Result<()> {
    let sink = stack.smtp.as_ref().context("the stack has a mail sink")?;
    deployment.run_report("by-hand")?;
    let mails = sink.messages();
    ensure!(mails.len() == 1, "{} mails", mails.len());
    let (html, plain) = (mails[0].part("text/html")?, mails[0].part("text/plain")?);
    let id = text(order, "/id")?;
    ensure!(
        html.contains(id) && plain.contains(id),
        "the mail does not hold the order {id}:\n{plain}"
    );
    Ok(())
}

/// Every process is scraped, and every query of the dashboard returns data.
fn metrics(cluster: &LocalCluster) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let targets = monitoring::PodTargets::new(cluster.client().clone(), dir.path().join("targets.json"));
    targets.refresh()?;
    let config = monitoring::pod_scrape_config(&targets, Some(Duration::from_secs(1)))?;
    let prometheus = Prometheus::start_with(&config, &[&monitoring::rules_file()?])?;
    for job in ["api", "refresher", "operator"] {
        let up = prometheus.wait_for(&format!("up{{job=\"{job}\"}} == 1"), DEADLINE)?;
        eprintln!("{job}: {} scraped", up.len());
    }
    let variables = BTreeMap::from([
        ("namespace", ".+"),
        ("job", ".+"),
        ("instance", ".+"),
        ("trading_service", ".*"),
    ]);
    let mut empty = Vec::new();
    let queries = monitoring::dashboard_queries(&variables)?;
    ensure!(queries.len() > 10, "a dashboard of {} queries", queries.len());
    for (panel, query) in &queries {
        // Rates need two scrapes, which may lie a few seconds ahead.
        if prometheus.wait_for(query, Duration::from_secs(20)).is_err() {
            empty.push(format!("{panel}: {query}"));
        }
    }
    ensure!(empty.is_empty(), "no data for:\n{}", empty.join("\n"));
    eprintln!("{} dashboard queries return data", queries.len());
    Ok(())
}

fn explain(cluster: &LocalCluster, error: anyhow::Error) -> anyhow::Error {
    let mut told = String::new();
    for args in [
        &["get", "pods,jobs,fts", "-A", "-o", "wide"][..],
        &["-n", NAMESPACE, "describe", "fts"],
        &["-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp"],
        &[
            "-n",
            OPERATOR_NAMESPACE,
            "logs",
            "deployment/fuse-operator",
            "--tail=40",
        ],
        &[
            "-n",
            NAMESPACE,
            "logs",
            "-l",
            "app.kubernetes.io/component=api",
            "--tail=20",
        ],
        &[
            "-n",
            NAMESPACE,
            "logs",
            "-l",
            "app.kubernetes.io/component=refresher",
            "--tail=20",
        ],
        &[
            "-n",
            NAMESPACE,
            "logs",
            "-l",
            "app.kubernetes.io/component=migration",
            "--tail=20",
        ],
    ] {
        let answer = cluster.kubectl(args).unwrap_or_else(|error| format!("{error:#}"));
        told.push_str(&format!("--- kubectl {}\n{answer}\n", args.join(" ")));
    }
    error.context(told)
}

fn run(cluster: &LocalCluster, stack: &Stack) -> Result<()> {
    let progress = Progress::stderr();
    let root = workspace_root()?;
    let images = tempfile::tempdir()?;
    let image = image::build(Binaries::locate()?.dir(), images.path())?;
    cluster.load(&image)?;
    let helm = Helm::new(cluster.tools(), cluster.client())?;
    let deployment = Deployment {
        kubectl: cluster.client(),
        helm: &helm,
        charts: &root.join("charts"),
        image: &image,
        addresses: stack.addresses(),
        admin_key: ADMIN_KEY,
        ingress_class: Some("traefik"),
        refresh_interval_secs: 60,
        report_schedule: far_schedule(jiff::Timestamp::now()),
    };
    deployment.install_charts()?;
    let applied = Instant::now();
    deployment.apply()?;
    deployment.wait_ready(READY_WITHIN, &progress)?;
    let took = applied.elapsed();
    eprintln!(
        "Ready {:.1} s after kubectl apply, {} the goal of {} s",
        took.as_secs_f64(),
        if took <= READY_GOAL { "within" } else { "missing" },
        READY_GOAL.as_secs()
    );
    let line = cluster.kubectl(&["-n", NAMESPACE, "get", "fts"])?;
    ensure!(line.contains("True") && line.contains("2/2"), "{line}");

    let url = format!("http://{}", cluster.ingress());
    let admin = ApiClient::new(url, Some(HOST), ADMIN_KEY);
    let key = wait::until("a key through the Ingress", DEADLINE, || {
        admin.create_user_key("whole path").ok()
    })?;
    let order = trade(&admin.with_key(key))?;
    report(&deployment, stack, &order)?;
    metrics(cluster)?;

    ensure!(!deployment.install_charts()?, "a second install changes nothing");
    deployment.delete(DEADLINE)?;
    eprintln!("nothing is left of the deleted resource");
    helm.uninstall("fuse-operator", OPERATOR_NAMESPACE)
}

#[test]
fn one_resource_becomes_a_filled_order_a_mail_and_metrics_and_leaves_nothing() -> Result<()> {
    let _turn = machine::turn();
    let before = Footprint::take();
    let cluster = LocalCluster::start(&Progress::stderr())?;
    let stack = Stack::start(StackOptions {
        bridge: Some(cluster.host_address()),
        clients: vec!["10.88.0.0/16".into()],
        follow_wall_clock: true,
        ..StackOptions::default()
    })?;
    run(&cluster, &stack).map_err(|error| explain(&cluster, error))?;
    drop(stack);
    cluster.stop()?;
    machine::require_nothing_left(&before)
}
