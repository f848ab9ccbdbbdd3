//! Where the records of a file lie in time: contiguous, or by the onsets that EDF+D gives them.

use std::io::{Read, Seek};

use crate::edf::{Continuity, EdfError, RecordReader};

/// Records closer than this to where the last ended are contiguous, seconds: recorders round
/// onsets, and their clocks drift against the samples.
const ONSET_TOLERANCE_S: f64 = 0.002;
/// A record placed further from the first than this has a damaged onset, seconds (7 days). Time
/// without samples costs as many epochs as time with them.
const MAX_ONSET_S: f64 = 7.0 * 86_400.0;
/// How the equipment of our own recordings begins.
const OUR_EQUIPMENT: &str = "sfm-stream";

/// Where the records lie in time. Memory grows with the number of holes, not of records.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Header's start to the first sample, seconds.
    pub first_sample_s: f64,
    /// Stretches of contiguous records by their first record, the first of them record 0.
    stretches: Vec<Stretch>,
    /// First sample to behind the last, seconds.
    pub duration_s: f64,
}

#[derive(Debug)]
struct Stretch {
    first_record: u64,
    /// Seconds after the first sample of the recording.
    start_s: f64,
}

impl Timeline {
    pub fn read<R: Read + Seek>(
        reader: &mut RecordReader<R>,
        warnings: &mut Vec<String>,
    ) -> Result<Timeline, EdfError> {
        let first_onset = reader.record_onset_s(0)?;
        if reader.header().timekeeper().is_some() && first_onset.is_none() {
            warnings.push("the first record has no onset; 0 s is taken".into());
        }
        let first_sample_s = first_onset.filter(|s| s.abs() < MAX_ONSET_S).unwrap_or_default();
        if reader.header().continuity == Continuity::Discontinuous
            && reader.header().timekeeper().is_some()
        {
            return Timeline::scan(reader, first_sample_s, warnings);
        }
        let record_duration_s = reader.header().record_duration_s;
        let record_count = reader.header().record_count;
        let timeline = Timeline {
            first_sample_s,
            stretches: vec![Stretch { first_record: 0, start_s: 0.0 }],
            duration_s: record_count as f64 * record_duration_s,
        };
        let last = record_count.saturating_sub(1);
        if let Some(onset_s) = reader.record_onset_s(last)? {
            let late_s = onset_s - first_sample_s - last as f64 * record_duration_s;
            if late_s.abs() > record_duration_s {
                warnings.push(format!(
                    "marked as continuous, but the last record is {late_s:.1} s off; read as continuous"
                ));
            }
        }
        Ok(timeline)
    }

    /// Reads every record's onset.
    fn scan<R: Read + Seek>(
        reader: &mut RecordReader<R>,
        first_sample_s: f64,
        warnings: &mut Vec<String>,
    ) -> Result<Timeline, EdfError> {
        let record_duration_s = reader.header().record_duration_s;
        let mut stretches = vec![Stretch { first_record: 0, start_s: 0.0 }];
        let (mut follows_s, mut duration_s) = (0.0, 0.0_f64);
        let (mut unknown, mut holes, mut hole_s) = (0_u64, 0_u64, 0.0);
        let (mut overlaps, mut overlap_s) = (0_u64, 0.0);
        for record in 0..reader.header().record_count {
            let onset = reader.record_onset_s(record)?.map(|onset| onset - first_sample_s);
            let onset = onset.filter(|s| s.abs() < MAX_ONSET_S);
            unknown += u64::from(onset.is_none());
            let mut start_s = onset.unwrap_or(follows_s);
            if (start_s - follows_s).abs() <= ONSET_TOLERANCE_S {
                start_s = follows_s;
            } else {
                stretches.push(Stretch { first_record: record, start_s });
            }
            if start_s > duration_s + ONSET_TOLERANCE_S {
                holes += 1;
                hole_s += start_s - duration_s;
            } else if start_s < duration_s - ONSET_TOLERANCE_S {
                overlaps += 1;
                overlap_s += (duration_s - start_s).min(record_duration_s);
            }
            follows_s = start_s + record_duration_s;
            duration_s = duration_s.max(follows_s);
        }
        if unknown > 0 {
            warnings
                .push(format!("{unknown} record(s) without an onset; taken to follow the last"));
        }
        // In a recording of ours holes are what happened in the night and not odd; the gaps tell of
        // them, as they did live.
        let ours = reader.header().equipment.starts_with(OUR_EQUIPMENT);
        if holes > 0 && !ours {
            warnings.push(format!("{holes} hole(s) in the recording, {hole_s:.1} s in all"));
        }
        if overlaps > 0 {
            warnings.push(format!(
                "{overlaps} record(s) overlap earlier ones; {overlap_s:.1} s of them dropped"
            ));
        }
        Ok(Timeline { first_sample_s, stretches, duration_s })
    }

    /// Index of a record's first sample on a channel's time axis.
    pub fn record_start(&self, record: u64, samples_per_record: usize, rate_hz: f64) -> i64 {
        let behind = self.stretches.partition_point(|s| s.first_record <= record);
        let Some(stretch) = self.stretches.get(behind.saturating_sub(1)) else { return 0 };
        // Rounded once per stretch, so that rounding cannot open gaps between its records.
        let stretch_start = (stretch.start_s * rate_hz).round() as i64;
        stretch_start + (record - stretch.first_record) as i64 * samples_per_record as i64
    }
}
