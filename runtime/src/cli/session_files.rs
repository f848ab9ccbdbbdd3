//! The files of a live session: opened for a new one, or found and opened again for one that was
//! cut. Refuses a folder whose session is over, or whose files are of different sessions.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Failure;
use super::args::RunArgs;
use super::live::settings;
use super::setup::Setup;
use crate::edf::DateTime;
use crate::journal::{Journal, JournalNetwork, JournalWindow};
use crate::link::clock::HostClock;
use crate::link::hub::Started;
use crate::link::saved::{self, SavedSession};
use crate::link::session::{Resumed, Session, SessionChannel};
use crate::recorder::{AnnotationLog, Recorded, Recorder};
use crate::signal::{SignalInfo, StreamInfo};
use crate::source::edf::EdfSource;
use crate::staging::EPOCH_S;

/// More than the low-pass filter looks ahead, seconds.
const LOOK_AHEAD_S: f64 = 2.0;

/// Locked by who is at work on a session.
const LOCK: &str = ".session.lock";
/// What a recording may be called.
const RECORDINGS: [&str; 2] = ["recording.edf", "recording.bdf"];
/// A session that was cut longer ago is not gone on with: it was another night.
const LONGEST_CUT: Duration = Duration::from_secs(12 * 3600);
/// Sessions of one name.
const MAX_NIGHTS: u32 = 10_000;

/// The folder of a session, as it was found.
pub(super) enum Place {
    /// Nothing of a session.
    Empty,
    /// A session that was cut.
    Cut(Box<SavedSession>),
}

/// The files of a session, open.
pub(super) struct Files {
    /// The session as a source.
    pub info: StreamInfo,
    /// Writes the recording.
    pub recorder: Recorder,
    /// Writes `annotations.edf`.
    pub annotations: AnnotationLog,
    /// The recording as it was before a cut.
    pub recorded: Option<EdfSource>,
    /// Writes the journal.
    pub journal: Journal,
    /// Windows that were settled before a cut.
    pub settled: Vec<JournalWindow>,
    /// `session.json`.
    pub saved: SavedSession,
    /// Held as long as somebody is at work on the session.
    pub lock: File,
}

impl Place {
    /// Looks at the folder.
    ///
    /// # Errors
    /// One sentence: it holds a session that is over, or one that cannot be read.
    pub fn open(out: &Path) -> Result<Self, String> {
        if !out.join(saved::FILE_NAME).exists() {
            return Ok(Place::Empty);
        }
        let saved = SavedSession::read(out)?;
        if saved.ended {
            return Err(format!(
                "{}: holds a session that is over; choose another folder with --out",
                out.display()
            ));
        }
        Ok(Place::Cut(Box::new(saved)))
    }

    /// The folder for a session that is to be in `out`: `out` itself, or where that holds one that is
    /// over, at work or too old to go on with, the first free name behind it.
    ///
    /// # Errors
    /// One sentence, as [`Place::open`].
    pub fn find(out: &Path) -> Result<(PathBuf, Self), String> {
        let name = out.display();
        for night in 1..MAX_NIGHTS {
            let folder = match night {
                1 => out.to_owned(),
                _ => PathBuf::from(format!("{name}-{night}")),
            };
            if !is_taken(&folder) {
                return Ok((folder.clone(), Self::open(&folder)?));
            }
        }
        Err(format!("{name}: {MAX_NIGHTS} sessions are there; choose another folder with --out"))
    }

    /// The arguments, completed from the session's own.
    pub fn completed(&self, args: &RunArgs) -> RunArgs {
        let mut args = args.clone();
        let Place::Cut(saved) = self else { return args };
        args.bundle = args.bundle.or_else(|| saved.bundle.clone());
        (args.age, args.sex) = (args.age.or(saved.age), args.sex.or(saved.sex));
        args.report = args.report.or(saved.report.clone());
        args.formats = args.formats.or(saved.formats.clone());
        let channels = &mut args.channels;
        if channels.map.is_empty() {
            channels.map.clone_from(&saved.map);
        }
        if channels.channel_groups.is_none() && channels.channel_rules.is_none() {
            channels.channel_groups.clone_from(&saved.channel_groups);
            channels.channel_rules.clone_from(&saved.channel_rules);
        }
        args
    }

