//! The log: JSON lines with dotted fields, and never a secret.

use std::io::Write;
use std::sync::{Arc, Mutex};

use fuse_platform::telemetry::JsonLines;
use fuse_platform::{Secret, telemetry};
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::child::{Child, GOOD};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines that this code logs.
fn lines(log: impl FnOnce()) -> Vec<Value> {
    let written = Written::default();
    let target = written.clone();
    let subscriber = tracing_subscriber::registry().with(JsonLines::new(move || target.clone()));
    tracing::subscriber::with_default(subscriber, log);
    let text = String::from_utf8(written.0.lock().expect("no panic").clone()).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn fields_of_event_and_spans_stand_at_the_top_level() {
    let found = lines(|| {
        let outer = tracing::info_span!(
            "request",
            request.id = "r1",
            http.route = "/v1/stocks",
            order.id = tracing::field::Empty
        );
        let _outer = outer.enter();
        let inner = tracing::info_span!("vendor", http.route = "inner");
        let _inner = inner.enter();
        outer.record("order.id", "o1");
        tracing::warn!(
            duration_ms = 7,
            stock.symbol = "A\"B\n",
            ok = true,
            "vendor {}",
            "asked"
        );
    });
    assert_eq!(found.len(), 1);
    let line = &found[0];
    assert_eq!(line["message"], "vendor asked");
    assert_eq!(line["level"], "warn");
    assert_eq!(line["request.id"], "r1");
    assert_eq!(line["order.id"], "o1");
    assert_eq!(line["http.route"], "inner");
    assert_eq!(line["stock.symbol"], "A\"B\n");
    assert_eq!(line["duration_ms"], 7);
    assert_eq!(line["ok"], true);
    assert!(
        line["timestamp"]
            .as_str()
            .is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()),
        "{line}"
    );
}

#[test]
fn a_secret_is_not_logged() {
    let secret = Secret::from_text("hunter2");
    let found = lines(|| tracing::info!(key = ?secret, "key read"));
    assert_eq!(found[0]["key"], "Secret([hidden])");
    let child = Child::ready(&[("RUST_LOG", "trace")]);
    child.wait_for("configured");
    let log = child.log();
    assert!(log.iter().any(|line| line["level"] == "info") && !log.is_empty());
    assert!(
        !log.iter().any(|line| line.to_string().contains("hunter2")),
        "{log:?}"
    );
}

#[test]
fn rust_log_has_precedence_over_the_configured_filter() {
    let variables = [
        GOOD,
        &[
            ("RUST_LOG", "error"),
            ("FUSE_LOG__FILTER", "info"),
            ("FUSE_PROBE__MODE", "error"),
        ],
    ]
    .concat();
    let child = Child::start("", &variables);
    child.wait_for("failed");
    let levels: Vec<_> = child.log().iter().map(|line| line["level"].clone()).collect();
    assert!(levels.iter().all(|level| level == "error"), "{levels:?}");
}

#[test]
fn a_bad_filter_is_a_configuration_mistake() {
    let ended = Child::start(
        "--check-config",
        &[GOOD, &[("FUSE_LOG__FILTER", "info,x=loud")]].concat(),
    )
    .end();
    assert_eq!(ended.code, Some(78));
    assert!(
        ended
            .stderr
            .contains("FUSE_LOG__FILTER: \"info,x=loud\" is refused: it is not a log filter"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_panic_is_a_line_of_the_log() {
    let child = Child::start("", &[GOOD, &[("FUSE_PROBE__MODE", "panic")]].concat());
    let line = child.wait_for("panicked");
    assert_eq!(line["panic.message"], "the pump broke");
    assert!(
        line["panic.location"]
            .as_str()
            .is_some_and(|place| place.contains("child.rs:")),
        "{line}"
    );
}

#[test]
fn an_error_is_told_with_its_sources_once() {
    let inner = std::io::Error::other("disk full");
    let outer = std::io::Error::other(Wrapped(inner));
    assert_eq!(telemetry::chain(&outer), "cannot write: disk full");
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write")]
struct Wrapped(#[source] std::io::Error);
