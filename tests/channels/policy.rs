//! What other channels, units and the bundle's policy make of a channel: electrodes and derivations, caps,
//! and the choice among too many.

use std::collections::BTreeMap;

use sfm_models::Modality::{self, Bas, Ekg, Emg, Resp};
use sfm_models::manifest::ChannelPolicy::{self, Aasm, Reference};
use sfm_runtime::montage::{ChannelRules, Montage};
use sfm_runtime::signal::SignalInfo;

use super::{built_in, signal, signal_at};

fn rules(policy: ChannelPolicy) -> ChannelRules {
    built_in().with_policy(policy)
}

fn assigned(rules: &ChannelRules, labels: &[&str], limits: &[(Modality, usize)]) -> Montage {
    let signals: Vec<SignalInfo> = labels.iter().map(|label| signal(label)).collect();
    rules.assign(&signals, &BTreeMap::from_iter(limits.iter().copied())).expect("assigned")
}

fn of(montage: &Montage, modality: Modality) -> Vec<&str> {
    montage.channels(modality).map(|c| montage.decisions[c].label.as_str()).collect()
}

fn rule<'a>(montage: &'a Montage, label: &str) -> &'a str {
    let decision = montage.decisions.iter().find(|d| d.label == label).expect(label);
    &decision.rule
}

#[test]
fn electrodes_give_way_to_derivations() {
    let labels = ["C3", "M2", "C3-M2", "F4", "M1", "M1M2"];
    let montage = assigned(&rules(Aasm), &labels, &[]);
    assert_eq!(of(&montage, Bas), ["C3-M2", "F4-M1"]);
    assert_eq!(rule(&montage, "C3"), "electrode of C3-M2");
    assert_eq!(rule(&montage, "F4"), "electrode of F4-M1");
    assert_eq!(rule(&montage, "M1M2"), "between two reference electrodes");
    assert_eq!(montage.to_read(), [2, 3, 4]);
    let kept = assigned(&rules(Reference), &labels, &[]);
    assert_eq!(of(&kept, Bas), labels);
    assert!(kept.derivations.is_empty());
    let bare = assigned(&rules(Aasm).without_derivations(), &labels, &[]);
    assert_eq!(of(&bare, Bas), ["C3-M2", "F4"]);
}

#[test]
fn electrodes_are_derived_against_the_other_side() {
    let labels = ["EEG C3-REF", "EEG C4-REF", "EEG Cz-REF", "EEG A1-REF", "EEG A2-REF"];
    let montage = assigned(&rules(Aasm), &labels, &[]);
    assert_eq!(of(&montage, Bas), ["C3-A2", "C4-A1", "Cz-A2"]);
    assert_eq!(rule(&montage, "C3-A2"), "derived: EEG C3-REF minus EEG A2-REF");
    let montage = assigned(&rules(Aasm), &["E1", "E2", "F3", "TP9", "TP10"], &[]);
    assert_eq!(of(&montage, Bas), ["E1-TP10", "E2-TP9", "F3-TP10"]);
    let montage = assigned(&rules(Aasm), &["Lchin", "Rchin", "Cchin", "C3-CLE", "M2"], &[]);
    assert_eq!(of(&montage, Emg), ["Lchin-Cchin", "Rchin-Cchin"]);
    assert_eq!(of(&montage, Bas), ["C3-CLE"]);
    // Nothing to take away.
    assert_eq!(of(&assigned(&rules(Aasm), &["C3", "Fz"], &[]), Bas), ["C3", "Fz"]);
    assert_eq!(of(&assigned(&rules(Aasm), &["M1"], &[]), Bas), ["M1"]);
}

#[test]
fn leaving_one_out_changes_no_other() {
    let labels = ["C3", "M2", "C3-M2", "C4-M1", "ECG", "Chin1-Chin2"];
    let all = assigned(&rules(Aasm), &labels, &[]);
    for (k, label) in labels.iter().enumerate() {
        let map = [format!("{label}=none")];
        let without = assigned(&rules(Aasm).with_map(&map).expect("an entry"), &labels, &[]);
        for (other, label) in labels.iter().enumerate().filter(|(other, _)| *other != k) {
            let found = without.decisions[other].modality;
            assert_eq!(found, all.decisions[other].modality, "{label} without {map:?}");
        }
        assert!(without.derivations.is_empty(), "{map:?}");
    }
}

#[test]
fn derivations_that_the_user_names_are_made() {
    let wanted = ["X=EMG 1,EMG 2", "C4-M=c4,m1,m2"];
    let rules = built_in().with_derivations(&wanted).expect("well-formed");
    let labels = ["C4", "M1", "M2", "EMG 1", "EMG 2"];
    let error = rules.assign(&labels.map(signal), &BTreeMap::new()).expect_err("no modality");
    assert!(error.to_string().contains("'X': no rule says of which modality"), "{error}");
    let mapped = rules.with_map(&["X=EMG", "C4-M=BAS"]).expect("well-formed");
    let montage = assigned(&mapped, &labels, &[]);
    assert_eq!(of(&montage, Emg), ["EMG 1", "EMG 2", "X"]);
    assert_eq!(rule(&montage, "C4-M"), "--derive: C4 minus M1 and M2");
    assert_eq!(montage.derivations[1].minus, [(1, 0.5), (2, 0.5)]);
    let error = mapped.assign(&[signal("C4"), signal("M1")], &BTreeMap::new()).expect_err("gone");
    assert!(error.to_string().starts_with("--derive '"), "{error}");
    for entry in ["X", "X=", "=A,B", "X=A", "X=A,", "X=,A"] {
        let refused = built_in().with_derivations(&[entry]).expect_err(entry).to_string();
        assert!(refused.contains("LABEL=PLUS,MINUS"), "{refused}");
    }
}

