//! A recorded file of any format that can be replayed, recognized by its content and not by its
//! name. Refuses everything else in one line.

use std::io::Read;
use std::path::Path;

use super::edf::EdfSource;
use super::store::StoreSource;
use super::{Source, SourceError};
use crate::edf::header;
use crate::files;
use crate::signal::{SampleBlock, StreamInfo};

/// How the equipment is called that records live sessions, whatever its version.
const RECORDER: &str = "sfm-stream";
const HDF5_SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// The fixed header of EDF, and more than any signature.
const HEAD_BYTES: u64 = 256;
/// How packed files begin, what unpacks them, and the ending that it insists on.
const PACKED: [(&[u8], &str, Option<&str>); 6] = [
    (b"\x1f\x8b", "gunzip", Some("gz")),
    (b"PK\x03\x04", "unzip", None),
    (b"BZh", "bunzip2", Some("bz2")),
    (b"\xfd7zXZ\0", "unxz", Some("xz")),
    (b"\x28\xb5\x2f\xfd", "unzstd", Some("zst")),
    (b"7z\xbc\xaf\x27\x1c", "7z x", None),
];

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
    let mut head = Vec::new();
    files::open_input(path)
        .and_then(|f| f.take(HEAD_BYTES).read_to_end(&mut head))
        .map_err(cannot_open)?;
    if head.starts_with(HDF5_SIGNATURE) {
        return Ok(Recording::Store(Box::new(StoreSource::open(path)?)));
    }
    if header::recognize(&head).is_some() {
        return Ok(Recording::Edf(Box::new(EdfSource::open(path)?)));
    }
    let packed = PACKED.iter().find(|(signature, ..)| head.starts_with(signature));
    Err(refuse(&match packed {
        Some((_, tool, ending)) => {
            let shown = path.display();
            let is_named =
                |ending| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
            let command = match ending.filter(|ending| !is_named(*ending)) {
                None => format!("{tool} '{shown}'"),
                Some(ending) => {
                    format!("mv '{shown}' '{shown}.{ending}' && {tool} '{shown}.{ending}'")
                }
            };
            format!("is packed, neither EDF, BDF nor HDF5 as it is; unpack it first: {command}")
        }
        None => "is neither EDF, BDF nor HDF5; export the recording as EDF or EDF+".to_owned(),
    }))
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

    /// It was recorded by a live session of this program.
    pub fn is_of_a_session(&self) -> bool {
        match self {
            Recording::Edf(source) => source.equipment().starts_with(RECORDER),
            Recording::Store(_) => false,
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
