//! A disk that is full under the recorder's thread: one report, files that open, and with room again
//! nothing is lost.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use sfm_runtime::recorder::{AnnotationLog, Recorder, RecorderEvent, RecorderThread, spawn};
use sfm_runtime::signal::DigitalBlock;
use sfm_runtime::source::edf::EdfSource;

use super::made::{digital, read_back, signal, start};

/// Where a child process records into.
pub const FOLDER: &str = "SFM_TEST_RECORD_INTO";
/// Bytes that the child may write into a file: some 20 records of 1.6 kB.
const LIMIT_KIB: usize = 32;

/// This test program, running one of its ignored tests.
pub fn child(test: &str, folder: &Path) -> Vec<String> {
    let program = std::env::current_exe().expect("a program").display().to_string();
    let arguments = ["--ignored", "--exact", test, "--nocapture"].map(str::to_owned);
    let name = format!("{FOLDER}={}", folder.display());
    ["env".to_owned(), name, program].into_iter().chain(arguments).collect()
}

/// Lets this process write as much as it likes again.
fn make_room() {
    let pid = std::process::id().to_string();
    let done = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status();
    assert!(done.is_ok_and(|status| status.success()), "prlimit (util-linux) is not there");
}

fn push_seconds(thread: &RecorderThread, seconds: std::ops::Range<u64>) {
    for second in seconds {
        let samples = (second * 256..(second + 1) * 256).map(|slot| digital(0, slot, false));
        thread.push(DigitalBlock { channel: 0, start: second * 256, samples: samples.collect() });
        thread.annotations().add(second as f64, None, "Event button");
    }
}

/// What a child records onto a disk that is soon full, and where what it reports goes.
fn begin(folder: &Path) -> (RecorderThread, Receiver<RecorderEvent>) {
    let signals = [signal("EEG", 256.0, false)];
    let recorder = Recorder::create(folder, &signals, start()).expect("created");
    let log = AnnotationLog::create(folder, start()).expect("created");
    let (report, reports) = channel();
    let observer = move |event| {
        if !matches!(event, RecorderEvent::Space(_) | RecorderEvent::Unreserved { .. }) {
            report.send(event).expect("is heard");
        }
    };
    (spawn(recorder, Some(log), None, observer).expect("a thread"), reports)
}

fn is_full(reports: &Receiver<RecorderEvent>) -> String {
    match reports.recv_timeout(Duration::from_secs(60)).expect("a report") {
        RecorderEvent::Waiting { reason } => {
            assert!(reason.contains("cannot be written") && !reason.contains('\n'), "{reason}");
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "runs as the child of a_full_disk_that_has_room_again_loses_nothing"]
fn record_until_the_disk_has_room_again() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (thread, reports) = begin(Path::new(&folder));
    push_seconds(&thread, 0..200);
    is_full(&reports);
    assert!(!thread.is_recording());
    push_seconds(&thread, 200..300);
    make_room();
    push_seconds(&thread, 300..400);
    let event = reports.recv_timeout(Duration::from_secs(60)).expect("it goes on");
    assert!(matches!(event, RecorderEvent::Resumed { .. }), "{event:?}");
    assert!(thread.is_recording());
    let written = thread.finish(Duration::from_secs(60)).expect("finished");
    assert_eq!((written.records, written.lost), (400, Default::default()));
    assert_eq!(reports.try_iter().count(), 0, "reported more than once");
    println!("the child went on");
}

#[test]
#[ignore = "runs as the child of a_disk_that_stays_full_keeps_what_it_has"]
fn record_onto_a_disk_that_stays_full() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (thread, reports) = begin(Path::new(&folder));
    push_seconds(&thread, 0..200);
    let reason = is_full(&reports);
    push_seconds(&thread, 200..400);
    let error = thread.finish(Duration::from_secs(60)).expect_err("the disk is full");
    assert_eq!(error, reason);
    let lost: Vec<RecorderEvent> = reports.try_iter().collect();
    let [RecorderEvent::Losing { .. }, RecorderEvent::Lost(lost)] = &lost[..] else {
        panic!("{lost:?}")
    };
    assert_eq!(lost.to_s, 400.0);
    assert_eq!(lost.samples as f64, (lost.to_s - lost.from_s) * 256.0);
    println!("the child went on; not recorded from {}", lost.from_s);
}

