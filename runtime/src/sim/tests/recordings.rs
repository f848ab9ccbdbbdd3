//! What is played is what the file holds.

use std::path::{Path, PathBuf};

use super::super::{ChannelSpec, EdfPlayback, Playback, deal};
use crate::edf::{Continuity, EdfWriter, RecordReader, RecordingSpec, SampleFormat, SignalSpec};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}

#[test]
fn digital_values_are_those_of_the_file() {
    for name in ["edf/short_psg.edf", "edf/short_psg.bdf", "mini/psg.edf"] {
        let path = data(name);
        let edf = EdfPlayback::open(&path).expect("it opens");
        let channels: Vec<ChannelSpec> = edf.channels().to_vec();
        let duration_s = edf.duration_s();
        let mut playback = Playback::Edf(Box::new(edf));
        let file = std::fs::File::open(&path).expect("it opens");
        let mut reader = RecordReader::new(file).expect("a header");
        assert!(!channels.is_empty() && duration_s > 0.0);
        for channel in &channels {
            let signals = &reader.header().signals;
            let index = signals.iter().position(|s| s.label == channel.label).expect("a signal");
            let per_record = signals[index].samples_per_record;
            let records = reader.header().record_count;
            assert_eq!(channel.rate_hz() * duration_s, (records * per_record as u64) as f64);
            let mut wanted = Vec::new();
            for record in 0..records {
                reader.digital(record, index, 0..per_record, &mut wanted).expect("it reads");
            }
            let mut got = Vec::new();
            // Across records, and beyond the end, where the last value is held.
            let (first, count) = (3.min(wanted.len() - 1), wanted.len() + 10);
            playback.read(channel.source, first as u64, count, &mut got).expect("it reads");
            wanted.extend([wanted[wanted.len() - 1]; 13]);
            assert_eq!(got, wanted[first..first + count], "{name} {}", channel.label);
        }
    }
}

#[test]
fn holes_are_held() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("holes.edf");
    let signal = |label: &str, samples_per_record| SignalSpec {
        label: label.into(),
        unit: "uV".into(),
        prefilter: String::new(),
        physical_min: -100.0,
        physical_max: 100.0,
        digital_min: -1000,
        digital_max: 1000,
        samples_per_record,
    };
    let spec = RecordingSpec {
        sample_format: SampleFormat::I16,
        continuity: Continuity::Discontinuous,
        start: None,
        record_duration_s: 0.5,
        signals: vec![signal("EEG", 4), signal("SpO2", 1)],
        annotation_bytes: 60,
    };
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = EdfWriter::new(file, &spec).expect("a header");
    for (onset_s, value) in [(0.0, 0), (0.5, 10), (3.0, 20), (3.5, 30)] {
        let eeg = [value, value + 1, value + 2, value + 3];
        writer.write_record_at(onset_s, &[&eeg, &[value]], &[]).expect("a record");
    }
    writer.finish().expect("a file");
    let edf = EdfPlayback::open(&path).expect("it opens");
    assert_eq!(edf.duration_s(), 4.0);
    let mut playback = Playback::Edf(Box::new(edf));
    let mut got = Vec::new();
    playback.read(0, 0, 34, &mut got).expect("it reads");
    let mut wanted = vec![0, 1, 2, 3, 10, 11, 12, 13];
    wanted.extend([13; 16]);
    wanted.extend([20, 21, 22, 23, 30, 31, 32, 33, 33, 33]);
    assert_eq!(got, wanted);
    playback.read(0, 20, 6, &mut got).expect("it reads");
    assert_eq!(got, [13, 13, 13, 13, 20, 21]);
    playback.read(1, 0, 8, &mut got).expect("it reads");
    assert_eq!(got, [0, 10, 10, 10, 10, 10, 20, 30]);
}

#[test]
fn channels_are_dealt_by_modality() {
    let edf = EdfPlayback::open(&data("mini/psg.edf")).expect("it opens");
    let labels = |sensors: usize| -> Vec<Vec<String>> {
        let dealt = deal(edf.channels(), sensors);
        dealt.into_iter().map(|c| c.into_iter().map(|c| c.label).collect()).collect()
    };
    let two = labels(2);
    assert_eq!(two[0].len() + two[1].len(), 18);
    for label in ["EEG1", "EEG2", "EEG3", "EOG-L", "EOG-R", "EKG"] {
        assert!(two[0].iter().any(|l| l == label), "{two:?}");
    }
    for label in ["Flow", "Thor", "Abdo"] {
        assert!(two[1].iter().any(|l| l == label), "{two:?}");
    }
    assert_eq!(labels(18).iter().map(Vec::len).max(), Some(1));
}
