//! Labels that are not in the reference: EDF+ standard texts, public sleep data sets, and what
//! recorders write beside the signals. The expectations are read off the data sets' own
//! descriptions.

use std::collections::BTreeMap;

use sfm_models::Modality::{self, Bas, Ekg, Emg, Resp};
use sfm_runtime::montage::MontageError;

use super::{built_in, decision, modality, signal};

fn assert_all(expected: Option<Modality>, labels: &[&str]) {
    let rules = built_in();
    for label in labels {
        let found = decision(&rules, label);
        assert_eq!(found.modality, expected, "'{label}': {}", found.rule);
    }
}

/// edfplus.info, "Standard texts and polarity rules".
#[test]
fn edf_plus_standard_texts() {
    assert_all(Some(Bas), &["EEG C4-M1", "EEG F3-M2", "EEG Fpz-Cz", "EEG O2-A1", "EEG POz-Cz"]);
    assert_all(Some(Bas), &["EOG E1-M2", "EOG E2-M2", "EOG ROC-A2", "EOG horizontal", "EOG right"]);
    assert_all(Some(Ekg), &["ECG I", "ECG II", "ECG V2", "ECG aVR", "ECG V2-V5"]);
    assert_all(Some(Emg), &["EMG Chin1-Chin2", "EMG Chin", "EMG LAT", "EMG RAT", "EMG submental"]);
    assert_all(Some(Resp), &["Resp oro-nasal", "Resp nasal", "Resp chest", "Resp abdomen"]);
    assert_all(Some(Resp), &["SaO2", "SaO2 finger"]);
    assert_all(None, &["Temp rectal", "Light", "Sound", "Event button", "EDF Annotations"]);
}

#[test]
fn the_same_electrodes_with_any_separator() {
    assert_all(Some(Bas), &["C4M1", "C4-M1", "C4:M1", "C4/M1", "C4 + M1", "c4_m1", "EEG(C4-M1)"]);
    assert_all(
        Some(Bas),
        &["F4-M1:F3-M2", "O1:M1+M2", "E1-Fpz", "E2:M1-M2", "ROC-LOC", "TP9-FT10"],
    );
    assert_all(Some(Bas), &["FP1-F7", "CPz", "AF8", "POz-REF", "EEG T3-LE", "C3-x", "C3-M2-0"]);
}

#[test]
fn sleep_edf() {
    assert_all(Some(Bas), &["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal"]);
    assert_all(Some(Emg), &["EMG submental"]);
    assert_all(Some(Resp), &["Resp oro-nasal"]);
    assert_all(None, &["Temp rectal", "Event marker", "Temp body", "Marker"]);
}

/// Sleep Heart Health Study, MESA, MrOS, CFS, CCSHS, WSC: names as in the data sets' montages.
#[test]
fn national_sleep_research_resource() {
    assert_all(Some(Bas), &["EEG", "EEG(sec)", "EOG(L)", "EOG(R)", "EEG1", "EEG3", "EOG-L", "A1"]);
    assert_all(Some(Ekg), &["ECG", "EKG", "ECG L", "ECG R", "ECG L-ECG R", "ECG1"]);
    assert_all(Some(Emg), &["EMG", "Leg", "LEG L", "L Chin-R Chin", "EMG3", "R Leg", "cchin_l"]);
    assert_all(Some(Emg), &["rchin_l", "lleg", "Pleth"]);
    assert_all(
        Some(Resp),
        &["THOR RES", "ABDO RES", "NEW AIR", "AIRFLOW", "H.R.", "SaO2", "Therm"],
    );
    assert_all(Some(Resp), &["Thoracic", "Abdominal", "Cannula Flow", "NASAL PRES", "nas_pres"]);
    assert_all(Some(Resp), &["SUM", "Snore", "SpO2", "HR", "HRate", "PULSE", "PlethWV"]);
    assert_all(None, &["Pos", "POSITION", "LIGHT", "SOUND", "OX stat", "OxStatus", "STAT", "DHR"]);
    assert_all(None, &["Pres", "Flow", "EEG1_Off", "EKG_Off", "EOG-L_Off", "Leg_Off", "EtCO2"]);
}

/// CAP sleep database, PhysioNet 2018 challenge, HMC, DREEM open data sets.
#[test]
fn other_public_data_sets() {
    assert_all(Some(Bas), &["Fp2-F4", "ROC-LOC", "E1-M2", "EOG E2-M2", "EEG_F7-O1", "C4A1"]);
    assert_all(Some(Emg), &["EMG1-EMG2", "DX1-DX2", "SX1-SX2", "TIB Dx", "PLMl", "Chin1-Chin2"]);
    assert_all(
        Some(Resp),
        &["TORACE", "ADDOME", "TERMISTORE", "ABD", "CHEST", "PR", "Thermocouple"],
    );
    assert_all(Some(Ekg), &["ECG1-ECG2", "Lead II"]);
    assert_all(None, &["Posizione", "Body Position"]);
}

#[test]
fn known_and_left_out() {
    assert_all(
        None,
        &["DC1", "DC 12", "AUX", "Battery", "Batt. Voltage", "Impedance C3", "C3 Imp"],
    );
    assert_all(None, &["CPAP Pressure", "PAP flow", "Mask Pressure", "Leak", "CFlow", "IPAP"]);
    assert_all(None, &["Patient Event", "Trigger", "Status", "SpO2 Quality", "Acc X", "Activity"]);
    assert_all(None, &["Temperature", "Temp. rectal", "TcCO2", "CAPNO", "Hypnogram", "ECG HR"]);
    assert_all(Some(Emg), &["Temporalis-L"]);
}

#[test]
fn a_known_channel_is_left_out_with_its_reason() {
    let left_out = decision(&built_in(), "Body Position");
    assert_eq!(left_out.rule, "body position: no modality of the network");
}

#[test]
fn unknown_labels_match_no_rule() {
    for label in ["", "---", "Ergo-Left", "white noise", "B12", "I5", "Ch 7", "E9", "M1234"] {
        let found = decision(&built_in(), label);
        assert_eq!(found.modality, None, "'{label}'");
        assert!(found.rule.starts_with("no rule matches"), "'{label}': {}", found.rule);
    }
}

#[test]
fn an_ecg_that_an_eeg_export_calls_eeg_is_refused() {
    let refusal = built_in().assign(&[signal("EEG EKG-REF")], &BTreeMap::new());
    let Err(error @ MontageError::Contested { .. }) = refusal else { panic!("{refusal:?}") };
    let line = error.to_string();
    for part in [
        "'EEG EKG-REF'",
        "'EEG by name' (BAS)",
        "'ECG' (EKG)",
        "--map 'EEG EKG-REF=BAS'",
        "'EEG EKG-REF=EKG'",
    ] {
        assert!(line.contains(part), "no {part} in: {line}");
    }
    let rules = built_in().with_map(&["EEG EKG-REF=EKG"]).expect("a well-formed entry");
    assert_eq!(modality(&rules, "EEG EKG-REF"), Some(Ekg));
}
