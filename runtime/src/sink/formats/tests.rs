//! The files of a small night, and what happens where one of them cannot be written.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sfm_models::{Modality, ReferenceQuantiles, SleepStage};

use super::*;
use crate::event::{
    EpochStatus, Event, Night, OvernightRisk, Pass, SleepEpoch, Started, WindowEmbedding,
};
use crate::hypnogram;
use crate::sink::{Sinks, WhenFull};
use crate::statistics::SleepStatistics;

const EVERY: [Format; 9] = [
    Format::Luna,
    Format::NsrrXml,
    Format::ProfusionXml,
    Format::Usleep,
    Format::Yasa,
    Format::Bids,
    Format::Parquet,
    Format::Numpy,
    Format::Fhir,
];

fn started(modalities_absent: Vec<Modality>) -> Event {
    Event::Started(Box::new(Started {
        pass: Pass::Final,
        format: "EDF".into(),
        start: Some("2024-02-28T22:00:00".into()),
        duration_s: Some(7.0 * 3600.0),
        channels: Vec::new(),
        modalities_absent,
        bundle: "tests".into(),
        bundle_sha256: "00".into(),
        training_data: "<script>alert(1)</script> \u{418}\u{432}\u{430}\u{43d}".into(),
        caution: Some("made up".into()),
        backend: String::new(),
    }))
}

fn epoch(epoch: u32, stage: Option<SleepStage>) -> Event {
    Event::Epoch(SleepEpoch {
        pass: Pass::Final,
        epoch,
        onset_s: 30.0 * f64::from(epoch),
        stage,
        probabilities: [0.2; 5],
        quality: 1.0,
        confidence: 0.2,
        status: EpochStatus::Final,
    })
}

/// EMG turns up with the second window.
fn window(window: u32) -> Event {
    let tokens = |from: f32| Some((0..120).map(|i| from + i as f32).collect());
    let emg = window > 0;
    Event::Window(Box::new(WindowEmbedding {
        pass: Pass::Final,
        window,
        first_patch: 60 * window,
        patches: 60,
        embed_dim: 2,
        tokens: [tokens(0.0), None, None, emg.then(|| tokens(1e3)).flatten()],
        pooled: [Some(vec![1.0, 2.0]), None, None, emg.then(|| vec![3.0, 4.0])],
    }))
}

fn night(tst_min: f64, missing: Vec<Modality>) -> Event {
    Event::Night(Box::new(Night {
        statistics: SleepStatistics { tst_min, ..SleepStatistics::default() },
        missing,
        risk: Some(OvernightRisk {
            embedding: vec![],
            log_hazards: vec![1.0, -0.5],
            percentiles: None,
            tokens: 1,
            tokens_left_out: 0,
        }),
        ..Night::empty(Pass::Final)
    }))
}

const STAGES: [Option<SleepStage>; 3] = [Some(SleepStage::Wake), None, Some(SleepStage::Rem)];

fn events(tst_min: f64, absent: Vec<Modality>) -> Vec<Event> {
    let mut events = vec![started(absent.clone())];
    // The second epoch is lost on the way.
    events.extend([epoch(0, STAGES[0]), window(0), epoch(2, STAGES[2]), window(1)]);
    events.push(night(tst_min, absent));
    events
}

/// Writes every format; `spoil` is called when the sinks are open.
fn write(out_dir: &Path, events: Vec<Event>, spoil: impl FnOnce()) -> Vec<String> {
    let quantiles = ReferenceQuantiles {
        cohort: "made-up people".into(),
        recordings: 3,
        hazards: vec![vec![-1.0, 1.0, 2.0], vec![0.0, 0.5, 1.0]],
    };
    let labels = [("427.2".to_owned(), "<b>Fibrillation</b>, \"atrial\"".to_owned())];
    let place = Place {
        out_dir,
        study: "a night",
        recording: Path::new("none"),
        labels: &labels,
        quantiles: Some(&quantiles),
        resumed: None,
        health: None,
    };
    let args = FormatArgs { format: EVERY.to_vec(), ..FormatArgs::default() };
    let sinks = args.sinks(&place).expect("opened");
    spoil();
    let mut sinks = Sinks::start(sinks, WhenFull::Wait).expect("a thread");
    events.into_iter().for_each(|event| sinks.send(event));
    sinks.finish()
}

fn fhir(out_dir: &Path) -> Value {
    let text = fs::read_to_string(out_dir.join("fhir.json")).expect("fhir.json");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn every_file_of_stages_holds_the_night() {
    let dir = tempfile::tempdir().expect("a folder");
    let failures = write(dir.path(), events(300.0, vec![]), || ());
    assert_eq!(failures, Vec::<String>::new());
    for name in [
        "hypnogram.annot",
        "hypnogram.nsrr.xml",
        "hypnogram.profusion.xml",
        "hypnogram.usleep.tsv",
        "hypnogram.usleep.npy",
        "hypnogram.yasa.csv",
        "events.tsv",
    ] {
        let scoring = hypnogram::read(&dir.path().join(name), &Default::default()).expect(name);
        assert_eq!(scoring.epochs(), STAGES, "{name}");
    }
    let leftovers = fs::read_dir(dir.path()).expect("the folder").flatten();
    let parts = leftovers.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(parts.count(), 0);
}

#[test]
fn arrays_hold_nan_where_a_modality_was_not_there_yet() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), events(300.0, vec![]), || ());
    let read = |name: &str| -> (Vec<u64>, Vec<f32>) {
        let bytes = fs::read(dir.path().join(name)).expect(name);
        let npy = npyz::NpyFile::new(bytes.as_slice()).expect("an array");
        (npy.shape().to_vec(), npy.into_vec().expect("floats"))
    };
    let (shape, emg) = read("embeddings.EMG.npy");
    assert_eq!(shape, [120, 2]);
    assert!(emg[..120].iter().all(|value| value.is_nan()));
    assert_eq!(emg[120..].iter().copied().fold(f32::INFINITY, f32::min), 1e3);
    let (shape, emg) = read("embeddings.5min.EMG.npy");
    assert_eq!((shape, &emg[2..]), (vec![2, 2], &[3.0, 4.0][..]));
    assert!(!dir.path().join("embeddings.EKG.npy").exists());
}

