//! What arrives is judged, whatever links say: a sensor that is killed, one that hangs, one that says
//! goodbye, one that does not come back, and a host that stood still itself.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http;
use crate::run::{free_tcp, free_udp, logs, recording, signal, sim, stream, turn, until, wait};

/// A host and where it tells how it is.
struct Host {
    process: Child,
    metrics: String,
    page: String,
}

impl Host {
    fn start(dir: &Path, links: &str) -> Self {
        let (metrics, page) = (free_tcp(), free_tcp());
        let args = format!("{links} --out out --pass live --metrics {metrics} --web {page}");
        Self { process: stream(dir, &args), metrics, page }
    }

    /// `/healthz`; `None` while it does not answer.
    fn health(&self) -> Option<Value> {
        let answer = http::get(&self.metrics, "/healthz")?;
        let code = answer.status;
        let health: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(code == 503, health["status"] == "failing", "{code}: {health}");
        Some(health)
    }

    /// Waits for a status, and a reason that contains `why`. A session that waits for its first
    /// sensor is well, but has not begun.
    fn until_health(&self, dir: &Path, status: &str, why: &str) -> Value {
        let mut found = Value::Null;
        until(dir, || {
            let Some(health) = self.health() else { return false };
            let is_live = status != "ok" || health["beds"][0]["phase"] == "live";
            let is_said = why.is_empty() || reasons(&health).iter().any(|r| r.contains(why));
            let is_there = is_live && health["status"] == status && is_said;
            found = health;
            is_there
        });
        found
    }

    fn metric(&self, name: &str) -> Vec<(String, f64)> {
        let text = http::get(&self.metrics, "/metrics").expect("metrics").body;
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            (series.to_owned(), value.parse().expect("a number"))
        };
        series.map(value).collect()
    }

    /// What the page shows of the bed.
    fn bed(&self) -> Value {
        http::get(&self.page, "/api/beds/1").expect("the page").json()
    }

    fn end(self, dir: &Path) {
        signal(&self.process, "-TERM");
        assert_eq!(wait(self.process, dir), 0, "{}", logs(dir));
    }
}

fn reasons(health: &Value) -> Vec<String> {
    let reasons = health["reasons"].as_array().expect("reasons").iter();
    reasons.map(|reason| reason.as_str().expect("a sentence").to_owned()).collect()
}

/// The seconds that a reason names.
fn seconds(reason: &str) -> f64 {
    reason.rsplit(' ').nth(1).and_then(|number| number.parse().ok()).expect("seconds")
}

/// Degraded after 10 s of the session, failing after 60; said everywhere, in the same words.
fn goes_silent(host: &Host, dir: &Path) {
    let degraded = host.until_health(dir, "degraded", ": no samples for ");
    let silent = reasons(&degraded).into_iter().find(|why| why.contains(": no samples for "));
    let silent_s = seconds(&silent.expect("it was there"));
    assert!((10.0..60.0).contains(&silent_s), "{degraded}");
    let failing = host.until_health(dir, "failing", "bed 1: nothing has arrived for ");
    let first = reasons(&failing).remove(0);
    assert!(first.contains("nothing has arrived"), "the worst comes first: {failing}");
    assert!(seconds(&first) >= 60.0, "{failing}");
    assert!(failing["beds"][0]["sample_age_s"].as_f64().is_some_and(|s| s >= 60.0), "{failing}");

    let ages = host.metric("sfm_sample_age_seconds");
    assert!(!ages.is_empty() && ages.iter().all(|(_, age_s)| *age_s >= 60.0), "{ages:?}");
    assert!(ages.iter().all(|(series, _)| series.contains("channel=\"")), "{ages:?}");
    assert!(host.metric("sfm_bed_sample_age_seconds")[0].1 >= 60.0);
    assert_eq!(host.metric("sfm_health"), [("sfm_health{bed=\"1\"}".to_owned(), 2.0)]);
    assert_eq!(host.metric("sfm_process_health")[0].1, 2.0);
    // Sequence numbers prove no loss of what may never have been taken.
    let lost = host.metric("sfm_ledger_total").into_iter().filter(|(s, _)| s.contains("\"lost\""));
    assert_eq!(lost.map(|(_, samples)| samples).sum::<f64>(), 0.0);

    until(dir, || host.bed()["session"]["health"]["status"] == "failing");
    let bed = host.bed();
    let said = bed["session"]["health"]["reasons"][0].as_str().expect("a reason").to_owned();
    assert!(said.starts_with("nothing has arrived for "), "{said}");
    until(dir, || {
        let device = &host.bed()["session"]["links"]["devices"][0];
        device["sample_age_s"].as_f64().is_some_and(|age_s| age_s >= 60.0)
    });
    let overview = http::get(&host.page, "/api/beds").expect("the page").json();
    assert_eq!(overview["beds"][0]["health"]["status"], "failing", "{overview}");
}

#[test]
fn a_killed_sensor_is_noticed_and_so_is_its_return() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(60), free_udp());
    let host = Host::start(dir, &format!("--udp {port} --speed 10"));
    let sensor = || sim(dir, &file, &format!("--udp {port} --speed 10 --seed 5"));
    let mut first = sensor();
    let well = host.until_health(dir, "ok", "");
    assert_eq!((&well["beds"][0]["links_up"], &well["beds"][0]["links"]), (&1.into(), &1.into()));
    signal(&first, "-KILL");
    first.wait().expect("a status");
    goes_silent(&host, dir);
    let mut second = sensor();
    host.until_health(dir, "ok", "");
    assert!(host.metric("sfm_sample_age_seconds").iter().all(|(_, age_s)| *age_s < 20.0));
    let _ = second.kill();
    second.wait().expect("a status");
    host.end(dir);
}

