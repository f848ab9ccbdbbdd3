//! Beds beside devices that are none: whatever they send, they are cut off and the others go on.

use std::path::Path;

use crate::run::{free_tcp, lines, logs, recording, run, sim, stream, turn, until, wait};

/// What `sfm-sim --hostile` knows, with what the log says of it.
const KINDS: [(&str, &str); 5] = [
    ("huge-counters", "counts"),
    ("wrong-rates", "says of its channel"),
    ("channels", "channels"),
    ("hellos", "hello"),
    ("garbage", "without a good frame"),
];

#[test]
fn hostile_devices_are_cut_off_and_beds_go_on() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording(6), free_tcp());
    let host =
        stream(dir, &format!("--tcp listen:{port} --beds --speed 20 --out beds --pass live"));
    let beds =
        sim(dir, &file, &format!("--tcp {port} --beds 3 --speed 20 --seed 7 --report sim.json"));
    let hostile: Vec<_> = KINDS
        .iter()
        .enumerate()
        .map(|(seed, (kind, _))| {
            let seed = 100 + seed;
            sim(dir, &file, &format!("--tcp {port} --hostile {kind} --seed {seed} --speed 20"))
        })
        .collect();
    until(dir, || KINDS.iter().all(|(_, said)| cut_off(dir, said)));
    for mut child in hostile {
        let _ = child.kill();
        let _ = child.wait();
    }
    assert_eq!(wait(beds, dir), 0, "{}", logs(dir));
    let folders = || std::fs::read_dir(dir.join("beds")).expect("beds").flatten().map(|e| e.path());
    until(dir, || folders().filter(|bed| is_over(bed)).count() == 3);
    crate::run::signal(&host, "-TERM");
    wait(host, dir);
    let whole: Vec<_> = folders().filter(|bed| is_over(bed)).collect();
    for bed in whole {
        let events = lines(&bed.join("events.jsonl"));
        let settled = events.iter().filter(|e| e["status"] == "settled").count();
        assert_eq!(settled, 12, "{}: {}", bed.display(), logs(dir));
        assert!(events.iter().all(|e| e["event"] != "gap"), "{}", bed.display());
    }
}

fn cut_off(dir: &Path, said: &str) -> bool {
    logs(dir).lines().any(|line| line.contains("cut off") && line.contains(said))
}

fn is_over(bed: &Path) -> bool {
    let log = std::fs::read_to_string(bed.join("session.jsonl")).unwrap_or_default();
    log.contains("every device ended") && bed.join("night.json").exists()
}

#[test]
fn what_cannot_be_a_live_session_is_refused_in_a_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    for (args, said) in [
        ("--udp 127.0.0.1", "--udp"),
        ("--tcp listen:nowhere", "no address"),
        ("--tcp nowhere", "HOST:PORT"),
        ("--serial /dev/x@fast", "baud"),
        ("--udp 0.0.0.0:4410", "--listen-remote"),
        ("--udp 127.0.0.1:0 --speed max", "--speed"),
        ("--udp 127.0.0.1:0 --replay a.edf", "exclude"),
        ("--udp 127.0.0.1:0 --bundle none.sfm", "none.sfm"),
        ("recover nowhere", "session.json"),
        (&format!("--tcp listen:{taken}"), "cannot be opened"),
    ] {
        let refused = run(dir.path(), args);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(matches!(refused.status.code(), Some(2..=4)), "{args}: {refused:?}");
        assert!(text.contains(said) && text.trim().lines().count() == 1, "{args}: {text}");
    }
}
