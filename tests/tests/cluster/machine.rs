//! The local cluster itself: real pods, Services, DNS, Jobs and Ingress on this machine, and nothing left of it afterwards.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fuse_harness::{
    background,
    cluster::{LocalCluster, footprint::Footprint},
    progress::Progress,
    wait,
};

const DEADLINE: Duration = Duration::from_secs(60);
const HOST: &str = "ping.example.test";
const MANIFEST: &str = include_str!("machine.yaml");

/// Status and body of a request through the ingress controller on loopback.
fn through_ingress(cluster: &LocalCluster, host: &'static str, path: &str) -> Option<(u16, String)> {
    let url = format!("http://{}{path}", cluster.ingress());
    background::block_on(async move {
        let request = background::http_client()
            .get(url)
            .header("host", host)
            .timeout(Duration::from_secs(2));
        let response = request.send().await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    })
}

fn image_of(cluster: &LocalCluster, deployment: &str) -> Result<String> {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    cluster.kubectl(&["get", "deployment", "-n", "kube-system", deployment, "-o", path])
}

fn run_workloads(cluster: &LocalCluster) -> Result<()> {
    let begun = Instant::now();
    cluster
        .client()
        .apply(&MANIFEST.replace("@IMAGE@", &image_of(cluster, "traefik")?))?;
    cluster.kubectl(&[
        "rollout",
        "status",
        "-n",
        "pods",
        "deployment/web",
        "--timeout=60s",
    ])?;
    eprintln!("restricted pod: {:.1} s", begun.elapsed().as_secs_f64());
    cluster.kubectl(&[
        "wait",
        "-n",
        "pods",
        "--for=condition=Complete",
        "job/check",
        "--timeout=60s",
    ])?;
    eprintln!(
        "job through DNS and a Service address: {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let answer = wait::until("200 through the Ingress", DEADLINE, || {
        through_ingress(cluster, HOST, "/ping").filter(|(status, _)| *status == 200)
    })?;
    ensure!(answer.1 == "OK", "{answer:?}");
    eprintln!("ingress: {:.1} s", begun.elapsed().as_secs_f64());
    ensure!(through_ingress(cluster, "other.example.test", "/ping").is_some_and(|(status, _)| status == 404));
    let logs = cluster.kubectl(&["logs", "-n", "pods", "job/check"])?;
    ensure!(logs.contains("OK"), "the log of the Job: {logs}");
    let address = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    ensure!(cluster.kubectl(&["get", "ingress", "-n", "pods", "web", "-o", address])? == "10.88.0.1");
    Ok(())
}

#[test]
fn pods_jobs_services_and_ingress_work_and_nothing_stays() -> Result<()> {
    let before = Footprint::take();
    let begun = Instant::now();
    let cluster = LocalCluster::start(&Progress::stderr())?;
    eprintln!("cluster usable: {:.1} s", begun.elapsed().as_secs_f64());
    run_workloads(&cluster)?;
    for (name, bytes) in cluster.memory() {
        eprintln!("{name}: {} MiB", bytes >> 20);
    }
    let begun = Instant::now();
    cluster.stop()?;
    eprintln!("down: {:.1} s", begun.elapsed().as_secs_f64());
    let left = before.difference(&Footprint::take());
    ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    Ok(())
}