#[test]
fn a_sensor_that_hangs_is_noticed_though_its_link_stands() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(60), free_tcp());
    let host = Host::start(dir, &format!("--tcp listen:{port} --speed 10"));
    let mut sensor = sim(dir, &file, &format!("--tcp {port} --speed 10 --seed 6 --memory 120"));
    host.until_health(dir, "ok", "");
    signal(&sensor, "-STOP");
    goes_silent(&host, dir);
    signal(&sensor, "-CONT");
    host.until_health(dir, "ok", "");
    let _ = sensor.kill();
    sensor.wait().expect("a status");
    // A connection that is gone is no link for ever: the device stands for it, and comes back.
    host.until_health(dir, "degraded", "1 of 1 links down");
    let mut again = sim(dir, &file, &format!("--tcp {port} --speed 10 --seed 6"));
    let well = host.until_health(dir, "ok", "");
    assert_eq!(well["beds"][0]["links"], 1, "{well}");
    let _ = again.kill();
    again.wait().expect("a status");
    host.end(dir);
}

#[test]
fn a_sensor_that_said_goodbye_is_not_missed() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(60), free_tcp());
    let host = Host::start(dir, &format!("--tcp listen:{port} --devices 2 --speed 10"));
    let short = sim(dir, &file, &format!("--tcp {port} --speed 10 --seed 7 --duration 60"));
    let mut long = sim(dir, &file, &format!("--tcp {port} --speed 10 --seed 8"));
    host.until_health(dir, "ok", "");
    assert_eq!(wait(short, dir), 0, "{}", logs(dir));
    let ended = || {
        let bed = host.bed();
        let devices = bed["session"]["links"]["devices"].as_array().expect("devices").clone();
        devices.iter().filter(|device| device["ended"] == true).count() == 1
    };
    until(dir, ended);
    // For much longer than 60 s of the session.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        let health = host.health().expect("an answer");
        assert_eq!(health["status"], "ok", "{health}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let ages = host.metric("sfm_sample_age_seconds");
    let (none, some): (Vec<_>, Vec<_>) = ages.into_iter().partition(|(_, age_s)| age_s.is_nan());
    assert!(!none.is_empty() && none.len() == some.len(), "{none:?} {some:?}");
    // The other one is killed: of this bed nothing arrives.
    signal(&long, "-KILL");
    long.wait().expect("a status");
    host.until_health(dir, "failing", "nothing has arrived for ");
    host.end(dir);
}

#[test]
fn a_session_that_goes_on_without_its_sensor_fails() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(60), free_udp());
    let mut host = Host::start(dir, &format!("--udp {port} --speed 10"));
    let mut sensor = sim(dir, &file, &format!("--udp {port} --speed 10 --seed 9"));
    host.until_health(dir, "ok", "");
    until(dir, || host.bed()["epochs"][0].is_object());
    for process in [&mut host.process, &mut sensor] {
        process.kill().expect("killed");
        process.wait().expect("a status");
    }
    let host = Host::start(dir, &format!("--udp {port} --speed 10"));
    host.until_health(dir, "degraded", "a session that was cut waits for its sensors");
    let failing = host.until_health(dir, "failing", "nothing has arrived for ");
    let waits = |why: &String| why.contains("a session that was cut waits for its sensors");
    assert!(reasons(&failing).iter().any(waits), "{failing}");
    let mut sensor = sim(dir, &file, &format!("--udp {port} --speed 10 --seed 9"));
    host.until_health(dir, "ok", "");
    let _ = sensor.kill();
    sensor.wait().expect("a status");
    host.end(dir);
}

#[test]
fn what_the_host_stood_still_for_is_nobodys_silence() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(60), free_tcp());
    let host = Host::start(dir, &format!("--tcp listen:{port} --speed 5"));
    let mut sensor = sim(dir, &file, &format!("--tcp {port} --speed 5 --seed 10 --memory 120"));
    host.until_health(dir, "ok", "");
    signal(&host.process, "-STOP");
    // 25 s of the session.
    std::thread::sleep(Duration::from_secs(5));
    signal(&host.process, "-CONT");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let health = host.health().expect("an answer");
        let silent = |why: &String| why.contains("no samples") || why.contains("arrived");
        assert!(!reasons(&health).iter().any(silent), "{health}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = sensor.kill();
    sensor.wait().expect("a status");
    host.end(dir);
}

#[test]
fn a_stranger_does_not_speak_for_a_device_that_is_recorded() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(60), free_udp());
    let host = Host::start(dir, &format!("--udp {port} --speed 8"));
    let mut sensor = sim(dir, &file, &format!("--udp {port} --speed 8"));
    host.until_health(dir, "ok", "");
    // By the same number: it says that it has 255 channels.
    let args = format!("--hostile channels --udp {port} --speed 8 --duration 30");
    let mut stranger = sim(dir, &file, &args);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        let health = host.health().expect("an answer");
        assert!(!reasons(&health).iter().any(|why| why.contains("not recorded")), "{health}");
        std::thread::sleep(Duration::from_millis(50));
    }
    for process in [&mut stranger, &mut sensor] {
        let _ = process.kill();
        process.wait().expect("a status");
    }
    host.end(dir);
}
