//! A session that was cut goes on in its folder: the files end as if it had never been cut.

use std::fs;
use std::path::Path;

use sfm_runtime::event::{EpochStatus, Event, Pass};
use sfm_runtime::sink::{Sinks, WhenFull, reopen_all};

use crate::embeddings::check;
use crate::files::write;
use crate::synthetic::{Recording, labels};

/// Four windows, the last one a part.
const RECORDING: Recording = Recording { epochs: 34, dim: 8 };

fn is_provisional(event: &Event) -> bool {
    matches!(event, Event::Epoch(epoch) if epoch.status == EpochStatus::Provisional)
}

/// The live pass's events, and how many of them end with window `windows` - 1.
fn live(windows: u32) -> (Vec<Event>, usize) {
    let events: Vec<Event> = RECORDING.events();
    let end = events.iter().position(|event| matches!(event, Event::Night(_))).expect("a night");
    let events = events[..=end].to_vec();
    let last = events
        .iter()
        .position(|event| matches!(event, Event::Window(window) if window.window + 1 == windows));
    let known = last.map_or(1, |last| last + 1);
    (events, known)
}

fn go_on(out: &Path, windows: u32) {
    let (events, known) = live(windows);
    let sinks = reopen_all(out, &labels(), windows).expect("sinks");
    let mut sinks = Sinks::start(sinks, WhenFull::Drop).expect("thread");
    events[..known].iter().filter(|e| !is_provisional(e)).for_each(|e| sinks.restore(e.clone()));
    events[known..].iter().for_each(|event| sinks.send(event.clone()));
    assert_eq!(sinks.finish(), Vec::<String>::new());
}

fn texts(out: &Path) -> Vec<(&'static str, String)> {
    let read = |name| (name, fs::read_to_string(out.join(name)).unwrap_or_default());
    ["events.jsonl", "hypnogram.csv", "night.json", "risk.csv"].map(read).to_vec()
}

#[test]
fn a_session_that_was_cut_leaves_the_files_of_one_that_was_not() {
    let temp = tempfile::tempdir().expect("temp");
    let whole = temp.path().join("whole");
    write(&whole, live(0).0);
    for windows in 0..=3 {
        let (events, known) = live(windows);
        // Cut with the last known window's line or without, and further on.
        for written in [known - usize::from(windows > 0), known, known + 4, events.len() - 1] {
            let out = temp.path().join(format!("{windows} {written}"));
            write(&out, events[..written].to_vec());
            let lines = fs::read(out.join("events.jsonl")).expect("events.jsonl");
            let cut = if written == known { lines.len() } else { lines.len() - 3 };
            // Within the last line, whose event is then missing.
            fs::write(out.join("events.jsonl"), &lines[..cut]).expect("cut");
            let before = fs::read(out.join("hypnogram.csv")).expect("hypnogram.csv");
            drop(reopen_all(&out, &labels(), windows).expect("sinks"));
            let after = fs::read(out.join("hypnogram.csv")).expect("hypnogram.csv");
            assert_eq!(before, after, "files stay until they are replaced");
            go_on(&out, windows);
            assert_eq!(texts(&out), texts(&whole), "{windows} windows known, {written} events");
            let edf = |out: &Path| fs::read(out.join("hypnogram.edf")).expect("hypnogram.edf");
            assert_eq!(edf(&out), edf(&whole));
            check(&out, RECORDING, |_| Some(Pass::Live));
        }
    }
}

#[test]
fn a_folder_that_has_nothing_is_begun() {
    let temp = tempfile::tempdir().expect("temp");
    let (whole, out) = (temp.path().join("whole"), temp.path().join("new"));
    write(&whole, live(0).0);
    go_on(&out, 0);
    assert_eq!(texts(&out), texts(&whole));
}
