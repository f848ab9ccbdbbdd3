//! Sessions that are cut: by SIGKILL, after which the same command goes on, and by SIGTERM, after
//! which `recover` finishes them. Nothing that was settled is lost or computed again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sfm_runtime::source::Source;
use sfm_runtime::source::edf::EdfSource;

use crate::run::{
    free_tcp, is_long, json, lines, logs, recording, run, signal, sim, stages, stream, turn, until,
    wait,
};

/// Settled epochs of the live pass, each with its line.
fn settled(out: &Path) -> BTreeMap<u64, Vec<Value>> {
    let mut epochs: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for event in lines(&out.join("events.jsonl")) {
        if event["event"] == "epoch" && event["status"] == "settled" {
            epochs.entry(event["epoch"].as_u64().expect("an epoch")).or_default().push(event);
        }
    }
    epochs
}

fn recorded_s(out: &Path) -> f64 {
    let source = EdfSource::open(&out.join("recording.edf")).expect("the recording opens");
    source.info().duration_s.expect("a length")
}

/// Complete lines of a file, without those a kill cut.
fn line_count(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|&&b| b == b'\n').count())
}

#[test]
fn a_killed_session_goes_on_where_it_was() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (minutes, speed) = (if is_long() { 480 } else { 30 }, 60);
    let kills = if is_long() { 50 } else { 3 };
    let (file, port) = (recording(minutes), free_tcp());
    let out = dir.join("out");
    let command = format!("--tcp listen:{port} --speed {speed} --out out --age 60 --sex m");
    let sensors =
        sim(dir, &file, &format!("--tcp {port} --speed {speed} --seed 2 --report sim.json"));
    let mut host = stream(dir, &command);
    let mut before = BTreeMap::new();
    for kill in 0..kills {
        // Not at a round moment: some hit the middle of a record or of a window.
        let part = Duration::from_millis(1500 + 977 * (kill * 7 % 5) as u64);
        let wanted = before.len() + 10;
        until(dir, || settled_lines(&out) >= wanted || host_ended(&mut host));
        std::thread::sleep(part / kills.max(3) as u32);
        if host_ended(&mut host) {
            break;
        }
        host.kill().expect("killed");
        host.wait().expect("a status");
        let length_s = recorded_s(&out);
        assert!(length_s > 0.0, "nothing recorded before kill {kill}");
        let now = settled(&out);
        for (epoch, events) in &before {
            assert_eq!(Some(events), now.get(epoch), "epoch {epoch} after kill {kill}");
        }
        before = now;
        host = stream(dir, &command);
    }
    assert_eq!(wait(sensors, dir), 0, "{}", logs(dir));
    assert_eq!(wait(host, dir), 0, "{}", logs(dir));
    let after = settled(&out);
    for (epoch, events) in &before {
        assert_eq!(Some(events), after.get(epoch), "epoch {epoch} at the end");
    }
    for (epoch, events) in &after {
        assert_eq!(events.len(), 1, "epoch {epoch} was settled more than once");
    }

    // What came from the journal is what the recording gives; so is the final pass.
    let replay = run(dir, "--replay out/recording.edf --out again --age 60 --sex m");
    assert!(replay.status.success(), "{replay:?}");
    let again = dir.join("again");
    assert_eq!(settled(&again), after);
    assert_eq!(stages(&again), stages(&out));
    let staged = stages(&out).iter().filter(|stage| *stage != "?").count();
    println!("{staged} of {} epochs staged", stages(&out).len());
    assert!(staged * 2 > stages(&out).len(), "too little is left between the kills");
    assert!(json(&out.join("session.json"))["ended"] == true);
}

fn settled_lines(out: &Path) -> usize {
    let text = std::fs::read_to_string(out.join("events.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains("\"status\":\"settled\"")).count()
}

fn host_ended(host: &mut std::process::Child) -> bool {
    host.try_wait().expect("a status").is_some()
}

#[test]
fn sigterm_ends_a_session_and_recover_finishes_it() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(24), free_tcp());
    let out = dir.join("out");
    let mut sensors = sim(dir, &file, &format!("--tcp {port} --speed 60 --seed 3"));
    let host = stream(dir, &format!("--tcp listen:{port} --speed 60 --out out --age 60 --sex m"));
    until(dir, || settled_lines(&out) >= 20);
    signal(&host, "-TERM");
    let begun = Instant::now();
    assert_eq!(wait(host, dir), 0, "{}", logs(dir));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    println!("ended {took:?} after SIGTERM");
    let _ = sensors.kill();
    let _ = sensors.wait();
    assert!(logs(dir).contains("recorded") && logs(dir).contains("recover"), "{}", logs(dir));
    let length_s = recorded_s(&out);
    let before = settled(&out);
    assert!(json(&out.join("session.json"))["ended"] == false);

    let recovered = run(dir, "recover out --format luna,bids");
    assert!(recovered.status.success(), "{recovered:?}");
    assert!(out.join("hypnogram.annot").exists() && out.join("events.tsv").exists());
    let said = String::from_utf8_lossy(&recovered.stdout).into_owned();
    assert!(said.contains("final pass"), "{said}");
    assert_eq!(recorded_s(&out), length_s);
    for (epoch, events) in &before {
        assert_eq!(Some(events), settled(&out).get(epoch), "epoch {epoch}");
    }
    assert!(line_count(&out.join("session.jsonl")) > 3);
    assert!(json(&out.join("session.json"))["ended"] == true);
    let refused = run(dir, "recover out");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("is over") && said.trim().lines().count() == 1, "{said}");

    // The next night, by the same command, leaves the last one alone.
    let next = stream(dir, &format!("--tcp listen:{port} --speed 60 --out out --age 61 --sex m"));
    until(dir, || logs(dir).contains("goes to out-2") && logs(dir).contains("waiting for sensors"));
    std::thread::sleep(Duration::from_millis(300));
    signal(&next, "-TERM");
    assert_eq!(wait(next, dir), 0, "{}", logs(dir));
    assert!(logs(dir).contains("nothing was recorded"), "{}", logs(dir));
}
