//! One test a rule: damaged headers and lengths are read with a warning or refused in one line.

use sfm_runtime::edf::{Continuity, RecordingSpec, annotations};
use sfm_runtime::source::Source;

use crate::files::*;

/// Opens with exactly one warning, which contains `text`, and both channels complete.
fn assert_warns(bytes: Vec<u8>, text: &str) {
    let mut source = open(bytes);
    let warnings = source.info().warnings.clone();
    assert!(warnings.len() == 1 && warnings[0].contains(text), "{warnings:?}");
    assert_eq!(read_all(&mut source), [[(0, ramp(0..40))], [(0, ramp(0..10))]]);
}

fn damaged(place: usize, text: &str) -> Vec<u8> {
    let mut bytes = night();
    set(&mut bytes, place, text);
    bytes
}

#[test]
fn a_good_file_has_no_warnings() {
    let source = open(night());
    assert!(source.info().warnings.is_empty(), "{:?}", source.info().warnings);
}

#[test]
fn record_count_is_taken_from_the_file() {
    assert_warns(damaged(RECORD_COUNT, "-1"), "does not say how many records");
    assert_warns(damaged(RECORD_COUNT, "99999999"), "claims 99999999 records, the file holds 10");
    assert_warns(damaged(RECORD_COUNT, "3"), "claims 3 records, the file holds 10");
    assert_warns(damaged(RECORD_COUNT, "abc"), "claims abc records, the file holds 10");
}

#[test]
fn a_cut_last_record_is_dropped() {
    let mut bytes = night();
    bytes.truncate(bytes.len() - 3);
    let mut source = open(bytes);
    assert_eq!(
        source.info().warnings,
        [
            "header claims 10 records, the file holds 9; 9 are read",
            "the last record is cut; its 7 bytes are dropped"
        ]
    );
    assert_eq!(source.info().duration_s, Some(9.0));
    assert_eq!(read_all(&mut source), [[(0, ramp(0..36))], [(0, ramp(0..9))]]);
}

#[test]
fn files_without_a_whole_record_are_refused() {
    let mut bytes = night();
    bytes.truncate(HEADER_BYTES + 9);
    assert!(refusal(bytes).contains("ends before its first data record"));
}

#[test]
fn every_cut_of_the_header_is_refused() {
    for length in 0..HEADER_BYTES {
        let message = refusal(night()[..length].to_vec());
        let expected = match length {
            0 => "is empty",
            1..8 => "is no EDF or BDF",
            _ => "is cut",
        };
        assert!(message.contains(expected), "{length}: {message}");
    }
}

#[test]
fn impossible_numbers_of_signals_are_refused() {
    for count in ["0   ", "-5  ", "9999", "NaN ", "    ", "2.5 ", "1e9 "] {
        let mut bytes = night();
        set_bytes(&mut bytes, SIGNAL_COUNT, count.as_bytes());
        assert!(refusal(bytes).contains("signals"), "{count}");
    }
}

#[test]
fn a_number_of_signals_beyond_the_file_is_refused() {
    let mut bytes = night();
    set_bytes(&mut bytes, SIGNAL_COUNT, b"4096");
    assert!(refusal(bytes).contains("is cut"));
}

#[test]
fn impossible_samples_per_record_are_refused() {
    for samples in ["99999999", "-1", "NaN", "1.5", "4 4", "", "1e99"] {
        let message = refusal(damaged(SAMPLES_PER_RECORD, samples));
        assert!(message.contains("samples per record of 'EEG C4-M1'"), "{message}");
    }
}

#[test]
fn records_larger_than_the_file_are_refused() {
    // Possible, but the file holds no such record.
    let message = refusal(damaged(SAMPLES_PER_RECORD, "33554432"));
    assert!(message.contains("16777216") || message.contains("Hz"), "{message}");
    let mut bytes = damaged(SAMPLES_PER_RECORD, "33554432");
    set(&mut bytes, RECORD_DURATION, "100000");
    assert!(refusal(bytes).contains("ends before its first data record"));
}

