//! Where a session goes on whose folder was renamed or removed while it ran: under its own name if
//! that is free, or under the first free name behind it, as a session that begins. Also keeps what
//! the disk does not take of the journal, and says what a recording lacks.

use std::collections::VecDeque;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::session_place::is_too_long;
use crate::journal::{Journal, JournalWindow};
use crate::link::saved::SavedSession;
use crate::recorder::Unrecorded;
use crate::session_folder::{
    ANNOTATIONS, FolderMaker, JOURNAL, LOCK, LOG, RECORDINGS, SESSION, SessionFolder,
};

/// Names that are tried.
const MAX_NAMES: u32 = 10_000;
/// Windows of the journal that wait for the disk: a night of 16 h.
const MAX_WINDOWS: usize = 200;

/// Finds the folder that the session in `folder`, which began at `start_utc_ms`, goes on in, and makes
/// it with the rights of the first one.
pub(super) fn next_folder(folder: &SessionFolder, start_utc_ms: i64) -> FolderMaker {
    let (folder, first) = (folder.clone(), folder.path());
    let rights = fs::metadata(&first).map(|about| about.permissions()).ok();
    Box::new(move |_| {
        let refuse = |path: &Path, e| format!("{}: cannot be made a folder ({e})", path.display());
        for name in 1..MAX_NAMES {
            let path = match name {
                1 => first.clone(),
                _ => PathBuf::from(format!("{}-{name}", first.display())),
            };
            if is_too_long(&path) {
                let path = path.display();
                return Err(format!("{path}: the name is longer than the file system allows"));
            }
            if !is_free(&path, start_utc_ms) {
                continue;
            }
            let is_new = !path.exists();
            fs::create_dir_all(&path).map_err(|e| refuse(&path, e))?;
            if let Some(rights) = rights.clone().filter(|_| is_new) {
                fs::set_permissions(&path, rights).map_err(|e| refuse(&path, e))?;
            }
            match folder.lock(&path, LOCK) {
                Ok(()) => return Ok(path),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(refuse(&path, e)),
            }
        }
        Err(format!("{}: there are sessions of {MAX_NAMES} names", first.display()))
    })
}

/// The folder is not there, holds nothing of a session, or is this session's without its recording.
fn is_free(path: &Path, start_utc_ms: i64) -> bool {
    match fs::metadata(path) {
        Err(e) => e.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err(),
        Ok(about) if !about.is_dir() => false,
        Ok(_) => {
            let is_there = |name: &&str| fs::symlink_metadata(path.join(name)).is_ok();
            let is_ours = SavedSession::read(path).is_ok_and(|s| s.start_utc_ms == start_utc_ms);
            !RECORDINGS.iter().any(is_there)
                && (is_ours || ![ANNOTATIONS, JOURNAL, LOG, SESSION].iter().any(is_there))
        }
    }
}

/// One line for people.
pub(super) fn not_recorded(lost: &Unrecorded) -> String {
    let Unrecorded { from_s, to_s, samples, reason } = lost;
    let what = match samples {
        0 => "samples".to_owned(),
        samples => format!("{samples} samples"),
    };
    format!(
        "warning: {what} from {from_s:.1} s to {to_s:.1} s are not recorded ({reason}); \
         the live stages had them, the final ones have not"
    )
}

/// Appends to the journal of a session, wherever its folder is; keeps what the disk does not take.
pub(super) struct JournalKeeper<'a> {
    journal: &'a mut Journal,
    folder: &'a SessionFolder,
    moves: u64,
    waiting: VecDeque<JournalWindow>,
    has_failed: bool,
}

impl<'a> JournalKeeper<'a> {
    pub fn new(journal: &'a mut Journal, folder: &'a SessionFolder) -> Self {
        Self { journal, folder, moves: 0, waiting: VecDeque::new(), has_failed: false }
    }

    /// Only the first failure is reported.
    pub fn append(&mut self, window: JournalWindow) {
        if self.waiting.len() < MAX_WINDOWS {
            self.waiting.push_back(window);
        }
        let moved = match self.folder.moved(&mut self.moves) {
            Some(dir) => self.journal.move_to(&dir),
            None => Ok(()),
        };
        let appended = moved.and_then(|()| {
            while let Some(window) = self.waiting.front() {
                self.journal.append(window)?;
                self.waiting.pop_front();
            }
            Ok(())
        });
        if let Err(e) = appended
            && !std::mem::replace(&mut self.has_failed, true)
        {
            tracing::warn!("{e}; after a cut this part of the night is computed again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_goes_on_under_its_name_or_the_first_that_is_free() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("night");
        let name = |path: PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
        let session = |folder: &Path, start_utc_ms| {
            fs::create_dir_all(folder).expect("a folder");
            let saved = SavedSession::new((start_utc_ms, String::new()), &[]);
            saved.write(folder).expect("written");
        };
        let found = || {
            let folder = SessionFolder::new(&out.join(RECORDINGS[0]), None);
            next_folder(&folder, 7)(&out).map(name).expect("one is free")
        };
        assert_eq!(found().as_deref(), Some("night"), "it is gone");
        session(&out, 7);
        assert_eq!(found().as_deref(), Some("night"), "only the recording is gone");
        session(&out, 8);
        fs::write(dir.path().join("night-2"), "no folder").expect("written");
        assert_eq!(found().as_deref(), Some("night-3"));
        fs::write(dir.path().join("night-3/recording.edf"), "another's").expect("written");
        assert_eq!(found().as_deref(), Some("night-4"));
    }
}
