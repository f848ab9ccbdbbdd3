//! The programs, and a recording long enough to be worth a session.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use sfm_runtime::edf::{Continuity, EdfWriter, RecordReader, RecordingSpec, SignalSpec};
use tempfile::TempDir;

/// Nothing here takes as long on a quiet machine.
const TIMEOUT: Duration = Duration::from_secs(400);

/// Whether the long form was asked for.
pub fn is_long() -> bool {
    std::env::var_os("SFM_LONG").is_some()
}

/// Sessions run in real time, so one after the other.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The repository's recording of 6 min, again and again until `minutes` are full.
pub fn recording(minutes: u64) -> PathBuf {
    recording_of(&format!("{minutes}.edf"), minutes, |label| Some(label.to_owned()))
}

/// The same under `name`, with the channels that `label` gives a name.
pub fn recording_of(name: &str, minutes: u64, label: fn(&str) -> Option<String>) -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder"));
    let path = folder.path().join(name);
    if path.exists() {
        return path;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/mini/psg.edf");
    let file = std::fs::File::open(source).expect("the repository's recording");
    let mut reader = RecordReader::new(file).expect("it is read");
    let header = reader.header().clone();
    let named = header.signals.iter().enumerate();
    let kept: Vec<_> = named.filter_map(|(index, s)| Some((index, s, label(&s.label)?))).collect();
    let spec = RecordingSpec {
        sample_format: header.sample_format,
        continuity: Continuity::Plain,
        start: header.start,
        record_duration_s: header.record_duration_s,
        signals: kept
            .iter()
            .map(|(_, s, label)| SignalSpec {
                label: label.clone(),
                unit: s.unit.clone(),
                prefilter: s.prefilter.clone(),
                physical_min: s.physical_min,
                physical_max: s.physical_max,
                digital_min: s.digital_min,
                digital_max: s.digital_max,
                samples_per_record: s.samples_per_record,
            })
            .collect(),
        annotation_bytes: 0,
    };
    let output = std::fs::File::create(&path).expect("made");
    let mut writer = EdfWriter::new(output, &spec).expect("a header");
    let records = (minutes as f64 * 60.0 / header.record_duration_s) as u64;
    for record in 0..records {
        let samples: Vec<Vec<i32>> = kept
            .iter()
            .map(|(signal, ..)| {
                let mut samples = Vec::new();
                let from = record % header.record_count;
                reader.digital(from, *signal, 0..usize::MAX, &mut samples).expect("samples");
                samples
            })
            .collect();
        let samples: Vec<&[i32]> = samples.iter().map(Vec::as_slice).collect();
        writer.write_record(&samples, &[]).expect("written");
    }
    writer.finish().expect("closed");
    path
}

pub fn free_udp() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").to_string()
}

pub fn free_tcp() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// `sfm-stream`, in `dir`.
pub fn stream(dir: &Path, args: &str) -> Child {
    start(env!("CARGO_BIN_EXE_sfm-stream"), dir, args, &[])
}

/// `sfm-sim` with `recording`, in `dir`.
pub fn sim(dir: &Path, recording: &Path, args: &str) -> Child {
    start(env!("CARGO_BIN_EXE_sfm-sim"), dir, args, &[recording])
}

fn start(program: &str, dir: &Path, args: &str, files: &[&Path]) -> Child {
    Command::new(program)
        .current_dir(dir)
        .args(files)
        .args(args.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join(log_name(program, args))).expect("a log"))
        .spawn()
        .expect("it starts")
}

/// A name for what a program says, so that no pipe fills up.
fn log_name(program: &str, args: &str) -> String {
    let program = Path::new(program).file_name().expect("a name").to_string_lossy();
    let place: String = args.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
    format!("{program}-{place}.log")
}

/// Everything the programs have said in `dir`.
pub fn logs(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        if entry.path().extension().is_some_and(|e| e == "log") {
            text += &format!("--- {}\n", entry.path().display());
            text += &std::fs::read_to_string(entry.path()).unwrap_or_default();
        }
    }
    text
}

/// Waits for a program; its exit code.
pub fn wait(mut child: Child, dir: &Path) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a status") {
            return status.code().unwrap_or(-1);
        }
        if begun.elapsed() > TIMEOUT {
            let _ = child.kill();
            panic!("no end in sight:\n{}", logs(dir));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs `sfm-stream` to its end.
pub fn run(dir: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sfm-stream"))
        .current_dir(dir)
        .args(args.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

/// Waits until `done`, or gives up.
pub fn until(dir: &Path, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < TIMEOUT, "waited in vain:\n{}", logs(dir));
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The lines of a JSON lines file.
pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Stage of each epoch in `hypnogram.csv`.
pub fn stages(out: &Path) -> Vec<String> {
    let csv = std::fs::read_to_string(out.join("hypnogram.csv")).expect("a hypnogram");
    csv.lines().skip(1).map(|row| row.split(',').nth(2).expect("a stage").to_owned()).collect()
}

/// Sends a signal.
pub fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().expect("kill").success());
}
