//! What cannot be written is refused in one line with its exit code, and nothing is lost.

use std::path::Path;
use std::process::{Command, Output};

use sfm_trainer::synth::cohort::Cohort;

use crate::cohorts::{make, spec};

fn synth(out: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sfm-train"))
        .args(["synth", "--nights", "1", "--hours", "0.1", "--seed", "5", "--out"])
        .arg(out)
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, says: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in says {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    assert_refused(&synth(&file.join("cohort"), &[]), 2, &["file", "choose a folder"]);
}

#[test]
fn nights_of_another_seed_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let output = synth(folder.path(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let other = Command::new(env!("CARGO_BIN_EXE_sfm-train"))
        .args(["synth", "--nights", "1", "--hours", "0.1", "--seed", "6", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_refused(&other, 2, &["truth.json", "of seed 5"]);
    std::fs::write(folder.path().join("truth.json"), "{").unwrap();
    assert_refused(&synth(folder.path(), &[]), 2, &["truth.json", "no register"]);
}

#[test]
fn a_night_that_cannot_be_written_leaves_the_others_registered() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), &spec(0, 1, 1));
    // A file where the folder of the second night's laboratory should be.
    std::fs::write(folder.path().join("edf/stanford"), "in the way").unwrap();
    let output = synth(folder.path(), &["--start-index", "1"]);
    assert_refused(&output, 5, &["stanford-sim-0001.edf", "nights written before are whole"]);
    let split = [0.4, 0.3, 0.1, 0.2];
    let cohort = Cohort::open(folder.path(), 5, split).unwrap();
    assert_eq!(cohort.nights.keys().collect::<Vec<_>>(), ["mesa-sim-0000"]);
    let parts = std::fs::read_dir(folder.path().join("stages/stanford")).unwrap();
    assert!(parts.flatten().all(|f| !f.path().to_string_lossy().ends_with(".part")));
}

#[test]
fn senseless_arguments_are_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        ["--hours", "0"],
        ["--hours", "nan"],
        ["--split", "1,2"],
        ["--split", "0,0,0,0"],
        ["--workers", "0"],
    ] {
        assert_eq!(synth(folder.path(), &arguments).status.code(), Some(2), "{arguments:?}");
    }
}
