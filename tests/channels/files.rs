//! The labels of whole recordings, read from their headers byte by byte.

use std::collections::BTreeMap;
use std::path::Path;

use sfm_models::Modality::{self, Bas, Emg, Resp};
use sfm_runtime::montage::Montage;
use sfm_tests::skip::skipped;

use super::{built_in, montage_of, shared};

/// EDF and BDF: the number of signals at byte 252, labels of 16 bytes from byte 256.
fn labels(path: &Path) -> Vec<String> {
    let header = std::fs::read(path).expect("a readable recording");
    let text = |from: usize, to: usize| -> String {
        header[from..to].iter().map(|&byte| byte as char).collect::<String>().trim().to_owned()
    };
    let signals: usize = text(252, 256).parse().expect("a number of signals");
    (0..signals).map(|i| text(256 + 16 * i, 272 + 16 * i)).collect()
}

fn montage(path: &Path) -> Montage {
    let labels = labels(path);
    montage_of(&built_in(), &labels.iter().map(String::as_str).collect::<Vec<_>>())
}

fn labels_of(montage: &Montage, modality: Modality) -> Vec<&str> {
    let mut labels: Vec<&str> =
        montage.channels(modality).map(|i| montage.decisions[i].label.as_str()).collect();
    labels.sort_unstable();
    labels
}

#[test]
fn parity_recordings_as_the_reference_read_them() {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mini");
    for folder in [mini.clone(), shared("parity/full"), shared("parity/mini")] {
        if folder != mini && !folder.exists() {
            skipped("shared", format_args!("{} is not there", folder.display()));
            continue;
        }
        let about = std::fs::read_to_string(folder.join("about.json")).expect("about.json");
        let mut about: serde_json::Value = serde_json::from_str(&about).expect("JSON");
        let expected: BTreeMap<Modality, Vec<String>> =
            serde_json::from_value(about["modalities"].take()).expect("labels by modality");
        let montage = montage(&folder.join("psg.edf"));
        assert_eq!(montage.decisions.len(), 18);
        for (modality, mut labels) in expected {
            labels.sort_unstable();
            assert_eq!(labels_of(&montage, modality), labels, "{modality}");
        }
    }
}

#[test]
fn five_minutes_of_sleep_edf() {
    for name in ["edf/short_psg.edf", "edf/short_psg.bdf"] {
        let path = shared(name);
        if !path.exists() {
            skipped("shared", format_args!("../shared/{name} is not there"));
            continue;
        }
        let montage = montage(&path);
        assert_eq!(labels_of(&montage, Bas), ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal"]);
        assert_eq!(labels_of(&montage, Resp), ["Resp oro-nasal"]);
        assert_eq!(labels_of(&montage, Emg), ["EMG submental"]);
        assert_eq!(montage.absent(), [Modality::Ekg]);
        // The .edf and the .bdf end with an annotation channel.
        let rest: Vec<&str> = montage.decisions[5..].iter().map(|d| d.rule.as_str()).collect();
        assert!(rest[0].starts_with("temperature: "), "{rest:?}");
        assert!(rest[1].starts_with("event marker: "), "{rest:?}");
        assert!(rest[2..].iter().all(|rule| rule.starts_with("annotations: ")), "{rest:?}");
    }
}

#[test]
fn no_public_recording_is_refused() {
    let Ok(folder) = std::fs::read_dir(shared("edf")) else {
        skipped("shared", "../shared/edf is not there");
        return;
    };
    for entry in folder {
        let path = entry.expect("a folder entry").path();
        if path.extension().is_some_and(|e| e == "edf" || e == "bdf") {
            let montage = montage(&path);
            assert_eq!(montage.decisions.len(), labels(&path).len(), "{}", path.display());
        }
    }
}
