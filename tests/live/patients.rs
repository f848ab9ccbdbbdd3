//! One start after another with the same `--out`: it goes on in the folder only if it is the same
//! session. Nobody's recording is touched by a start that is not.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use crate::run::{
    free_tcp, json, lines, logs, recording_of, run, signal, sim, stream, turn, until, wait,
};

/// A bed with a sensor of three slow channels, so that a start takes no time.
pub struct Bench {
    folder: TempDir,
    port: String,
    file: PathBuf,
    starts: std::cell::Cell<usize>,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Bench {
    pub fn new() -> Self {
        let belts = |label: &str| ["Therm", "Thor", "Abdo"].contains(&label).then(|| label.into());
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_tcp());
        let file = recording_of("belts.edf", 60, belts);
        Self { folder, port, file, starts: Default::default() }
    }

    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn port(&self) -> &str {
        &self.port
    }

    pub fn out(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// A start of the program; what it says has a log of its own.
    pub fn host(&self, more: &str) -> Child {
        self.starts.set(self.starts.get() + 1);
        let (threads, port) = (self.starts.get(), &self.port);
        let base = format!("--tcp listen:{port} --speed 60 --backend tract --out out");
        stream(self.dir(), &format!("--threads {threads} {base} {more}"))
    }

    /// The sensor with this seed, for `minutes` of the session.
    pub fn sensor(&self, seed: u64, minutes: u64) -> Sensor {
        let (port, seconds) = (&self.port, 60 * minutes);
        let args =
            format!("--seed {seed} --duration {seconds} --tcp {port} --speed 60 --memory 60");
        Sensor(Some(sim(self.dir(), &self.file, &args)))
    }

    /// Waits until `seconds` more than there are have been recorded in `folder`.
    pub fn until_recorded(&self, folder: &str, seconds: u64) {
        let path = self.out(folder).join("recording.edf");
        let bytes = || path.metadata().map_or(0, |m| m.len());
        // Behind the header; a second takes some 800 bytes with its room for gaps.
        let wanted = bytes().max(2000) + seconds * 800;
        until(self.dir(), || bytes() >= wanted);
    }

    pub fn session(&self, folder: &str) -> Value {
        json(&self.out(folder).join("session.json"))
    }

    /// Ends a start in order.
    pub fn stop(&self, host: Child) {
        signal(&host, "-TERM");
        assert_eq!(wait(host, self.dir()), 0, "{}", logs(self.dir()));
    }

    pub fn kill(&self, mut host: Child) {
        host.kill().expect("killed");
        host.wait().expect("a status");
    }

    /// The last sample of a folder is so old.
    pub fn make_old(&self, folder: &str, ago: Duration) {
        let path = self.out(folder).join("recording.edf");
        let file = std::fs::File::options().write(true).open(path).expect("there");
        file.set_modified(SystemTime::now() - ago).expect("set");
    }

    pub fn said(&self, text: &str) {
        assert!(logs(self.dir()).contains(text), "'{text}' was not said:\n{}", logs(self.dir()));
    }

    /// Every file of a folder with its bytes, but for the lock.
    pub fn files(&self, folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(self.out(folder)).expect("there").flatten();
        let files = entries.map(|e| e.path()).filter(|path| !path.ends_with(".session.lock"));
        let mut files: Vec<_> =
            files.filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?))).collect();
        files.sort();
        files
    }
}

/// A sensor; ends when it is dropped.
pub struct Sensor(Option<Child>);

