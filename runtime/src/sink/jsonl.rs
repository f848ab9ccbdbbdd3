//! `events.jsonl`: every event, one JSON object a line, on disk as soon as it is taken. Figures
//! that are not numbers (probabilities of an unstaged epoch) are `null`. Labels are untrusted and
//! terminals obey them: control characters and those that turn text are written as `\u009b`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Sink, SinkError};
use crate::event::Event;
use crate::files;
use crate::session_folder::put_in;
use crate::text::json_text;

/// Writes `events.jsonl`.
#[derive(Debug)]
pub struct JsonlSink {
    path: PathBuf,
    file: File,
    /// Windows whose events the file held when it was reopened.
    windows: u32,
    /// The beginning of the pass is in the file.
    begun: bool,
    /// Lines of restored events up to the next window.
    restored: String,
    /// Lines of a known window whose last ones the file lacks.
    tail: String,
    /// Lines that the disk did not take.
    waiting: String,
    /// There were more of them than are kept.
    has_lost: bool,
}

/// Bytes of lines that wait for the disk at most.
const MAX_WAITING: usize = 64 << 20;

/// What matters of a line when a file is reopened.
#[derive(Deserialize)]
struct Line {
    event: String,
    window: Option<u32>,
}

impl JsonlSink {
    /// Begins an empty `events.jsonl` in `out_dir`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(out_dir: &Path) -> Result<Self, SinkError> {
        let path = out_dir.join("events.jsonl");
        let file = files::create(&path).map_err(|reason| SinkError::cannot_write(&path, reason))?;
        Ok(JsonlSink {
            path,
            file,
            windows: 0,
            begun: false,
            restored: String::new(),
            tail: String::new(),
            waiting: String::new(),
            has_lost: false,
        })
    }

    /// Goes on with the `events.jsonl` of `out_dir`. It is cut behind the event of window
    /// `windows` - 1: what follows is emitted anew. Events that are restored are not written
    /// again, but those that a cut has taken are.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn reopen(out_dir: &Path, windows: u32) -> Result<Self, SinkError> {
        let path = out_dir.join("events.jsonl");
        let cannot = |reason| SinkError::cannot_write(&path, reason);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = files::open(&options, &path).map_err(cannot)?;
        let Kept { bytes, windows, tail } = kept(&file, windows).map_err(cannot)?;
        file.set_len(bytes).map_err(cannot)?;
        file.seek(SeekFrom::Start(bytes)).map_err(cannot)?;
        let (restored, waiting) = (String::new(), String::new());
        let begun = bytes > 0;
        Ok(JsonlSink { path, file, windows, begun, restored, tail, waiting, has_lost: false })
    }

    fn line(&self, event: &Event) -> Result<String, SinkError> {
        json_text(event).map_err(|reason| SinkError::cannot_write(&self.path, reason))
    }

    /// One write, past any buffer of this process: a kill cannot take it back. What the disk does not
    /// take is kept for the next.
    fn write(&mut self, lines: &str) -> Result<(), SinkError> {
        if self.waiting.len() + lines.len() > MAX_WAITING {
            self.has_lost = true;
        } else {
            self.waiting += lines;
        }
        self.write_waiting().map_err(|reason| SinkError::cannot_write(&self.path, reason))
    }

    fn write_waiting(&mut self) -> std::io::Result<()> {
        let before = self.file.stream_position()?;
        if let Err(reason) = self.file.write_all(self.waiting.as_bytes()) {
            // No line is left in part.
            let _ = self.file.set_len(before);
            let _ = self.file.seek(SeekFrom::Start(before));
            return Err(reason);
        }
        self.waiting.clear();
        Ok(())
    }
}

/// The part of a file that is kept.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    bytes: u64,
    windows: u32,
    /// The lines behind the last of these windows.
    tail: String,
}

