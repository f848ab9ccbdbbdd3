//! A disk that gives out under the recorder's thread: one report, files that open, and the
//! program goes on.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use sfm_runtime::recorder::{AnnotationLog, Recorder, spawn};
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

#[test]
#[ignore = "runs as the child of a_full_disk_ends_the_recording_and_nothing_else"]
fn record_onto_a_disk_that_is_soon_full() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let signals = [signal("EEG", 256.0, false)];
    let recorder = Recorder::create(folder, &signals, start()).expect("created");
    let log = AnnotationLog::create(folder, start()).expect("created");
    let (report, reports) = channel();
    let on_stop = move |reason| report.send(reason).expect("is heard");
    let thread = spawn(recorder, Some(log), on_stop).expect("a thread");
    for second in 0..200 {
        let samples = (second * 256..(second + 1) * 256).map(|slot| digital(0, slot, false));
        thread.push(DigitalBlock { channel: 0, start: second * 256, samples: samples.collect() });
        thread.annotations().add(second as f64, None, "Event button");
    }
    let reason = reports.recv_timeout(Duration::from_secs(60)).expect("a report");
    assert!(reason.contains("cannot be written any more") && !reason.contains('\n'), "{reason}");
    assert!(!thread.is_recording());
    // Whoever stages goes on handing samples over.
    for second in 200..400 {
        thread.push(DigitalBlock { channel: 0, start: second * 256, samples: vec![0; 256] });
    }
    let error = thread.finish(Duration::from_secs(60)).expect_err("the disk was full");
    assert_eq!(error, reason);
    assert_eq!(reports.try_iter().count(), 0, "reported more than once");
    println!("the child went on");
}

#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_recording_and_nothing_else() {
    let dir = tempfile::tempdir().expect("folder");
    // Without its signal the limit is an error of write(2), as a full disk is.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", LIMIT_KIB * 2);
    let run = Command::new("sh")
        .args(["-c", &script, "sh"])
        .args(child("recorder::thread::record_onto_a_disk_that_is_soon_full", dir.path()))
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success() && said.contains("the child went on"), "{run:?}");
    let path = dir.path().join("recording.edf");
    let source = EdfSource::open(&path).expect("opens");
    assert_eq!(sfm_runtime::source::Source::info(&source).warnings, [""; 0]);
    let kept = read_back(source)[0].0.len();
    assert!(kept.is_multiple_of(256) && kept >= 10 * 256, "{kept} samples");
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
    std::os::unix::fs::symlink("/dev/full", dir.path().join("recording.edf")).expect("linked");
    for folder in [dir.path(), Path::new("/proc"), Path::new("/nowhere")] {
        let error = Recorder::create(folder, &signals, start()).expect_err("refused").to_string();
        assert!(error.contains("recording.edf: cannot be written"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
