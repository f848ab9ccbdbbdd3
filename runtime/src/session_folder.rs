//! The folder of a live session: what its files are called, and where they are, which may change while
//! the session runs: a folder can be renamed or removed under it. An open file keeps what was written to
//! it, so it is copied to where the session goes on. Nothing that is there is ever written over.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The recording, of 16-bit or of 24-bit samples.
pub const RECORDINGS: [&str; 2] = ["recording.edf", "recording.bdf"];
/// Annotations of the recording.
pub const ANNOTATIONS: &str = "annotations.edf";
/// What the session is, for those that go on with it.
pub const SESSION: &str = "session.json";
/// What happened, a line each.
pub const LOG: &str = "session.jsonl";
/// Windows of the network.
pub const JOURNAL: &str = "journal.sfm";
/// A copy of the bundle that the session began with.
pub const BUNDLE: &str = "bundle.sfm";
/// Locked by the program that works on the session.
pub const LOCK: &str = ".session.lock";

/// Bytes copied at once.
const CHUNK: usize = 1 << 20;

/// Finds or makes the folder that a session goes on in, when the one given is not what it was: its
/// path, or one sentence why there is none.
pub type FolderMaker = Box<dyn FnMut(&Path) -> Result<PathBuf, String> + Send>;

/// The folder of a running session, for all of its threads.
#[derive(Debug, Clone)]
pub struct SessionFolder(Arc<Mutex<Current>>);

#[derive(Debug)]
struct Current {
    path: PathBuf,
    /// Name of the recording.
    recording: OsString,
    /// Locked by who is at work on the session.
    lock: Option<File>,
    moves: u64,
}

impl SessionFolder {
    /// The session is in the folder of `recording`, where `lock` keeps others away.
    pub fn new(recording: &Path, lock: Option<File>) -> Self {
        let path = recording.parent().unwrap_or(Path::new("")).to_owned();
        let recording = recording.file_name().unwrap_or_default().to_owned();
        Self(Arc::new(Mutex::new(Current { path, recording, lock, moves: 0 })))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is now.
    pub fn path(&self) -> PathBuf {
        self.current().path.clone()
    }

    /// The recording in it.
    pub fn recording(&self) -> PathBuf {
        let current = self.current();
        current.path.join(&current.recording)
    }

    /// Where it went on since `moves` was last brought up to date here; `None` if it did not. The
    /// path may be the same as before: the folder is another one.
    pub fn moved(&self, moves: &mut u64) -> Option<PathBuf> {
        let current = self.current();
        (std::mem::replace(moves, current.moves) != current.moves).then(|| current.path.clone())
    }

    /// Takes the lock `name` of `folder` and lets go of the one before.
    ///
    /// # Errors
    /// What the file system said; also if another program has it.
    pub fn lock(&self, folder: &Path, name: &str) -> io::Result<()> {
        let mut current = self.current();
        let path = folder.join(name);
        let taken = match &current.lock {
            Some(lock) => put_in(lock, &path)?,
            None => None,
        };
        if let Some(lock) = taken {
            current.lock = Some(lock);
        }
        Ok(())
    }

    pub(crate) fn move_to(&self, path: PathBuf) {
        let mut current = self.current();
        current.path = path;
        current.moves += 1;
    }
}

/// Opens a file of a recording for this program alone; some network disks know no locks, and go without.
pub(crate) fn open_alone(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let file = crate::files::open(options, path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::other("another program is recording into it"))
        }
        _ => Ok(file),
    }
}

/// Why `file` is not what `path` names; `None` while it is, or nobody can tell.
#[cfg(unix)]
pub(crate) fn displaced(file: &File, path: &Path) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata().ok()?;
    if ours.nlink() == 0 {
        return Some("was removed");
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => None,
        Ok(_) => Some("was renamed, and something else has its name"),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Some("was renamed"),
            _ => None,
        },
    }
}

/// Elsewhere an open file cannot be renamed or removed.
#[cfg(not(unix))]
pub(crate) fn displaced(_: &File, _: &Path) -> Option<&'static str> {
    None
}

/// The file at `path`, open for writing at its end: `file` itself if it is there, or else a copy of
/// all that `file` holds. `file` is open for reading.
///
/// # Errors
/// What the file system said; also if another file is there.
pub(crate) fn put_in(file: &File, path: &Path) -> io::Result<Option<File>> {
    if displaced(file, path).is_none() {
        return Ok(None);
    }
    copy(file, file.metadata()?.len(), path).map(Some)
}

/// A copy of the first `bytes` of `file` at `path`, on the disk, with the same rights and locked,
/// open behind them.
pub(crate) fn copy(file: &File, bytes: u64, path: &Path) -> io::Result<File> {
    let mut to = open_alone(OpenOptions::new().read(true).write(true).create_new(true), path)?;
    let copied = to.set_permissions(file.metadata()?.permissions()).and_then(|()| {
        copy_bytes(file, bytes, &mut to)?;
        to.sync_all()?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    });
    if copied.is_err() {
        // It is in the way of the next try.
        let _ = std::fs::remove_file(path);
    }
    copied.map(|()| to)
}

fn copy_bytes(file: &File, bytes: u64, to: &mut File) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut place = 0;
    while place < bytes {
        let wanted = (bytes - place).min(CHUNK as u64) as usize;
        let read = read_at(file, chunk.get_mut(..wanted).unwrap_or_default(), place)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(chunk.get(..read).unwrap_or_default())?;
        place += read as u64;
    }
    Ok(())
}

/// Leaves the place at which the file is written alone.
#[cfg(unix)]
fn read_at(file: &File, chunk: &mut [u8], place: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, chunk, place)
}

#[cfg(not(unix))]
fn read_at(mut file: &File, chunk: &mut [u8], place: u64) -> io::Result<usize> {
    use std::io::{Read, Seek, SeekFrom};
    let before = file.stream_position()?;
    file.seek(SeekFrom::Start(place))?;
    let read = file.read(chunk);
    file.seek(SeekFrom::Start(before))?;
    read
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_lost_its_name_gets_it_back_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        let options = || OpenOptions::new().read(true).write(true).create_new(true).to_owned();
        let mut file = options().open(&path).expect("created");
        file.write_all(b"some text").expect("written");
        assert!(put_in(&file, &path).expect("looked up").is_none());

        std::fs::remove_file(&path).expect("removed");
        assert_eq!(displaced(&file, &path), Some("was removed"));
        let mut copy = put_in(&file, &path).expect("copied").expect("a copy");
        copy.write_all(b" and more").expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), b"some text and more");

        std::fs::rename(&path, dir.path().join("elsewhere")).expect("renamed");
        assert_eq!(displaced(&copy, &path), Some("was renamed"));
        std::fs::write(&path, "another's").expect("written");
        assert!(displaced(&copy, &path).is_some_and(|why| why.contains("something else")));
        assert!(put_in(&copy, &path).is_err());
        assert_eq!(std::fs::read(&path).expect("read"), b"another's");
    }

    #[test]
    fn every_thread_sees_each_move_once() {
        let folder = SessionFolder::new(Path::new("b/recording.edf"), None);
        assert_eq!(folder.path(), Path::new("b"));
        let mut seen = 0;
        assert_eq!(folder.moved(&mut seen), None);
        folder.move_to("a".into());
        assert_eq!(folder.moved(&mut seen), Some("a".into()));
        assert_eq!(folder.moved(&mut seen), None);
        assert_eq!(folder.recording(), Path::new("a/recording.edf"));
    }
}