#[test]
fn of_too_many_those_of_the_manual_are_kept() {
    let labels = ["F3-M2", "O1-M2", "C4", "O2-M1", "C4-M2", "C4-M1", "C3-M2", "P3-M2", "E1-M2"];
    let montage = assigned(&rules(Aasm), &labels, &[(Bas, 4)]);
    assert_eq!(of(&montage, Bas), ["F3-M2", "C4-M1", "C3-M2", "E1-M2"]);
    assert_eq!(
        rule(&montage, "C4-M2"),
        "EEG derivation: BAS takes 4 of 8; 'C4-M1' is of the same place (C4)"
    );
    assert!(rule(&montage, "O1-M2").ends_with("others come first in the AASM manual's order"));
    assert!(montage.is_crowded && montage.no_room()[0].starts_with("no room in BAS: O1-M2 ("));
    let labels = ["Snore", "HR", "SpO2", "Abdomen", "Airflow", "Thorax", "Nasal Pressure", "Pulse"];
    let montage = assigned(&rules(Aasm), &labels, &[(Resp, 5)]);
    assert_eq!(of(&montage, Resp), ["SpO2", "Abdomen", "Airflow", "Thorax", "Nasal Pressure"]);
    let labels = ["Leg L", "EMG chin 1", "EMG chin 2", "EMG chin 3", "Leg R"];
    let montage = assigned(&rules(Aasm).without_derivations(), &labels, &[(Emg, 3)]);
    assert_eq!(of(&montage, Emg), ["Leg L", "EMG chin 1", "Leg R"]);
}

#[test]
fn of_equals_the_better_signal_is_kept() {
    let signals = ["C3-M2", "C3-A2", "C4-M1", "C4-A1"].map(signal);
    let limits = BTreeMap::from([(Bas, 2)]);
    let good = [0.5, 1.0, 1.0, 0.25].map(Some);
    let montage = rules(Aasm).assign_judged(&signals, &limits, &good).expect("assigned");
    assert_eq!(of(&montage, Bas), ["C3-A2", "C4-M1"]);
    assert!(
        rule(&montage, "C3-M2").ends_with("of the same place (C3), which has the better signal")
    );
}

#[test]
fn units_and_rates_decide_before_names() {
    let with = |label: &str, unit: &str, rate_hz: f64| SignalInfo {
        unit: unit.to_owned(),
        ..signal_at(label, rate_hz)
    };
    let signals = [
        with("ECG", "Ohm", 256.0),
        with("ECG", "mV", 1.0),
        with("C3-M2", "kΩ", 256.0),
        with("EEG", "lx", 256.0),
        with("EMG", "%", 256.0),
        with("Thorax", "°", 32.0),
        with("ECG II", "mV", 256.0),
    ];
    for policy in [Aasm, Reference] {
        let montage = rules(policy).assign(&signals, &BTreeMap::new()).expect("assigned");
        assert_eq!((montage.used(), of(&montage, Ekg)), (1, vec!["ECG II"]));
        assert!(montage.decisions[0].rule.contains("in 'Ohm', an impedance"), "{montage:?}");
        assert!(montage.decisions[1].rule.contains("1 Hz, too slow for EKG"), "{montage:?}");
    }
}

#[test]
fn caps_and_spare_inputs_are_no_earlobes() {
    let mut labels: Vec<String> = (1..=128).map(|n| format!("E{n}")).collect();
    labels.push("ECG".to_owned());
    let signals: Vec<SignalInfo> = labels.iter().map(|label| signal(label)).collect();
    let montage = rules(Aasm).assign(&signals, &BTreeMap::new()).expect("assigned");
    let derived = of(&montage, Bas);
    assert!(derived.contains(&"C3-M2") && derived.contains(&"O2-M1"), "{derived:?}");
    assert!(!derived.iter().any(|label| label.starts_with('E')), "{derived:?}");
    assert!(rule(&montage, "E1").contains("--map 'E36=BAS'"), "{}", rule(&montage, "E1"));
    let spare: Vec<String> = (25..=128).map(|n| format!("C{n}")).collect();
    let signals: Vec<SignalInfo> = spare.iter().map(|label| signal(label)).collect();
    for policy in [Aasm, Reference] {
        let montage = rules(policy).assign(&signals, &BTreeMap::new()).expect("assigned");
        assert_eq!(montage.used(), 0);
    }
}

