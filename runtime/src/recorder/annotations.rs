//! `annotations.edf` of a live session: settled stages, marks and longer gaps as EDF+ annotations
//! beside the recording, one a record, appended as they come. Opens at any moment in any reader.
//! What is in the file already is not written again, so that a session that goes on may say it
//! all from the start.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use sfm_models::SleepStage;

use super::thread::Message;
use super::{MAX_LOST_S, RecorderError, error_reason};
use crate::edf::annotation::read_annotations;
use crate::edf::{
    Annotation, Continuity, DateTime, EdfError, EdfWriter, RecordReader, RecordingSpec,
    SampleFormat,
};
use crate::event::{EpochStatus, Event, Pass};
use crate::lights::{LIGHTS_OFF, LIGHTS_ON};
use crate::session_folder::{ANNOTATIONS, open_alone, put_in};
use crate::sink::{Sink, SinkError};
use sfm_models::EPOCH_S;

/// Time a record claims, seconds: annotations have places in time, their records have not.
const RECORD_S: f64 = 1.0;
/// Room for a record's onset and one annotation.
const ANNOTATION_BYTES: usize = 160;
/// Longest text, characters; what links and sensors say is no more than a line.
const MAX_TEXT: usize = 80;
/// Gaps shorter than this are left to the recording: thousands would hide what happened.
const MIN_GAP_S: f64 = 1.0;
/// The patient's or the nurse's button on a sensor.
pub const EVENT_BUTTON: &str = "Event button";

/// Writes `annotations.edf`.
#[derive(Debug)]
pub struct AnnotationLog {
    writer: EdfWriter<File>,
    path: PathBuf,
    written: HashSet<Said>,
    /// As for the recording.
    unsynced: Option<Instant>,
}

impl AnnotationLog {
    /// Begins the file in `dir`, replacing one that exists.
    ///
    /// # Errors
    /// [`RecorderError::Disk`].
    pub fn create(dir: &Path, start: DateTime) -> Result<Self, RecorderError> {
        let path = dir.join(ANNOTATIONS);
        let begin = || -> Result<_, EdfError> {
            let file = open_alone(OpenOptions::new().read(true).write(true).create(true), &path)?;
            file.set_len(0)?;
            EdfWriter::annotations_only(file, Some(start), RECORD_S, ANNOTATION_BYTES)
        };
        let begun = begin();
        Self::of(path, begun, HashSet::new())
    }

    /// Goes on behind what a session that was cut has written; begins the file if it is not there
    /// or cannot be gone on with, which loses nothing that is not written again but marks.
    ///
    /// # Errors
    /// [`RecorderError::Disk`].
    pub fn reopen(dir: &Path, start: DateTime) -> Result<Self, RecorderError> {
        let path = dir.join(ANNOTATIONS);
        match go_on(&path) {
            Ok((writer, written)) => Self::of(path, Ok(writer), written),
            Err(_) => Self::create(dir, start),
        }
    }

    fn of(
        path: PathBuf,
        writer: Result<EdfWriter<File>, EdfError>,
        written: HashSet<Said>,
    ) -> Result<Self, RecorderError> {
        match writer {
            Ok(writer) => Ok(Self { writer, path, written, unsynced: None }),
            Err(error) => Err(RecorderError::Disk { path, reason: error_reason(error) }),
        }
    }

