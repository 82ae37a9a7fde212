//! The harness itself: each backend starts, is used, fails on demand and stops, and no process outlives its test.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fuse_harness::dynamodb::{DynamoDb, DynamoFault};
use fuse_harness::postgres::Postgres;
use fuse_harness::proc::{PidRecord, Proc, find_program};
use fuse_harness::prometheus::Prometheus;
use fuse_harness::proxy::{Mode, TcpProxy};
use fuse_harness::redis::Redis;
use fuse_harness::services::Service;
use fuse_harness::smtp::{SmtpMode, SmtpOptions, SmtpSink};
use fuse_harness::{rundir, wait};
use serde_json::json;
use vendor_simulator::{Simulator, SimulatorConfig};

const SOON: Duration = Duration::from_secs(10);
/// Waited for an answer that must not come.
const HANGS: Duration = Duration::from_millis(500);

fn sleeper() -> Result<Proc> {
    let sleep = find_program("sleep", "coreutils", &[])?;
    Proc::build("sleeper", sleep).arg("3600").start()
}

#[test]
fn a_child_dies_with_its_handle() -> Result<()> {
    let child = sleeper()?;
    let record = child.record()?;
    ensure!(record.is_alive());
    drop(child);
    ensure!(!record.is_alive());
    Ok(())
}

#[test]
fn an_early_end_is_reported_with_the_log() -> Result<()> {
    let sh = find_program("sh", "dash", &[])?;
    let child = Proc::build("failing", sh)
        .args(["-c", "echo the reason; exit 3"])
        .start()?;
    let error = child
        .wait_for_line("never printed", SOON, |line| line.contains("ready").then_some(()))
        .expect_err("it prints no such line");
    let text = format!("{error:#}");
    ensure!(text.contains("the reason"), "{text}");
    ensure!(text.contains("exit code 3"), "{text}");
    Ok(())
}

#[test]
fn a_missing_program_names_its_package() {
    let error = find_program("no-such-program", "its-package", &[]).expect_err("it is missing");
    assert_text(
        &error.to_string(),
        "`no-such-program` is not installed. On Debian or Ubuntu: sudo apt-get install -y --no-install-recommends its-package",
    );
}

fn assert_text(is: &str, should_be: &str) {
    assert_eq!(is, should_be);
}

/// How the child test process ends.
const END: &str = "FUSE_HARNESS_TEST_END";

/// Not a test of its own: started by the next one in a process of its own, it ends in the way it is told.
#[test]
fn helper_that_ends_badly() -> Result<()> {
    let Ok(end) = std::env::var(END) else {
        return Ok(());
    };
    let child = sleeper()?;
    let (file, at) = end.split_once('@').context("END is how@file")?;
    let record = serde_json::to_string(&child.record()?)?;
    std::fs::write(format!("{at}.new"), record)?;
    std::fs::rename(format!("{at}.new"), at)?;
    match file {
        "panic" => panic!("on purpose"),
        "exit" => std::process::exit(7),
        // Killed from outside while it waits.
        _ => loop {
            std::thread::park();
        },
    }
}

#[test]
fn no_child_outlives_a_panic_an_exit_or_sigkill() -> Result<()> {
    for end in ["panic", "exit", "killed", "interrupted"] {
        let file = rundir::unique_path(end, "json")?;
        // Whoever starts the tests in the background of a script lets them ignore SIGINT, and their children with them.
        let mut run = Command::new("env")
            .arg("--default-signal=INT")
            .arg(std::env::current_exe()?)
            .args(["--exact", "helper_that_ends_badly", "--nocapture"])
            .env(END, format!("{end}@{}", file.display()))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        let record: PidRecord = wait::until("the child's record", SOON, || {
            serde_json::from_slice(&std::fs::read(&file).ok()?).ok()
        })?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(run.id())?);
        match end {
            "killed" => run.kill()?,
            "interrupted" => nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?,
            _ => {}
        }
        let status = wait::until(&format!("its end after {end}"), SOON, || run.try_wait().ok()?)?;
        ensure!(!status.success(), "{end} should fail");
        wait::until(&format!("the end of the child after {end}"), SOON, || {
            (!record.is_alive()).then_some(())
        })?;
    }
    Ok(())
}

