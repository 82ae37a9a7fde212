//! The program itself: command line, exit codes, logs, and SES.

use std::process::Output;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{Fixture, fixture};

fn program(environment: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report-job"));
    command
        .env_clear()
        .args(args)
        .envs(environment.iter().copied())
        .kill_on_drop(true);
    command
}

async fn run(environment: &[(&str, &str)], args: &[&str]) -> Result<Output> {
    program(environment, args)
        .output()
        .await
        .context("running report-job")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn database(fixture: &Fixture) -> (&'static str, &str) {
    ("FUSE_DATABASE__URL", &fixture.url)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_named_at_once_with_exit_78() -> Result<()> {
    let environment = [
        ("FUSE_REPORT__RECIPIENTS", "ops@example.com,not an address,a@b@c"),
        ("FUSE_MAIL__FROM", "nobody"),
        ("FUSE_REPORT__TIME_ZONE", "Mars/Olympus"),
    ];
    let output = run(&environment, &[]).await?;
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr);
    for mistake in [
        "FUSE_DATABASE__URL",
        "not an address",
        "FUSE_MAIL__FROM",
        "a@b@c",
        "FUSE_REPORT__TIME_ZONE",
        "no way to send mail",
    ] {
        assert!(
            said.to_lowercase().contains(&mistake.to_lowercase()),
            "{mistake} is not named in:\n{said}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_sends_by_smtp_and_says_what_it_did() -> Result<()> {
    let fixture = fixture().await?;
    let order = fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    let smtp = fixture.sink.url();
    let environment = [
        database(&fixture),
        ("FUSE_MAIL__SMTP_URL", smtp.as_str()),
        ("FUSE_MAIL__FROM", "report@fuse.example.com"),
        ("FUSE_REPORT__RECIPIENTS", "ops@example.com, ops@example.com"),
    ];
    let dry = run(&environment, &["--date", "2026-03-02", "--dry-run"]).await?;
    let plan = text(&dry.stdout);
    assert_eq!(dry.status.code(), Some(0), "{plan}{}", text(&dry.stderr));
    assert!(
        plan.contains("2026-03-02: would be sealed up to 2026-03-02T23:59:00Z with 1 orders (1 filled"),
        "{plan}"
    );
    assert!(
        plan.contains("0 mails are sent already, 1 would be sent.") && plan.contains(&order.to_string()),
        "{plan}"
    );
    assert!(fixture.sink.messages().is_empty());

    let output = run(&environment, &["--date", "2026-03-02"]).await?;
    let log = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{log}");
    for line in log.lines() {
        let _: serde_json::Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
    }
    for message in ["period sealed", "report computed", "mail sent", "run ended"] {
        assert!(log.contains(message), "{message}:\n{log}");
    }
    assert!(
        !log.contains("ops@example.com") && !log.contains(&fixture.url),
        "addresses and secrets in the log:\n{log}"
    );
    assert_eq!(fixture.sink.messages().len(), 1);

    let again = run(&environment, &["--date", "2026-03-02"]).await?;
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(fixture.sink.messages().len(), 1);

    fixture.sink.stop()?;
    let away = [
        &environment[..],
        &[
            ("FUSE_REPORT__RUN_DEADLINE_SECS", "10"),
            ("FUSE_MAIL__SEND_TIMEOUT_SECS", "5"),
        ],
    ]
    .concat();
    fixture.order("AAPL", None, "2026-03-03T10:00:00Z").await?;
    let output = run(&away, &["--date", "2026-03-03"]).await?;
    assert_eq!(output.status.code(), Some(1));
    let log = text(&output.stdout);
    assert!(
        log.contains("1 of 1 mails were not taken; the report is kept and the next run tries again"),
        "{log}"
    );
    Ok(())
}

/// What SES is asked, by a stand-in that answers as told.
struct FakeSes {
    url: String,
    asked: Arc<Mutex<Vec<serde_json::Value>>>,
}

async fn fake_ses(status: &'static str, answer: &'static str) -> Result<FakeSes> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let body = loop {
                let mut chunk = [0; 16 * 1024];
                let Ok(count) = stream.read(&mut chunk).await else {
                    break None;
                };
                bytes.extend_from_slice(&chunk[..count]);
                let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
                let json = head.and_then(|head| serde_json::from_slice(&bytes[head + 4..]).ok());
                if count == 0 || json.is_some() {
                    break json;
                }
            };
            keep.lock().expect("no holder panics").extend(body);
            let length = answer.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Ok(FakeSes { url, asked })
}

#[tokio::test(flavor = "multi_thread")]
async fn ses_gets_the_same_mime_bytes_as_smtp() -> Result<()> {
    let fixture = fixture().await?;
    fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    let ses = fake_ses("200 OK", r#"{"MessageId":"m-1"}"#).await?;
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_string_lossy().into_owned();
    let environment = [
        database(&fixture),
        ("FUSE_MAIL__SES_REGION", "eu-central-1"),
        ("FUSE_MAIL__FROM", "report@fuse.example.com"),
        ("FUSE_REPORT__RECIPIENTS", "ops@example.com"),
        ("AWS_ENDPOINT_URL_SESV2", ses.url.as_str()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    for _ in 0..2 {
        let output = run(&environment, &["--date", "2026-03-02", "--out", &out]).await?;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    }
    let asked = ses.asked.lock().expect("no holder panics").clone();
    let [mail] = &asked[..] else {
        anyhow::bail!("{} calls", asked.len())
    };
    assert_eq!(mail["Destination"]["ToAddresses"][0], "ops@example.com");
    let data = mail["Content"]["Raw"]["Data"].as_str().context("raw content")?;
    let file = std::fs::read(folder.path().join("report.eml"))?;
    assert_eq!(
        data,
        base64(&file),
        "the same bytes as in report.eml, which are those of SMTP"
    );
    let delivery = fixture.delivery("2026-03-02").await?;
    assert_eq!(delivery.detail.as_deref(), Some("accepted as m-1"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ses_that_refuses_for_good_is_asked_once() -> Result<()> {
    let fixture = fixture().await?;
    let answer = r#"{"__type":"MessageRejected","message":"Email address is not verified"}"#;
    let ses = fake_ses("400 Bad Request", answer).await?;
    let environment = [
        database(&fixture),
        ("FUSE_MAIL__SES_REGION", "eu-central-1"),
        ("FUSE_REPORT__RECIPIENTS", "ops@example.com"),
        ("AWS_ENDPOINT_URL_SESV2", ses.url.as_str()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let output = run(&environment, &["--date", "2026-03-02"]).await?;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert_eq!(ses.asked.lock().expect("no holder panics").len(), 1);
    let said = fixture.delivery("2026-03-02").await?.detail.unwrap_or_default();
    assert_eq!(said, "MessageRejected: Email address is not verified");
    Ok(())
}

/// Standard base 64 with padding; one small function instead of a dependency for one line.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let six = (word >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() {
                char::from(ALPHABET[six as usize])
            } else {
                '='
            });
        }
    }
    text
}
