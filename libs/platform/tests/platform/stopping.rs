//! How a process stops, whatever its clients do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::child::{Child, GOOD, answer, get, send, wait_until};

/// Well below the deadline (25 s by default): seen only when nothing held the stop.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn sigterm_makes_it_unready_while_it_still_serves_then_ends_well() {
    let child = Child::ready(&[("FUSE_LIFECYCLE__DRAIN_DELAY_SECS", "4")]);
    let asked = Instant::now();
    child.signal(Signal::SIGTERM);
    child.wait_for("stopping");
    let (status, body) = get(child.admin(), "/readyz");
    assert_eq!(
        (status, body.as_str()),
        (
            503,
            r#"{"pending":[{"condition":"running","reason":"the process is stopping"}],"ready":false}"#
        )
    );
    assert_eq!(get(child.http(), "/"), (200, "hello".to_owned()));
    assert_eq!(get(child.admin(), "/metrics").0, 200);
    let ended = child.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(
        asked.elapsed() >= Duration::from_secs(4),
        "the drain delay was left out: {:?}",
        asked.elapsed()
    );
}

#[test]
fn ctrl_c_stops_at_once() {
    let child = Child::ready(&[("FUSE_LIFECYCLE__DRAIN_DELAY_SECS", "20")]);
    child.signal(Signal::SIGINT);
    let ended = child.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(ended.took < SOON, "{:?}", ended.took);
}

#[test]
fn a_request_in_flight_is_answered() {
    let child = Child::ready(&[]);
    let request = send(child.http(), "/slow");
    // Answered on another connection: the slow request was taken before it.
    assert_eq!(get(child.http(), "/").0, 200);
    child.signal(Signal::SIGINT);
    child.wait_for("stopping");
    assert_eq!(answer(request), (200, "done".to_owned()));
    assert_eq!(child.end().code, Some(0));
}

#[test]
fn half_a_request_head_holds_nothing_up() {
    let child = Child::ready(&[]);
    let mut fresh = TcpStream::connect(child.http()).expect("connected");
    fresh.write_all(b"GET / HTTP/1.1\r\nHos").expect("sent");
    let mut used = TcpStream::connect(child.http()).expect("connected");
    used.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    let mut bytes = [0; 1024];
    assert!(used.read(&mut bytes).expect("answered") > 0);
    used.write_all(b"GET / HTTP/1.1\r\nHos").expect("sent");
    child.signal(Signal::SIGINT);
    let ended = child.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(ended.took < SOON, "{:?}", ended.took);
}

#[test]
fn a_client_that_sends_no_head_is_dropped() {
    let child = Child::ready(&[("FUSE_HTTP__HEADER_READ_TIMEOUT_SECS", "1")]);
    let mut slow = TcpStream::connect(child.http()).expect("connected");
    slow.set_read_timeout(Some(SOON)).expect("set");
    slow.write_all(b"GET / HTTP/1.1\r\nHos").expect("sent");
    // Closed by the server: the end of the stream, or a reset as unread bytes were there.
    let end = slow.read(&mut [0; 64]).or_else(|error| {
        if error.kind() == std::io::ErrorKind::ConnectionReset {
            Ok(0)
        } else {
            Err(error)
        }
    });
    assert_eq!(end.expect("closed, not waited out"), 0);
}

#[test]
fn a_handler_that_never_ends_is_cut_at_the_deadline() {
    let limits = [
        ("FUSE_LIFECYCLE__DRAIN_DELAY_SECS", "0"),
        ("FUSE_LIFECYCLE__DEADLINE_SECS", "1"),
    ];
    let child = Child::ready(&limits);
    let _request = send(child.http(), "/never");
    assert_eq!(get(child.http(), "/").0, 200);
    child.signal(Signal::SIGTERM);
    let ended = child.end();
    assert!(
        ended.stdout.contains("deadline reached; stopping hard"),
        "{}",
        ended.stdout
    );
    assert!(ended.took < SOON, "{:?}", ended.took);
}

#[test]
fn a_second_signal_stops_hard() {
    let child = Child::ready(&[]);
    let _request = send(child.http(), "/never");
    assert_eq!(get(child.http(), "/").0, 200);
    child.signal(Signal::SIGINT);
    // Draining once the port is closed; a signal before that would only shorten the delay.
    wait_until("the closed port", || {
        TcpStream::connect(child.http()).is_err().then_some(())
    });
    child.signal(Signal::SIGINT);
    let ended = child.end();
    assert!(
        ended.stdout.contains("second signal; stopping hard"),
        "{}",
        ended.stdout
    );
    assert!(ended.took < SOON, "{:?}", ended.took);
}

#[test]
fn a_lost_vital_task_ends_the_process_with_1() {
    for mode in ["vital", "panic"] {
        let child = Child::start("", &[GOOD, &[("FUSE_PROBE__MODE", mode)]].concat());
        assert_eq!(
            child.wait_for("a vital task ended; stopping")["task.name"],
            "pump"
        );
        assert_eq!(child.end().code, Some(1), "{mode}");
    }
}
