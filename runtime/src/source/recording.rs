//! A recorded file of any format that can be replayed, recognized by its content and not by its
//! name. Refuses everything else in one line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::edf::EdfSource;
use super::store::StoreSource;
use super::{Source, SourceError};
use crate::signal::{SampleBlock, StreamInfo};

const HDF5_SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

/// A file that can be read more than once.
pub enum Recording {
    /// EDF, EDF+, BDF or BDF+.
    Edf(Box<EdfSource>),
    /// Preprocessed HDF5.
    Store(Box<StoreSource>),
}

/// Opens a recording: EDF, BDF or the preprocessed HDF5 of the reference.
///
/// # Errors
/// [`SourceError::Unreadable`] for anything else, one line that names the file.
pub fn open(path: &Path) -> Result<Recording, SourceError> {
    let refuse = |reason: &str| SourceError::Unreadable(format!("{} {reason}", path.display()));
    let cannot_open = |error: std::io::Error| {
        refuse(&format!("cannot be opened: {error}; check the path and the permissions"))
    };
    let metadata = std::fs::metadata(path).map_err(cannot_open)?;
    if !metadata.is_file() {
        return Err(refuse("is a folder or a device; give a recording's file"));
    }
    if metadata.len() == 0 {
        return Err(refuse("is empty; copy or export the recording again"));
    }
    let mut magic = Vec::new();
    File::open(path).and_then(|f| f.take(8).read_to_end(&mut magic)).map_err(cannot_open)?;
    match magic.as_slice() {
        HDF5_SIGNATURE => Ok(Recording::Store(Box::new(StoreSource::open(path)?))),
        [0xff, b'B', b'I', b'O', ..] | [b'0', b' ' | 0, ..] => {
            Ok(Recording::Edf(Box::new(EdfSource::open(path)?)))
        }
        _ => Err(refuse("is neither EDF, BDF nor HDF5; export the recording as EDF or EDF+")),
    }
}

impl Recording {
    /// Restricts reading to these channels (indices into [`StreamInfo::signals`]; others are
    /// ignored) and rewinds.
    pub fn select(&mut self, channels: &[usize]) {
        match self {
            Recording::Edf(source) => source.select(channels),
            Recording::Store(source) => source.select(channels),
        }
    }

    /// Starts again from the first sample.
    pub fn rewind(&mut self) {
        match self {
            Recording::Edf(source) => source.rewind(),
            Recording::Store(source) => source.rewind(),
        }
    }

    /// Blocks of at most `samples` (at least 1); default 1 s. An EDF block never spans records.
    #[must_use]
    pub fn with_block_samples(self, samples: usize) -> Self {
        match self {
            Recording::Edf(source) => Recording::Edf(Box::new(source.with_block_samples(samples))),
            Recording::Store(source) => {
                Recording::Store(Box::new(source.with_block_samples(samples)))
            }
        }
    }
}

impl Source for Recording {
    fn info(&self) -> &StreamInfo {
        match self {
            Recording::Edf(source) => source.info(),
            Recording::Store(source) => source.info(),
        }
    }

    fn next_block(&mut self, block: &mut SampleBlock) -> Result<bool, SourceError> {
        match self {
            Recording::Edf(source) => source.next_block(block),
            Recording::Store(source) => source.next_block(block),
        }
    }
}
