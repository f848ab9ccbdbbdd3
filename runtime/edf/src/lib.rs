//! EDF, EDF+C, EDF+D, BDF and BDF+: reading and writing by streaming, one data record at a time.
//!
//! Specifications: Kemp et al. 1992 (EDF), Kemp & Olivan 2003 (EDF+), Biosemi (BDF, 24 bits).
//! Real recorders are sloppy, so what can be read without guessing is read, with a warning; a
//! header that claims the impossible is refused in one line before anything is allocated by it.
//! Patient identification is never read into memory structures, and written as `X X X X`.
//!
//! ```
//! use std::io::Cursor;
//!
//! use sfm_edf::{Continuity, EdfWriter, RecordReader, RecordingSpec, SampleFormat, SignalSpec};
//!
//! let signal = SignalSpec {
//!     label: "EEG C3-M2".into(),
//!     unit: "uV".into(),
//!     prefilter: String::new(),
//!     physical_min: -500.0,
//!     physical_max: 500.0,
//!     digital_min: -32768,
//!     digital_max: 32767,
//!     samples_per_record: 4,
//! };
//! let spec = RecordingSpec {
//!     sample_format: SampleFormat::I16,
//!     continuity: Continuity::Plain,
//!     start: None,
//!     record_duration_s: 1.0,
//!     signals: vec![signal],
//!     annotation_bytes: 0,
//! };
//! let mut writer = EdfWriter::new(Cursor::new(Vec::new()), &spec)?;
//! writer.write_record(&[&[0, 100, -100, 32767]], &[])?;
//! let file = writer.finish()?;
//!
//! let mut reader = RecordReader::new(file)?;
//! assert_eq!(reader.header().signals[0].label, "EEG C3-M2");
//! let mut microvolts = Vec::new();
//! reader.physical(0, 0, 0..4, &mut microvolts)?;
//! assert_eq!(microvolts[3], 500.0);
//! # Ok::<(), sfm_edf::EdfError>(())
//! ```

#![forbid(unsafe_code)]

pub mod annotate;
pub mod annotation;
pub mod datetime;
pub mod field;
pub mod gap;
pub mod header;
pub mod onset;
pub mod record;
mod scale;
pub mod tal;
pub mod writer;

pub use annotation::{Annotation, annotations};
pub use datetime::DateTime;
pub use header::{Continuity, Header, SampleFormat, Signal};
pub use record::RecordReader;
pub use scale::Scale;
pub use writer::{EdfWriter, RecordingSpec, SignalSpec};

/// Why a file is not read or written. Every message is one line without the file's name.
#[derive(Debug, thiserror::Error)]
pub enum EdfError {
    /// The bytes are no EDF or BDF at all: another reader may fit.
    #[error("is no EDF or BDF file: {0}")]
    Foreign(String),
    /// An EDF header that is cut, contradictory or beyond any recorder: export the file again.
    #[error("has a damaged EDF header: {0}")]
    Damaged(String),
    /// More than any recording holds, and more than memory is given to: with the limit.
    #[error("holds more than is read: {0}")]
    Excess(String),
    /// What was to be written does not fit the format.
    #[error("cannot be written as EDF: {0}")]
    Unwritable(String),
    /// The file system failed, or the file ended while it was read.
    #[error("cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
}
