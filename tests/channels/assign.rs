//! `--map`, the limits of each modality, sampling rates, and channels with one label.

use std::collections::BTreeMap;

use sfm_models::Modality::{self, Bas, Ekg, Emg, Resp};
use sfm_runtime::montage::{ChannelRules, Montage, MontageError};

use super::{built_in, signal, signal_at};

fn rules(map: &[&str]) -> ChannelRules {
    built_in().with_map(map).expect("well-formed entries")
}

fn assign(map: &[&str], labels: &[&str]) -> Result<Montage, MontageError> {
    let signals: Vec<_> = labels.iter().map(|label| signal(label)).collect();
    rules(map).assign(&signals, &BTreeMap::new())
}

fn modalities(montage: &Montage) -> Vec<Option<Modality>> {
    montage.decisions.iter().map(|d| d.modality).collect()
}

#[test]
fn the_user_has_the_last_word() {
    let map = ["Ergo-Left=emg", "c3-m2=none", "Pos = RESP", "a=b=BAS"];
    let montage =
        assign(&map, &["Ergo-Left", "C3:M2", "Pos", "a=b", "C4-M1"]).expect("no conflict");
    assert_eq!(modalities(&montage), [Some(Emg), None, Some(Resp), Some(Bas), Some(Bas)]);
    assert_eq!(montage.decisions[0].rule, "--map");
    assert_eq!(montage.decisions[1].rule, "--map leaves it out");
}

#[test]
fn an_exact_label_goes_before_one_that_differs_in_separators() {
    let montage = assign(&["C3-M2=none"], &["C3:M2", "C3-M2"]).expect("no conflict");
    assert_eq!(modalities(&montage), [Some(Bas), None]);
}

#[test]
fn a_map_that_names_no_channel_lists_near_labels() {
    let error =
        assign(&["Chin1=EMG"], &["EEG C3-A2", "Chin 2", "Chin", "Leg"]).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "--map 'Chin1': no channel has this label; the nearest are 'Chin', 'Chin 2', 'Leg'"
    );
    let error = assign(&["Chin1=EMG"], &[]).expect_err("refused");
    assert!(error.to_string().ends_with("the recording has no channels"), "{error}");
    assert!(assign(&["--=EMG"], &["::"]).is_err(), "no letter is no name");
}

#[test]
fn a_map_of_another_form_is_refused() {
    for entry in ["Chin", "=EMG", " =EMG", "Chin=", "Chin=EEG", "Chin=EMG=", "Chin\x1b=x\n"] {
        let line = built_in().with_map(&[entry]).expect_err(entry).to_string();
        assert!(line.contains("LABEL=MODALITY"), "{line}");
        assert!(!line.contains(char::is_control), "{line}");
    }
}

#[test]
fn two_maps_of_one_channel_must_agree() {
    assert!(assign(&["Chin=EMG", "chin=EMG"], &["Chin"]).is_ok());
    let error = assign(&["Chin=EMG", "chin=none"], &["Chin"]).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "--map gives channel 'Chin' to both EMG and none; keep one of the two"
    );
}

#[test]
fn channels_beyond_the_limit_are_left_out_in_file_order() {
    let labels = ["F3-M2", "F4-M1", "ECG", "C3-M2", "C4-M1", "Chin"];
    let signals: Vec<_> = labels.iter().map(|label| signal(label)).collect();
    let max = BTreeMap::from([(Bas, 2), (Emg, 0)]);
    let montage = rules(&[]).assign(&signals, &max).expect("no conflict");
    assert_eq!(modalities(&montage), [Some(Bas), Some(Bas), Some(Ekg), None, None, None]);
    assert_eq!(montage.decisions[3].rule, "EEG derivation: BAS already has its 2 channels");

    let montage = rules(&["C4-M1=BAS"]).assign(&signals, &max).expect("no conflict");
    assert_eq!(modalities(&montage), [Some(Bas), None, Some(Ekg), None, Some(Bas), None]);
}

#[test]
fn slow_channels_stay_and_channels_without_a_rate_do_not() {
    let rates = [1.0, 0.5, 0.49, 0.0, -1.0, f64::NAN, f64::INFINITY, 2048.0];
    let signals = rates.map(|rate_hz| signal_at("EMG submental", rate_hz));
    let montage = rules(&[]).assign(&signals, &BTreeMap::new()).expect("no conflict");
    assert_eq!(montage.channels(Emg).collect::<Vec<_>>(), [0, 1, 7]);
    assert_eq!(montage.decisions[2].rule, "sampled at less than 0.5 Hz");
    assert_eq!(montage.decisions[3].rule, "it has no samples");

    let montage = rules(&["EMG submental=EMG"]).assign(&signals, &BTreeMap::new());
    assert_eq!(montage.expect("no conflict").channels(Emg).collect::<Vec<_>>(), [0, 1, 7]);
}

#[test]
fn two_channels_with_one_label_are_both_kept() {
    let montage = assign(&[], &["C3-M2", "SpO2", "C3-M2"]).expect("no conflict");
    assert_eq!(montage.channels(Bas).collect::<Vec<_>>(), [0, 2]);
    let montage = assign(&["C3-M2=none"], &["C3-M2", "SpO2", "C3-M2"]).expect("no conflict");
    assert_eq!(montage.used(), 1);
}

#[test]
fn the_summary_names_what_is_absent() {
    let montage = assign(&[], &["C3-M2", "C4-M1", "SpO2", "Pos"]).expect("no conflict");
    assert_eq!(montage.absent(), [Ekg, Emg]);
    assert_eq!(montage.summary(), "BAS 2, RESP 1, EKG none, EMG none; 1 of 4 channels left out");
    let montage = assign(&[], &["ECG"]).expect("no conflict");
    assert_eq!(montage.summary(), "BAS none, RESP none, EKG 1, EMG none; no channel left out");
    assert_eq!(assign(&[], &[]).expect("nothing to refuse").absent(), Modality::ALL);
}
