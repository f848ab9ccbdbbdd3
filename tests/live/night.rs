//! A session without faults over a serial line: what is recorded is what the sensor was given.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use sfm_runtime::edf::RecordReader;

use crate::run::{json, lines, logs, recording, stream, turn, wait};
use crate::snapshot;

/// The digital samples of a file's channel, up to `count`.
fn samples(path: &std::path::Path, label: &str, count: usize) -> Vec<i32> {
    let mut reader = RecordReader::new(std::fs::File::open(path).expect("there")).expect("EDF");
    let signal =
        reader.header().signals.iter().position(|s| s.label == label).expect("the channel");
    let mut samples = Vec::new();
    for record in 0..reader.header().record_count {
        reader.digital(record, signal, 0..usize::MAX, &mut samples).expect("read");
    }
    samples.truncate(count);
    samples
}

#[test]
fn a_serial_line_records_every_value_as_it_came() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let file = recording(6);
    let mut sensor = Command::new(env!("CARGO_BIN_EXE_sfm-sim"))
        .arg(&file)
        .args("--pty --speed 20 --seed 5".split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut printed = BufReader::new(sensor.stdout.take().expect("a pipe"));
    let mut line = String::new();
    let device = loop {
        line.clear();
        assert!(printed.read_line(&mut line).expect("text") > 0, "no path was printed");
        if let Some(path) = line.split_whitespace().find(|word| word.starts_with("/dev/")) {
            break path.to_owned();
        }
    };
    // What else it prints is not read: it is short.
    let host = stream(dir, &format!("--serial {device} --speed 20 --out out --age 60 --sex f"));
    assert_eq!(wait(host, dir), 0, "{}", logs(dir));
    wait(sensor, dir);
    let out = dir.join("out");
    let night = json(&out.join("night.json"));
    for channel in night["links"]["channels"].as_array().expect("channels") {
        let ledger = &channel["ledger"];
        assert_eq!(ledger["lost"], 0, "{channel}");
        let slips = ledger["clock_dropped"].as_u64().zip(ledger["clock_repeated"].as_u64());
        if slips != Some((0, 0)) {
            println!("skipped: {} was slipped by the clock", channel["label"]);
            continue;
        }
        let label = channel["recorded_as"].as_str().expect("a label");
        let recorded = samples(&out.join("recording.edf"), label, usize::MAX);
        let count = ledger["placed"].as_u64().expect("a count") as usize;
        let given = samples(&file, channel["label"].as_str().expect("a label"), count);
        assert_eq!(given.len(), count);
        assert!(recorded.starts_with(&given), "{label}");
    }
    let annotations = sfm_runtime::edf::annotations(&out.join("annotations.edf")).expect("opens");
    let texts: Vec<&str> = annotations.iter().map(|a| a.text.as_str()).collect();
    assert!(texts.contains(&"Lights off") && texts.contains(&"Lights on"), "{texts:?}");
    assert!(texts.iter().filter(|text| text.starts_with("Sleep stage")).count() >= 12, "{texts:?}");
    let lit = |end: &str| night["lights"][end].as_f64().expect("marked");
    assert!(lit("off_s") < 5.0 && (350.0..365.0).contains(&lit("on_s")), "{}", night["lights"]);
    assert!(!night["notes"].to_string().contains("lights"), "{}", night["notes"]);
    snapshot::check(
        "session",
        &snapshot::pretty(&snapshot::shape(&json(&out.join("session.json")))),
    );
    let kinds: BTreeSet<String> = lines(&out.join("session.jsonl"))
        .iter()
        .map(|line| format!("{}: {}", line["event"], snapshot::keys(line).join(" ")))
        .collect();
    for kind in ["started", "link_up", "device", "clock", "bye", "ended"] {
        let is_there = |found: &&String| found.starts_with(&format!("\"{kind}\":"));
        snapshot::check(&format!("log_{kind}"), kinds.iter().find(is_there).expect(kind));
    }
}
