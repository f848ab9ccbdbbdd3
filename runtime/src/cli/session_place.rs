//! Which folder a session goes to. It goes on in the one of a session that was cut if it is the same
//! session: by its name where one is given (`--session`), else by time, age and sex, and in either
//! case only if the same sensors come, which is known at their first samples alone. Anything else
//! begins the next free name. What is there is never changed.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Failure;
use super::args::RunArgs;
use super::session_id;
use crate::edf::DateTime;
use crate::files;
use crate::link::clock::HostClock;
use crate::link::event::SessionEvent;
use crate::link::saved::SavedSession;
use crate::link::session::Session;
use crate::link::types::{Resumed, SessionChannel, Settings};
use crate::recorder::{Recorded, Recorder, recording_in};
use crate::session_folder;
use crate::sink;

/// A session without a name goes on within this time after its last sample.
const LONGEST_CUT: Duration = Duration::from_secs(30 * 60);
/// A session with a name.
const LONGEST_BREAK: Duration = Duration::from_secs(12 * 3600);
/// Sessions of one name.
const MAX_NIGHTS: u32 = 10_000;
/// Files besides those of every run, of `--format` and of messages that make a folder a used one, which
/// a new session keeps away from.
const FILES: [&str; 7] = [
    session_folder::ANNOTATIONS,
    session_folder::BUNDLE,
    session_folder::JOURNAL,
    "mqtt.outbox",
    "nats.outbox",
    session_folder::SESSION,
    session_folder::LOG,
];

/// Where a session goes.
pub(super) struct Place {
    /// The folder that was asked for; others have a number behind its name.
    out: PathBuf,
    /// The session's name.
    pub id: Option<String>,
    /// What goes on if its sensors come.
    pub cut: Option<CutSession>,
    /// The folder that the session does not go on in.
    pub left: Option<Left>,
}

/// A session that was cut, held by its lock and not touched yet.
pub(super) struct CutSession {
    pub folder: PathBuf,
    pub saved: SavedSession,
    pub recorded: Recorded,
    pub lock: File,
    /// How much longer it may go on.
    within: Duration,
}

/// A folder that is left as it is.
pub(super) struct Left {
    pub folder: PathBuf,
    pub reason: String,
}

/// A folder of the name, as it was found.
struct Seen {
    folder: PathBuf,
    last: SystemTime,
    saved: Result<SavedSession, String>,
}

/// Whose session is looked for.
struct Owner<'a> {
    id: Option<&'a str>,
    device: Option<u64>,
    args: &'a RunArgs,
}

impl Place {
    /// The place of a session of `device`, or of all devices, in `out` or behind its name.
    pub fn find(out: &Path, args: &RunArgs, device: Option<u64>) -> Self {
        let id = session_id::of(args, device);
        let owner = Owner { id: id.as_deref(), device, args };
        let seen: Vec<Seen> = there(out).into_iter().filter_map(Seen::look).collect();
        // Only the newest: behind the others there was another patient already.
        let newest = |all: &mut dyn Iterator<Item = Seen>| all.max_by_key(|seen| seen.last);
        let own = |seen: &Seen| seen.saved.as_ref().is_ok_and(|s| s.session == id);
        let candidate = match id.is_some() && seen.iter().any(own) {
            true => newest(&mut seen.into_iter().filter(own)),
            false => newest(&mut seen.into_iter()),
        };
        let (mut cut, mut left) = (None, None);
        if let Some(seen) = candidate {
            let folder = seen.folder.clone();
            match owner.judge(seen) {
                Ok(found) => cut = Some(found),
                Err(reason) => left = Some(Left { folder, reason }),
            }
        }
        Self { out: out.to_owned(), id, cut, left }
    }

    /// The first free name from number `from` on, and its number.
    ///
    /// # Errors
    /// There is none, or it would be longer than the file system allows.
    pub fn free(&self, from: u32) -> Result<(u32, PathBuf), Failure> {
        let out = self.out.display();
        for number in from..MAX_NIGHTS {
            let folder = numbered(&self.out, number);
            if is_too_long(&folder) {
                return Err(Failure::run(format!(
                    "{out}: the name is too long to get a number; choose a shorter one with --out"
                )));
            }
            let is_ours = number == 1 || !files::is_link(&folder);
            if is_ours && contents(&folder).is_none() {
                return Ok((number, folder));
            }
        }
        Err(Failure::run(format!(
            "{out}: {MAX_NIGHTS} sessions are there; choose another folder with --out"
        )))
    }