    /// The links' side of the session: a new one, or with its files the rest of one that was cut.
    pub fn session(
        self,
        args: &RunArgs,
        setup: &Setup,
        out: &Path,
        clock: HostClock,
    ) -> Result<(Session, Option<Files>), Failure> {
        let Place::Cut(saved) = self else {
            return Ok((Session::new(settings(args), clock.speed()), None));
        };
        let (files, recorded) = reopen(setup, out, *saved)?;
        let channels = files.saved.session_channels().map_err(Failure::input)?;
        if channels.len() != recorded.signals.len() {
            return Err(Failure::input(format!(
                "{}: the recording has other channels than {}; move the folder away",
                out.display(),
                saved::FILE_NAME
            )));
        }
        let channels = channels.into_iter().zip(&recorded.signals).zip(&recorded.ends).map(
            |((channel, signal), end)| (SessionChannel { signal: signal.clone(), ..channel }, *end),
        );
        let since_ms = jiff::Timestamp::now().as_millisecond() - files.saved.start_utc_ms;
        // A wall clock that was set back must not make the session overwrite itself.
        let elapsed_s = (since_ms as f64 / 1e3 * clock.speed()).max(recorded.end_s);
        let resumed = Resumed { channels: channels.collect(), elapsed_s };
        let session = Session::resume(settings(args), clock.speed(), &resumed, clock.now_s());
        Ok((session, Some(files)))
    }
}

/// Makes the folder and the files of a session that starts.
pub(super) fn create(
    args: &RunArgs,
    setup: &Setup,
    out: &Path,
    started: &Started,
) -> Result<Files, Failure> {
    std::fs::create_dir_all(out).map_err(|e| {
        let out = out.display();
        Failure::run(format!("{out}: cannot be made a folder ({e}); choose another with --out"))
    })?;
    let lock = locked(out)?;
    let signals: Vec<SignalInfo> = started.channels.iter().map(|c| c.signal.clone()).collect();
    let start = started.start;
    let mut saved = SavedSession::new((started.start_utc_ms, start.to_string()), &started.channels);
    saved.bundle = args.bundle.as_ref().and_then(|path| std::path::absolute(path).ok());
    saved.bundle_sha256 = setup.bundle.sha256();
    (saved.age, saved.sex) = (args.age, args.sex);
    saved.map.clone_from(&args.channels.map);
    (saved.report, saved.formats) = (args.report.clone(), args.formats.clone());
    saved.channel_groups.clone_from(&args.channels.channel_groups);
    saved.channel_rules.clone_from(&args.channels.channel_rules);
    let recorder = Recorder::create(out, &signals, start).map_err(Failure::run)?;
    let annotations = AnnotationLog::create(out, start).map_err(Failure::run)?;
    let journal = Journal::create(out, network(setup)).map_err(Failure::run)?;
    // Last: a folder with this file has all the others.
    saved.write(out).map_err(Failure::run)?;
    let info = stream_info(recorder.path(), start.to_string(), signals);
    let (recorded, settled) = (None, Vec::new());
    Ok(Files { info, recorder, annotations, recorded, journal, settled, saved, lock })
}

/// Whether the folder's session is over, at work, or was cut so long ago that what comes now is
/// another night.
fn is_taken(folder: &Path) -> bool {
    let Ok(saved) = SavedSession::read(folder) else { return false };
    let last =
        RECORDINGS.iter().filter_map(|name| folder.join(name).metadata().ok()?.modified().ok());
    let last = last.max().and_then(|last| SystemTime::now().duration_since(last).ok());
    let is_old = last.is_some_and(|ago| ago > LONGEST_CUT);
    saved.ended || is_old || locked(folder).is_err()
}

