//! `/metrics` and `/healthz` through plain sockets. One server for all tests: a process has one
//! recorder.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sfm_runtime::health::{Phase, Recorder};
use sfm_runtime::service::http::{MAX_CONNECTIONS, MAX_DURATION};
use sfm_runtime::service::{Service, ServiceArgs};
use sfm_runtime::telemetry::{Befell, DeviceMeter};

use crate::client;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Server {
    service: Service,
    address: SocketAddr,
}

/// The only server, for one test at a time.
fn server() -> MutexGuard<'static, Server> {
    static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();
    let start = || {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let token_file = dir.path().join("token");
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).mode(0o600).open(&token_file);
        writeln!(file.expect("opens"), "{TOKEN}").expect("written");
        let metrics = "0.0.0.0:0".parse().ok();
        let token_file = Some(token_file);
        let args = ServiceArgs { metrics, token_file, listen_remote: true, ..Default::default() };
        let service = Service::start(&args).expect("starts");
        let port = service.address().expect("an address").port();
        Mutex::new(Server { service, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    };
    SERVER.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer to what is sent, as soon as the server closes.
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(2 * MAX_DURATION)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let authorization = format!("Authorization: Bearer {TOKEN}\r\n");
    ask(address, "GET", path, &authorization)
}

fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String) {
    let answer =
        exchange(address, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let head = head.to_lowercase();
    assert!(head.contains("\r\nconnection: close"), "{head}");
    assert!(head.contains("\r\ncache-control: no-store"), "{head}");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (code, body.to_owned())
}

fn health(address: SocketAddr) -> (u16, serde_json::Value) {
    let (code, body) = get(address, "/healthz");
    (code, serde_json::from_str(&body).expect("JSON"))
}

#[test]
fn metrics_are_what_the_session_did() {
    let server = server();
    let session = server.service.begin("metrics", None);
    session.health.meter.settled(12);
    session.health.recorder(Recorder::On);
    session.health.meter.epoch_delay(Duration::from_millis(80));
    let device = DeviceMeter::new("metrics", 0xa1);
    device.befell(Befell::Lost, 7);
    device.link(true);
    let (code, body) = get(server.address, "/metrics");
    assert_eq!(code, 200);
    for line in [
        "# TYPE sfm_epochs_settled_total counter",
        "sfm_epochs_settled_total{bed=\"metrics\"} 12",
        "sfm_recorder_on{bed=\"metrics\"} 1",
        "sfm_health{bed=\"metrics\"} 0",
        "sfm_ledger_total{bed=\"metrics\",device=\"00000000000000a1\",kind=\"lost\"} 7",
        "sfm_link_up{bed=\"metrics\",device=\"00000000000000a1\"} 1",
        "sfm_epoch_delay_seconds_bucket{bed=\"metrics\",le=\"0.1\"} 1",
        "sfm_epoch_delay_seconds_sum{bed=\"metrics\"} 0.08",
    ] {
        assert!(body.lines().any(|shown| shown == line), "{line} is not in\n{body}");
    }
    assert!(body.contains("\nprocess_start_time_seconds 1"), "{body}");
    assert!(body.ends_with('\n'));
    if let Some(folder) = std::env::var_os("SFM_SERVICE_OUT") {
        std::fs::write(std::path::Path::new(&folder).join("metrics.txt"), body).expect("kept");
    }
}

#[test]
fn health_goes_from_ok_to_failing_and_back() {
    let server = server();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (code, body) = health(server.address);
    assert_eq!((code, body["status"].as_str()), (200, Some("ok")), "{body}");
    let session = server.service.begin("7", Some(dir.path()));
    session.health.phase(Phase::Live);
    session.health.recorder(Recorder::On);
    session.health.link("serial /dev/ttyACM0", true);
    session.health.epoch(41);
    let (code, body) = health(server.address);
    assert_eq!((code, body["status"].as_str()), (200, Some("ok")), "{body}");
    let bed = &body["beds"][0];
    assert_eq!((bed["bed"].as_str(), bed["last_epoch"].as_u64()), (Some("7"), Some(41)));
    assert!(bed["heartbeat_age_s"].as_f64().is_some_and(|age| age < 5.0), "{bed}");
    session.health.link("serial /dev/ttyACM0", false);
    let (code, body) = health(server.address);
    assert_eq!((code, body["status"].as_str()), (200, Some("degraded")), "{body}");
    assert_eq!(body["reasons"][0], "bed 7: 1 of 1 links down: serial /dev/ttyACM0");
    session.health.recorder(Recorder::Stopped("No space left on device".to_owned()));
    let (code, body) = health(server.address);
    assert_eq!((code, body["status"].as_str()), (503, Some("failing")), "{body}");
    assert_eq!(body["beds"][0]["recorder"]["stopped"], "No space left on device");
    drop(session);
    assert_eq!(health(server.address).0, 200);
}

#[test]
fn without_the_token_nothing_is_told() {
    let server = server();
    let address = server.address;
    let wrong = format!("Authorization: Bearer {}\r\n", TOKEN.replace('f', "e"));
    for headers in ["", "Authorization: Basic x\r\n", "Authorization: Bearer \r\n", &wrong] {
        for path in ["/metrics", "/other"] {
            let (code, body) = ask(address, "GET", path, headers);
            assert_eq!((code, body.as_str()), (401, "the token is missing or wrong\n"), "{path}");
        }
    }
    assert_eq!(get(address, "/metrics").0, 200);
}

#[test]
fn other_requests_are_refused() {
    let server = server();
    let address = server.address;
    assert_eq!(get(address, "/").0, 404);
    assert_eq!(get(address, "/metrics/../etc/passwd").0, 404);
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask(address, "POST", "/metrics", &token).0, 405);
    for body in ["Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"] {
        assert_eq!(ask(address, "GET", "/metrics", &format!("{token}{body}")).0, 413, "{body}");
    }
    // Not HTTP, and more headers than anyone needs.
    assert!(exchange(address, "\0\u{7f}\r\n\r\n").starts_with("HTTP/1.1 400"));
    let many = "X: y\r\n".repeat(1000);
    let answer = exchange(address, &format!("GET /healthz HTTP/1.1\r\n{many}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

/// Half requests of one client, which the server may have cut off already.
fn half_requests(address: SocketAddr, from: Ipv4Addr, count: usize) -> Vec<TcpStream> {
    let half = |_| {
        let mut stream = client::connect(from, address);
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
        stream
    };
    (0..count).map(half).collect()
}

#[test]
fn clients_that_never_finish_hold_up_nobody() {
    let server = server();
    let address = server.address;
    let clients = [2, 3, 4].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let slow: Vec<_> =
        clients.iter().map(|from| half_requests(address, *from, 5 * MAX_CONNECTIONS)).collect();
    let begin = Instant::now();
    // Another client, and one of those.
    assert_eq!(get(address, "/healthz").0, 200);
    let mut same = client::connect(clients[0], address);
    let request = format!("GET /metrics HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    same.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    same.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begin.elapsed() < MAX_DURATION / 2, "{:?}", begin.elapsed());
    // Those that kept their places are cut off in the end.
    let begin = Instant::now();
    for mut stream in slow.into_iter().flatten() {
        stream.set_read_timeout(Some(2 * MAX_DURATION)).expect("a timeout");
        let is_over = !matches!(stream.read(&mut [0]), Ok(1..));
        assert!(is_over && begin.elapsed() < 2 * MAX_DURATION, "{:?}", begin.elapsed());
    }
    assert_eq!(get(address, "/healthz").0, 200);
}

#[test]
fn a_wrong_token_waits_for_its_answer() {
    let server = server();
    let wrong = format!("Authorization: Bearer {}\r\n", TOKEN.replace('f', "e"));
    let begin = Instant::now();
    assert_eq!(ask(server.address, "GET", "/healthz", &wrong).0, 401);
    assert!(begin.elapsed() > Duration::from_millis(900), "guessing is quick");
    let begin = Instant::now();
    assert_eq!(ask(server.address, "GET", "/healthz", "").0, 401);
    assert_eq!(get(server.address, "/healthz").0, 200);
    assert!(begin.elapsed() < Duration::from_millis(900), "who shows none or the right one");
}
