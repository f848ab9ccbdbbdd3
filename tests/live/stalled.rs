//! Nobody reads what the program says: a pipe that is full, a terminal that was stopped. Recording
//! goes on, and the session ends in order when it is asked to.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{free_udp, logs, recording, signal, sim, turn, until, wait};

/// Of the session, by its clock.
const RECORDED_S: u64 = 60;
const SPEED: u64 = 20;

/// A pipe that takes nothing more, until what is in it is read.
fn full() -> (std::io::PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let ours = writer.try_clone().expect("a pipe");
    // It may hold less than it is given; then the thread waits until the test is over.
    std::thread::spawn(move || writer.write_all(&[b'\n'; 1 << 16]));
    std::thread::sleep(Duration::from_millis(300));
    (reader, ours.into())
}

fn host(dir: &Path, port: &str, more: &str, stdout: Stdio, stderr: Stdio) -> Child {
    let args = format!("--udp {port} --speed {SPEED} --out out --log trace {more}");
    Command::new(env!("CARGO_BIN_EXE_sfm-stream"))
        .current_dir(dir)
        .args(args.split_whitespace())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .expect("it starts")
}

/// Whether so much of the session is in its recording.
fn has_recorded(out: &Path, seconds: u64) -> bool {
    let Ok(file) = std::fs::File::open(out.join("recording.edf")) else { return false };
    let length = file.metadata().map_or(0, |about| about.len());
    // Its header may be on the way still.
    let Ok(reader) = sfm_runtime::edf::RecordReader::new(file) else { return false };
    let header = reader.header();
    let bytes_per_second = (header.record_bytes as f64 / header.record_duration_s).ceil() as u64;
    length > header.header_bytes + seconds * bytes_per_second
}

/// Plays sensors until so much is recorded, then ends the session; its exit code.
fn recorded(dir: &Path, port: &str, host: Child) -> i32 {
    let file = recording(6);
    let mut sensors = sim(dir, &file, &format!("--udp {port} --speed {SPEED} --seed 5"));
    let out = dir.join("out");
    until(dir, || has_recorded(&out, RECORDED_S));
    signal(&host, "-TERM");
    let begun = Instant::now();
    let code = wait(host, dir);
    let took = begun.elapsed();
    let _ = sensors.kill();
    let _ = sensors.wait();
    assert!(took < Duration::from_secs(30), "{took:?}: {}", logs(dir));
    assert!(out.join("night.json").exists(), "{}", logs(dir));
    code
}

#[test]
fn a_full_stderr_stops_neither_recording_nor_the_end() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let port = free_udp();
    let (unread, stderr) = full();
    let host = host(dir.path(), &port, "--pass live", Stdio::null(), stderr);
    assert_eq!(recorded(dir.path(), &port, host), 0);
    drop(unread);
}

#[test]
fn a_full_stdout_costs_its_events_and_is_told() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let port = free_udp();
    let (unread, stdout) = full();
    let log = std::fs::File::create(dir.join("host.log")).expect("a log");
    let host = host(dir, &port, "--pass live --json", stdout, log.into());
    assert_eq!(recorded(dir, &port, host), 5, "{}", logs(dir));
    let said = std::fs::read_to_string(dir.join("host.log")).expect("a log");
    assert!(said.contains("standard output was not read"), "{said}");
    let events = std::fs::read_to_string(dir.join("out/events.jsonl")).expect("events");
    assert!(events.lines().count() > 3, "{events}");
    drop(unread);
}

#[test]
fn a_stdout_that_is_read_has_every_event_and_the_last_line_of_stderr_is_there() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let port = free_udp();
    let mut host = host(dir, &port, "--json", Stdio::piped(), Stdio::piped());
    let read = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).expect("UTF-8");
            text
        })
    };
    let stdout = read(Box::new(host.stdout.take().expect("a pipe")));
    let stderr = read(Box::new(host.stderr.take().expect("a pipe")));
    let sensors = sim(dir, &recording(6), &format!("--udp {port} --speed {SPEED} --seed 5"));
    assert_eq!(wait(sensors, dir), 0);
    assert_eq!(wait(host, dir), 0);
    let events = std::fs::read_to_string(dir.join("out/events.jsonl")).expect("events");
    assert_eq!(stdout.join().expect("read"), events);
    let stderr = stderr.join().expect("read");
    let said = |text: &str| stderr.find(text).unwrap_or_else(|| panic!("no '{text}': {stderr}"));
    assert!(said("waiting for sensors") < said("recording of"));
    assert!(said("recording of") < said("session over"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_is_stopped_with_ctrl_s_stops_nothing() {
    use std::os::fd::{FromRawFd, OwnedFd};
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let port = free_udp();
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: both descriptors are written before they are owned; the rest may be null.
    let (ours, theirs) = unsafe {
        let made = libc::openpty(&raw mut ours, &raw mut theirs, null, null.cast(), null.cast());
        assert_eq!(made, 0, "a terminal");
        (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    };
    let mut keyboard = std::fs::File::from(ours);
    keyboard.write_all(&[0x13]).expect("pressed");
    let stdout = theirs.try_clone().expect("a terminal");
    let host = host(dir.path(), &port, "--pass live", stdout.into(), theirs.into());
    assert_eq!(recorded(dir.path(), &port, host), 0);
}
