//! Command line, exit codes and the admin port.

use fuse_platform::Process;
use serde_json::{Value, json};

use crate::child::{Child, GOOD, get, read};

fn help() -> String {
    let arguments = ["probe", "--help"];
    Process::<()>::try_parse_from("probe", "Process under test", read, arguments)
        .expect_err("help")
        .to_string()
}

#[test]
fn help_lists_every_key_with_its_default() {
    let help = help();
    for text in [
        "Process under test",
        "--config <FILE>",
        "--check-config",
        "  FUSE_HTTP__LISTEN (default 127.0.0.1:8080)\n      Address that serves the clients' API",
        "  FUSE_VENDOR__BASE_URL (required)\n      URL of the vendor's API",
        "  FUSE_VENDOR__API_KEY (required, secret)\n",
        "  FUSE_PROBE__PASSWORD (not set, secret)\n",
        "  FUSE_LIFECYCLE__DRAIN_DELAY_SECS (default 5)\n",
        "  FUSE_RUNTIME__WORKER_THREADS (default auto)\n",
        "  FUSE_LOG__FILTER (default info)\n",
    ] {
        assert!(help.contains(text), "{text:?} is not in\n{help}");
    }
}

#[test]
fn mistakes_end_the_process_with_78_and_nothing_else() {
    let ended = Child::start(
        "",
        &[
            ("FUSE_HTTP__LISTEN", "80"),
            ("FUSE_VENDOR__API_KEY_FILE", "/nowhere/key"),
        ],
    )
    .end();
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines[0], "probe: 3 mistakes in the configuration:");
    assert!(
        lines[1].starts_with("  FUSE_HTTP__LISTEN: \"80\" is refused: "),
        "{}",
        ended.stderr
    );
    assert!(
        lines[2].starts_with("  FUSE_VENDOR__BASE_URL: nothing is set; "),
        "{}",
        ended.stderr
    );
    assert!(
        lines[3].starts_with("  FUSE_VENDOR__API_KEY_FILE: cannot read /nowhere/key: No such file"),
        "{}",
        ended.stderr
    );
    assert_eq!(lines.len(), 4, "{}", ended.stderr);
}

#[test]
fn check_config_shows_what_is_in_force_without_secrets_and_needs_no_network() {
    let ended = Child::start("--check-config", GOOD).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for line in [
        "The configuration is valid.",
        "  http.listen = 127.0.0.1:0  (FUSE_HTTP__LISTEN)",
        "  http.max_connections = 4096  (default)",
        "  vendor.base_url = http://127.0.0.1:1  (FUSE_VENDOR__BASE_URL)",
        "  vendor.api_key = [set]  (FUSE_VENDOR__API_KEY)",
    ] {
        assert!(
            ended.stdout.lines().any(|found| found == line),
            "{line} is not in\n{}",
            ended.stdout
        );
    }
    assert!(!ended.stdout.contains("hunter2"));
    assert_eq!(Child::start("--check-config", &[]).end().code, Some(78));
}

#[test]
fn an_unknown_argument_is_a_usage_error() {
    let ended = Child::start("--chekc-config", GOOD).end();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--check-config"), "{}", ended.stderr);
}

#[test]
fn an_error_of_main_is_logged_and_ends_with_1() {
    let child = Child::start("", &[GOOD, &[("FUSE_PROBE__MODE", "error")]].concat());
    assert_eq!(child.wait_for("failed")["error"], "the cellar is flooded");
    assert_eq!(child.end().code, Some(1));
}

#[test]
fn a_taken_port_is_named() {
    let first = Child::ready(&[]);
    let taken = first.admin().to_string();
    let second = Child::start("", &[GOOD, &[("FUSE_ADMIN__LISTEN", taken.as_str())]].concat());
    let error = second.wait_for("failed")["error"].to_string();
    assert!(error.contains(&format!("cannot listen on {taken}: ")), "{error}");
    assert_eq!(second.end().code, Some(1));
}

#[test]
fn readyz_lists_what_is_pending() {
    let child = Child::start("", &[GOOD, &[("FUSE_PROBE__MODE", "cold")]].concat());
    let (status, body) = get(child.admin(), "/readyz");
    assert_eq!(status, 503);
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        body,
        json!({"ready": false, "pending": [{"condition": "warm", "reason": "not warmed up yet"}]})
    );
    assert_eq!(get(child.admin(), "/livez"), (200, "ok\n".to_owned()));
}

#[test]
fn the_admin_port_answers_its_four_paths() {
    let child = Child::ready(&[]);
    let admin = child.admin();
    assert_eq!(
        get(admin, "/readyz"),
        (200, r#"{"pending":[],"ready":true}"#.to_owned())
    );
    let (status, metrics) = get(admin, "/metrics");
    assert_eq!(status, 200);
    assert!(
        metrics.contains("fuse_build_info{") && metrics.contains("process_resident_memory_bytes"),
        "{metrics}"
    );
    let about: Value = serde_json::from_str(&get(admin, "/status").1).expect("JSON");
    assert_eq!(about["process"], "probe");
    assert_eq!(about["version"], fuse_platform::VERSION);
    assert_eq!(about["status"], json!({"mode": "probe"}));
    assert_eq!(get(admin, "/").0, 404);
    assert_eq!(get(child.http(), "/"), (200, "hello".to_owned()));
}