#[test]
fn a_derivation_that_the_user_names_goes_before_the_usual_one() {
    let labels = ["C3", "M1", "M2"];
    let with = |entries: &[&str], labels: &[&str]| {
        let signals: Vec<SignalInfo> = labels.iter().map(|label| signal(label)).collect();
        let rules = rules(Aasm).with_derivations(entries)?;
        rules.assign(&signals, &BTreeMap::new())
    };
    let montage = with(&["C3-M2=C3,M1"], &labels).expect("assigned");
    assert_eq!(of(&montage, Bas), ["C3-M2"]);
    assert_eq!(rule(&montage, "C3-M2"), "--derive: C3 minus M1");
    for (entries, labels, reason) in [
        (&["C3-M2=C3,M1", "C3-M2=C3,M2"][..], &labels[..], "asked for twice"),
        (&["C3-M2=C3,M2"][..], &["C3", "M2", "C3-M2"][..], "has a channel of this label"),
        (&["C3-M2=C3,C3"][..], &labels[..], "away from itself"),
    ] {
        let error = with(entries, labels).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let ohm = |label| SignalInfo { unit: "kOhm".to_owned(), ..signal(label) };
    let rules = rules(Aasm).with_derivations(&["C3-M2=Z1,Z2"]).expect("an entry");
    let error = rules.assign(&[ohm("Z1"), ohm("Z2")], &BTreeMap::new()).expect_err("ohms");
    assert!(error.to_string().contains("an impedance and not a signal"), "{error}");
}

#[test]
fn the_chin_is_paired_with_the_electrode_above_the_jaw() {
    let pairs = |labels: &[&str]| {
        let montage = assigned(&rules(Aasm), labels, &[]);
        of(&montage, Emg).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(pairs(&["ChinZ", "Chin1", "Chin2"]), ["Chin1-ChinZ", "Chin2-ChinZ"]);
    assert_eq!(pairs(&["Chin1", "Chin2", "Chin3"]), ["Chin1-Chin2", "Chin1-Chin3"]);
    assert_eq!(pairs(&["Chin1-Chin2", "Chin1", "Chin3"]), ["Chin1-Chin2", "Chin3"]);
}

#[test]
fn legs_are_of_the_side_that_they_name() {
    let kept = |labels: &[&str]| {
        let montage = assigned(&rules(Aasm), labels, &[(Emg, 2)]);
        of(&montage, Emg).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let labels = ["Left Leg-REF", "EMG Ant Tibial L", "Right Leg-REF"];
    assert_eq!(kept(&labels), ["Left Leg-REF", "Right Leg-REF"]);
    assert_eq!(kept(&["Tib sx", "Leg L", "Tib dx"]), ["Tib sx", "Tib dx"]);
    assert_eq!(kept(&["Bein li", "Bein links", "Bein re"]), ["Bein li", "Bein re"]);
    assert_eq!(kept(&["LAT", "L Leg", "RAT"]), ["LAT", "RAT"]);
}

#[test]
fn a_word_before_every_label_says_little() {
    let rules = built_in();
    for (label, modality) in [
        ("EEG RESP1-REF", Some(Resp)),
        ("EEG Airflow-REF", Some(Resp)),
        ("EEG Pulse-REF", Some(Resp)),
        ("EEG DC1-REF", None),
        ("EEG PHOTIC-REF", None),
        ("EEG Position", None),
        ("EEG C3-REF", Some(Bas)),
        ("EEG 2", Some(Bas)),
        ("EOG dx", Some(Bas)),
        ("Resp EtCO2", None),
        ("Resp Position", None),
        ("POL C'3", None),
    ] {
        assert_eq!(super::modality(&rules, label), modality, "{label}");
    }
    // In percent it is the blood's oxygen, in microvolts an electrode above the eye.
    let percent = SignalInfo { unit: "%".to_owned(), ..signal("SO2") };
    let montage = rules.assign(&[percent, signal("SO2")], &BTreeMap::new()).expect("assigned");
    assert_eq!(
        montage.decisions.iter().map(|d| d.modality).collect::<Vec<_>>(),
        [Some(Resp), Some(Bas)]
    );
    let error = rules.assign(&["EEG EKG1", "EEG EKG2"].map(signal), &BTreeMap::new());
    let line = error.expect_err("two are contested").to_string();
    assert!(line.contains("'EEG EKG1=EKG'") && line.contains("'EEG EKG2=EKG'"), "{line}");
}

#[test]
fn a_map_of_one_channel_changes_no_other() {
    let pressure = |label| SignalInfo { unit: "cmH2O".to_owned(), ..signal(label) };
    let signals =
        [pressure("Snore"), pressure("Nasal Pressure"), signal("EEG C3-REF"), signal("M1")];
    let found = |map: &[&str]| {
        let rules = rules(Aasm).without_derivations().with_map(map).expect("entries");
        let montage = rules.assign(&signals, &BTreeMap::new()).expect("assigned");
        (montage.decisions[0].modality, montage.decisions[3].modality)
    };
    assert_eq!(found(&[]), (None, None));
    for map in ["Nasal Pressure=none", "Nasal Pressure=RESP", "EEG C3-REF=none"] {
        assert_eq!(found(&[map]), (None, None), "{map}");
    }
}
