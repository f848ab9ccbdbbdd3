//! `annotations.edf`: opens at any moment, goes on after a cut, says nothing twice.

use std::path::Path;
use std::time::Duration;

use sfm_models::SleepStage;
use sfm_runtime::edf::{Annotation, DateTime, annotations};
use sfm_runtime::event::{EpochStatus, Event, Gap, Pass, SleepEpoch};
use sfm_runtime::recorder::{AnnotationLog, AnnotationSink, EVENT_BUTTON, Recorder, spawn};
use sfm_runtime::sink::Sink;

use super::made::{signal, start};
use sfm_runtime::lights::{LIGHTS_OFF, LIGHTS_ON};

fn said(dir: &Path) -> Vec<(f64, Option<f64>, String)> {
    let annotations = annotations(&dir.join("annotations.edf")).expect("opens");
    annotations.into_iter().map(|a| (a.onset_s, a.duration_s, a.text)).collect()
}

fn mark(onset_s: f64, text: &str) -> Annotation {
    Annotation { onset_s, duration_s: None, text: text.to_owned() }
}

fn late() -> DateTime {
    start().plus_seconds(0.75)
}

#[test]
fn marks_are_there_at_once() {
    let dir = tempfile::tempdir().expect("folder");
    let mut log = AnnotationLog::create(dir.path(), late()).expect("created");
    assert_eq!(said(dir.path()), []);
    for (count, (onset_s, text)) in
        [(12.345_678, LIGHTS_OFF), (30.0, EVENT_BUTTON), (28_800.5, LIGHTS_ON)].iter().enumerate()
    {
        log.append(&mark(*onset_s, text)).expect("appended");
        assert_eq!(said(dir.path()).len(), count + 1);
        assert!(log.sync_at().is_some());
    }
    log.sync().expect("on the disk");
    assert_eq!(log.sync_at(), None);
    let last = (28_800.5, None, LIGHTS_ON.to_owned());
    assert_eq!(said(dir.path())[2], last);
}

#[test]
fn a_cut_log_goes_on_and_says_nothing_twice() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("annotations.edf");
    let mut log = AnnotationLog::create(dir.path(), late()).expect("created");
    for epoch in 0..5 {
        log.append(&mark(30.0 * f64::from(epoch), "Sleep stage N2")).expect("appended");
    }
    drop(log);
    // In the middle of a sixth record.
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes.extend([b'+'; 50]);
    std::fs::write(&path, bytes).expect("writes");
    let mut log = AnnotationLog::reopen(dir.path(), late()).expect("reopened");
    for epoch in 0..8 {
        log.append(&mark(30.0 * f64::from(epoch), "Sleep stage N2")).expect("appended");
    }
    log.append(&mark(30.0, "Sleep stage W")).expect("appended");
    drop(log);
    let said = said(dir.path());
    assert_eq!(said.len(), 9);
    assert!((0..8).all(|epoch| said[epoch].0 == 30.0 * epoch as f64), "{said:?}");
}

#[test]
fn a_log_that_is_no_log_is_begun_anew() {
    let dir = tempfile::tempdir().expect("folder");
    for bytes in [&b""[..], b"0       ", &[0xff; 3000]] {
        std::fs::write(dir.path().join("annotations.edf"), bytes).expect("writes");
        let mut log = AnnotationLog::reopen(dir.path(), start()).expect("begun");
        log.append(&mark(1.0, LIGHTS_OFF)).expect("appended");
        assert_eq!(said(dir.path()).len(), 1);
    }
}

#[test]
fn texts_of_any_kind_stay_one_annotation() {
    let dir = tempfile::tempdir().expect("folder");
    let mut log = AnnotationLog::create(dir.path(), start()).expect("created");
    let texts = ["\u{14}\u{15}\0", "a\u{14}b\u{0}c", &"long ".repeat(100), "caf\u{e9}", "  "];
    for (onset, text) in texts.iter().enumerate() {
        log.append(&mark(onset as f64, text)).expect("appended");
    }
    for onset_s in [f64::NAN, f64::INFINITY, 1e300] {
        log.append(&mark(onset_s, "nowhere")).expect("left out");
    }
    log.append(&Annotation { duration_s: Some(f64::NAN), ..mark(9.0, "endless") }).expect("ok");
    drop(log);
    let said = said(dir.path());
    assert!(said.iter().all(|(_, _, text)| text.len() <= 80), "{said:?}");
    let onsets: Vec<f64> = said.iter().map(|a| a.0).collect();
    assert_eq!(onsets, [1.0, 2.0, 3.0, 9.0]);
    let mut log = AnnotationLog::reopen(dir.path(), start()).expect("reopened");
    log.append(&mark(10.0, "last")).expect("appended");
    drop(log);
    assert_eq!(super::annotations::said(dir.path()).len(), 5);
}

#[test]
fn the_sink_keeps_settled_stages_and_long_gaps() {
    let dir = tempfile::tempdir().expect("folder");
    let recorder = Recorder::create(dir.path(), &[signal("EEG", 256.0, false)], start());
    let log = AnnotationLog::create(dir.path(), start()).expect("created");
    let thread = spawn(recorder.expect("created"), Some(log), None, |_| ());
    let thread = thread.expect("a thread");
    let mut sink = AnnotationSink(thread.annotations());
    let epoch = |epoch: u32, status, stage| {
        Event::Epoch(SleepEpoch {
            pass: Pass::Live,
            epoch,
            onset_s: 30.0 * f64::from(epoch),
            stage,
            probabilities: [0.2; 5],
            quality: 1.0,
            confidence: 0.2,
            status,
        })
    };
    let gap = |onset_s: f64, duration_s: f64| {
        Event::Gap(Gap {
            pass: Pass::Live,
            channel: 0,
            label: "EEG".to_owned(),
            start: 0,
            samples: 1,
            onset_s,
            duration_s,
        })
    };
    for event in [
        epoch(0, EpochStatus::Provisional, Some(SleepStage::Wake)),
        epoch(0, EpochStatus::Settled, Some(SleepStage::N1)),
        epoch(1, EpochStatus::Settled, None),
        gap(4.0, 0.2),
        gap(7.0, 2.5),
        epoch(0, EpochStatus::Final, Some(SleepStage::Rem)),
    ] {
        sink.take(&event).expect("taken");
    }
    sink.0.add(61.0, None, LIGHTS_ON);
    thread.finish(Duration::from_secs(60)).expect("finished");
    let text = |onset_s: f64, duration_s, text: &str| (onset_s, duration_s, text.to_owned());
    assert_eq!(
        said(dir.path()),
        [
            text(0.0, Some(30.0), "Sleep stage N1"),
            text(30.0, Some(30.0), "Sleep stage ?"),
            text(7.0, Some(2.5), "Signal gap@@EEG"),
            text(61.0, None, "Lights on"),
        ]
    );
    // Nobody records any longer: what comes now is dropped without a word.
    sink.0.add(90.0, None, LIGHTS_OFF);
}