#[test]
fn impossible_record_durations_are_refused() {
    for duration in ["NaN", "0", "-1", "inf", "", "1e300", "1e-7", "0x10"] {
        let message = refusal(damaged(RECORD_DURATION, duration));
        assert!(message.contains("record duration") || message.contains("Hz"), "{message}");
    }
}

#[test]
fn a_channel_without_samples_is_left_out() {
    let mut spec = spec(Continuity::Plain, 1.0);
    spec.signals[1].samples_per_record = 0;
    let mut source = open(write(&spec, 3, None));
    assert_eq!(source.info().warnings, ["'EMG Chin' has no samples and is left out"]);
    assert_eq!(read_all(&mut source), [[(0, ramp(0..12))]]);
}

#[test]
fn limits_without_a_scale_read_as_zero() {
    for (place, text, complaint) in [
        (DIGITAL_MIN, "32767", "digital limits are both 32767"),
        (PHYSICAL_MIN, "3276.7", "physical limits are both 3276.7"),
        (PHYSICAL_MIN, "-9e99", "are impossible"),
    ] {
        let mut source = open(damaged(place, text));
        let [warning] = &source.info().warnings[..] else { panic!("{:?}", source.info()) };
        assert!(warning.contains(complaint), "{warning}");
        let channels = read_all(&mut source);
        assert_eq!(channels[0], [(0, vec![0.0; 40])]);
        assert_eq!(channels[1], [(0, ramp(0..10))]);
    }
}

#[test]
fn dirty_numbers_are_read_with_a_warning() {
    let mut bytes = night();
    set(&mut bytes, PHYSICAL_MIN, "-3276,8");
    set_bytes(&mut bytes, SAMPLES_PER_RECORD, b"4\0\0\0\0\0\0\0");
    set_bytes(&mut bytes, RECORD_DURATION, b"       1");
    assert_warns(bytes, "3 header number(s)");
}

#[test]
fn a_wrong_header_length_is_corrected() {
    assert_warns(damaged(HEADER_LENGTH, "512"), "header length");
}

#[test]
fn latin1_bytes_and_control_characters_in_labels() {
    let mut bytes = night();
    set_bytes(&mut bytes, LABELS, b"Atmung \xfcber \x1b[2J");
    assert_eq!(open(bytes).info().signals[0].label, "Atmung \u{fc}ber  [2J");
}

#[test]
fn duplicate_labels_are_both_kept() {
    let mut bytes = night();
    set_bytes(&mut bytes, LABELS, b"EMG Chin        ");
    assert_warns(bytes, "2 channels are labelled 'EMG Chin'");
}

#[test]
fn an_impossible_start_is_none() {
    let mut bytes = night();
    set(&mut bytes, 168, "31.02.24");
    let source = open(bytes);
    assert_eq!(source.info().start, None);
    assert_eq!(source.info().warnings, ["start '31.02.24 22.58.41' is no date and time"]);
}

#[test]
fn edf_plus_without_annotation_signals() {
    for (kind, text) in [("EDF+C", "EDF+C file without"), ("EDF+D", "holes between records")] {
        let mut bytes = night();
        set_bytes(&mut bytes, 192, kind.as_bytes());
        assert_warns(bytes, text);
    }
}

#[test]
fn a_patient_is_in_no_description() {
    let mut bytes = night();
    set_bytes(&mut bytes, 8, b"12345 F 01-JAN-1980 Jane_Doe");
    set_bytes(&mut bytes, 88, b"Startdate 29-FEB-2024 Dr_Who Ward_7");
    let description = format!("{:?}", open(bytes));
    for secret in ["Jane", "1980", "12345", "Who", "Ward"] {
        assert!(!description.contains(secret), "{secret}");
    }
}

#[test]
fn annotation_files_are_read_but_are_no_recording() {
    let hypnogram = RecordingSpec { signals: Vec::new(), ..spec(Continuity::Continuous, 0.0) };
    let bytes = write(&hypnogram, 1, None);
    assert!(refusal(bytes.clone()).contains("holds annotations but no signals"));
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), bytes).expect("write");
    assert_eq!(annotations(file.path()).expect("reads"), []);
}