/// Takes the folder's lock.
fn locked(folder: &Path) -> Result<File, Failure> {
    let path = folder.join(LOCK);
    let refuse = |reason: String| Failure::run(format!("{}: {reason}", folder.display()));
    let file = File::create(&path).map_err(|e| refuse(format!("cannot be written ({e})")))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(refuse("another program is at work on it".to_owned())),
        // A file system without locks is no reason not to record.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Opens the files of a session that was cut; damaged ends of them are dropped.
pub(super) fn reopen(
    setup: &Setup,
    out: &Path,
    saved: SavedSession,
) -> Result<(Files, Recorded), Failure> {
    if saved.bundle_sha256 != setup.bundle.sha256() {
        return Err(Failure::bundle(format!(
            "{}: its session began with another bundle; give that one with --bundle",
            out.display()
        )));
    }
    let lock = locked(out)?;
    let (recorder, found) = Recorder::reopen(out).map_err(Failure::input)?;
    let start: DateTime = found.start.ok_or_else(|| {
        Failure::input(format!("{}: has no start; it can only be replayed", found.path.display()))
    })?;
    let (journal, settled) = Journal::reopen(out, network(setup)).map_err(Failure::input)?;
    let (journal, settled) = covered(setup, out, (journal, settled), found.end_s)?;
    let annotations = AnnotationLog::reopen(out, start).map_err(Failure::run)?;
    // Before its first record there is nothing to read.
    let recorded = match found.end_s > 0.0 {
        true => Some(EdfSource::open(&found.path).map_err(Failure::input)?),
        false => None,
    };
    let info = stream_info(&found.path, start.to_string(), found.signals.clone());
    Ok((Files { info, recorder, annotations, recorded, journal, settled, saved, lock }, found))
}

/// The windows that the recording covers to their end and the filter's look-ahead: the pipeline had
/// samples that the recording may have lost. The journal is cut back to them.
fn covered(
    setup: &Setup,
    out: &Path,
    (journal, mut settled): (Journal, Vec<JournalWindow>),
    recorded_s: f64,
) -> Result<(Journal, Vec<JournalWindow>), Failure> {
    let manifest = setup.bundle.manifest();
    let window_s = manifest.base.window_patches as f64 * EPOCH_S
        / manifest.preprocessing.epoch_patches() as f64;
    let whole = ((recorded_s - LOOK_AHEAD_S) / window_s).floor().max(0.0) as usize;
    if settled.len() <= whole {
        return Ok((journal, settled));
    }
    settled.truncate(whole);
    drop(journal);
    let mut journal = Journal::create(out, network(setup)).map_err(Failure::run)?;
    for window in &settled {
        journal.append(window).map_err(Failure::run)?;
    }
    Ok((journal, settled))
}

fn network(setup: &Setup) -> JournalNetwork {
    let base = &setup.bundle.manifest().base;
    JournalNetwork {
        bundle_sha256: setup.bundle.sha256(),
        embed_dim: base.embed_dim as u32,
        window_patches: base.window_patches as u32,
    }
}

fn stream_info(recording: &Path, start: String, signals: Vec<SignalInfo>) -> StreamInfo {
    let is_bdf = recording.extension().is_some_and(|extension| extension == "bdf");
    StreamInfo {
        format: if is_bdf { "BDF+D" } else { "EDF+D" }.to_owned(),
        start: Some(start),
        duration_s: None,
        preprocessed: false,
        signals,
        warnings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(folder: &Path, ended: bool) {
        std::fs::create_dir_all(folder).expect("a folder");
        let mut saved = SavedSession::new((0, "2026-01-02T22:00:00".to_owned()), &[]);
        saved.ended = ended;
        saved.write(folder).expect("written");
        std::fs::write(folder.join("recording.edf"), "").expect("written");
    }

    /// The name of the folder that is found, and whether a session goes on there.
    fn found(out: &Path) -> (String, bool) {
        let (folder, place) = Place::find(out).expect("one is free");
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        (name, matches!(place, Place::Cut(_)))
    }

    #[test]
    fn only_a_session_that_was_cut_tonight_and_is_left_alone_goes_on() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("night");
        assert_eq!(found(&out), ("night".to_owned(), false));
        session(&out, false);
        assert_eq!(found(&out), ("night".to_owned(), true));
        let lock = locked(&out).expect("nobody else has it");
        assert_eq!(found(&out), ("night-2".to_owned(), false));
        drop(lock);
        let recording = File::options().write(true).open(out.join("recording.edf")).expect("there");
        let yesterday = SystemTime::now() - LONGEST_CUT - Duration::from_secs(60);
        recording.set_modified(yesterday).expect("set");
        assert_eq!(found(&out), ("night-2".to_owned(), false));
        session(&out, true);
        session(&dir.path().join("night-2"), true);
        assert_eq!(found(&out), ("night-3".to_owned(), false));
    }
}
