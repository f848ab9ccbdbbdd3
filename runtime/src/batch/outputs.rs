//! The files that a recording's run left in its folder, as the marker lists them: so that a file that
//! was lost, cut or zeroed later is noticed by the next run. Sizes are always compared; contents by
//! a checksum of all of a small file and of pieces throughout a large one, so that a look at an
//! archive of thousands of nights stays a matter of seconds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::files;

/// A file up to this long is read as a whole, bytes.
const WHOLE_BYTES: u64 = 256 << 10;
/// Of a longer one this many pieces, the first and the last among them.
const PIECES: u64 = 32;
/// Length of a piece.
const PIECE_BYTES: u64 = 4 << 10;
/// Folders within the folder: pictures have one.
const MAX_DEPTH: usize = 2;
/// More files than any run writes.
const MAX_FILES: usize = 1000;

/// A file as it was when the run was over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Path below the recording's folder, `/` between its parts.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// CRC-32 of the whole of it, or of the pieces that are compared.
    pub crc32: u32,
}

/// How closely a folder is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Files and their sizes.
    Sizes,
    /// Contents too.
    Contents,
}

/// What lay in a folder before a run: files of others, or of earlier runs, which are not its own.
#[derive(Debug, Default)]
pub struct Before(BTreeMap<String, (u64, Option<SystemTime>)>);

impl Before {
    /// What is in `folder` now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        each_file(folder, "", 0, &mut |name, metadata| {
            files.insert(name, (metadata.len(), metadata.modified().ok()));
            Ok(())
        })?;
        Ok(Self(files))
    }

    /// What was written into `folder` since, and is on the disk when this returns: the files, then
    /// the folders that name them.
    ///
    /// # Errors
    /// A file cannot be read again, or the disk does not take it.
    pub fn written(&self, folder: &Path) -> io::Result<Vec<OutputFile>> {
        let mut written = Vec::new();
        each_file(folder, "", 0, &mut |name, metadata| {
            let now = (metadata.len(), metadata.modified().ok());
            if self.0.get(&name) != Some(&now) {
                let mut file = File::open(folder.join(&name))?;
                file.sync_all()?;
                let (bytes, crc32) = checksum(&mut file)?;
                written.push(OutputFile { name, bytes, crc32 });
            }
            Ok(())
        })?;
        written.sort_by(|a, b| a.name.cmp(&b.name));
        for inner in written.iter().filter_map(|file| file.name.rsplit_once('/')) {
            files::sync_folder(&folder.join(inner.0))?;
        }
        files::sync_folder(folder)?;
        Ok(written)
    }
}

/// The first of `files` that is not in `folder` as it was written; `None` if all are.
pub fn changed<'a>(folder: &Path, files: &'a [OutputFile], look: Look) -> Option<&'a str> {
    let is_whole = |file: &OutputFile| -> io::Result<bool> {
        let path = folder.join(&file.name);
        let is_as_long = fs::metadata(&path)?.len() == file.bytes;
        if !is_as_long || look == Look::Sizes {
            return Ok(is_as_long);
        }
        Ok(checksum(&mut File::open(&path)?)? == (file.bytes, file.crc32))
    };
    files.iter().find(|file| !is_whole(file).unwrap_or(false)).map(|file| file.name.as_str())
}

/// Calls `take` for every file of ours below `folder`: no hidden one, no marker, no link.
fn each_file(
    folder: &Path,
    prefix: &str,
    depth: usize,
    take: &mut dyn FnMut(String, &fs::Metadata) -> io::Result<()>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.take(MAX_FILES) {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let name = format!("{prefix}{name}");
        let metadata = fs::symlink_metadata(entry.path())?;
        if metadata.is_dir() && depth < MAX_DEPTH {
            each_file(&entry.path(), &format!("{name}/"), depth + 1, take)?;
        } else if metadata.is_file() && name != super::marker::FILE_NAME {
            take(name, &metadata)?;
        }
    }
    Ok(())
}

/// Length and checksum.
fn checksum(file: &mut File) -> io::Result<(u64, u32)> {
    let bytes = file.metadata()?.len();
    let mut hasher = crc32fast::Hasher::new();
    let mut piece = Vec::new();
    if bytes <= WHOLE_BYTES {
        file.take(WHOLE_BYTES).read_to_end(&mut piece)?;
        hasher.update(&piece);
        return Ok((bytes, hasher.finalize()));
    }
    for index in 0..PIECES {
        let start = (bytes - PIECE_BYTES) / (PIECES - 1) * index;
        // The division leaves a rest; the last piece is the file's end.
        let start = if index == PIECES - 1 { bytes - PIECE_BYTES } else { start };
        piece.clear();
        file.seek(SeekFrom::Start(start))?;
        file.take(PIECE_BYTES).read_to_end(&mut piece)?;
        hasher.update(&piece);
    }
    Ok((bytes, hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_run_wrote_is_its_own_and_any_change_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path();
        fs::write(folder.join("theirs.txt"), "theirs").expect("written");
        fs::write(folder.join("night.json"), "{}").expect("written");
        let before = Before::of(folder).expect("read");
        fs::create_dir(folder.join("plots")).expect("made");
        fs::write(folder.join("plots/score.svg"), "<svg/>").expect("written");
        fs::write(folder.join("night.json"), "{ }").expect("written");
        fs::write(folder.join(".part"), "x").expect("written");
        fs::write(folder.join("batch.json"), "{}").expect("written");
        let large: Vec<u8> = (0..3 << 20).map(|byte| byte as u8 | 1).collect();
        fs::write(folder.join("embeddings.h5"), &large).expect("written");
        let files = before.written(folder).expect("synced");
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["embeddings.h5", "night.json", "plots/score.svg"]);
        assert_eq!(changed(folder, &files, Look::Contents), None);
        fs::remove_file(folder.join("theirs.txt")).expect("removed");
        assert_eq!(changed(folder, &files, Look::Contents), None);

        let mut cases: Vec<Vec<u8>> = vec![large[..large.len() - 1].to_vec(), vec![0; large.len()]];
        // A power cut leaves pages of zeros, mostly at the end.
        let mut tail = large.clone();
        tail[(2 << 20)..].fill(0);
        cases.push(tail);
        for case in cases {
            fs::write(folder.join("embeddings.h5"), case).expect("written");
            assert_eq!(changed(folder, &files, Look::Contents), Some("embeddings.h5"));
        }
        fs::write(folder.join("embeddings.h5"), &large).expect("written");
        fs::write(folder.join("night.json"), "{1}").expect("written");
        assert_eq!(changed(folder, &files, Look::Sizes), None);
        assert_eq!(changed(folder, &files, Look::Contents), Some("night.json"));
        fs::remove_file(folder.join("plots/score.svg")).expect("removed");
        assert_eq!(changed(folder, &files, Look::Sizes), Some("plots/score.svg"));
    }
}
