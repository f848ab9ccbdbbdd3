//! A hypnogram as an EDF+ file of its own, appended epoch by epoch.

use std::fs::File;
use std::path::Path;

use sfm_edf::{Annotation, DateTime, EdfError, EdfWriter};
use sfm_models::{EPOCH_S, SleepStage};

/// Room for a record's onset and an epoch, bytes.
const ANNOTATION_BYTES: usize = 80;

/// Writes a hypnogram as EDF+C annotations with the standard texts: a record an epoch.
#[derive(Debug)]
pub struct HypnogramWriter {
    writer: EdfWriter<File>,
}

impl HypnogramWriter {
    /// Creates the file, replacing one that exists.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn create(path: &Path, start: Option<DateTime>) -> Result<Self, EdfError> {
        let file = File::create(path)?;
        let writer = EdfWriter::annotations_only(file, start, EPOCH_S, ANNOTATION_BYTES)?;
        Ok(HypnogramWriter { writer })
    }

    /// Appends the next epoch; `None` is one that could not be scored.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn append(&mut self, stage: Option<SleepStage>) -> Result<(), EdfError> {
        let epoch = Annotation {
            onset_s: self.writer.next_onset_s(),
            duration_s: Some(EPOCH_S),
            text: stage.map_or("Sleep stage ?", SleepStage::edf_text).to_owned(),
        };
        self.writer.write_record(&[], &[epoch])
    }

    /// Closes the file; it is complete after each epoch anyway.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn finish(self) -> Result<(), EdfError> {
        self.writer.finish()?.sync_all()?;
        Ok(())
    }
}