    /// Where the session will be, as far as that is known.
    pub fn likely(&self) -> PathBuf {
        match &self.cut {
            Some(cut) => cut.folder.clone(),
            None => self.free(1).map_or_else(|_| self.out.clone(), |(_, folder)| folder),
        }
    }

    /// The line for people about it; `None` where there is nothing to say.
    pub fn line(&self) -> Option<String> {
        if let Some(cut) = &self.cut {
            let folder = cut.folder.display();
            return Some(format!("{folder} holds a session that goes on if its sensors come"));
        }
        let folder = self.likely();
        Some(self.left.as_ref().filter(|left| left.folder != folder)?.line(&folder))
    }

    /// The cut session does not go on.
    pub fn part(&mut self, reason: &str) {
        if let Some(cut) = self.cut.take() {
            self.left = Some(Left { folder: cut.folder, reason: reason.to_owned() });
        }
    }

    /// The links' side of the session: a new one, or one that may go on.
    pub fn session(&self, settings: Settings, clock: HostClock) -> Session {
        match self.cut.as_ref().and_then(|cut| cut.resumed(clock.speed())) {
            Some(resumed) => Session::resume(settings, clock.speed(), resumed, clock.now_s()),
            None => Session::new(settings, clock.speed()),
        }
    }

    /// The program is stopped in order before the sensors have come: no other session may go on
    /// in this folder.
    pub fn close(&mut self) -> Result<(), String> {
        let Some(cut) = self.cut.as_mut() else { return Ok(()) };
        cut.saved.closed = true;
        cut.saved.write(&cut.folder)
    }
}

impl Left {
    /// The line for people; the session goes to `folder`.
    pub fn line(&self, folder: &Path) -> String {
        let (left, folder) = (self.folder.display(), folder.display());
        format!("{left} is left as it is: {}; this session goes to {folder}", self.reason)
    }

    /// The line of the session log.
    pub fn event(&self) -> SessionEvent {
        let left = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        SessionEvent::NewFolder { left, reason: self.reason.clone() }
    }
}

impl CutSession {
    fn resumed(&self, speed: f64) -> Option<Resumed> {
        let channels = self.saved.session_channels().ok()?;
        let channels = channels.into_iter().zip(&self.recorded.signals).zip(&self.recorded.ends);
        let channels = channels.map(|((channel, signal), end)| {
            (SessionChannel { signal: signal.clone(), ..channel }, *end)
        });
        let since_ms = jiff::Timestamp::now().as_millisecond() - self.saved.start_utc_ms;
        // A wall clock that was set back must not make the session overwrite itself.
        let elapsed_s = (since_ms as f64 / 1e3 * speed).max(self.recorded.end_s);
        Some(Resumed {
            channels: channels.collect(),
            left_out: self.saved.session_left_out(),
            elapsed_s,
            within_s: self.within.as_secs_f64() * speed,
        })
    }
}

impl Seen {
    /// `None` for a folder that holds nothing.
    fn look(folder: PathBuf) -> Option<Self> {
        let held = contents(&folder)?;
        let modified = |path: &Path| path.metadata().ok()?.modified().ok();
        let last = recording_in(&folder)
            .and_then(|path| modified(&path))
            .or_else(|| modified(&folder.join(session_folder::SESSION)))
            .or_else(|| modified(&folder))
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let saved = match folder.join(session_folder::SESSION).exists() {
            true => SavedSession::read(&folder),
            false => Err(format!("it holds {held} and no {}", session_folder::SESSION)),
        };
        Some(Self { folder, last, saved })
    }
}

