//! A file that is only ever replaced as a whole: written beside its place, then renamed into it.
//! Safe against a kill at any moment; against a power cut as far as the file system orders a
//! rename behind the data (there is no fsync: a bedside disk may take seconds for one).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::SinkError;

/// Replaces the file at `path` by `content`, as a whole.
///
/// # Errors
/// The file cannot be written.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), SinkError> {
    let Some(name) = path.file_name() else {
        return Err(SinkError::cannot_write(path, "it names no file"));
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    ReplacedFile::reopen(folder, &name.to_string_lossy()).write(content)
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
        let file =
            ReplacedFile { path: out_dir.join(name), part: out_dir.join(format!(".{name}.part")) };
        for stale in [&file.path, &file.part] {
            match fs::remove_file(stale) {
                Err(reason) if reason.kind() != ErrorKind::NotFound => {
                    return Err(SinkError::cannot_write(stale, reason));
                }
                _ => {}
            }
        }
        Ok(file)
    }

    /// Takes the place of `name` in `out_dir` and leaves what is there until it is replaced.
    pub fn reopen(out_dir: &Path, name: &str) -> Self {
        ReplacedFile { path: out_dir.join(name), part: out_dir.join(format!(".{name}.part")) }
    }

    /// The file's place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next content is to be written before [`Self::put_in_place`].
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// Replaces the file by what lies under [`Self::part`].
    pub fn put_in_place(&self) -> Result<(), SinkError> {
        fs::rename(&self.part, &self.path).map_err(|reason| self.cannot_write(reason))
    }

    /// Replaces the file by `content`.
    pub fn write(&self, content: &[u8]) -> Result<(), SinkError> {
        if let Err(reason) = fs::write(&self.part, content) {
            self.give_up();
            return Err(self.cannot_write(reason));
        }
        self.put_in_place()
    }

    /// Takes away what was begun and cannot be completed, which gives a full disk its space back.
    pub fn give_up(&self) {
        // What cannot be removed either is of no use to anyone.
        let _ = fs::remove_file(&self.part);
    }

    /// The error that names this file.
    pub fn cannot_write(&self, reason: impl std::fmt::Display) -> SinkError {
        SinkError::cannot_write(&self.path, reason)
    }
}
