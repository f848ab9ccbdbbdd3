//! `hypnogram.edf`: the best known stage of every epoch as EDF+ annotations with the standard
//! texts, one data record an epoch. Written anew at every publication; 24 h are 230 kB.

use std::io::Cursor;
use std::path::Path;

use super::hypnogram::{Hypnogram, annotation};
use super::replace::ReplacedFile;
use super::{Sink, SinkError};
use crate::edf::{Continuity, DateTime, EdfError, EdfWriter};
use crate::edf::{RecordingSpec, SampleFormat};
use crate::event::Event;
use sfm_models::EPOCH_S;

/// Room for the onset of a record and one epoch's annotation, bytes.
const ANNOTATION_BYTES: usize = 64;

/// Writes `hypnogram.edf`.
#[derive(Debug)]
pub struct EdfSink {
    file: ReplacedFile,
    hypnogram: Hypnogram,
    start: Option<DateTime>,
}

impl EdfSink {
    /// Takes the place of `hypnogram.edf` in `out_dir`; the file appears with the first epoch.
    ///
    /// # Errors
    /// The place of the file cannot be freed.
    pub fn open(out_dir: &Path) -> Result<Self, SinkError> {
        let file = ReplacedFile::open(out_dir, "hypnogram.edf")?;
        Ok(EdfSink { file, hypnogram: Hypnogram::default(), start: None })
    }

    /// Goes on with the `hypnogram.edf` of `out_dir`, which is replaced with the first epochs.
    pub fn reopen(out_dir: &Path) -> Self {
        let file = ReplacedFile::reopen(out_dir, "hypnogram.edf");
        EdfSink { file, hypnogram: Hypnogram::default(), start: None }
    }

    fn bytes(&self) -> Result<Vec<u8>, EdfError> {
        let spec = RecordingSpec {
            sample_format: SampleFormat::I16,
            continuity: Continuity::Continuous,
            start: self.start,
            record_duration_s: EPOCH_S,
            signals: Vec::new(),
            annotation_bytes: ANNOTATION_BYTES,
        };
        let mut writer = EdfWriter::new(Cursor::new(Vec::new()), &spec)?;
        let mut records = 0;
        for epoch in self.hypnogram.epochs() {
            // A record follows the other: an epoch that was lost on the way has an empty one.
            for _ in records..epoch.epoch {
                writer.write_record(&[], &[])?;
            }
            writer.write_record(&[], &[annotation(epoch)])?;
            records = epoch.epoch.saturating_add(1);
        }
        Ok(writer.finish()?.into_inner())
    }

    fn write(&self) -> Result<(), SinkError> {
        let bytes = self.bytes().map_err(|reason| self.file.cannot_write(reason))?;
        self.file.write(&bytes)
    }
}

impl Sink for EdfSink {
    fn name(&self) -> String {
        self.file.path().display().to_string()
    }

    fn can_try_again(&self) -> bool {
        true
    }

    fn move_to(&mut self, out_dir: &Path) -> Result<(), SinkError> {
        self.file.move_to(out_dir);
        self.hypnogram.keep_change();
        Ok(())
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        if let Event::Started(started) = event {
            self.start = started.start.as_ref().and_then(|start| start.parse().ok());
        }
        self.hypnogram.take(event);
        Ok(())
    }

    fn publish(&mut self) -> Result<(), SinkError> {
        if !self.hypnogram.take_change() {
            return Ok(());
        }
        self.write().inspect_err(|_| self.hypnogram.keep_change())
    }

    /// A recording too short for an epoch still gets a file that opens.
    fn finish(&mut self) -> Result<(), SinkError> {
        self.publish()?;
        if self.hypnogram.epochs().next().is_none() { self.write() } else { Ok(()) }
    }
}
