//! Where the records of a file lie in time: contiguous, or by the onsets that EDF+D gives them.

use std::io::{Read, Seek};

use crate::edf::onset::{Basis, Place, TOLERANCE_S, contradicted, each_place, first_onset_s};
use crate::edf::{Continuity, EdfError, RecordReader};

/// Longer than any recording, seconds (8 days): memory and work grow with it.
const MAX_RECORDING_S: f64 = 8.0 * 86_400.0;
/// More holes than any recording has.
const MAX_STRETCHES: usize = 1 << 20;
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
        let first_onset = first_onset_s(reader)?;
        if reader.header().timekeeper().is_some() && first_onset.is_none() {
            warnings.push("the first record has no onset; 0 s is taken".into());
        }
        let first_sample_s = first_onset.unwrap_or_default();
        let is_scanned = reader.header().continuity == Continuity::Discontinuous
            && reader.header().timekeeper().is_some();
        let timeline = match is_scanned {
            true => Timeline::scan(reader, first_sample_s, warnings)?,
            false => Timeline::contiguous(reader, first_sample_s, warnings)?,
        };
        if timeline.duration_s > MAX_RECORDING_S {
            let days = |seconds: f64| seconds / 86_400.0;
            return Err(EdfError::Excess(format!(
                "{:.1} days, over the limit of {}; cut it into nights",
                days(timeline.duration_s),
                days(MAX_RECORDING_S)
            )));
        }
        Ok(timeline)
    }

    /// Records without holes; says so where the last one's onset does not fit.
    fn contiguous<R: Read + Seek>(
        reader: &mut RecordReader<R>,
        first_sample_s: f64,
        warnings: &mut Vec<String>,
    ) -> Result<Timeline, EdfError> {
        let record_duration_s = reader.header().record_duration_s;
        let record_count = reader.header().record_count;
        let last = record_count.saturating_sub(1);
        if let Some(onset_s) = reader.record_onset_s(last)? {
            let late_s = onset_s - first_sample_s - last as f64 * record_duration_s;
            if late_s.abs() > record_duration_s {
                warnings.push(format!(
                    "marked as continuous, but the last record is {late_s:.1} s off; read as continuous"
                ));
            }
        }
        Ok(Timeline {
            first_sample_s,
            stretches: vec![Stretch { first_record: 0, start_s: 0.0 }],
            duration_s: record_count as f64 * record_duration_s,
        })
    }

    /// Reads every record's onset.
    fn scan<R: Read + Seek>(
        reader: &mut RecordReader<R>,
        first_sample_s: f64,
        warnings: &mut Vec<String>,
    ) -> Result<Timeline, EdfError> {
        let (records, record_s) = (reader.header().record_count, reader.header().record_duration_s);
        let mut stretches = vec![Stretch { first_record: 0, start_s: 0.0 }];
        let mut found = Found::default();
        let mut follows_s = 0.0;
        each_place(reader, records, first_sample_s, |place| {
            if place.start_s != follows_s {
                stretches.push(Stretch { first_record: place.record, start_s: place.start_s });
            }
            if stretches.len() > MAX_STRETCHES {
                return Err(EdfError::Excess(format!(
                    "over {MAX_STRETCHES} holes; export it again"
                )));
            }
            found.note(place, record_s);
            follows_s = place.start_s + record_s;
            Ok(())
        })?;
        // In a recording of ours holes are what happened in the night and not odd; the gaps tell of
        // them, as they did live.
        let is_ours = reader.header().equipment.starts_with(OUR_EQUIPMENT);
        let recorded_s = records as f64 * record_s;
        found.tell(is_ours && found.hole_s <= recorded_s, warnings);
        Ok(Timeline { first_sample_s, stretches, duration_s: found.end_s })
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

/// What is odd about the records' places.
#[derive(Debug, Default)]
struct Found {
    /// Behind the latest sample, seconds.
    end_s: f64,
    unsaid: u64,
    contradicted: u64,
    holes: u64,
    hole_s: f64,
    overlaps: u64,
    overlap_s: f64,
}

impl Found {
    fn note(&mut self, place: Place, record_s: f64) {
        self.unsaid += u64::from(place.basis == Basis::Unsaid);
        self.contradicted += u64::from(place.basis == Basis::Contradicted);
        let start_s = place.start_s;
        if start_s > self.end_s + TOLERANCE_S {
            self.holes += 1;
            self.hole_s += start_s - self.end_s;
        } else if start_s < self.end_s - TOLERANCE_S {
            self.overlaps += 1;
            self.overlap_s += (self.end_s - start_s).min(record_s);
        }
        self.end_s = self.end_s.max(start_s + record_s);
    }

    fn tell(&self, holes_are_usual: bool, warnings: &mut Vec<String>) {
        let Found { unsaid, holes, hole_s, overlaps, overlap_s, .. } = self;
        if *unsaid > 0 {
            warnings.push(format!("{unsaid} record(s) without an onset; taken to follow the last"));
        }
        warnings.extend(contradicted(self.contradicted));
        if *holes > 0 && !holes_are_usual {
            warnings.push(format!("{holes} hole(s) in the recording, {hole_s:.1} s in all"));
        }
        if *overlaps > 0 {
            warnings.push(format!(
                "{overlaps} record(s) overlap earlier ones; {overlap_s:.1} s of them dropped"
            ));
        }
    }
}