impl Owner<'_> {
    /// Whether the session goes on there; one sentence why not.
    fn judge(&self, seen: Seen) -> Result<CutSession, String> {
        let Seen { folder, last, saved } = seen;
        let saved = saved?;
        let longest = self.longest(&saved)?;
        if self.device.is_some_and(|device| !saved.has_device(device)) {
            return Err("it is another device's".to_owned());
        }
        // Where the clock was set, a time of the future is as far away as one of the past.
        let now = SystemTime::now();
        let ago = now.duration_since(last).unwrap_or_else(|ahead| ahead.duration());
        let Some(within) = longest.checked_sub(ago) else {
            let minutes = longest.as_secs() / 60;
            return Err(format!("its last sample is more than {minutes} min old"));
        };
        let lock = lock(&folder)?.ok_or("another program is at work on it")?;
        let recorded = Recorder::inspect(&folder).map_err(|e| e.to_string())?;
        let channels = saved.session_channels()?;
        let fits = channels.len() == recorded.signals.len() && recorded.start.is_some();
        if !fits {
            return Err(format!(
                "its recording has other channels than {}",
                session_folder::SESSION
            ));
        }
        Ok(CutSession { folder, saved, recorded, lock, within })
    }

    /// How long after its last sample the session may go on.
    fn longest(&self, saved: &SavedSession) -> Result<Duration, String> {
        let refuse = |reason: &str| Err(reason.to_owned());
        match (self.id, saved.session.as_deref()) {
            (Some(ours), Some(theirs)) if ours == theirs => Ok(LONGEST_BREAK),
            (Some(_), _) => refuse("--session names another session than it holds"),
            (None, Some(_)) => refuse("its session has a name, and --session gives none"),
            (None, None) if saved.closed => refuse("its session ended in order"),
            (None, None) if (saved.age, saved.sex) != (self.args.age, self.args.sex) => {
                refuse("its session was begun with another --age or --sex")
            }
            (None, None) => Ok(LONGEST_CUT),
        }
    }
}

/// Takes the folder's lock; `None` if somebody has it.
pub(super) fn lock(folder: &Path) -> Result<Option<File>, String> {
    let file =
        files::open(File::options().write(true).create(true), &folder.join(session_folder::LOCK))
            .map_err(|e| format!("it cannot be written ({e})"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without locks is no reason not to record.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// What a folder holds of a session or a run, by name; `None` if nothing or if there is no folder.
pub(super) fn contents(folder: &Path) -> Option<String> {
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        Err(e) => return Some(format!("what cannot be read ({e})")),
    };
    let mut names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find(|name| {
        let is_recording =
            name.starts_with("recording") && (name.ends_with(".edf") || name.ends_with(".bdf"));
        let name = name.as_str();
        is_recording
            || FILES.contains(&name)
            || sink::OUTPUT.contains(&name)
            || name == sink::report::PLOTS
            || sink::formats::names().any(|written| written == name)
    })
}

/// The file system has no names of this length.
pub(super) fn is_too_long(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::InvalidFilename)
}

/// The start of a recording, in local time.
///
/// # Errors
/// One sentence: it has none.
pub(super) fn start_of(recorded: &Recorded) -> Result<DateTime, Failure> {
    recorded.start.ok_or_else(|| {
        let path = recorded.path.display();
        Failure::input(format!("{path}: has no start; it can only be replayed"))
    })
}

/// `out` itself, or with a number behind its name.
fn numbered(out: &Path, number: u32) -> PathBuf {
    match out.file_name() {
        _ if number == 1 => out.to_owned(),
        None => out.join(format!("session-{number}")),
        Some(name) => {
            let mut name = name.to_owned();
            name.push(format!("-{number}"));
            out.with_file_name(name)
        }
    }
}

/// The folders of this name that are there, `out` itself first.
pub(super) fn there(out: &Path) -> Vec<PathBuf> {
    let parent = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let name = out.file_name().map(OsString::from).unwrap_or_default();
    let entries = parent.read_dir().into_iter().flatten().flatten();
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| {
            let entry = entry.file_name();
            let behind = entry.as_encoded_bytes().strip_prefix(name.as_encoded_bytes())?;
            let number = std::str::from_utf8(behind.strip_prefix(b"-")?).ok()?;
            number.parse().ok().filter(|n| (2..MAX_NIGHTS).contains(n) && n.to_string() == number)
        })
        .collect();
    numbers.sort_unstable();
    [1].into_iter().chain(numbers).map(|number| numbered(out, number)).collect()
}

#[cfg(test)]
#[path = "session_place_tests.rs"]
mod tests;
