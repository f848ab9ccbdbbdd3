//! Recordings made by our own writer, and damage done to their headers.

use std::io::Cursor;

use sfm_runtime::edf::{Continuity, EdfWriter, RecordingSpec, SampleFormat, SignalSpec};
use sfm_runtime::signal::SampleBlock;
use sfm_runtime::source::Source;
use sfm_runtime::source::edf::EdfSource;

/// Places of header fields; those of signals hold for a file of `SIGNALS` signals.
pub const HEADER_LENGTH: usize = 184;
pub const RECORD_COUNT: usize = 236;
pub const RECORD_DURATION: usize = 244;
pub const SIGNAL_COUNT: usize = 252;
pub const LABELS: usize = 256;
pub const PHYSICAL_MIN: usize = LABELS + SIGNALS * (16 + 80 + 8);
pub const DIGITAL_MIN: usize = PHYSICAL_MIN + SIGNALS * 16;
pub const DIGITAL_MAX: usize = DIGITAL_MIN + SIGNALS * 8;
pub const SAMPLES_PER_RECORD: usize = DIGITAL_MAX + SIGNALS * (8 + 80);
pub const HEADER_BYTES: usize = 256 * (1 + SIGNALS);
/// Signals of [`night`].
pub const SIGNALS: usize = 2;

pub fn signal(label: &str, samples_per_record: usize) -> SignalSpec {
    SignalSpec {
        label: label.into(),
        unit: "uV".into(),
        prefilter: String::new(),
        physical_min: -3276.8,
        physical_max: 3276.7,
        digital_min: -32768,
        digital_max: 32767,
        samples_per_record,
    }
}

pub fn spec(continuity: Continuity, record_duration_s: f64) -> RecordingSpec {
    RecordingSpec {
        sample_format: SampleFormat::I16,
        continuity,
        start: "2024-02-29T22:58:41".parse().ok(),
        record_duration_s,
        signals: vec![signal("EEG C4-M1", 4), signal("EMG Chin", 1)],
        annotation_bytes: 40,
    }
}

/// Writes records at the given onsets, or one behind the other. Sample `i` of a signal is `i`,
/// counted over the records, so that every sample tells where it was written.
pub fn write(spec: &RecordingSpec, records: usize, onsets_s: Option<&[f64]>) -> Vec<u8> {
    let mut writer = EdfWriter::new(Cursor::new(Vec::new()), spec).expect("header");
    for record in 0..records {
        let samples: Vec<Vec<i32>> = spec
            .signals
            .iter()
            .map(|s| (0..s.samples_per_record).map(|i| (record * s.samples_per_record + i) as i32))
            .map(Iterator::collect)
            .collect();
        let samples: Vec<&[i32]> = samples.iter().map(Vec::as_slice).collect();
        match onsets_s {
            Some(onsets_s) => writer.write_record_at(onsets_s[record], &samples, &[]),
            None => writer.write_record(&samples, &[]),
        }
        .expect("record");
    }
    writer.finish().expect("finish").into_inner()
}

/// Ten 1-s records of plain EDF with signals of 4 and 1 Hz.
pub fn night() -> Vec<u8> {
    write(&spec(Continuity::Plain, 1.0), 10, None)
}

/// Overwrites a field of eight characters.
pub fn set(bytes: &mut [u8], place: usize, text: &str) {
    set_bytes(bytes, place, format!("{text:<8}").as_bytes());
}

pub fn set_bytes(bytes: &mut [u8], place: usize, field: &[u8]) {
    bytes[place..place + field.len()].copy_from_slice(field);
}

pub fn open(bytes: Vec<u8>) -> EdfSource<Cursor<Vec<u8>>> {
    EdfSource::new(Cursor::new(bytes), "night.edf").expect("opens")
}

/// The message of a refusal; it must be one line that names the file.
pub fn refusal(bytes: Vec<u8>) -> String {
    match EdfSource::new(Cursor::new(bytes), "night.edf") {
        Ok(source) => panic!("was opened: {:?}", source.info()),
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("night.edf "), "{message}");
            assert!(!message.contains('\n'), "{message}");
            message
        }
    }
}

/// One channel as contiguous stretches: start and samples, in physical units.
pub type Stretches = Vec<(u64, Vec<f32>)>;

/// Reads to the end; blocks of a channel that touch are joined.
pub fn read_all(source: &mut impl Source) -> Vec<Stretches> {
    let mut channels: Vec<Stretches> = vec![Vec::new(); source.info().signals.len()];
    let mut block = SampleBlock::default();
    while source.next_block(&mut block).expect("reads") {
        assert!(!block.samples.is_empty());
        let stretches = &mut channels[block.channel];
        match stretches.last_mut() {
            Some((start, samples)) if *start + samples.len() as u64 == block.start => {
                samples.extend(&block.samples);
            }
            last => {
                let end = last.map_or(0, |(start, samples)| *start + samples.len() as u64);
                assert!(block.start >= end, "blocks go backwards");
                stretches.push((block.start, block.samples.clone()));
            }
        }
    }
    channels
}

/// What [`write`] wrote as sample `i`, in physical units.
pub fn physical(i: usize) -> f32 {
    ((i as f64 + 32768.0) * (6553.5 / 65535.0) - 3276.8) as f32
}

pub fn ramp(samples: std::ops::Range<usize>) -> Vec<f32> {
    samples.map(physical).collect()
}