impl Sensor {
    /// Waits until it has said bye.
    pub fn wait(mut self, dir: &Path) {
        let child = self.0.take().expect("still there");
        assert_eq!(wait(child, dir), 0, "{}", logs(dir));
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        for child in self.0.iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn the_next_patient_gets_a_recording_of_their_own() {
    let _turn = turn();
    let bench = Bench::new();
    let first = bench.host("--pass live --age 60 --sex m");
    let sensor = bench.sensor(1, 60);
    bench.until_recorded("out", 20);
    bench.stop(first);
    drop(sensor);
    assert_eq!(bench.session("out")["closed"], true);
    assert_eq!(bench.session("out")["ended"], false, "recover can still run the last pass");
    let before = bench.files("out");

    // The same headbox at once: by age and sex it is somebody else, and without them it would be.
    for (folder, more) in [("out-2", "--age 30 --sex f"), ("out-3", "--age 30 --sex f")] {
        let next = bench.host(&format!("--pass live {more}"));
        let sensor = bench.sensor(1, 60);
        bench.until_recorded(folder, 5);
        bench.stop(next);
        drop(sensor);
        assert_eq!(bench.session(folder)["age"], 30.0);
    }
    bench.said("out is left as it is: its session ended in order; this session goes to out-2");
    bench.said("out-2 is left as it is: its session ended in order; this session goes to out-3");
    assert_eq!(bench.files("out"), before, "nothing of the first patient is touched");
    let log = lines(&bench.out("out-2/session.jsonl"));
    assert!(log.iter().any(|line| line["event"] == "new_folder" && line["left"] == "out"));
    let recovered = run(bench.dir(), "recover out");
    assert!(recovered.status.success(), "{recovered:?}");
    assert_eq!(bench.session("out")["ended"], true);
}

#[test]
fn a_session_that_was_cut_goes_on_only_if_it_is_the_same() {
    let _turn = turn();
    let bench = Bench::new();
    let same = "--pass live --age 60 --sex m";
    let host = bench.host(same);
    let sensor = bench.sensor(1, 60);
    bench.until_recorded("out", 20);
    bench.kill(host);

    // Within half an hour, the same age, sex and sensor.
    bench.make_old("out", 29 * MINUTE);
    let host = bench.host(same);
    bench.until_recorded("out", 20);
    bench.kill(host);
    assert!(!bench.out("out-2").exists());
    let log = lines(&bench.out("out/session.jsonl"));
    assert!(log.iter().any(|l| l["event"] == "started" && l["resumed"] == true), "{log:?}");

    // Another age; then too long ago.
    let host = bench.host("--pass live --age 61 --sex m");
    bench.until_recorded("out-2", 5);
    bench.kill(host);
    bench.said("out is left as it is: its session was begun with another --age or --sex");
    bench.make_old("out-2", 31 * MINUTE);
    bench.make_old("out", 32 * MINUTE);
    let host = bench.host("--pass live --age 61 --sex m");
    bench.until_recorded("out-3", 5);
    bench.kill(host);
    bench.said("out-2 is left as it is: its last sample is more than 30 min old");
    drop(sensor);

    // Another headbox: nothing of what it sends while it is waited for the first is lost.
    let host = bench.host("--pass live --age 61 --sex m");
    let other = bench.sensor(2, 2);
    other.wait(bench.dir());
    assert_eq!(wait(host, bench.dir()), 0, "{}", logs(bench.dir()));
    bench.said("out-3 is left as it is: other sensors have come; this session goes to out-4");
    let night = json(&bench.out("out-4/night.json"));
    for channel in night["links"]["channels"].as_array().expect("channels") {
        let ledger = &channel["ledger"];
        let placed = ledger["placed"].as_u64().expect("a count");
        assert_eq!(ledger["lost"], 0, "{channel}");
        assert!((3800..=3841).contains(&placed), "2 min of 32 Hz: {channel}");
    }
    assert_eq!(bench.session("out-4")["ended"], true);
    assert_eq!(bench.session("out-3")["closed"], false, "it is for recover");
}

#[test]
fn a_session_that_is_stopped_while_it_waits_is_closed() {
    let _turn = turn();
    let bench = Bench::new();
    let host = bench.host("--pass live");
    let sensor = bench.sensor(1, 60);
    bench.until_recorded("out", 5);
    bench.kill(host);
    drop(sensor);
    let host = bench.host("--pass live --log debug");
    until(bench.dir(), || logs(bench.dir()).matches("waiting for sensors").count() == 2);
    std::thread::sleep(Duration::from_millis(300));
    bench.stop(host);
    bench.said("out holds a session that goes on if its sensors come");
    let host = bench.host("--pass live --log info");
    let sensor = bench.sensor(1, 60);
    bench.until_recorded("out-2", 5);
    bench.stop(host);
    drop(sensor);
}

#[test]
fn a_name_decides_and_stands_in_one_file_only() {
    let _turn = turn();
    let bench = Bench::new();
    let named = "--session Patient_7-x --pass live --age 60 --sex m";
    let host = bench.host(named);
    let sensor = bench.sensor(1, 60);
    bench.until_recorded("out", 20);
    bench.stop(host);
    drop(sensor);
    // An orderly restart eleven hours later.
    bench.make_old("out", 11 * 60 * MINUTE);
    let host = bench.host(named);
    let sensor = bench.sensor(1, 60);
    bench.until_recorded("out", 20);
    bench.kill(host);
    drop(sensor);
    assert!(!bench.out("out-2").exists(), "{}", logs(bench.dir()));
    for (folder, more) in [("out-2", "--session Patient_8"), ("out-3", "")] {
        let host = bench.host(&format!("{more} --pass live --age 60 --sex m"));
        let sensor = bench.sensor(1, 60);
        bench.until_recorded(folder, 5);
        bench.stop(host);
        drop(sensor);
    }
    bench.said("out is left as it is: --session names another session than it holds");
    bench.said("out-2 is left as it is: its session has a name, and --session gives none");
    // Behind two others it is found again.
    let host = bench.host(named);
    let sensor = bench.sensor(1, 60);
    bench.until_recorded("out", 5);
    bench.stop(host);
    drop(sensor);

    assert_eq!(bench.session("out")["session"], "Patient_7-x");
    let files = ["out", "out-2", "out-3"].map(|folder| bench.files(folder)).concat();
    for (path, bytes) in files {
        let names_it = bytes.windows(8).any(|window| window == b"Patient_");
        let may = path.ends_with("session.json");
        assert!(!names_it || may, "{} names the session", path.display());
    }
    assert!(
        !logs(bench.dir())
            .lines()
            .filter(|l| !l.starts_with("---"))
            .any(|l| l.contains("Patient_"))
    );
}

#[test]
fn beds_have_names_of_their_own_and_a_file_may_hold_them() {
    let _turn = turn();
    let bench = Bench::new();
    let host = bench.host("--beds --pass live");
    let sensor = bench.sensor(1, 60);
    let beds = bench.out("out");
    let bed = || std::fs::read_dir(&beds).ok()?.flatten().next().map(|e| e.file_name());
    until(bench.dir(), || bed().is_some());
    let device = bed().expect("a bed").into_string().expect("hexadecimal");
    bench.until_recorded(&format!("out/{device}"), 5);
    bench.stop(host);
    drop(sensor);
    let file = bench.dir().join("beds.toml");
    std::fs::write(&file, format!("session = ['{device}=N-1']\n")).expect("written");
    for _ in 0..2 {
        let host = bench.host("--beds --pass live --config beds.toml");
        let sensor = bench.sensor(1, 60);
        bench.until_recorded(&format!("out/{device}-2"), 10);
        bench.stop(host);
        drop(sensor);
    }
    assert_eq!(bench.session(&format!("out/{device}-2"))["session"], "N-1");
    assert!(!beds.join(format!("{device}-3")).exists());
    for (args, said) in [
        ("--udp 127.0.0.1:0 --session x=b", "hexadecimal"),
        ("--udp 127.0.0.1:0 --session a --session b", "one name"),
        ("--udp 127.0.0.1:0 --beds --session a", "DEVICE=ID"),
        ("--udp 127.0.0.1:0 --session ä", "A-Z"),
        ("--replay a.edf --session a", "live sessions"),
    ] {
        let refused = run(bench.dir(), args);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{args}: {text}");
        assert!(text.contains(said) && text.trim().lines().count() == 1, "{args}: {text}");
    }
}
