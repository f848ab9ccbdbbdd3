//! The text files of the output folder, row by row.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sfm_runtime::event::{EpochStatus, Event, Pass};
use sfm_runtime::sink::{Sinks, WhenFull, open_all};

use crate::synthetic::{Recording, labels};

/// The last window has four of its ten epochs.
const RECORDING: Recording = Recording { epochs: 124, dim: 8 };

fn write(out: &Path, events: Vec<Event>) {
    let sinks = open_all(out, &labels()).expect("sinks");
    let mut sinks = Sinks::start(sinks, WhenFull::Wait).expect("thread");
    events.into_iter().for_each(|event| sinks.send(event));
    assert_eq!(sinks.finish(), Vec::<String>::new());
}

fn rows(out: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(out.join("hypnogram.csv")).expect("hypnogram.csv");
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn stage_text(epoch: u32, status: EpochStatus) -> String {
    Recording::stage(epoch, status).map_or("?".to_owned(), |stage| stage.to_string())
}

/// `SFM_SINKS_OUT` keeps this folder for the readers in `tests/foreign`.
#[test]
fn the_last_pass_is_what_the_folder_holds() {
    let temp = tempfile::tempdir().expect("temp");
    let kept = std::env::var_os("SFM_SINKS_OUT");
    let out = kept.as_ref().map_or(temp.path().join("deep/night.sfm-out"), Into::into);
    write(&out, RECORDING.events());

    let rows = rows(&out);
    assert_eq!(rows[0].join(","), "epoch,onset_s,stage,p_wake,p_n1,p_n2,p_n3,p_rem,quality,status");
    assert_eq!(rows.len(), 1 + 124);
    for (epoch, row) in (0_u32..).zip(&rows[1..]) {
        assert_eq!(row[0], epoch.to_string());
        assert_eq!(row[1], (30 * epoch).to_string());
        assert_eq!(row[2], stage_text(epoch, EpochStatus::Final));
        assert_eq!(row[3..8].iter().all(|p| p == "nan"), row[2] == "?");
        assert_eq!(row[9], "final");
    }
    assert!(rows.iter().any(|row| row[2] == "?"), "the night has an unstaged epoch");

    let night: Value =
        serde_json::from_slice(&fs::read(out.join("night.json")).expect("night.json"))
            .expect("JSON");
    assert_eq!(night["pass"], "final");
    assert_eq!(night["statistics"]["trt_min"], 62.0);
    assert_eq!(night["risk"]["embedding"].as_array().map(Vec::len), Some(8));
    assert_eq!(night["gap_ledger"][0]["label"], "C4-M1");
    assert_eq!(night["provenance"]["bundle"], "synthetic");
    assert_eq!(night["provenance"]["channels"][0]["modality"], "BAS");
    let risk = fs::read_to_string(out.join("risk.csv")).expect("risk.csv");
    assert_eq!(
        risk,
        "label_idx,phecode,phenotype,log_hazard,percentile\n0,250.2,Type 2 diabetes,0.5,\n\
         1,427.21,\"Fibrillation, \"\"atrial\"\"\",-1.25,\n2,,,NaN,\n"
    );
}

#[test]
fn every_event_is_a_line_of_json() {
    let temp = tempfile::tempdir().expect("temp");
    let events = RECORDING.events();
    let count = events.len();
    write(temp.path(), events);
    let text = fs::read_to_string(temp.path().join("events.jsonl")).expect("events.jsonl");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), count);
    let of = |name: &str| lines.iter().filter(|line| line["event"] == name).count();
    assert_eq!(["started", "epoch", "window", "gap", "night"].map(of), [2, 3 * 124, 2 * 13, 1, 2]);
    let unstaged = lines.iter().find(|line| line["event"] == "epoch" && line["stage"].is_null());
    assert_eq!(unstaged.expect("one")["probabilities"], serde_json::json!([(), (), (), (), ()]));
}

#[test]
fn an_epoch_has_one_row_while_the_pass_runs() {
    let temp = tempfile::tempdir().expect("temp");
    let mut sinks = open_all(temp.path(), &[]).expect("sinks");
    let status = |rows: &[Vec<String>]| rows[1..].iter().map(|r| r[9].clone()).collect::<Vec<_>>();
    assert_eq!(rows(temp.path()).len(), 1, "a header at once");
    let mut tell = |event: Event| {
        for sink in &mut sinks {
            sink.take(&event).expect("taken");
            sink.publish().expect("published");
        }
    };
    tell(RECORDING.started(Pass::Live));
    tell(Recording::epoch(Pass::Live, 0, EpochStatus::Provisional));
    tell(Recording::epoch(Pass::Live, 1, EpochStatus::Provisional));
    assert_eq!(rows(temp.path())[1][2], "W");
    tell(Recording::epoch(Pass::Live, 0, EpochStatus::Settled));
    assert_eq!(status(&rows(temp.path())), ["settled", "provisional"]);
    assert_eq!(rows(temp.path())[1][2], "N1");
    tell(Recording::epoch(Pass::Final, 0, EpochStatus::Final));
    assert_eq!(status(&rows(temp.path())), ["final", "provisional"]);
}

#[test]
fn an_earlier_run_is_replaced_and_foreign_files_stay() {
    let temp = tempfile::tempdir().expect("temp");
    write(temp.path(), RECORDING.events());
    fs::write(temp.path().join("notes.txt"), "mine").expect("written");
    let short = Recording { epochs: 2, dim: 8 };
    let provisional = |epoch| Recording::epoch(Pass::Live, epoch, EpochStatus::Provisional);
    write(temp.path(), vec![short.started(Pass::Live), provisional(0), provisional(1)]);
    assert_eq!(rows(temp.path()).len(), 3);
    assert!(!temp.path().join("night.json").exists(), "the night is of another recording");
    assert!(temp.path().join("embeddings.h5").exists(), "it opens, without data sets");
    assert_eq!(fs::read_to_string(temp.path().join("notes.txt")).expect("kept"), "mine");
    let parts = fs::read_dir(temp.path()).expect("folder").flatten();
    assert_eq!(parts.filter(|e| e.file_name().to_string_lossy().ends_with(".part")).count(), 0);
}

#[test]
fn a_folder_that_cannot_be_is_refused_in_one_line() {
    let temp = tempfile::tempdir().expect("temp");
    let file = temp.path().join("taken");
    fs::write(&file, "").expect("written");
    let refusal = open_all(&file, &[]).map(|_| ()).expect_err("a file is in the way").to_string();
    assert!(refusal.contains("taken") && refusal.contains("--out"), "{refusal}");
    assert!(!refusal.contains('\n'));
    fs::create_dir_all(temp.path().join("out/hypnogram.csv/full")).expect("folder");
    let refusal = open_all(&temp.path().join("out"), &[]).map(|_| ()).expect_err("in the way");
    assert!(refusal.to_string().contains("hypnogram.csv"), "{refusal}");
}
