//! The service manager's side of sd_notify(3): a socket as systemd makes one, and a child process
//! that runs a session (environment variables belong to the whole process).

use std::os::unix::net::UnixDatagram;
use std::process::Child;
use std::time::{Duration, Instant};

use sfm_runtime::health::{Limits, Phase};
use sfm_runtime::service::{Service, ServiceArgs, systemd};

const WATCHDOG: Duration = Duration::from_secs(2);
const BEATING: Duration = Duration::from_secs(6);
const SILENT: Duration = Duration::from_secs(4);

/// What the child does: a session whose pipeline runs, then stands still, then ends.
#[test]
#[ignore = "run by the other tests in a process of its own"]
fn child() {
    let stuck = Duration::from_secs(1);
    let limits = Limits { slow: stuck, stuck, stuck_otherwise: stuck };
    let service = Service::start_within(&ServiceArgs::default(), limits).expect("starts");
    let session = service.begin("1", None);
    session.health.phase(Phase::Live);
    session.health.link("a\nREADY=0", true);
    systemd::ready();
    let begin = Instant::now();
    while begin.elapsed() < BEATING {
        session.health.heartbeat.touch();
        std::thread::sleep(Duration::from_millis(10));
    }
    systemd::status("standing\nstill");
    std::thread::sleep(SILENT);
    systemd::stopping();
}

/// A session that begins and ends.
#[test]
#[ignore = "run by the other tests in a process of its own"]
fn brief_child() {
    let service = Service::start(&ServiceArgs::default()).expect("starts");
    let _session = service.begin("1", None);
    systemd::ready();
    std::thread::sleep(Duration::from_millis(100));
    systemd::stopping();
}

fn start(test: &str, socket: Option<&std::path::Path>) -> Child {
    let mut command = crate::child(test);
    if let Some(socket) = socket {
        command.env("NOTIFY_SOCKET", socket);
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    }
    command.spawn().expect("starts")
}

#[test]
fn the_watchdog_is_fed_only_while_the_pipeline_runs() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut child = start("systemd::child", Some(&path));
    let mut told: Vec<(Instant, String)> = vec![];
    while told.last().is_none_or(|(_, message)| message != "STOPPING=1\n") {
        let mut buffer = [0; 4096];
        let size = socket.recv(&mut buffer).expect("a message");
        let message = String::from_utf8(buffer[..size].to_vec()).expect("UTF-8");
        told.push((Instant::now(), message));
    }
    assert!(child.wait().expect("ends").success());

    let when = |wanted: &str| {
        let mut found = told.iter().filter(|(_, message)| message == wanted).map(|(at, _)| *at);
        let first = found.next().unwrap_or_else(|| panic!("no {wanted:?} in {told:?}"));
        (first, found.count() + 1)
    };
    assert_eq!(when("READY=1\n").1, 1);
    let (still, _) = when("STATUS=standing\\u{a}still\n");
    let fed: Vec<Instant> =
        told.iter().filter(|(_, m)| m == "WATCHDOG=1\n").map(|(at, _)| *at).collect();
    let (while_running, after): (Vec<Instant>, Vec<Instant>) =
        fed.iter().partition(|at| **at < still);
    let expected = BEATING.as_millis() / (WATCHDOG / 2).as_millis();
    assert!(while_running.len() as u128 >= expected - 2, "{} of {expected}", while_running.len());
    let longest = while_running.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest.is_some_and(|gap| gap < WATCHDOG), "{longest:?}");
    // A heartbeat of the last moment is good for a second.
    assert!(after.len() <= 2, "fed {} times while it stood still", after.len());
    assert!(told.iter().any(|(_, m)| m.starts_with("STATUS=1 of 1 links up")), "{told:?}");
}

#[test]
fn without_a_service_manager_nothing_is_missed() {
    let mut child = start("systemd::brief_child", None);
    assert!(child.wait().expect("ends").success());
}

#[test]
fn a_service_manager_that_is_gone_is_no_failure() {
    let mut child =
        start("systemd::brief_child", Some(std::path::Path::new("/nonexistent/notify")));
    assert!(child.wait().expect("ends").success());
}
