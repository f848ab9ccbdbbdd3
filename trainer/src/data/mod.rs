//! What training reads and writes: the store of preprocessed signals, embeddings, labels, splits.
//!
//! Everything here may come from elsewhere, the reference's own files included, so every reader
//! caps what it allocates and refuses what it does not know in one line that names file and place.
//! Files are written beside their place and renamed into it: a run that is killed leaves no half one.

pub mod embeddings;
pub mod labels;
pub mod split;
pub mod store;
pub mod windows;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

pub use embeddings::Night;
pub use labels::{Demographics, Events};
pub use split::Split;
pub use store::StoreFile;

use rust_hdf5::{H5File, Hdf5Error};

use crate::cli::{FAILED, UNREADABLE};

/// Extension of the files of stores and of embeddings.
pub const EXTENSION: &str = "hdf5";
/// Deeper folders are not looked into: links may go round.
const MAX_DEPTH: usize = 16;

/// Why data cannot be used or not be written. One line, for the user.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// One line of a text file is not what it should be.
    #[error("{}: line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The file cannot be written; what was in its place still is.
    #[error("{}: cannot be written: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl DataError {
    pub(crate) fn unreadable(path: &Path, reason: impl std::fmt::Display) -> Self {
        DataError::Unreadable { path: path.to_owned(), reason: one_line(reason) }
    }

    pub(crate) fn refused(path: &Path, reason: impl std::fmt::Display) -> Self {
        DataError::Refused { path: path.to_owned(), reason: one_line(reason) }
    }

    pub(crate) fn line(path: &Path, line: u64, reason: impl std::fmt::Display) -> Self {
        DataError::Line { path: path.to_owned(), line, reason: one_line(reason) }
    }

    pub(crate) fn unwritable(path: &Path, reason: impl std::fmt::Display) -> Self {
        DataError::Unwritable { path: path.to_owned(), reason: one_line(reason) }
    }

    /// The exit code of a command that ends with this.
    pub fn exit_code(&self) -> u8 {
        match self {
            DataError::Unwritable { .. } => FAILED,
            _ => UNREADABLE,
        }
    }
}

/// A recording's id: its file's name up to the first dot, as the reference takes it.
pub fn study_id(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// Files in `dir` and its folders whose extension is one of `extensions` (in any case): paths
/// relative to `dir`, sorted. Hidden files and folders are left out.
///
/// # Errors
/// [`DataError::Unreadable`] if a folder cannot be listed.
pub fn find(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    list(dir, Path::new(""), extensions, MAX_DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

fn list(
    dir: &Path,
    below: &Path,
    extensions: &[&str],
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> Result<(), DataError> {
    let folder = dir.join(below);
    let refuse = |e: std::io::Error| DataError::unreadable(&folder, e);
    for entry in fs::read_dir(&folder).map_err(refuse)? {
        let entry = entry.map_err(refuse)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = below.join(entry.file_name());
        // Follows links; one that leads nowhere is no recording.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_dir() && depth > 0 {
            list(dir, &path, extensions, depth - 1, found)?;
        } else if metadata.is_file() {
            let extension = path.extension().unwrap_or_default();
            if extensions.iter().any(|known| extension.eq_ignore_ascii_case(known)) {
                found.push(path);
            }
        }
    }
    Ok(())
}

/// Puts a file in place as a whole: `write` gets the name beside it to write and to sync.
///
/// # Errors
/// [`DataError::Unwritable`]; what was in place still is, and the part is removed.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let refuse = |e: std::io::Error| DataError::unwritable(path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(refuse)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = folder.join(format!(".{name}.part"));
    let written = write(&part).and_then(|()| fs::rename(&part, path).map_err(refuse));
    if written.is_err() {
        // It may never have come into being.
        let _ = fs::remove_file(&part);
        return written;
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(refuse)
}

/// [`replace`] by `bytes`.
///
/// # Errors
/// As [`replace`].
pub fn replace_bytes(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    replace(path, |part| {
        let write = |part: &Path| {
            let mut file = File::create(part)?;
            std::io::Write::write_all(&mut file, bytes)?;
            file.sync_all()
        };
        write(part).map_err(|e| DataError::unwritable(path, e))
    })
}

/// Opens an HDF5 file for reading. One that is cut is refused even where all that is looked for lies
/// in the part that is left, as the library in C does.
pub(crate) fn open_hdf5(path: &Path) -> Result<H5File, DataError> {
    let mut start = [0; 48];
    let mut file = File::open(path).map_err(|e| DataError::unreadable(path, e))?;
    let length = file.metadata().map_err(|e| DataError::unreadable(path, e))?.len();
    let read = file.read(&mut start).map_err(|e| DataError::unreadable(path, e))?;
    if let Some(end) = end_of_file(&start[..read])
        && length < end
    {
        let reason = format!("is cut: {length} of {end} bytes; make it again");
        return Err(DataError::refused(path, reason));
    }
    H5File::options().best_effort_locking().open(path).map_err(|e| damaged(path, &e))
}

/// Where the file's superblock, of any version, says that it ends.
fn end_of_file(start: &[u8]) -> Option<u64> {
    let place = match start.get(8)? {
        0 => 40,
        1 => 44,
        _ => 28,
    };
    let bytes = start.get(place..place + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// The refusal of a file that the HDF5 library cannot read.
pub(crate) fn damaged(path: &Path, error: &Hdf5Error) -> DataError {
    DataError::refused(path, format!("is no intact HDF5 file ({error}); make it again"))
}

/// A file of at most `max_bytes`.
pub(crate) fn read_capped(path: &Path, max_bytes: u64) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes))
        .map_err(|e| DataError::unreadable(path, e))?;
    if bytes.len() as u64 > max_bytes {
        return Err(DataError::refused(path, format!("is larger than {} MB", max_bytes >> 20)));
    }
    Ok(bytes)
}

fn one_line(reason: impl std::fmt::Display) -> String {
    reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