#[test]
fn hazards_are_ratios_within_the_cohort_and_withheld_where_they_say_little() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), events(240.0, vec![Modality::Ekg]), || ());
    let bundle = fhir(dir.path());
    let risk = &bundle["entry"][2]["resource"];
    assert_eq!(risk["resourceType"], "RiskAssessment");
    assert_eq!(risk["prediction"][0]["relativeRisk"], 1.0);
    // exp(-0.5 - 0.5)
    assert_eq!(risk["prediction"][1]["relativeRisk"], 0.3679);
    assert!(!bundle.to_string().contains("probability\":"));
    let notes = risk["note"].to_string();
    assert!(notes.contains("made up") && notes.contains("made-up people"), "{notes}");
    assert!(notes.contains("\\\\<script\\\\>") && !notes.contains(" <script>"), "{notes}");

    for (tst_min, absent) in [(239.5, vec![]), (300.0, vec![Modality::Ekg, Modality::Emg])] {
        write(dir.path(), events(tst_min, absent), || ());
        let kinds: Vec<Value> = fhir(dir.path())["entry"]
            .as_array()
            .expect("entries")
            .iter()
            .map(|entry| entry["resource"]["resourceType"].clone())
            .collect();
        assert_eq!(kinds, ["Device", "Observation"]);
    }
}

#[test]
fn what_a_cut_run_left_unfinished_takes_no_files_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = Place {
        out_dir: dir.path(),
        study: "",
        recording: Path::new("none"),
        labels: &[],
        quantiles: None,
        resumed: Some(0),
        health: None,
    };
    fs::write(dir.path().join(".embeddings.parquet.part"), "half").expect("written");
    let args = FormatArgs { format: EVERY.to_vec(), ..FormatArgs::default() };
    let mut sinks =
        Sinks::start(args.sinks(&place).expect("opened"), WhenFull::Wait).expect("runs");
    sinks.send(started(vec![]));
    assert_eq!(sinks.finish(), Vec::<String>::new());
    assert!(!dir.path().join("embeddings.parquet").exists());
}

#[test]
fn one_that_fails_takes_no_other_with_it() {
    for name in ["fhir.json", "embeddings.BAS.npy", "embeddings.parquet", "hypnogram.annot"] {
        let dir = tempfile::tempdir().expect("a folder");
        let part = dir.path().join(format!(".{name}.part"));
        let spoil = || fs::create_dir_all(part.join("full")).expect("a folder in the way");
        let failures = write(dir.path(), events(300.0, vec![]), spoil);
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].contains(name) && failures[0].contains("cannot be written"));
        assert!(!dir.path().join(name).exists());
        assert!(dir.path().join("hypnogram.yasa.csv").exists());
    }
}

#[test]
fn a_recording_that_is_no_edf_or_is_the_copy_itself_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let hdf5 = dir.path().join("night.hdf5");
    fs::write(&hdf5, b"\x89HDF\r\n\x1a\n").expect("written");
    let copy = dir.path().join("annotated.edf");
    fs::write(&copy, b"0       ").expect("written");
    for (recording, reason) in [(&hdf5, "needs an EDF"), (&copy, "the recording itself")] {
        let place = Place {
            out_dir: dir.path(),
            study: "",
            recording,
            labels: &[],
            quantiles: None,
            resumed: None,
            health: None,
        };
        let args = FormatArgs { annotated_edf: true, ..FormatArgs::default() };
        let error = args.sinks(&place).err().expect("refused").to_string();
        assert!(error.contains(reason), "{error}");
        assert!(recording.exists());
    }
}

#[test]
fn files_of_another_run_are_named_and_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let recording = dir.path().join("annotated.edf");
    let place = Place {
        out_dir: dir.path(),
        study: "",
        recording: &recording,
        labels: &[],
        quantiles: None,
        resumed: None,
        health: None,
    };
    let args = FormatArgs { format: vec![Format::Luna], ..FormatArgs::default() };
    let names = ["annotated.edf", "hypnogram.annot", "fhir.json", "embeddings.BAS.npy"];
    assert_eq!(args.left_over(&place), None);
    names.iter().for_each(|name| fs::write(dir.path().join(name), "").expect("written"));
    let told = args.left_over(&place).expect("told");
    assert!(told.contains(" holds embeddings.BAS.npy, fhir.json, which"), "{told}");
}

#[test]
fn formats_come_from_the_command_line_before_the_configuration() {
    let file: FormatArgs =
        toml::from_str("format = ['nsrr-xml', 'bids']\nannotated-edf = true").expect("reads");
    let line = FormatArgs { format: vec![Format::Fhir], ..FormatArgs::default() };
    let both = line.or(file.clone());
    assert_eq!((both.format, both.annotated_edf), (vec![Format::Fhir], true));
    assert_eq!(FormatArgs::default().or(file).format, [Format::NsrrXml, Format::Bids]);
}