#[test]
fn postgres_gives_databases() -> Result<()> {
    let postgres = Postgres::shared()?;
    let (one, two) = (postgres.database()?, postgres.database()?);
    postgres.sql_at(&one, "create table t (n int)")?;
    postgres.sql_at(&two, "create table t (n int)")?;
    postgres.sql_at(&one, "insert into t values (42)")?;
    ensure!(postgres.sql_at(&one, "select n from t")? == "42");
    ensure!(postgres.sql_at(&two, "select n from t")?.is_empty());
    Ok(())
}

#[test]
fn postgres_stops_crashes_and_hangs_and_keeps_its_data() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let url = postgres.database()?;
    postgres.sql_at(&url, "create table t (n int); insert into t values (1)")?;
    postgres.stop()?;
    ensure!(!wait::accepts(postgres.address()));
    postgres.restart()?;
    postgres.sql_at(&url, "insert into t values (2)")?;
    postgres.kill()?;
    ensure!(!wait::accepts(postgres.address()));
    postgres.restart()?;
    ensure!(postgres.sql_at(&url, "select sum(n) from t")? == "3");
    postgres.pause()?;
    ensure!(postgres.sql_at(&url, "select 1").is_err(), "it should hang");
    postgres.resume()?;
    ensure!(postgres.sql_at(&url, "select 1")? == "1");
    let address = postgres.address();
    drop(postgres);
    ensure!(!wait::accepts(address));
    Ok(())
}

#[test]
fn redis_answers_and_comes_back_empty() -> Result<()> {
    let mut redis = Redis::start()?;
    redis.command(&["SET", "key", "value"])?;
    ensure!(redis.command(&["GET", "key"])? == "value");
    redis.stop()?;
    ensure!(redis.command(&["PING"]).is_err());
    redis.restart()?;
    ensure!(redis.command(&["GET", "key"])? == "$-1");
    Ok(())
}

#[test]
fn dynamodb_keeps_its_data_over_an_outage() -> Result<()> {
    let dynamodb = DynamoDb::start()?;
    make_table(&dynamodb)?;
    dynamodb.call(
        "PutItem",
        &json!({"TableName": "items", "Item": {"pk": {"S": "a"}}}),
    )?;
    dynamodb.stop()?;
    ensure!(!wait::accepts(dynamodb.address()));
    dynamodb.restart()?;
    let (status, _) = fuse_harness::background::http_get(&dynamodb.endpoint(), SOON)?;
    ensure!(status == 200, "{status}");
    let answer = dynamodb.call(
        "GetItem",
        &json!({"TableName": "items", "Key": {"pk": {"S": "a"}}}),
    )?;
    ensure!(answer["Item"]["pk"]["S"] == "a", "{answer}");
    dynamodb.hang()?;
    let hung = fuse_harness::background::http_get(&dynamodb.endpoint(), HANGS);
    ensure!(hung.is_err(), "it should hang");
    Ok(())
}

fn make_table(dynamodb: &DynamoDb) -> Result<()> {
    dynamodb.call(
        "CreateTable",
        &json!({
            "TableName": "items", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        }),
    )?;
    Ok(())
}

/// As an SDK sends it: through the proxy and the fault layer.
fn through(
    dynamodb: &DynamoDb,
    operation: &str,
    input: serde_json::Value,
) -> Result<(u16, serde_json::Value)> {
    let request = fuse_harness::background::http_client()
        .post(dynamodb.endpoint())
        .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
        .header("content-type", "application/x-amz-json-1.0")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
        .header("x-amz-date", "20260101T000000Z")
        .body(input.to_string());
    fuse_harness::background::block_on(async move {
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_str(&answer.text().await?)?))
    })
}

