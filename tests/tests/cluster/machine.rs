//! The local cluster itself: real pods, Services, DNS, Jobs and Ingress on this machine, and nothing left of it afterwards.

use std::{
    env, fs,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use fuse_harness::{
    background,
    cluster::{LocalCluster, footprint::Footprint},
    image,
    proc::Proc,
    progress::Progress,
    wait,
};
use nix::sys::signal::Signal;

const DEADLINE: Duration = Duration::from_secs(60);
const HOST: &str = "ping.example.test";
/// Tells the test program that it is the process that another test is going to kill.
const ROLE: &str = "FUSE_TEST_CLUSTER_ROLE";
const MANIFEST: &str = include_str!("machine.yaml");

/// One cluster per machine: the tests take turns, so that one does not see the traces of another.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn require_nothing_left(before: &Footprint) -> Result<()> {
    let left = before.difference(&Footprint::take());
    ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    Ok(())
}

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
    wait::until("404 for another host", DEADLINE, || {
        through_ingress(cluster, "other.example.test", "/ping").filter(|(status, _)| *status == 404)
    })?;
    let logs = cluster.kubectl(&["logs", "-n", "pods", "job/check"])?;
    ensure!(logs.contains("OK"), "the log of the Job: {logs}");
    let forward = cluster.client().forward("pods", "service/web", 80)?;
    let url = format!("http://{}/ping", forward.address);
    ensure!(
        background::http_get(&url, Duration::from_secs(5))?.0 == 200,
        "a forwarded port answers"
    );
    let address = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    ensure!(cluster.kubectl(&["get", "ingress", "-n", "pods", "web", "-o", address])? == "10.88.0.1");
    Ok(())
}

/// An image like the service's own: four static binaries.
fn load_an_image_twice(cluster: &LocalCluster) -> Result<()> {
    let dir = tempfile::tempdir()?;
    image::build_pause(dir.path())?;
    for binary in image::BINARIES {
        fs::copy(image::pause_binary()?, dir.path().join(binary))?;
    }
    let built = image::build(dir.path(), dir.path())?;
    ensure!(cluster.load(&built)?, "the first time it is imported");
    ensure!(!cluster.load(&built)?, "the second time it is there");
    Ok(())
}

#[test]
fn pods_jobs_services_and_ingress_work_and_nothing_stays() -> Result<()> {
    let _turn = turn();
    let before = Footprint::take();
    let begun = Instant::now();
    let cluster = LocalCluster::start(&Progress::stderr())?;
    eprintln!("cluster usable: {:.1} s", begun.elapsed().as_secs_f64());
    run_workloads(&cluster)?;
    load_an_image_twice(&cluster)?;
    for (name, bytes) in cluster.memory() {
        eprintln!("{name}: {} MiB", bytes >> 20);
    }
    let begun = Instant::now();
    cluster.stop()?;
    eprintln!("down: {:.1} s", begun.elapsed().as_secs_f64());
    require_nothing_left(&before)
}

/// Runs this test program again in a role, until its API server is ready: the worst moment to end, with half of everything there.
fn start_half(role: &str) -> Result<Proc> {
    let child = Proc::build("interrupted-start", env::current_exe()?)
        .args(["--exact", "machine::killed_by_another_test", "--nocapture"])
        .env(ROLE, role)
        .start()?;
    child.wait_for_line("half a cluster", DEADLINE, |line| {
        line.contains("API server is ready").then_some(())
    })?;
    Ok(child)
}

#[test]
fn killed_by_another_test() -> Result<()> {
    match env::var(ROLE).as_deref() {
        Ok("tied") => LocalCluster::start(&Progress::stderr()).map(drop),
        Ok("detached") => LocalCluster::start_detached(&Progress::stderr()).map(drop),
        _ => Ok(()),
    }
}

#[test]
fn a_killed_test_takes_its_processes_along_and_the_next_start_works() -> Result<()> {
    let _turn = turn();
    let before = Footprint::take();
    start_half("tied")?.kill()?;
    wait::until("the kernel to end all processes", DEADLINE, || {
        let traces = before.difference(&Footprint::take());
        (!traces.iter().any(|trace| trace.contains("process:"))).then_some(())
    })?;
    LocalCluster::start(&Progress::stderr())?.stop()?;
    require_nothing_left(&before)
}

#[test]
fn an_interrupted_test_leaves_nothing() -> Result<()> {
    let _turn = turn();
    let before = Footprint::take();
    let status = start_half("tied")?.stop_with(Signal::SIGINT, DEADLINE)?;
    ensure!(status.code() == Some(130), "{status}");
    require_nothing_left(&before)
}

#[test]
fn a_detached_cluster_outlives_its_starter_and_ends_by_down() -> Result<()> {
    let _turn = turn();
    let before = Footprint::take();
    let progress = Progress::stderr();
    start_half("detached")?.kill()?;
    ensure!(
        LocalCluster::attach(&progress)?.is_none(),
        "half a cluster is none"
    );
    LocalCluster::down(&progress)?;
    require_nothing_left(&before)?;

    drop(LocalCluster::start_detached(&progress)?);
    let attached = LocalCluster::attach(&progress)?;
    ensure!(
        attached.is_some_and(|cluster| cluster.kubectl(&["get", "node", "node"]).is_ok()),
        "it goes on"
    );
    let error = LocalCluster::start(&progress).expect_err("one cluster per machine");
    ensure!(error.to_string().contains("xtask down"), "{error:#}");
    LocalCluster::down(&progress)?;
    LocalCluster::down(&progress)?;
    require_nothing_left(&before)
}
