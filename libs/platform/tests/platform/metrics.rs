//! What Prometheus reads.

use fuse_platform::Metrics;
use fuse_platform::metrics::LATENCY_SECONDS;

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.encode()).expect("text")
}

#[test]
fn every_combination_of_label_values_stands_at_zero_from_the_start() {
    let metrics = Metrics::new();
    metrics.counter_vec(
        "vendor_requests_total",
        "Attempts",
        &[("op", &["list", "buy"]), ("outcome", &["ok", "error"])],
    );
    metrics.counter_vec_of(
        "orders_total",
        "Entries",
        &["state", "reason"],
        &[&["filled", "none"], &["rejected", "quote_stale"]],
    );
    metrics.histogram_vec(
        "vendor_request_duration_seconds",
        "Latency",
        &[("op", &["buy"])],
        LATENCY_SECONDS,
    );
    metrics.gauge("snapshot_symbols", "Symbols");
    let text = text(&metrics);
    for line in [
        "fuse_vendor_requests_total{op=\"list\",outcome=\"ok\"} 0",
        "fuse_vendor_requests_total{op=\"buy\",outcome=\"error\"} 0",
        "fuse_orders_total{reason=\"quote_stale\",state=\"rejected\"} 0",
        "fuse_vendor_request_duration_seconds_bucket{op=\"buy\",le=\"0.25\"} 0",
        "fuse_vendor_request_duration_seconds_count{op=\"buy\"} 0",
        "fuse_snapshot_symbols 0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    assert_eq!(text.matches("fuse_vendor_requests_total{").count(), 4);
    assert_eq!(text.matches("fuse_orders_total{").count(), 2);
}

#[test]
fn a_process_tells_what_it_is_and_what_it_uses() {
    let text = text(&Metrics::for_process());
    assert!(text.contains("fuse_build_info{revision=\""), "{text}");
    assert!(
        text.contains(&format!("version=\"{}\"}} 1", fuse_platform::VERSION)),
        "{text}"
    );
    for name in [
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(&format!("{name} "))),
            "{name} is not in\n{text}"
        );
    }
}

#[test]
fn two_parts_of_a_process_share_a_metric_of_the_same_name() {
    let metrics = Metrics::new();
    metrics.counter("things_total", "Things").inc();
    metrics.counter("things_total", "Things").inc();
    metrics.dependency_up("database").set(1);
    metrics.dependency_up("redis");
    let text = text(&metrics);
    assert!(text.contains("fuse_things_total 2\n"), "{text}");
    assert!(
        text.contains("fuse_dependency_up{dependency=\"database\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("fuse_dependency_up{dependency=\"redis\"} 0\n"),
        "{text}"
    );
}

#[test]
#[should_panic(expected = "the metric fuse_things_total is made as two types")]
fn a_name_has_one_type() {
    let metrics = Metrics::new();
    metrics.counter("things_total", "Things");
    metrics.gauge("things_total", "Things");
}
