//! Stages as annotations of an EDF+ or BDF+ file: a hypnogram of its own, as Sleep-EDF and our
//! `hypnogram.edf` are, or a recording that has been scored.

use std::fs::File;
use std::path::Path;

use super::codes::{Decoder, YASA};
use super::draft::{Draft, Entry, Place};
use super::names::stage_among_events;
use super::time::within_a_week;
use super::{MAX_STRETCHES, ReadOptions, Scoring, Start, Timing};
use sfm_edf::annotation::{Annotation, each_annotation, too_many};
use sfm_edf::onset::first_onset_s;
use sfm_edf::{DateTime, EdfError, Header, RecordReader};

/// Reads the annotations that are stages.
pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Scoring, String> {
    let mut draft = Draft::new("EDF+ annotations", Timing::Seconds);
    let mut refused = None;
    let mut read = || -> Result<(), EdfError> {
        let mut reader = RecordReader::new(File::open(path)?)?;
        let first_s = first_onset_s(&mut reader)?.unwrap_or(0.0);
        draft.start = start(reader.header(), first_s);
        draft.end_s = end_s(reader.header());
        each_annotation(&mut reader, |annotation| {
            match entry(&annotation, options) {
                // The first refusal counts, as in every other format.
                Err(reason) => drop(refused.get_or_insert(reason)),
                Ok(None) => {
                    let end_s = annotation.duration_s.map(|s| annotation.onset_s + s);
                    let text = annotation.text.split("@@").next().unwrap_or_default();
                    draft.pass_over(text, end_s.map(|end_s| (annotation.onset_s, end_s)));
                }
                Ok(Some(_)) if draft.entries.len() == MAX_STRETCHES => {
                    return Err(too_many("sleep stages", MAX_STRETCHES));
                }
                Ok(Some(entry)) => draft.entries.push(entry),
            }
            Ok(())
        })
    };
    read().map_err(|e| e.to_string())?;
    if let Some(reason) = refused {
        return Err(reason);
    }
    draft.finish()
}

/// When the first sample was taken. The first day and hour that EDF's two-digit year can say are
/// what anonymizers write: such a start is not known.
fn start(header: &Header, first_s: f64) -> Option<Start> {
    let start = header.start?.plus_seconds(first_s);
    if start.date() != (1985, 1, 1) {
        return Some(Start::Date(start));
    }
    let clock_s = DateTime::new((1985, 1, 1), (0, 0, 0)).map(|day| start.seconds_since(day));
    clock_s.filter(|s| *s > first_s).map(Start::Clock)
}

/// Where the recording ends. A file of annotations alone may end anywhere.
fn end_s(header: &Header) -> Option<f64> {
    let has_signals = header.signals.iter().any(|signal| !signal.is_annotation);
    has_signals.then_some(header.record_count as f64 * header.record_duration_s)
}

/// The stage that an annotation is; `None` of another event.
fn entry(annotation: &Annotation, options: &ReadOptions) -> Result<Option<Entry>, String> {
    let place = Place::Annotation;
    let at = |reason: String| place.refused(annotation.onset_s, reason);
    let mut decoder = Decoder::new(options.codes.as_ref(), &YASA);
    let coded = options.codes.as_ref().and_then(|_| decoder.stage(&annotation.text).ok());
    let stage = match coded {
        Some(stage) => Some(stage),
        None => stage_among_events(&annotation.text).map_err(at)?,
    };
    let Some(stage) = stage else { return Ok(None) };
    let onset_s = within_a_week(annotation.onset_s).map_err(at)?;
    let duration_s = annotation.duration_s.map(|s| within_a_week(s).map_err(at)).transpose()?;
    let end_s = duration_s.filter(|s| *s > 0.0).map(|s| onset_s + s);
    Ok(Some(Entry { place, onset_s, end_s, stage }))
}
