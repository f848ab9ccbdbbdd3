//! EDF, EDF+C, EDF+D, BDF and BDF+: reading and writing by streaming, one data record at a time.
//!
//! Specifications: Kemp et al. 1992 (EDF), Kemp & Olivan 2003 (EDF+), Biosemi (BDF, 24 bits).
//! Real recorders are sloppy, so what can be read without guessing is read, with a warning; a
//! header that claims the impossible is refused in one line before anything is allocated by it.
//! Patient identification is never read into memory structures, and written as `X X X X`.

pub mod annotate;
pub mod annotation;
pub mod datetime;
pub mod field;
pub mod gap;
pub mod header;
pub mod onset;
pub mod record;
mod scale;
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
