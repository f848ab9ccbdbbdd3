//! EDF+ annotations of a file: one at a time, or all at once. Damaged ones are passed over; the file's
//! other annotations are still read.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use super::EdfError;
use super::onset::first_onset_s;
use super::record::RecordReader;
use super::tal::Tals;

/// One text with its place in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// Seconds after the first sample of the recording.
    pub onset_s: f64,
    /// Seconds; `None` where none is given.
    pub duration_s: Option<f64>,
    /// The text, not empty.
    pub text: String,
}

/// Most annotations of a file: seven a second for eight days are fewer.
const MAX_READ: usize = 5_000_000;
/// Most annotations that are held at a time. A scored night has some thousand.
pub const MAX_HELD: usize = 500_000;
/// Most bytes of their texts.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// All annotations of an EDF+ or BDF+ file in the file's order.
///
/// # Errors
/// As [`super::Header::read`] and [`read_annotations`].
pub fn annotations(path: &Path) -> Result<Vec<Annotation>, EdfError> {
    read_annotations(&mut RecordReader::new(File::open(path)?)?)
}

/// All annotations behind an open reader; empty for files without annotation signals.
///
/// # Errors
/// [`EdfError::Excess`] if there are more than [`MAX_HELD`], [`EdfError::Io`].
pub fn read_annotations<R: Read + Seek>(
    reader: &mut RecordReader<R>,
) -> Result<Vec<Annotation>, EdfError> {
    let (mut found, mut text_bytes) = (Vec::new(), 0);
    each_annotation(reader, |annotation| {
        text_bytes += annotation.text.len();
        if found.len() == MAX_HELD || text_bytes > MAX_TEXT_BYTES {
            return Err(too_many("annotations", MAX_HELD));
        }
        found.push(annotation);
        Ok(())
    })?;
    Ok(found)
}

/// Hands every annotation behind an open reader to `take`, in the file's order. Holds one at a time
/// and the bytes of one record.
///
/// # Errors
/// Of `take`; [`EdfError::Excess`] if there are more than any file has; [`EdfError::Io`].
pub fn each_annotation<R: Read + Seek>(
    reader: &mut RecordReader<R>,
    mut take: impl FnMut(Annotation) -> Result<(), EdfError>,
) -> Result<(), EdfError> {
    let signals: Vec<usize> = (0..)
        .zip(&reader.header().signals)
        .filter(|(_, signal)| signal.is_annotation)
        .map(|(index, _)| index)
        .collect();
    // A recording that starts within a second says so by its first record's onset.
    let first_sample_s = first_onset_s(reader)?.unwrap_or(0.0);
    let mut count = 0;
    for record in 0..reader.header().record_count {
        for &signal in &signals {
            for tal in Tals::new(reader.annotation_bytes(record, signal)?) {
                let onset_s = to_100_ns(tal.onset_s - first_sample_s);
                for text in tal.texts() {
                    count += 1;
                    if count > MAX_READ {
                        return Err(too_many("annotations", MAX_READ));
                    }
                    take(Annotation { onset_s, duration_s: tal.duration_s, text })?;
                }
            }
        }
    }
    Ok(())
}

/// The refusal of a file with more than `limit` of `what`.
pub fn too_many(what: &str, limit: usize) -> EdfError {
    EdfError::Excess(format!("over {limit} {what}; split the file or leave some out"))
}

/// The finest step recorders write; takes away what the subtraction of decimals left.
fn to_100_ns(seconds: f64) -> f64 {
    (seconds * 1e7).round() / 1e7
}