#[test]
fn dynamodb_throttles_and_leaves_items_unprocessed_when_told() -> Result<()> {
    let dynamodb = DynamoDb::start()?;
    make_table(&dynamodb)?;
    let put = json!({"TableName": "items", "Item": {"pk": {"S": "a"}}});
    dynamodb.inject("PutItem", DynamoFault::Throttle, 1);
    let (status, body) = through(&dynamodb, "PutItem", put.clone())?;
    ensure!(status == 400, "{status} {body}");
    ensure!(
        body["__type"]
            .as_str()
            .is_some_and(|t| t.ends_with("ProvisionedThroughputExceededException"))
    );
    ensure!(through(&dynamodb, "PutItem", put)?.0 == 200);

    let request = |key: &str| json!({"PutRequest": {"Item": {"pk": {"S": key}}}});
    dynamodb.inject("BatchWriteItem", DynamoFault::Unprocessed, 1);
    let batch = json!({"RequestItems": {"items": [request("b"), request("c"), request("d")]}});
    let (status, body) = through(&dynamodb, "BatchWriteItem", batch)?;
    ensure!(status == 200, "{body}");
    ensure!(
        body["UnprocessedItems"]["items"] == json!([request("d")]),
        "{body}"
    );
    ensure!(dynamodb.call("Scan", &json!({"TableName": "items"}))?["Count"] == 3);
    ensure!(dynamodb.requests()["PutItem"] == 2);
    Ok(())
}

#[test]
fn the_proxy_forwards_cuts_hangs_and_refuses() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = TcpProxy::start(redis.address())?;
    ping(proxy.address(), SOON)?;
    proxy.set(Mode::Hang)?;
    ensure!(ping(proxy.address(), HANGS).is_err(), "it should hang");
    proxy.set(Mode::Forward)?;
    ping(proxy.address(), SOON)?;
    proxy.set(Mode::Refuse)?;
    ensure!(!wait::accepts(proxy.address()));
    proxy.set(Mode::Forward)?;
    let mut open = std::net::TcpStream::connect(proxy.address())?;
    talk(&mut open, SOON)?;
    proxy.cut();
    wait::until("the cut", SOON, || talk(&mut open, HANGS).is_err().then_some(()))?;
    ping(proxy.address(), SOON)
}

fn ping(address: SocketAddr, within: Duration) -> Result<()> {
    talk(&mut std::net::TcpStream::connect(address)?, within)
}

fn talk(stream: &mut std::net::TcpStream, within: Duration) -> Result<()> {
    use std::io::{Read, Write};
    stream.set_read_timeout(Some(within))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    ensure!(&answer == b"+PONG\r\n");
    Ok(())
}

/// The blocking API is usable where tests are futures.
#[tokio::test]
async fn backends_start_and_drop_inside_a_current_thread_runtime() -> Result<()> {
    let dynamodb = DynamoDb::start()?;
    make_table(&dynamodb)?;
    let url = Postgres::shared()?.database()?;
    ensure!(url.starts_with("postgres://fuse:"));
    Ok(())
}

/// Speaks SMTP by hand: sends the lines, each after the answer to the one before; returns the answers' codes.
fn smtp(address: SocketAddr, lines: &[&str]) -> Result<Vec<String>> {
    smtp_within(address, lines, SOON)
}

/// The same, waiting so long for each answer.
fn smtp_within(address: SocketAddr, lines: &[&str], within: Duration) -> Result<Vec<String>> {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(within))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut codes = Vec::new();
    for line in std::iter::once(None).chain(lines.iter().map(Some)) {
        if let Some(line) = line {
            stream.write_all(format!("{line}\r\n").as_bytes())?;
        }
        loop {
            let mut answer = String::new();
            ensure!(reader.read_line(&mut answer)? > 0, "the connection was cut");
            if answer.as_bytes().get(3) == Some(&b' ') {
                codes.push(answer[..3].to_owned());
                break;
            }
        }
    }
    Ok(codes)
}

const MAIL: [&str; 5] = [
    "EHLO test",
    "MAIL FROM:<from@example.org> SIZE=10",
    "RCPT TO:<to@example.org>",
    "DATA",
    "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n..dot\r\nend\r\n.",
];

#[test]
fn the_mail_sink_keeps_mails() -> Result<()> {
    let dir = rundir::unique_path("mails", "")?;
    let sink = SmtpSink::start_with(SmtpOptions {
        dir: Some(dir.clone()),
        web: Some(([127, 0, 0, 1], 0).into()),
        ..SmtpOptions::default()
    })?;
    let codes = smtp(sink.address(), &[&MAIL[..], &["RSET", "NOOP", "QUIT"]].concat())?;
    ensure!(
        codes == ["220", "250", "250", "250", "354", "250", "250", "250", "221"],
        "{codes:?}"
    );
    let mails = sink.wait_for(1, SOON)?;
    ensure!(mails[0].from == "from@example.org");
    ensure!(mails[0].recipients == ["to@example.org"]);
    ensure!(mails[0].subject() == "Grüße");
    ensure!(mails[0].raw_text().ends_with("\r\n\r\n.dot\r\nend\r\n"));
    ensure!(std::fs::read(dir.join("0001.eml"))? == mails[0].raw);
    let page = sink.web_url().context("a page")?;
    ensure!(
        fuse_harness::background::http_get(&page, SOON)?
            .1
            .contains("Grüße")
    );
    ensure!(
        fuse_harness::background::http_get(&format!("{page}1/source"), SOON)?
            .1
            .contains("end")
    );
    ensure!(fuse_harness::background::http_get(&format!("{page}2/source"), SOON)?.0 == 404);
    Ok(())
}

