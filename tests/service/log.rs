//! The log on the stderr of a whole process: as a file, and as the stream that the journal reads.

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use sfm_runtime::service::log;

#[test]
#[ignore = "run by the other tests in a process of its own"]
fn child() {
    if let Err(refused) = log::init(None) {
        eprintln!("{refused}");
        return;
    }
    tracing::debug!(target: "sfm_runtime", "a step");
    tracing::info!(target: "sfm_runtime", bed = "3", "the session begins");
    assert!(log::init(None).is_err(), "there is one log");
    log::finish();
}

/// What the child writes to its stderr, a socket, with `JOURNAL_STREAM` as made of the socket's
/// device and inode.
fn logged(journal_stream: impl Fn(u64, u64) -> Option<String>, level: &str) -> String {
    let (mut ours, theirs) = UnixStream::pair().expect("sockets");
    let about = std::fs::metadata(format!("/proc/self/fd/{}", theirs.as_raw_fd())).expect("fd");
    let mut command = crate::child("log::child");
    command.stderr(OwnedFd::from(theirs)).env("SFM_LOG", level);
    if let Some(stream) = journal_stream(about.dev(), about.ino()) {
        command.env("JOURNAL_STREAM", stream);
    }
    let mut child = command.spawn().expect("starts");
    // It holds the socket's other end.
    drop(command);
    let mut text = String::new();
    ours.read_to_string(&mut text).expect("UTF-8");
    assert!(child.wait().expect("ends").success(), "{text}");
    text
}

#[cfg(target_os = "linux")]
#[test]
fn the_journal_gets_priorities_when_it_reads_this_stream() {
    let text = logged(|device, inode| Some(format!("{device}:{inode}")), "debug");
    assert_eq!(text, "<7>a step\n<6>the session begins bed=3\n");
    for stream in [|_, _| None, |device, inode| Some(format!("{device}:{}", inode + 1))] {
        let text = logged(stream, "info");
        let (time, rest) = text.split_once(' ').expect("a time");
        assert_eq!(rest, "info  the session begins bed=3\n");
        assert!(time.starts_with("20") && time.contains('T'), "{time}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_level_that_is_none_is_refused() {
    let text = logged(|_, _| None, "loud");
    assert_eq!(text, "SFM_LOG=loud is no level; use error, warn, info, debug or trace\n");
}
