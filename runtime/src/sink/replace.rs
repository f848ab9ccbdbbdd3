//! A file of the output folder that is only ever replaced as a whole: written beside its place, then
//! renamed into it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::SinkError;
use crate::files::{self, Durability};

/// Replaces the file at `path` by `content`, as a whole.
///
/// # Errors
/// The file cannot be written.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), SinkError> {
    if path.file_name().is_none() {
        return Err(SinkError::cannot_write(path, "it names no file"));
    }
    files::replace(path, content, Durability::Rename)
        .map_err(|reason| SinkError::cannot_write(path, reason))
}

/// The folder of a live session's output. Another one may come to lie under its path, whose files are
/// not to be replaced.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Home {
    /// The folder that is there now.
    pub fn new(path: PathBuf) -> Self {
        Self { identity: identity(&path), path }
    }

    /// It is still there.
    pub fn is_there(&self) -> bool {
        identity(&self.path) == self.identity
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

/// Elsewhere a folder with open files cannot be renamed.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<(u64, u64)> {
    None
}

/// A file of the output folder and the name it is written under.
#[derive(Debug)]
pub(crate) struct ReplacedFile {
    path: PathBuf,
    part: PathBuf,
}

impl ReplacedFile {
    /// Takes the place of `name` in `out_dir` and removes what an earlier run left there.
    pub fn open(out_dir: &Path, name: &str) -> Result<Self, SinkError> {
        let file = Self::reopen(out_dir, name);
        for stale in [&file.path, &file.part] {
            files::remove(stale).map_err(|reason| SinkError::cannot_write(stale, reason))?;
        }
        Ok(file)
    }

    /// Takes the place of `name` in `out_dir` and leaves what is there until it is replaced.
    pub fn reopen(out_dir: &Path, name: &str) -> Self {
        let path = out_dir.join(name);
        ReplacedFile { part: files::part_of(&path), path }
    }

    /// The same name in another folder.
    pub fn move_to(&mut self, out_dir: &Path) {
        for path in [&mut self.path, &mut self.part] {
            if let Some(name) = path.file_name() {
                *path = out_dir.join(name);
            }
        }
    }

    /// The file's place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next content lies between [`Self::begin`] and [`Self::put_in_place`].
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// Makes an empty file for the next content.
    pub fn begin(&self) -> std::io::Result<File> {
        files::create(&self.part)
    }

    /// Replaces the file by what lies under [`Self::part`].
    pub fn put_in_place(&self) -> Result<(), SinkError> {
        files::put_in_place(&self.part, &self.path, Durability::Rename)
            .map_err(|reason| self.cannot_write(reason))
    }

    /// Replaces the file by `content`.
    pub fn write(&self, content: &[u8]) -> Result<(), SinkError> {
        write_whole(&self.path, content)
    }

    /// Takes away what was begun and cannot be completed, which gives a full disk its space back.
    pub fn give_up(&self) {
        // What cannot be removed either is of no use to anyone.
        let _ = files::remove(&self.part);
    }

    /// The error that names this file.
    pub fn cannot_write(&self, reason: impl std::fmt::Display) -> SinkError {
        SinkError::cannot_write(&self.path, reason)
    }
}
