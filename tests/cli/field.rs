//! Recordings as recorders, data sets and people really leave them: what each shows, and what comes of
//! it. The files of `tests/data/field` are made for these tests, but for the one of a Nox A1.

use std::path::PathBuf;

use crate::recordings::{Made, study};
use crate::run::{Bench, Run, data, wait};

fn inspect(bench: &Bench, file: PathBuf, more: &[&str]) -> Run {
    let args = ["inspect".into(), file.into_os_string()].into_iter();
    wait(bench.command(args.chain(more.iter().map(Into::into))))
}

/// A file of the optional data beside the checkout.
fn shared(name: &str) -> Option<PathBuf> {
    let path = data("../../../shared/field").join(name);
    path.exists().then_some(path)
}

fn night(bench: &Bench) -> serde_json::Value {
    let text = std::fs::read_to_string(bench.path("out/night.json")).expect("night.json");
    serde_json::from_str(&text).expect("JSON")
}

/// Six minutes with these annotations.
fn marked(annotations: &[(f64, &'static str)]) -> Vec<u8> {
    Made::new(1.0, 360, &[("C3-M2", 128), ("ECG", 128)]).with_annotations(annotations).bytes()
}

#[test]
fn lights_are_known_in_recorders_words() {
    let bench = Bench::new();
    let mut files = vec![
        bench.file(
            "linked.edf",
            marked(&[(60.0, "Lights off@@EEG F4-A1"), (300.0, "Lights on@@EEG Fpz-Cz")]),
        ),
        bench.file("german.edf", marked(&[(60.0, "Licht aus"), (300.0, "Licht an - geweckt")])),
    ];
    files.extend(
        ["lights_linked.edf", "lights_singular.edf"]
            .iter()
            .filter_map(|name| shared(&format!("recordings/{name}"))),
    );
    for file in files {
        bench.replay(&file, "--pass final").done();
        let night = night(&bench);
        let lights = (night["lights"]["off_s"].as_f64(), night["lights"]["on_s"].as_f64());
        assert_eq!(lights, (Some(60.0), Some(300.0)), "{}", file.display());
        assert_eq!(night["statistics"]["trt_min"].as_f64(), Some(4.0), "{}", file.display());
    }
}

#[test]
fn marks_that_are_not_used_are_named() {
    let bench = Bench::new();
    let annotations = [(30.0, "Lights off in 5 min"), (60.0, "Lights out"), (359.5, "Light on")];
    let mut bytes = marked(&annotations);
    let file = bench.file("late.edf", &bytes);
    bench.replay(&file, "--pass final").done();
    assert_eq!(night(&bench)["lights"]["on_s"].as_f64(), Some(359.5));
    let onset = bytes.windows(5).rposition(|w| w == b"359.5").expect("the last mark's onset");
    bytes[onset..onset + 5].copy_from_slice(b"999.5");
    let file = bench.file("beyond.edf", &bytes);
    bench.replay(&file, "--pass final").done();
    let night = night(&bench);
    assert_eq!(night["lights"]["on_s"].as_f64(), None);
    let notes = night["notes"].to_string();
    for named in [
        "the annotation 'Lights off in 5 min' at 30 s may be about the room's lights: not used",
        "the mark of lights on at 1000 s lies outside the recording of 360 s: not used",
    ] {
        assert!(notes.contains(named), "{named}: {notes}");
    }
}

#[test]
fn a_version_that_is_none_is_read_with_a_warning() {
    let bench = Bench::new();
    let mut bytes = study(40).bytes();
    bytes[1..8].fill(0xa0);
    let mut files = vec![bench.file("nbsp.edf", &bytes)];
    bytes[..8].copy_from_slice(b"1.0     ");
    files.push(bench.file("one.edf", &bytes));
    files.extend(shared("recordings/version_not_ascii.edf"));
    for file in files {
        let run = inspect(&bench, file, &[]);
        let warning = "is not that of EDF; read as EDF, since all else in the header is";
        assert!(run.done().contains(warning), "{run:#?}");
    }
}

#[test]
fn lists_of_numbers_and_packed_files_are_called_what_they_are() {
    let bench = Bench::new();
    for list in ["0\n1\n2\n".repeat(200), "0       \n1       \n".repeat(50), "0 \n".repeat(500)] {
        let file = bench.file("stages.edf", list);
        let run = inspect(&bench, file, &[]);
        assert!(run.refused(3).contains("neither EDF, BDF nor HDF5; export"), "{run:#?}");
    }
    for (start, tool) in [(&b"\x1f\x8b\x08"[..], "gunzip"), (b"PK\x03\x04", "unzip")] {
        let file = bench.file("night.edf.gz", [start, &study(10).bytes()].concat());
        let run = inspect(&bench, file, &[]);
        assert!(run.refused(3).contains(&format!("unpack it first: {tool} '")), "{run:#?}");
    }
    // gunzip takes no file of another ending.
    let file = bench.file("packed.edf", b"\x1f\x8b\x08");
    let run = inspect(&bench, file, &[]);
    assert!(run.refused(3).contains("packed.edf.gz' && gunzip '"), "{run:#?}");
}

#[test]
fn a_table_with_the_ends_of_lines_of_windows_names_the_right_line() {
    let bench = Bench::new();
    let file = bench.file("night.edf", study(40).bytes());
    let people = data("field/people_crlf.csv");
    let args = ["batch".into(), file.into_os_string(), "--demographics".into()].into_iter();
    let args = args.chain([people.into_os_string(), "--out".into(), "out".into()]);
    let run = wait(bench.command(args));
    assert!(run.refused(2).ends_with("line 3: 'old' is no age in years"), "{run:#?}");
}

/// The first record of a Nox A1: 90 signals in French, electrodes and impedances beside derivations.
#[test]
fn a_nox_recording_gives_its_signals_and_nothing_else() {
    let bench = Bench::new();
    let whole = shared("recordings/nox_2min.edf");
    let default = data("../../models/bundles/default.sfm");
    for file in whole.into_iter().chain([data("field/nox_10s.edf")]) {
        let run = inspect(&bench, file.clone(), &["--json"]);
        let inspected: serde_json::Value = serde_json::from_str(run.done()).expect("JSON");
        let channels = inspected["channels"].as_array().expect("a list").clone();
        let of = |modality: &str| -> Vec<String> {
            let of = channels.iter().filter(|c| c["modality"] == modality);
            let mut labels: Vec<String> =
                of.map(|c| c["label"].as_str().expect("text").to_owned()).collect();
            labels.sort();
            labels
        };
        let brain = ["C3-M2", "C4-M1", "E1-M2", "E2-M1", "F3-M2", "F4-M1", "O1-M2", "O2-M1"];
        assert_eq!(of("BAS"), brain);
        assert_eq!(of("EKG"), ["ECG"]);
        assert_eq!(of("EMG"), ["1-2", "1-F", "2-F", "Left Leg", "Right Leg"]);
        // With the limit of a network.
        let run = inspect(&bench, file, &["--json", "--bundle", default.to_str().expect("UTF-8")]);
        let inspected: serde_json::Value = serde_json::from_str(run.done()).expect("JSON");
        let channels = inspected["channels"].as_array().expect("a list").clone();
        let breath: Vec<&str> = channels
            .iter()
            .filter(|c| c["modality"] == "RESP")
            .map(|c| c["label"].as_str().expect("text"))
            .collect();
        let wanted =
            ["Abdomen", "Airflow", "Pulse", "Nasal Pressure", "RIP Sum", "Saturation", "Chest"];
        assert_eq!(breath, wanted);
    }
}

/// A recording of electrodes alone is staged by what is derived of them.
#[test]
fn derived_channels_go_through_the_whole_path() {
    let bench = Bench::new();
    let channels = [("C3", 128), ("C4", 256), ("M1", 256), ("M2", 200), ("ECG", 128)];
    let file = bench.file("electrodes.edf", Made::new(1.0, 60, &channels).bytes());
    bench.replay(&file, "--pass both --channels aasm").done();
    let first = night(&bench);
    let text = first.to_string();
    for part in ["derived: C3 minus M2", "electrode of C4-M1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let labels: Vec<&str> = first["gap_ledger"]
        .as_array()
        .map(|lines| lines.iter().filter_map(|line| line["label"].as_str()).collect())
        .unwrap_or_default();
    assert!(labels.contains(&"C3-M2") && !labels.contains(&"C3"), "{labels:?}");
    let run = bench.replay(&file, "--pass final --derive C3-M2=C3,M2 --no-derive --map C4=none");
    assert!(run.stderr.contains("derived: C3-M2"), "{run:#?}");
    let run = bench.replay(&file, "--pass final --derive C3-M2=C3,M9");
    assert!(run.refused(2).contains("no channel has the label 'M9'"), "{run:#?}");
}