/// Runs a child that may write so little.
fn on_a_small_disk(test: &str, folder: &Path) -> String {
    // Without its signal the limit is an error of write(2), as a full disk is.
    let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$@\"", LIMIT_KIB * 2);
    let run = Command::new("sh")
        .args(["-c", &script, "sh"])
        .args(child(&format!("recorder::thread::{test}"), folder))
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success() && said.contains("the child went on"), "{run:?}");
    said
}

#[cfg(unix)]
#[test]
fn a_full_disk_that_has_room_again_loses_nothing() {
    let dir = tempfile::tempdir().expect("folder");
    on_a_small_disk("record_until_the_disk_has_room_again", dir.path());
    let source = EdfSource::open(&dir.path().join("recording.edf")).expect("opens");
    assert_eq!(sfm_runtime::source::Source::info(&source).warnings, [""; 0]);
    let scale = signal("EEG", 256.0, false).scale().expect("a scale");
    let wanted: Vec<(u64, f32)> =
        (0..400 * 256).map(|slot| (slot, scale.physical(digital(0, slot, false)) as f32)).collect();
    assert!(read_back(source)[0].0 == wanted, "samples are missing or wrong");
    let said = sfm_runtime::edf::annotations(&dir.path().join("annotations.edf")).expect("opens");
    assert_eq!(said.len(), 400);
}

#[cfg(unix)]
#[test]
fn a_disk_that_stays_full_keeps_what_it_has() {
    let dir = tempfile::tempdir().expect("folder");
    let said = on_a_small_disk("record_onto_a_disk_that_stays_full", dir.path());
    let path = dir.path().join("recording.edf");
    let source = EdfSource::open(&path).expect("opens");
    assert_eq!(sfm_runtime::source::Source::info(&source).warnings, [""; 0]);
    let kept = read_back(source)[0].0.len();
    assert!(kept.is_multiple_of(256) && kept >= 10 * 256, "{kept} samples");
    assert!(said.contains(&format!("not recorded from {}", kept / 256)), "{said}, {kept}");
    assert!(std::fs::metadata(&path).expect("there").len() <= LIMIT_KIB as u64 * 1024);
    sfm_runtime::edf::annotations(&dir.path().join("annotations.edf")).expect("opens");
    // With room again the session goes on in the same file.
    let (mut recorder, recorded) = Recorder::reopen(dir.path()).expect("reopened");
    assert_eq!(recorded.ends, [kept as u64]);
    let samples = vec![1; 512];
    recorder.push(&DigitalBlock { channel: 0, start: 300 * 256, samples }).expect("pushed");
    let written = recorder.finish().expect("finished");
    let read = read_back(EdfSource::open(&written.path).expect("opens"));
    assert_eq!(read[0].0.len(), kept + 512);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_written_at_all_is_refused_in_one_line() {
    let dir = tempfile::tempdir().expect("folder");
    let signals = [signal("EEG", 256.0, false)];
    let link = dir.path().join("recording.edf");
    std::os::unix::fs::symlink("/dev/full", link).expect("linked");
    let error = Recorder::create(dir.path(), &signals, start()).expect_err("refused").to_string();
    assert!(error.contains("is there already"), "a link is not followed: {error}");
    for folder in [Path::new("/proc"), Path::new("/nowhere"), &dir.path().join("none")] {
        let error = Recorder::create(folder, &signals, start()).expect_err("refused").to_string();
        assert!(error.contains("recording.edf: cannot be written"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
