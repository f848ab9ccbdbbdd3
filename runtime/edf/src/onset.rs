//! Where records lie in time, by the onsets that they carry. An onset is a few digits of text: one
//! that is damaged must not move the rest of a night, or drop it as older than what was read. So a
//! jump ahead is believed where the records behind it agree, and where it is the last thing a file
//! says, only as far as the file itself reaches. What is not believed follows the record before it,
//! and is counted.

use std::collections::VecDeque;
use std::io::{Read, Seek};

use super::EdfError;
use super::record::RecordReader;

/// Records closer than this to where the last ended are contiguous, seconds: recorders round
/// onsets, and their clocks drift against the samples.
pub const TOLERANCE_S: f64 = 0.002;
/// A record placed further from the first than this has a damaged onset, seconds (7 days). Time
/// without samples costs as many epochs as time with them.
const MAX_ONSET_S: f64 = 7.0 * 86_400.0;
/// Records behind a jump that are asked about it.
const AHEAD: usize = 8;
/// The longest jump of the last record that needs no confirmation by another, seconds (25 h): a session may go on after a
/// day without samples, and be cut again at once.
const UNDOUBTED_S: f64 = 25.0 * 3600.0;

/// How a record's place is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The record says it.
    Said,
    /// It says nothing, or what cannot be; it is taken to follow the one before.
    Unsaid,
    /// Those around it contradict what it says; it is taken to follow the one before.
    Contradicted,
}

/// The place of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Which.
    pub record: u64,
    /// Seconds after the first sample of the recording.
    pub start_s: f64,
    /// How it is known.
    pub basis: Basis,
}

/// What a file spans.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Extent {
    /// Header's start to the first sample, seconds.
    pub first_s: f64,
    /// First sample to the begin of the last record, seconds.
    pub last_s: f64,
    /// Records whose place is not what they say.
    pub contradicted: u64,
}

/// Onset of the first record, seconds after the header's start; `None` where it has none. One that
/// the records behind it contradict is theirs instead.
///
/// # Errors
/// [`EdfError::Io`].
pub fn first_onset_s<R: Read + Seek>(
    reader: &mut RecordReader<R>,
) -> Result<Option<f64>, EdfError> {
    let header = reader.header();
    let (records, record_s) = (header.record_count, header.record_duration_s);
    let Some(first_s) = reader.record_onset_s(0)?.filter(|s| s.abs() < MAX_ONSET_S) else {
        return Ok(None);
    };
    let mut others = Vec::new();
    for record in 1..records.min(1 + AHEAD as u64) {
        // As the first would say if there were no hole between them.
        let onset_s = reader.record_onset_s(record)?.filter(|s| s.abs() < MAX_ONSET_S);
        others.extend(onset_s.map(|onset_s| (onset_s, onset_s - record as f64 * record_s)));
    }
    let Some(&(_, second_s)) = others.first() else { return Ok(Some(first_s)) };
    let earlier = others.iter().filter(|(onset_s, _)| *onset_s < first_s).count();
    let agree = others.iter().filter(|(_, at_s)| (at_s - second_s).abs() <= record_s).count();
    // A hole longer than all that is recorded, right behind a single record.
    let is_alone = second_s - first_s > UNDOUBTED_S.max(records as f64 * record_s);
    let doubted = 2 * earlier > others.len() || (is_alone && agree > 1 && agree == others.len());
    Ok(Some(if doubted { second_s } else { first_s }))
}

/// Calls `take` for every one of the first `records` in the file's order; `first_s` is
/// [`first_onset_s`], or 0.
///
/// # Errors
/// Of `take`; [`EdfError::Io`].
pub fn each_place<R: Read + Seek>(
    reader: &mut RecordReader<R>,
    records: u64,
    first_s: f64,
    mut take: impl FnMut(Place) -> Result<(), EdfError>,
) -> Result<(), EdfError> {
    let record_s = reader.header().record_duration_s;
    let mut said = VecDeque::with_capacity(AHEAD + 1);
    let (mut next, mut follows_s) = (0, 0.0);
    for record in 0..records {
        while next < records && said.len() <= AHEAD {
            let onset_s = reader.record_onset_s(next)?.map(|onset_s| onset_s - first_s);
            said.push_back(onset_s.filter(|s| s.abs() < MAX_ONSET_S));
            next += 1;
        }
        let (start_s, basis) = match said.pop_front().flatten() {
            None => (follows_s, Basis::Unsaid),
            // The recording begins with it, whatever it says.
            Some(said_s) if record == 0 && said_s.abs() > TOLERANCE_S => (0.0, Basis::Contradicted),
            Some(said_s) if (said_s - follows_s).abs() <= TOLERANCE_S => (follows_s, Basis::Said),
            Some(said_s) if is_believed(said_s, follows_s, record_s, &said) => {
                (said_s, Basis::Said)
            }
            Some(_) => (follows_s, Basis::Contradicted),
        };
        take(Place { record, start_s, basis })?;
        follows_s = start_s + record_s;
    }
    Ok(())
}

/// Whether a record that would follow at `follows_s` begins at `said_s`, where those behind it are
/// `ahead`. One that reaches back costs nothing but itself.
fn is_believed(said_s: f64, follows_s: f64, record_s: f64, ahead: &VecDeque<Option<f64>>) -> bool {
    let jump_s = said_s - follows_s;
    if jump_s <= record_s.max(1.0) {
        return true;
    }
    let known = ahead.iter().flatten();
    match known.clone().count() {
        0 => jump_s <= UNDOUBTED_S.max(follows_s),
        count => 2 * known.filter(|&&s| s >= said_s - TOLERANCE_S).count() > count,
    }
}

/// What the first `records` of a file span.
///
/// # Errors
/// [`EdfError::Io`].
pub fn extent<R: Read + Seek>(
    reader: &mut RecordReader<R>,
    records: u64,
) -> Result<Extent, EdfError> {
    let first_s = if records > 0 { first_onset_s(reader)?.unwrap_or_default() } else { 0.0 };
    let mut extent = Extent { first_s, ..Extent::default() };
    each_place(reader, records, first_s, |place| {
        extent.last_s = place.start_s;
        extent.contradicted += u64::from(place.basis == Basis::Contradicted);
        Ok(())
    })?;
    Ok(extent)
}

impl Extent {
    /// What of the place of `records`, each `record_s` long, is assumed or is to be marked, one
    /// sentence each.
    pub fn warnings(&self, records: u64, record_s: f64) -> Vec<String> {
        let recorded_s = records as f64 * record_s;
        let hole_s = self.last_s + record_s - recorded_s;
        let marked = (records > 0 && hole_s > recorded_s).then(|| {
            format!("{hole_s:.1} s of holes, more than the {recorded_s:.1} s that are recorded")
        });
        contradicted(self.contradicted).into_iter().chain(marked).collect()
    }
}

/// One sentence on records whose onsets were not believed; `None` without any.
pub fn contradicted(records: u64) -> Option<String> {
    (records > 0).then(|| {
        format!(
            "{records} record(s) with an onset that no other bears out; taken to follow the last"
        )
    })
}
