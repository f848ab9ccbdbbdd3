//! The folder of a session is renamed or removed under it: the session goes on with all it has, and
//! is recovered or finished as if nothing had been.

use std::path::Path;

use sfm_runtime::source::Source;
use sfm_runtime::source::edf::EdfSource;

use crate::run::{
    free_tcp, json, lines, logs, recording, run, signal, sim, stages, stream, turn, until, wait,
};

fn recorded_s(out: &Path) -> f64 {
    let source = EdfSource::open(&out.join("recording.edf")).expect("the recording opens");
    source.info().duration_s.expect("a length")
}

fn settled_lines(out: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(out.join("events.jsonl")).unwrap_or_default();
    let lines = text.lines().filter(|line| line.contains("\"status\":\"settled\""));
    lines.map(str::to_owned).collect()
}

fn moves(out: &Path) -> usize {
    lines(&out.join("session.jsonl")).iter().filter(|line| line["event"] == "moved").count()
}

#[test]
fn a_session_whose_folder_was_renamed_is_recovered_where_it_went_on() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(30), free_tcp());
    let (out, away) = (dir.join("out"), dir.join("away"));
    let mut sensors = sim(dir, &file, &format!("--tcp {port} --speed 60 --seed 4"));
    let mut host =
        stream(dir, &format!("--tcp listen:{port} --speed 60 --out out --age 60 --sex m"));
    until(dir, || settled_lines(&out).len() >= 20);
    std::fs::rename(&out, &away).expect("renamed");
    until(dir, || {
        logs(dir).contains("the session goes on in out") && out.join("session.json").exists()
    });
    let before = settled_lines(&away);
    until(dir, || {
        settled_lines(&out).len() >= before.len() + 10 && out.join("journal.sfm").exists()
    });
    host.kill().expect("killed");
    host.wait().expect("a status");
    let _ = sensors.kill();
    let _ = sensors.wait();
    assert_eq!(moves(&out), 1);
    assert_eq!(settled_lines(&out)[..before.len()], before, "what was settled before");
    let kept_s = recorded_s(&away);
    assert!(recorded_s(&out) > kept_s && kept_s > 600.0, "{kept_s}");
    for folder in ["out", "away"] {
        let recovered = run(dir, &format!("recover {folder}"));
        assert!(recovered.status.success(), "{folder}: {recovered:?}");
        assert!(json(&dir.join(folder).join("session.json"))["ended"] == true);
        let replay =
            format!("--replay {folder}/recording.edf --out again-{folder} --age 60 --sex m");
        assert!(run(dir, &replay).status.success());
        assert_eq!(stages(&dir.join(folder)), stages(&dir.join(format!("again-{folder}"))));
    }
    assert_eq!(recorded_s(&away), kept_s, "it keeps what it had");
}

#[test]
fn a_session_whose_folder_was_removed_is_finished_in_a_new_one() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(24), free_tcp());
    let out = dir.join("out");
    let sensors = sim(dir, &file, &format!("--tcp {port} --speed 60 --seed 5"));
    let host = stream(dir, &format!("--tcp listen:{port} --speed 60 --out out --age 60 --sex m"));
    until(dir, || settled_lines(&out).len() >= 10);
    // Somebody writes into it meanwhile.
    until(dir, || {
        let _ = std::fs::remove_dir_all(&out);
        !out.exists()
    });
    until(dir, || logs(dir).contains("the session goes on in out"));
    assert_eq!(wait(sensors, dir), 0, "{}", logs(dir));
    assert_eq!(wait(host, dir), 0, "{}", logs(dir));
    assert!(recorded_s(&out) >= 24.0 * 60.0 - 5.0, "{}", recorded_s(&out));
    assert!(json(&out.join("session.json"))["ended"] == true);
    let replay = run(dir, "--replay out/recording.edf --out again --age 60 --sex m");
    assert!(replay.status.success(), "{replay:?}");
    assert_eq!(stages(&out), stages(&dir.join("again")));
    assert_eq!(moves(&out), 1);
}

#[test]
fn nobody_is_told_of_a_folder_that_is_where_it_was() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(6), free_tcp());
    let mut sensors = sim(dir, &file, &format!("--tcp {port} --speed 30 --seed 6"));
    let host = stream(dir, &format!("--tcp listen:{port} --speed 30 --out out --age 60 --sex m"));
    until(dir, || dir.join("out/recording.edf").exists());
    // Longer than it takes to look.
    std::thread::sleep(std::time::Duration::from_secs(5));
    signal(&host, "-TERM");
    assert_eq!(wait(host, dir), 0, "{}", logs(dir));
    let _ = sensors.kill();
    let _ = sensors.wait();
    assert!(!logs(dir).contains("the session goes on in"), "{}", logs(dir));
}
