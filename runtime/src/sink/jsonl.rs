//! `events.jsonl`: every event, one JSON object a line, on disk as soon as it is taken. Figures
//! that are not numbers (probabilities of an unstaged epoch) are `null`. Labels are untrusted and
//! terminals obey them: control characters and those that turn text are written as `\u009b`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Sink, SinkError};
use crate::event::Event;
use crate::montage::is_hidden;

/// Writes `events.jsonl`.
#[derive(Debug)]
pub struct JsonlSink {
    path: PathBuf,
    file: File,
}

impl JsonlSink {
    /// Begins an empty `events.jsonl` in `out_dir`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(out_dir: &Path) -> Result<Self, SinkError> {
        let path = out_dir.join("events.jsonl");
        let file = File::create(&path).map_err(|reason| SinkError::cannot_write(&path, reason))?;
        Ok(JsonlSink { path, file })
    }
}

impl Sink for JsonlSink {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        let line =
            json_line(event).map_err(|reason| SinkError::cannot_write(&self.path, reason))?;
        // One write a line, past any buffer of this process: a kill cannot take it back.
        self.file
            .write_all(line.as_bytes())
            .map_err(|reason| SinkError::cannot_write(&self.path, reason))
    }
}

/// An event as a line of JSON, its newline included.
///
/// # Errors
/// [`serde_json::Error`] for an event that JSON cannot hold; there is none.
pub fn json_line(event: &Event) -> Result<String, serde_json::Error> {
    json_text(event)
}

/// Anything as a line of JSON that no terminal obeys, its newline included.
///
/// # Errors
/// [`serde_json::Error`] for what JSON cannot hold.
pub fn json_text(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(value)?;
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_hidden(c) {
            // Such a character is part of a string, where this form stands for it.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_command_a_terminal() {
        let message = "\u{1b}[2J \u{9b}31m \u{202e}x \u{7f} \u{e0041} <script>é\n".to_owned();
        let line = json_line(&Event::Warning { message: message.clone() }).expect("JSON");
        assert_eq!(line.find(char::is_control), Some(line.len() - 1), "{line:?}");
        assert!(line.contains("\\u009b31m") && line.contains("\\u202ex") && line.contains("é"));
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["message"], message.as_str());
    }
}