/// Of the first pass in `file`: its beginning, its windows up to `windows` of them, and where there
/// are fewer what is there of the next one.
fn kept(file: &File, windows: u32) -> std::io::Result<Kept> {
    let mut lines = BufReader::new(file);
    let mut kept = Kept::default();
    let mut bytes = Vec::new();
    let mut position = 0;
    while kept.windows < windows || windows == 0 {
        bytes.clear();
        position += lines.read_until(b'\n', &mut bytes)? as u64;
        // The last line may be cut; a damaged one ends what can be trusted.
        if bytes.pop() != Some(b'\n') {
            break;
        }
        let Ok(line) = serde_json::from_slice::<Line>(&bytes) else { break };
        match (line.event.as_str(), line.window) {
            ("started", _) if kept.bytes == 0 => {}
            ("warning", _) if kept.windows == 0 && kept.tail.is_empty() => {}
            ("started" | "night", _) => break,
            ("window", Some(window)) if window == kept.windows => {
                kept.windows += 1;
                kept.tail.clear();
            }
            _ if windows == 0 => break,
            _ => {
                kept.tail += &String::from_utf8_lossy(&bytes);
                kept.tail.push('\n');
            }
        }
        kept.bytes = position;
    }
    Ok(kept)
}

impl Sink for JsonlSink {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn can_try_again(&self) -> bool {
        !self.has_lost
    }

    fn move_to(&mut self, out_dir: &Path) -> Result<(), SinkError> {
        let path = out_dir.join("events.jsonl");
        let moved = put_in(&self.file, &path);
        if let Some(file) = moved.map_err(|reason| SinkError::cannot_write(&path, reason))? {
            self.file = file;
        }
        self.path = path;
        Ok(())
    }

    fn publish(&mut self) -> Result<(), SinkError> {
        self.write("")
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        if !event.is_kept() {
            return Ok(());
        }
        let line = self.line(event)?;
        self.write(&line)
    }

    fn restore(&mut self, event: &Event) -> Result<(), SinkError> {
        if !event.is_kept() {
            return Ok(());
        }
        let line = self.line(event)?;
        match event {
            Event::Started(_) | Event::Warning { .. } if self.begun => Ok(()),
            Event::Started(_) | Event::Warning { .. } => self.write(&line),
            Event::Window(window) => {
                let mut lines = std::mem::take(&mut self.restored);
                lines += &line;
                if window.window < self.windows {
                    return Ok(());
                }
                let tail = std::mem::take(&mut self.tail);
                let is_there = |line: &str| tail.split_inclusive('\n').any(|there| there == line);
                let lines = lines.split_inclusive('\n').filter(|line| !is_there(line));
                let lines: String = lines.collect();
                self.write(&lines)
            }
            _ => {
                self.restored += &line;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(pass: &str, window: u32) -> String {
        format!("{{\"event\":\"window\",\"pass\":\"{pass}\",\"window\":{window}}}\n")
    }

    #[test]
    fn a_file_is_kept_up_to_the_last_known_window() {
        let start = "{\"event\":\"started\"}\n{\"event\":\"warning\",\"message\":\"x\"}\n";
        let epoch = "{\"event\":\"epoch\",\"epoch\":1}\n";
        let of = |text: &str, windows| {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(text.as_bytes()).expect("written");
            file.rewind().expect("rewound");
            let kept = kept(&file, windows).expect("read");
            let text = &text[..kept.bytes as usize];
            assert!(text.ends_with(&kept.tail));
            (text.to_owned(), kept.windows, kept.tail.lines().count())
        };
        let one = format!("{start}{epoch}{}", window("live", 0));
        let two = format!("{one}{epoch}{}", window("live", 1));
        let night = "{\"event\":\"night\"}\n";
        let all = format!("{two}{epoch}{night}{start}{}", window("final", 0));
        assert_eq!(of(&all, 0), (start.to_owned(), 0, 0));
        assert_eq!(of(&all, 1), (one.clone(), 1, 0));
        assert_eq!(of(&all, 2), (two.clone(), 2, 0));
        assert_eq!(of(&all, 9), (format!("{two}{epoch}"), 2, 1), "a later pass is another one");
        assert_eq!(of(&two[..two.len() - 1], 2), (format!("{one}{epoch}"), 1, 1), "a line is cut");
        assert_eq!(of(&two.replace("epoch\",", "\u{0}"), 2), (start.to_owned(), 0, 0), "damaged");
        assert_eq!(of(&start[..5], 3), (String::new(), 0, 0));
    }

    #[test]
    fn a_label_cannot_command_a_terminal() {
        let message = "\u{1b}[2J \u{9b}31m \u{202e}x \u{7f} \u{e0041} <script>é\n".to_owned();
        let line = json_text(&Event::Warning { message: message.clone() }).expect("JSON");
        assert_eq!(line.find(char::is_control), Some(line.len() - 1), "{line:?}");
        assert!(line.contains("\\u009b31m") && line.contains("\\u202ex") && line.contains("é"));
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["message"], message.as_str());
    }
}