#[test]
fn the_mail_sink_refuses_defers_hangs_and_goes_away() -> Result<()> {
    let sink = SmtpSink::start_with(SmtpOptions {
        bytes_max: 100,
        ..SmtpOptions::default()
    })?;
    sink.set_mode(SmtpMode::RefuseMail("451 4.7.1 later".to_owned()));
    ensure!(
        smtp(sink.address(), &MAIL[..2])?
            .last()
            .is_some_and(|c| c == "451")
    );
    sink.set_mode(SmtpMode::RefuseRecipient("550 5.1.1 who?".to_owned()));
    ensure!(
        smtp(sink.address(), &MAIL[..3])?
            .last()
            .is_some_and(|c| c == "550")
    );
    sink.set_mode(SmtpMode::RefuseData("554 5.6.0 no".to_owned()));
    ensure!(smtp(sink.address(), &MAIL)?.last().is_some_and(|c| c == "554"));
    sink.set_mode(SmtpMode::Accept);
    let long = format!("{}\r\n.", "x".repeat(101));
    let too_big = [&MAIL[..4], &[long.as_str()]].concat();
    ensure!(smtp(sink.address(), &too_big)?.last().is_some_and(|c| c == "552"));
    ensure!(sink.messages().is_empty());
    sink.set_mode(SmtpMode::CutAfterData);
    ensure!(smtp(sink.address(), &MAIL).is_err());
    ensure!(sink.messages().len() == 1);
    sink.set_mode(SmtpMode::Hang);
    ensure!(smtp_within(sink.address(), &[], HANGS).is_err());
    sink.set_mode(SmtpMode::Accept);
    sink.stop()?;
    ensure!(!wait::accepts(sink.address()));
    sink.restart()?;
    ensure!(smtp(sink.address(), &MAIL)?.last().is_some_and(|c| c == "250"));
    ensure!(sink.messages().len() == 2);
    Ok(())
}

#[test]
fn prometheus_scrapes_and_answers() -> Result<()> {
    // Nothing listens there any more: the target is down, which is data as well.
    let gone = Redis::start()?.address();
    let prometheus = Prometheus::start([("gone", gone)])?;
    let samples = prometheus.wait_for("up{job=\"gone\"}", Duration::from_secs(30))?;
    ensure!(samples[0].value == 0.0, "{samples:?}");
    ensure!(samples[0].labels["instance"] == gone.to_string());
    ensure!(prometheus.query("vector(2) * 21")?[0].value == 42.0);
    ensure!(prometheus.query("sum(").is_err());
    Ok(())
}

#[test]
fn a_service_starts_on_free_ports_is_ready_and_stops() -> Result<()> {
    let dynamodb = DynamoDb::start()?;
    let vendor = Simulator::start(SimulatorConfig::default())?;
    let envs = [
        ("FUSE_DYNAMODB__ENDPOINT", dynamodb.endpoint()),
        ("FUSE_DYNAMODB__REGION", "us-east-1".to_owned()),
        ("FUSE_VENDOR__BASE_URL", vendor.vendor_url()),
        ("FUSE_VENDOR__API_KEY", SimulatorConfig::default().api_key),
    ];
    let refresher = Service::spawn("cache-refresher", &[], envs)?;
    wait::until("a crawl", SOON, || {
        (vendor.counters().lists.pages >= 5).then_some(())
    })?;
    ensure!(refresher.metrics()?.contains("fuse_"));
    ensure!(!refresher.logs().is_empty());
    let record = refresher.proc().record()?;
    let status = refresher.stop()?;
    ensure!(status.success(), "{status}: {}", refresher.log_text());
    ensure!(!record.is_alive());
    Ok(())
}