    /// Appends an annotation, unless it is there already. Longer texts are cut.
    ///
    /// # Errors
    /// [`RecorderError::Disk`]; it can be tried again.
    pub fn append(&mut self, annotation: &Annotation) -> Result<(), RecorderError> {
        let text = annotation.text.replace(|c: char| !matches!(c, ' '..='~'), " ");
        let text: String = text.trim().chars().take(MAX_TEXT).collect();
        let text = text.trim_end().to_owned();
        let onset_s = annotation.onset_s;
        // A record without a text would not be counted when the file is reopened.
        if !onset_s.is_finite() || onset_s.abs() > 1e7 || text.is_empty() {
            return Ok(());
        }
        let key = key(onset_s, &text);
        if self.written.contains(&key) {
            return Ok(());
        }
        let duration_s = annotation.duration_s.filter(|s| (0.0..1e7).contains(s));
        self.writer
            .write_record(&[], &[Annotation { onset_s, duration_s, text }])
            .map_err(|error| self.disk(error))?;
        self.written.insert(key);
        self.unsynced.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// As [`super::Recorder::sync_at`].
    pub fn sync_at(&self) -> Option<Instant> {
        Some(self.unsynced? + Duration::from_secs_f64(MAX_LOST_S))
    }

    /// Waits until what is written is on the disk.
    ///
    /// # Errors
    /// [`RecorderError::Disk`].
    pub fn sync(&mut self) -> Result<(), RecorderError> {
        self.unsynced = None;
        self.writer.output().sync_data().map_err(|error| self.disk(error.into()))
    }

    /// As [`super::Recorder::move_to`].
    ///
    /// # Errors
    /// [`RecorderError::Disk`].
    pub fn move_to(&mut self, dir: &Path) -> Result<(), RecorderError> {
        let path = dir.join(ANNOTATIONS);
        match put_in(self.writer.output(), &path) {
            Ok(file) => {
                if let Some(file) = file {
                    let _ = self.writer.replace_output(file).unlock();
                }
                self.path = path;
                Ok(())
            }
            Err(error) => Err(RecorderError::Disk { path, reason: error.to_string() }),
        }
    }

    fn disk(&self, error: EdfError) -> RecorderError {
        RecorderError::Disk { path: self.path.clone(), reason: error_reason(error) }
    }
}

impl Drop for AnnotationLog {
    /// Not left to the closing: a child that is just being started may hold the file as well.
    fn drop(&mut self) {
        let _ = self.writer.output().unlock();
    }
}

/// The marks of people that stand in `dir`'s file: onset in seconds and text. None where the file
/// cannot be read.
pub fn marks(dir: &Path) -> Vec<(f64, String)> {
    let all = crate::edf::annotations(&dir.join(ANNOTATIONS)).unwrap_or_default();
    let is_mark = |text: &str| [LIGHTS_OFF, LIGHTS_ON, EVENT_BUTTON].contains(&text);
    all.into_iter().filter(|a| is_mark(&a.text)).map(|a| (a.onset_s, a.text)).collect()
}

/// Onset in microseconds and text of an annotation that is written.
type Said = (i64, String);

fn key(onset_s: f64, text: &str) -> Said {
    ((onset_s * 1e6).round() as i64, text.to_owned())
}

fn go_on(path: &Path) -> Result<(EdfWriter<File>, HashSet<Said>), EdfError> {
    let file = open_alone(OpenOptions::new().read(true).write(true), path)?;
    let mut reader = RecordReader::new(file.try_clone()?)?;
    let annotations = read_annotations(&mut reader)?;
    let first_s = reader.record_onset_s(0)?.unwrap_or_default();
    let header = reader.header();
    let spec = RecordingSpec {
        sample_format: SampleFormat::I16,
        continuity: Continuity::Continuous,
        start: header.start.map(|start| start.plus_seconds(first_s)),
        record_duration_s: RECORD_S,
        signals: Vec::new(),
        annotation_bytes: ANNOTATION_BYTES,
    };
    // One a record; an empty record is the place that is held for the first.
    let count = annotations.len() as u64;
    let writer = EdfWriter::reopened(file, &spec, count, count as f64 * RECORD_S);
    if writer.record_bytes() != header.record_bytes || header.record_count < count {
        return Err(EdfError::Unwritable("its records are not those of this program".into()));
    }
    let written = annotations.into_iter().map(|a| key(a.onset_s, &a.text)).collect();
    Ok((writer, written))
}

/// Hands annotations to the recorder's thread, from any thread; never waits.
#[derive(Debug, Clone)]
pub struct Annotations {
    pub(super) queue: Sender<Message>,
}

impl Annotations {
    /// A mark, a silence, a reconnect: `onset_s` in seconds after slot 0. One that comes when the
    /// recording is finished is dropped.
    pub fn add(&self, onset_s: f64, duration_s: Option<f64>, text: &str) {
        let text = text.to_owned();
        let _ = self.queue.send(Message::Annotation(Annotation { onset_s, duration_s, text }));
    }
}

/// Takes settled stages and gaps of at least a second from the live pass.
#[derive(Debug)]
pub struct AnnotationSink(pub Annotations);

impl Sink for AnnotationSink {
    fn name(&self) -> String {
        ANNOTATIONS.to_owned()
    }

    /// The recorder's thread does.
    fn move_to(&mut self, _: &Path) -> Result<(), SinkError> {
        Ok(())
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        match event {
            Event::Epoch(epoch) if epoch.status == EpochStatus::Settled => {
                let text = epoch.stage.map_or("Sleep stage ?", SleepStage::edf_text);
                self.0.add(epoch.onset_s, Some(EPOCH_S), text);
            }
            Event::Gap(gap) if gap.pass == Pass::Live && gap.duration_s >= MIN_GAP_S => {
                let text = format!("Signal gap@@{}", gap.label);
                self.0.add(gap.onset_s, Some(gap.duration_s), &text);
            }
            _ => {}
        }
        Ok(())
    }
}
