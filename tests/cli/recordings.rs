//! Recordings made by the crate's own writer, and damage done to them.

use std::io::Cursor;

use sfm_runtime::edf::annotation::Annotation;
use sfm_runtime::edf::{Continuity, EdfWriter, RecordingSpec, SampleFormat, SignalSpec};

/// Places of fields in the header of an EDF file.
pub const RECORD_COUNT: usize = 236;
pub const RECORD_DURATION: usize = 244;
pub const SIGNAL_COUNT: usize = 252;

/// A recording to be made: each signal with its samples per record.
#[derive(Clone)]
pub struct Made {
    pub signals: Vec<SignalSpec>,
    pub continuity: Continuity,
    pub record_s: f64,
    /// Onset of each record, seconds.
    pub onsets_s: Vec<f64>,
    /// Samples of signal `.0` at index `.1` behind the start, without the holes.
    pub sample: fn(usize, usize) -> i32,
    /// Onset and text; each goes into the record at its time.
    pub annotations: Vec<(f64, &'static str)>,
}

impl Made {
    /// Plain EDF of noise: `records` of `record_s`, channels with their samples per record.
    pub fn new(record_s: f64, records: usize, channels: &[(&str, usize)]) -> Self {
        Self {
            signals: channels.iter().map(|&(label, samples)| signal(label, samples)).collect(),
            continuity: Continuity::Plain,
            record_s,
            onsets_s: (0..records).map(|record| record as f64 * record_s).collect(),
            sample: noise,
            annotations: Vec::new(),
        }
    }

    /// EDF+D in which the records from `record` on lie `hole_s` later.
    pub fn with_hole(mut self, record: usize, hole_s: f64) -> Self {
        self.continuity = Continuity::Discontinuous;
        self.onsets_s[record..].iter_mut().for_each(|onset_s| *onset_s += hole_s);
        self
    }

    /// EDF+C with annotations.
    pub fn with_annotations(mut self, annotations: &[(f64, &'static str)]) -> Self {
        self.continuity = Continuity::Continuous;
        self.annotations = annotations.to_vec();
        self
    }

    fn annotations_in(&self, onset_s: f64) -> Vec<Annotation> {
        let here = self
            .annotations
            .iter()
            .filter(|(at, _)| (onset_s..onset_s + self.record_s).contains(at));
        here.map(|&(onset_s, text)| Annotation { onset_s, duration_s: None, text: text.to_owned() })
            .collect()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let spec = RecordingSpec {
            sample_format: SampleFormat::I16,
            continuity: self.continuity,
            start: "2024-02-29T22:58:41".parse().ok(),
            record_duration_s: self.record_s,
            signals: self.signals.clone(),
            annotation_bytes: 40,
        };
        let mut writer = EdfWriter::new(Cursor::new(Vec::new()), &spec).expect("header");
        for (record, &onset_s) in self.onsets_s.iter().enumerate() {
            let samples: Vec<Vec<i32>> = (0..self.signals.len())
                .map(|index| {
                    let count = self.signals[index].samples_per_record;
                    (0..count).map(|i| (self.sample)(index, record * count + i)).collect()
                })
                .collect();
            let samples: Vec<&[i32]> = samples.iter().map(Vec::as_slice).collect();
            match self.continuity {
                Continuity::Discontinuous => writer.write_record_at(onset_s, &samples, &[]),
                _ => writer.write_record(&samples, &self.annotations_in(onset_s)),
            }
            .expect("record");
        }
        writer.finish().expect("finish").into_inner()
    }
}

pub fn signal(label: &str, samples_per_record: usize) -> SignalSpec {
    SignalSpec {
        label: label.into(),
        unit: "uV".into(),
        prefilter: String::new(),
        physical_min: -327.68,
        physical_max: 327.67,
        digital_min: -32768,
        digital_max: 32767,
        samples_per_record,
    }
}

/// The same figures on every machine, another sequence for each signal.
pub fn noise(signal: usize, index: usize) -> i32 {
    let mut x = (signal as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index as u64;
    for _ in 0..2 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
    }
    (x % 8000) as i32 - 4000
}

/// One minute of the channels of a small study, 1-s records.
pub fn study(records: usize) -> Made {
    Made::new(1.0, records, &[("EEG C4-M1", 100), ("EMG Chin", 100), ("ECG II", 50), ("SaO2", 1)])
}

/// Overwrites a field, padded with spaces to `width`.
pub fn set(bytes: &mut [u8], place: usize, width: usize, text: &str) {
    bytes[place..place + width].copy_from_slice(format!("{text:<width$}").as_bytes());
}

/// Where the field of all signals begins that lies `offset` bytes into each signal's block.
pub fn column(signals: usize, offset: usize) -> usize {
    256 + signals * offset
}
