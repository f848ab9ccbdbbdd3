//! `events.jsonl`: every event, one JSON object a line, on disk as soon as it is taken. Figures
//! that are not numbers (probabilities of an unstaged epoch) are `null`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Sink, SinkError};
use crate::event::Event;

/// Writes `events.jsonl`.
#[derive(Debug)]
pub struct JsonlSink {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
}

impl JsonlSink {
    /// Begins an empty `events.jsonl` in `out_dir`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(out_dir: &Path) -> Result<Self, SinkError> {
        let path = out_dir.join("events.jsonl");
        let file = File::create(&path).map_err(|reason| SinkError::cannot_write(&path, reason))?;
        Ok(JsonlSink { path, file, line: Vec::new() })
    }
}

impl Sink for JsonlSink {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event)
            .map_err(|reason| SinkError::cannot_write(&self.path, reason))?;
        self.line.push(b'\n');
        // One write a line, past any buffer of this process: a kill cannot take it back.
        self.file
            .write_all(&self.line)
            .map_err(|reason| SinkError::cannot_write(&self.path, reason))
    }
}
