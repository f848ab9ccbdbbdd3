//! The table of `sfm-stream inspect`.

use std::collections::BTreeMap;

use sfm_runtime::montage::table;
use sfm_runtime::signal::{SignalInfo, StreamInfo};

use super::{built_in, signal, signal_at};

fn shown(signals: Vec<SignalInfo>) -> String {
    let montage = built_in().assign(&signals, &BTreeMap::new()).expect("no conflict");
    let info = StreamInfo {
        format: "EDF".to_owned(),
        start: None,
        duration_s: None,
        preprocessed: false,
        signals,
        warnings: Vec::new(),
    };
    table(&info, &montage)
}

#[test]
fn columns_are_aligned() {
    let mut saturation = signal_at("SpO2", 1.0);
    saturation.unit = "%".to_owned();
    (saturation.physical_min, saturation.physical_max) = (0.0, 102.3);
    let mut flow = signal_at("Éclat", 32.03125);
    (flow.physical_min, flow.physical_max) = (-1e-5, 1e12);
    let text = shown(vec![signal("EEG C4-M1"), saturation, flow, signal_at("Pos", 0.1)]);
    let expected = "\
#  label            rate  unit         physical range  modality  rule
0  EEG C4-M1      256 Hz  uV              -250 .. 250  BAS       EEG derivation
1  SpO2             1 Hz  %                0 .. 102.3  RESP      oxygen saturation
2  Éclat      32.0312 Hz  uV    -1.000e-5 .. 1.000e12  -         left out: no rule matches; --map uses it
3  Pos            0.1 Hz  uV              -250 .. 250  -         left out: sampled at less than 0.5 Hz
BAS 1, RESP 1, EKG none, EMG none; 2 of 4 channels left out
";
    assert_eq!(text, expected);
}

#[test]
fn nothing_in_a_label_reaches_the_terminal_raw() {
    let mut hostile = signal("\x1b]0;owned\x07EEG C3\r\nroot#");
    hostile.unit = "\u{202e}Vu\u{9b}31m".to_owned();
    let text = shown(vec![hostile]);
    assert!(
        text.lines().count() == 3 && !text.contains(['\x1b', '\x07', '\r', '\u{9b}', '\u{202e}'])
    );
    assert!(text.contains(r"\u{1b}]0;owned\u{7}EEG C3\u{d}\u{a}root#"), "{text}");
}
