//! The session log: what happens to links, devices and clocks. Other than the pipeline's events it
//! knows times of day, and no replay repeats it. One JSON object a line in `session.jsonl`. Lines of
//! one kind beyond so many a minute are counted, and a night has a most of bytes for all that is not
//! essential, so that no sensor and no stranger fills the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::event::SessionEvent;
use crate::files;
use crate::rate::{LeftOut, RateLimit};
use crate::session_folder::LOG;
use crate::session_folder::put_in;
use crate::text::json_text;

/// No line is longer.
const MAX_LINE_BYTES: u64 = 1 << 16;
/// Bytes of lines that wait for the disk at most.
const MAX_WAITING: usize = 1 << 20;
/// From here on only what is essential is written: hundred times what a rough night has.
const MAX_BYTES: u64 = 64 << 20;

/// Appends to `session.jsonl`.
#[derive(Debug)]
pub struct SessionLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    max_bytes: u64,
    limit: RateLimit<&'static str>,
    /// Lines that the disk did not take yet.
    waiting: String,
    /// Lines that did not fit there.
    missing: u64,
}

impl SessionLog {
    /// Opens the log of `dir`, behind what is there. A line that was cut, by a kill or a full disk, is
    /// taken away: the next one would be glued to it.
    ///
    /// # Errors
    /// One sentence with the file.
    pub fn open(dir: &Path) -> Result<Self, String> {
        Self::open_within(dir, MAX_BYTES)
    }

    fn open_within(dir: &Path, max_bytes: u64) -> Result<Self, String> {
        let path = dir.join(LOG);
        let opened = files::open(OpenOptions::new().create(true).read(true).append(true), &path);
        let opened = opened.and_then(|file| {
            cut_to_lines(&file)?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        });
        match opened {
            Ok((file, bytes)) => {
                let (limit, waiting, missing) = (RateLimit::default(), String::new(), 0);
                Ok(Self { path, file, bytes, max_bytes, limit, waiting, missing })
            }
            Err(e) => Err(format!("{}: cannot be written ({e})", path.display())),
        }
    }

    /// Appends a line, or counts it where there are too many of its kind. Lines that the disk does not
    /// take wait for the next one, up to 1 MB of them; further ones are counted, and told once it
    /// takes some. The first failure is returned.
    pub fn write(&mut self, line: &LogLine) -> Option<String> {
        let left_out = match line.event {
            SessionEvent::Ended { .. } => self.limit.rest(),
            _ => self.limit.over(line.session_s),
        };
        let mut failure = None;
        for LeftOut { kind, lines, .. } in left_out {
            failure = failure.or(self.append(line, SessionEvent::LeftOutLines { kind, lines }));
        }
        let event = &line.event;
        if let Some(most) = event.most_per_minute()
            && (self.is_full() || !self.limit.admits(&event.kind(), most, line.session_s, ""))
        {
            return failure;
        }
        failure.or(self.append(line, event.clone()))
    }

    fn is_full(&self) -> bool {
        self.bytes + self.waiting.len() as u64 >= self.max_bytes
    }

    /// Appends `event` at the time of `line`.
    fn append(&mut self, line: &LogLine, event: SessionEvent) -> Option<String> {
        let (was_full, did_wait) = (self.is_full(), !self.waiting.is_empty());
        self.queue(&line.with(event));
        if !was_full && self.is_full() {
            self.queue(&line.with(SessionEvent::Full { bytes: self.max_bytes }));
        }
        if let Err(failure) = self.write_waiting() {
            let failure = format!("{}: cannot be written ({failure})", self.path.display());
            return (!did_wait).then_some(failure);
        }
        match std::mem::take(&mut self.missing) {
            0 => None,
            lines => self.append(line, SessionEvent::MissingLines { lines }),
        }
    }

    fn queue(&mut self, line: &LogLine) {
        match json_text(line) {
            Ok(json) if self.waiting.len() + json.len() <= MAX_WAITING => self.waiting += &json,
            _ => self.missing += 1,
        }
    }

    /// By one write, past any buffer of this process.
    fn write_waiting(&mut self) -> io::Result<()> {
        let written = self.file.write_all(self.waiting.as_bytes());
        match &written {
            Ok(()) => {
                self.bytes += self.waiting.len() as u64;
                self.waiting.clear();
            }
            // Part of a line would spoil the next one.
            Err(_) => drop(self.file.set_len(self.bytes)),
        }
        written
    }

    /// Goes on in `dir`, with a copy of what was written so far.
    ///
    /// # Errors
    /// One sentence with the file; the log goes on where it was.
    pub fn move_to(&mut self, dir: &Path) -> Result<(), String> {
        let path = dir.join(LOG);
        let moved = put_in(&self.file, &path).or_else(|failure| {
            // From a disk that is gone nothing can be copied: better begin a log than have none.
            let begun =
                files::open(OpenOptions::new().read(true).append(true).create_new(true), &path);
            begun.map(Some).map_err(|_| failure)
        });
        let moved = moved.and_then(|file| match file {
            Some(file) => file.metadata().map(|about| Some((about.len(), file))),
            None => Ok(None),
        });
        let moved = moved.map_err(|e| format!("{}: cannot be written ({e})", path.display()))?;
        if let Some(moved) = moved {
            (self.bytes, self.file) = moved;
        }
        self.path = path;
        Ok(())
    }
}

/// Takes away what is behind the last line of `file`, looking back no further than a line is long.
fn cut_to_lines(mut file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LINE_BYTES)))?;
    file.read_to_end(&mut tail)?;
    match tail.iter().rposition(|&byte| byte == b'\n') {
        Some(last) => file.set_len(length - (tail.len() - last - 1) as u64),
        None if length <= MAX_LINE_BYTES => file.set_len(0),
        None => Ok(()),
    }
}

/// A line of the session log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogLine {
    /// When, seconds after the start of the session by the monotonic clock; negative before it.
    pub session_s: f64,
    /// When, by the host's wall clock, as it was set then.
    pub utc: String,
    /// What.
    #[serde(flatten)]
    pub event: SessionEvent,
}

impl LogLine {
    fn with(&self, event: SessionEvent) -> Self {
        Self { event, ..self.clone() }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
