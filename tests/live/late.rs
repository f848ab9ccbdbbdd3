//! Devices that come when a recording has begun: each is recorded, in a folder of its own where it
//! has no place in the first, and health says what is not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use crate::patients::Bench;
use crate::run::{free_tcp, json, lines, logs, recording_of, sim, stages, until, wait};

fn healthz(address: &str) -> Value {
    // Not served yet, or not any more.
    let Ok(mut stream) = TcpStream::connect(address) else { return Value::Null };
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

/// The folder of the device that was recorded beside the others.
fn beside(out: &Path) -> Option<String> {
    let folders = std::fs::read_dir(out).ok()?.flatten().map(|e| e.path());
    let folder = folders.filter(|path| path.join("recording.edf").exists()).max()?;
    Some(folder.file_name()?.to_string_lossy().into_owned())
}

#[test]
fn a_late_device_is_recorded_and_staged_beside_the_others() {
    let _turn = crate::run::turn();
    let bench = Bench::new();
    let metrics = free_tcp();
    let arguments = format!("--age 60 --sex m --metrics {metrics}");
    let host = bench.host(&arguments);
    let first = bench.sensor(1, 11);
    bench.until_recorded("out", 20);
    let late = bench.sensor(2, 7);
    until(bench.dir(), || beside(&bench.out("out")).is_some());
    let device = beside(&bench.out("out")).expect("a folder");
    let folder = format!("out/{device}");
    bench.until_recorded(&folder, 10);
    let health = healthz(&metrics);
    let beds = health["beds"].as_array().expect("beds");
    assert_eq!(beds.len(), 2, "{health}");
    assert!(beds.iter().any(|bed| bed["bed"] == device.as_str() && bed["recorder"] == "on"));

    // A cut: each device goes on in its own folder.
    bench.kill(host);
    let host = bench.host(&arguments);
    bench.until_recorded("out", 10);
    bench.until_recorded(&folder, 10);
    late.wait(bench.dir());
    first.wait(bench.dir());
    assert_eq!(wait(host, bench.dir()), 0, "{}", logs(bench.dir()));
    assert!(!bench.out("out-2").exists() && !bench.out(&format!("{folder}-2")).exists());
    for folder in ["out", &folder] {
        assert_eq!(bench.session(folder)["ended"], true, "{folder}");
        assert!(stages(&bench.out(folder)).len() >= 13, "{folder}");
        let log = lines(&bench.out(folder).join("session.jsonl"));
        assert!(log.iter().any(|l| l["event"] == "started" && l["resumed"] == true), "{folder}");
        assert!(log.iter().all(|l| l["event"] != "not_recorded"), "{folder}");
    }
    let night = json(&bench.out(&folder).join("night.json"));
    let channels = night["links"]["channels"].as_array().expect("channels");
    assert!(channels.iter().all(|channel| channel["device"] == device.as_str()), "{channels:?}");
}

#[test]
fn what_cannot_be_staged_is_recorded() {
    let _turn = crate::run::turn();
    let bench = Bench::new();
    let metrics = free_tcp();
    let host = bench.host(&format!("--metrics {metrics}"));
    let file = recording_of("odd.edf", 5, |label| (label == "Pos").then(|| "Qzx".to_owned()));
    let listen = bench.port();
    let args = format!("--tcp {listen} --speed 60 --seed 3 --duration 120");
    let sensor = sim(bench.dir(), &file, &args);
    until(bench.dir(), || healthz(&metrics).to_string().contains("recorded, not staged"));
    assert_eq!(wait(sensor, bench.dir()), 0, "{}", logs(bench.dir()));
    assert_eq!(wait(host, bench.dir()), 5, "{}", logs(bench.dir()));
    let bytes = bench.out("out/recording.edf").metadata().expect("recorded").len();
    assert!(bytes > 110 * 64, "{bytes}");
    assert_eq!(bench.session("out")["closed"], true);
    bench.said("recorded, not staged");
}
