//! A run that is killed at any moment leaves files that open.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sfm_models::Modality;
use sfm_runtime::event::{Event, Pass};
use sfm_runtime::sink::open_all;

use crate::embeddings::read;
use crate::synthetic::{Recording, labels};

const OUT: &str = "SFM_KILLED_OUT";
const RECORDING: Recording = Recording { epochs: 300, dim: 32 };
const KILLS: u64 = 30;

/// Not a test: the process that [`a_killed_run_leaves_files_that_open`] starts and kills. It
/// publishes after every fourth event, so that nearly all of its time is spent writing files.
#[test]
#[ignore = "the process that the kill test kills"]
fn writer() {
    let Some(out) = std::env::var_os(OUT) else { return };
    let mut sinks = open_all(Path::new(&out), &labels()).expect("sinks");
    let events = RECORDING.events();
    for (index, event) in events.iter().cycle().enumerate() {
        for sink in &mut sinks {
            sink.take(event).expect("taken");
            if index % 4 == 0 || matches!(event, Event::Window(_)) {
                sink.publish().expect("published");
            }
        }
    }
}

fn start_writer(out: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "kill::writer", "--ignored"])
        .env(OUT, out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the writer starts")
}

#[test]
fn a_killed_run_leaves_files_that_open() {
    let temp = tempfile::tempdir().expect("temp");
    let mut seen = [0_u32; 3];
    for kill in 0..KILLS {
        let out = temp.path().join(kill.to_string());
        let mut writer = start_writer(&out);
        // From before the first window to well into the final pass.
        std::thread::sleep(Duration::from_millis(15 + kill * kill + kill * 7919 % 23));
        writer.kill().expect("killed");
        let status = writer.wait().expect("status");
        assert!(!status.success() && status.code().is_none(), "it ended by itself: {status}");
        if !out.exists() {
            continue;
        }
        seen[0] += u32::from(check_text(&out));
        seen[1] += u32::from(check_embeddings(&out));
        seen[2] += u32::from(out.join("night.json").exists());
    }
    println!("{KILLS} kills; rows {}, embeddings {}, a night {}", seen[0], seen[1], seen[2]);
    assert!(seen[0] >= 10 && seen[1] >= 10, "too few kills met a run: {seen:?}");
    open_with_h5py(temp.path());
}

/// True if there were rows.
fn check_text(out: &Path) -> bool {
    let Ok(csv) = fs::read_to_string(out.join("hypnogram.csv")) else { return false };
    assert!(csv.ends_with('\n'));
    for (index, row) in csv.lines().enumerate().skip(1) {
        let fields: Vec<_> = row.split(',').collect();
        assert_eq!(fields.len(), 10, "{row}");
        assert_eq!(fields[0], (index - 1).to_string());
        assert!(["provisional", "settled", "final"].contains(&fields[9]), "{row}");
    }
    let events = fs::read_to_string(out.join("events.jsonl")).expect("events.jsonl");
    for line in events.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON");
    }
    if let Ok(night) = fs::read(out.join("night.json")) {
        serde_json::from_slice::<serde_json::Value>(&night).expect("night.json");
    }
    csv.lines().count() > 1
}

/// True if the file was there. Each row is one that one of the passes wrote, or NaN.
fn check_embeddings(out: &Path) -> bool {
    if !out.join("embeddings.h5").exists() {
        return false;
    }
    for modality in Modality::ALL {
        let Some((shape, values)) = read(out, modality.as_str()) else { continue };
        assert_eq!(shape[1], RECORDING.dim);
        for (patch, row) in (0..).zip(values.chunks(RECORDING.dim)) {
            let by = |pass| {
                (0..).zip(row).all(|(column, value)| {
                    Recording::token(pass, modality, patch, column).to_bits() == value.to_bits()
                })
            };
            assert!(by(Pass::Live) || by(Pass::Final), "{modality} patch {patch}: {row:?}");
        }
        assert!(read(out, &format!("5min/{modality}")).is_some());
    }
    true
}

fn open_with_h5py(folders: &Path) {
    let Some(python) = std::env::var_os("SFM_PYTHON") else {
        println!("skipped: h5py (SFM_PYTHON names no Python that has it)");
        return;
    };
    let outs: Vec<_> = fs::read_dir(folders)
        .expect("folders")
        .flatten()
        .map(|entry| entry.path())
        .filter(|out| out.join("embeddings.h5").exists())
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/embeddings.py");
    let opened = Command::new(python).arg(script).arg("--opens").args(&outs).status();
    assert!(opened.expect("python runs").success(), "h5py does not open a file");
    println!("h5py opened {} files of killed runs", outs.len());
}
