//! `recording.edf`, or `recording.bdf` where a signal needs 24 bits: the samples of a live session
//! as they were decided, record by record as it goes. Gaps are filled and declared in their records;
//! a silence of all channels of over an hour is a hole, with which EDF+C becomes EDF+D. Opens in
//! other programs at any moment: the header counts the records that are on the disk. Runs on its own
//! thread, [`RecorderThread`]; refuses signals that are not [`recordable`], and never writes over a
//! recording that is there.
//!
//! A record lasts 1 s, with odd rates 2 or 5 s, and is on the disk at most 5 s after its first
//! sample was decided: a power cut costs no more. What a disk refuses is kept and written when it
//! takes it again, so that an outage leaves no hole that the live pass never saw; only what the
//! thread's memory cannot hold becomes a declared gap. What was not yet synced when a sync failed
//! is written once more, since the kernel may have dropped it.

mod annotations;
mod found;
mod signals;
mod slots;
mod space;
mod thread;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use annotations::{AnnotationLog, AnnotationSink, Annotations, EVENT_BUTTON, marks};
pub use found::recording_in;
pub use signals::{recordable, storable};
pub use slots::Lost;
pub use space::Unreserved;
pub use thread::{RecorderEvent, RecorderThread, Unrecorded, spawn};

use self::found::{describe, no_recording, not_gone_on_with, whole_records};
use self::slots::{Record, Slots};
use crate::edf::writer::WriterPlace;
use crate::edf::{
    Annotation, DateTime, EdfError, EdfWriter, RecordReader, RecordingSpec, SampleFormat,
};
use crate::health::disk::RecordingSpace;
use crate::session_folder::{self, RECORDINGS, open_alone};
use crate::signal::{DigitalBlock, SignalInfo};

/// What the header names as the equipment.
const EQUIPMENT: &str = concat!("sfm-stream_", env!("CARGO_PKG_VERSION"));
/// A power cut loses at most this much of what was decided, seconds.
const MAX_LOST_S: f64 = 5.0;
/// Samples between two syncs, which are kept in memory until then, 16 MB: a recorder that catches up
/// writes many at once.
const MAX_UNSYNCED: u64 = 4 << 20;

/// Why a recording cannot be begun, or does not go on. Every message is one line that names the
/// file.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The signals cannot be recorded, or the file that is there is no recording to go on with.
    #[error("{file}: {reason}", file = .path.display())]
    Refused {
        /// The recording.
        path: PathBuf,
        /// Reason and what to do.
        reason: String,
    },
    /// The disk is full, read-only or gone. What is there can be read; what could not be written is
    /// kept, for [`Recorder::write_decided`].
    #[error("{file}: cannot be written ({reason})", file = .path.display())]
    Disk {
        /// The recording.
        path: PathBuf,
        /// What the file system said.
        reason: String,
    },
}

/// A recording that is there already.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The file.
    pub path: PathBuf,
    /// Its signals, in the order of [`DigitalBlock::channel`].
    pub signals: Vec<SignalInfo>,
    /// Local time of slot 0.
    pub start: Option<DateTime>,
    /// Behind the last record, seconds after the start.
    pub end_s: f64,
    /// The same as a slot of each channel: samples before it are recorded or will stay missing.
    pub ends: Vec<u64>,
    /// What of it is assumed, one sentence each.
    pub warnings: Vec<String>,
}

/// What a recording holds, at its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Records, those before a cut included.
    pub records: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Samples pushed since the recording was opened that it holds only as missing.
    pub lost: Lost,
}

/// Writes a session's recording.
#[derive(Debug)]
pub struct Recorder {
    writer: EdfWriter<File>,
    path: PathBuf,
    labels: Vec<String>,
    rates_hz: Vec<f64>,
    record_s: f64,
    gap_room: usize,
    slots: Slots,
    /// Decided and not written, in order.
    pending: VecDeque<Record>,
    /// Written behind `synced`, and not on the disk for sure.
    unsynced: Vec<Record>,
    unsynced_samples: u64,
    synced: WriterPlace,
    /// When the first of them was written.
    unsynced_since: Option<Instant>,
    /// Up to here the file has its space, bytes.
    reserved_to: u64,
    spec: RecordingSpec,
}

impl Recorder {
    /// Begins a recording in `dir`, which holds none: what is there is never replaced. `start` is the
    /// local time of slot 0.
    ///
    /// # Errors
    /// [`RecorderError::Refused`] if the signals are not what [`recordable`] makes of them, or if
    /// there is a recording; [`RecorderError::Disk`].
    pub fn create(
        dir: &Path,
        signals: &[SignalInfo],
        start: DateTime,
    ) -> Result<Self, RecorderError> {
        let path = dir.join(file_name(signals));
        let as_they_are =
            recordable(signals).into_iter().zip(signals).all(|(r, s)| r.as_ref() == Ok(s));
        if signals.is_empty() || !as_they_are {
            let reason = "there is no signal, or one that is not as a recording can hold it";
            return Err(RecorderError::Refused { path, reason: reason.to_owned() });
        }
        if let Some(path) = recording_in(dir) {
            let reason = "is there already, and stays as it is; choose another folder with --out";
            return Err(RecorderError::Refused { path, reason: reason.to_owned() });
        }
        let spec = signals::spec(signals, Some(start));
        let begin = |file: File| -> Result<EdfWriter<File>, EdfError> {
            let writer = EdfWriter::open_ended(file, &spec, EQUIPMENT)?;
            writer.output().sync_all()?;
            // The name, too, has to be there after a power cut.
            crate::files::sync_folder(dir)?;
            Ok(writer)
        };
        let begun =
            match open_recording(OpenOptions::new().read(true).write(true).create_new(true), &path)
            {
                // Without a header it is nothing but in the way of the next attempt.
                Ok(file) => begin(file).inspect_err(|_| drop(std::fs::remove_file(&path))),
                Err(error) => Err(error.into()),
            };
        match begun {
            Ok(writer) => Ok(Self::new(writer, path, signals, spec, 0)),
            Err(error) => Err(RecorderError::Disk { path, reason: error_reason(error) }),
        }
    }

    /// Opens the recording of a session that was cut, or that goes on after its end. A record that
    /// was cut or damaged by the cut is dropped; what is pushed next follows behind a hole.
    ///
    /// # Errors
    /// [`RecorderError::Refused`] if there is none, if it is not one of this program, or if
    /// another one is recording into it; [`RecorderError::Disk`].
    pub fn reopen(dir: &Path) -> Result<(Self, Recorded), RecorderError> {
        let path = recording_in(dir).ok_or_else(|| no_recording(dir))?;
        Self::go_on(&path).map_err(|error| not_gone_on_with(path, error))
    }

    /// What the recording of a session holds, without a change to it.
    ///
    /// # Errors
    /// As [`Recorder::reopen`].
    pub fn inspect(dir: &Path) -> Result<Recorded, RecorderError> {
        let path = recording_in(dir).ok_or_else(|| no_recording(dir))?;
        let look = || -> Result<Recorded, EdfError> {
            let mut reader = RecordReader::new(File::open(&path)?)?;
            let whole = whole_records(&mut reader)?;
            describe(&path, &mut reader, whole)
        };
        look().map_err(|error| not_gone_on_with(path.clone(), error))
    }

    fn go_on(path: &Path) -> Result<(Self, Recorded), EdfError> {
        let file = open_recording(OpenOptions::new().read(true).write(true), path)?;
        let mut reader = RecordReader::new(file.try_clone()?)?;
        let whole = whole_records(&mut reader)?;
        let recorded = describe(path, &mut reader, whole)?;
        let spec = signals::spec(&recorded.signals, recorded.start);
        let header = reader.header();
        let end = header.header_bytes + whole * header.record_bytes;
        let mut writer = EdfWriter::reopened(file, &spec, whole, recorded.end_s);
        if writer.whole_bytes() != end || header.record_duration_s != spec.record_duration_s {
            return Err(EdfError::Unwritable("its records are not those of this program".into()));
        }
        // What was reserved and not used goes, too.
        writer.output().set_len(end)?;
        writer.leave_open()?;
        writer.output().sync_data()?;
        let record = (recorded.end_s / spec.record_duration_s).round() as u64;
        let recorder = Self::new(writer, path.to_owned(), &recorded.signals, spec, record);
        Ok((recorder, recorded))
    }

    fn new(
        writer: EdfWriter<File>,
        path: PathBuf,
        signals: &[SignalInfo],
        spec: RecordingSpec,
        record: u64,
    ) -> Self {
        let channels: Vec<(usize, i32)> =
            spec.signals.iter().map(|s| (s.samples_per_record, s.digital_min)).collect();
        Self {
            synced: writer.place(),
            reserved_to: writer.whole_bytes(),
            writer,
            path,
            labels: signals.iter().map(|signal| signal.label.clone()).collect(),
            rates_hz: signals.iter().map(|signal| signal.rate_hz).collect(),
            record_s: spec.record_duration_s,
            gap_room: signals::gap_room(&spec.signals, spec.sample_format),
            slots: Slots::new(&channels, storable(signals), spec.record_duration_s, record),
            pending: VecDeque::new(),
            unsynced: Vec::new(),
            unsynced_samples: 0,
            unsynced_since: None,
            spec,
        }
    }

    /// The recording's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rate of each channel, Hz.
    pub fn rates_hz(&self) -> &[f64] {
        &self.rates_hz
    }

    /// Takes a block and writes the records that are decided with it. What is late or cannot be
    /// stored is counted and stays missing.
    ///
    /// # Errors
    /// [`RecorderError::Disk`]: the block was taken, [`Recorder::write_decided`] tries again.
    pub fn push(&mut self, block: &DigitalBlock) -> Result<(), RecorderError> {
        self.slots.push(block);
        self.write_decided()
    }

    /// Writes the records that are decided and not written yet.
    ///
    /// # Errors
    /// [`RecorderError::Disk`]; nothing is lost with it.
    pub fn write_decided(&mut self) -> Result<(), RecorderError> {
        self.write_pending()?;
        while let Some(record) = self.slots.next() {
            self.enqueue(record);
            self.write_pending()?;
        }
        Ok(())
    }

    /// When [`Recorder::sync`] is to be called at the latest; `None` while all is on the disk.
    pub fn sync_at(&self) -> Option<Instant> {
        let since = self.unsynced_since?;
        // Until records are counted other programs do not open the file.
        if self.synced.record_count() == 0 {
            return Some(since);
        }
        // The record that is still open is lost as well.
        Some(since + Duration::from_secs_f64((MAX_LOST_S - self.record_s).max(0.0)))
    }

    /// Waits until what is written is on the disk, then counts it in the header.
    ///
    /// # Errors
    /// As [`Recorder::write_decided`], which then writes the records behind the last sync again.
    pub fn sync(&mut self) -> Result<(), RecorderError> {
        (self.unsynced_since, self.unsynced_samples) = (None, 0);
        let synced = self.writer.output().sync_data().map_err(EdfError::from);
        match synced.and_then(|()| self.writer.count_records()) {
            Ok(()) => {
                self.unsynced.clear();
                self.synced = self.writer.place();
                Ok(())
            }
            Err(error) => {
                self.writer.go_back(self.synced);
                for record in self.unsynced.drain(..).rev() {
                    self.pending.push_front(record);
                }
                Err(self.disk(error))
            }
        }
    }

    /// Writes what is left, the last record filled up, sets the header's count and waits for the
    /// disk.
    ///
    /// # Errors
    /// [`RecorderError::Disk`]; the file is left as whole as it can be.
    pub fn finish(mut self) -> Result<Written, RecorderError> {
        let outcome = self.write_rest();
        let closed = self.close();
        outcome.and(closed)
    }

    /// Writes all that was pushed, the last record filled up. Nothing can be pushed after it.
    ///
    /// # Errors
    /// As [`Recorder::write_decided`].
    pub fn write_rest(&mut self) -> Result<(), RecorderError> {
        self.write_decided()?;
        while let Some(record) = self.slots.next_at_end() {
            self.enqueue(record);
            self.write_pending()?;
        }
        self.sync()
    }

    /// What was pushed and is not written: seconds from and to which, and samples.
    pub fn unwritten(&self) -> Option<(f64, f64, u64)> {
        let first = self.pending.front().map_or(self.slots.next_record(), |record| record.index);
        let pending: u64 = self.pending.iter().map(Record::sample_count).sum();
        let samples = pending + self.slots.held() as u64;
        let end = self.slots.end_record().max(first + self.pending.len() as u64);
        let s = |record: u64| record as f64 * self.record_s;
        (samples > 0).then(|| (s(first), s(end), samples))
    }

    /// Closes the recording without what is not written.
    ///
    /// # Errors
    /// As [`Recorder::finish`].
    pub fn close(self) -> Result<Written, RecorderError> {
        let written = Written {
            path: self.path.clone(),
            records: self.writer.record_count(),
            bytes: self.writer.whole_bytes(),
            lost: self.slots.lost,
        };
        let close = |writer: EdfWriter<File>| -> Result<(), EdfError> {
            // A record that a full disk cut short, and the space that was not needed.
            writer.output().set_len(writer.whole_bytes())?;
            writer.output().sync_data()?;
            let file = writer.finish()?;
            file.sync_all()?;
            // Not left to the closing: a child that is just being started may hold the file as well.
            file.unlock()?;
            Ok(())
        };
        match close(self.writer) {
            Ok(()) => Ok(written),
            Err(error) => Err(RecorderError::Disk { path: self.path, reason: error_reason(error) }),
        }
    }

    /// Sets the space of a night of 12 h aside, as far as there is room for it. The file does not
    /// grow by it.
    ///
    /// # Errors
    /// Why nothing could be set aside.
    pub fn reserve(&mut self) -> Result<(), Unreserved> {
        let (written, rate) = (self.writer.whole_bytes(), self.bytes_per_s());
        let night = self.writer.header_bytes() + (space::NIGHT_S * rate) as u64;
        self.reserved_to = space::reserve(self.writer.output(), &self.path, written, night)?;
        Ok(())
    }

    /// What the recording takes and has set aside.
    pub fn space(&self) -> RecordingSpace {
        let written = self.writer.whole_bytes();
        RecordingSpace {
            bytes_per_s: self.bytes_per_s(),
            recorded_s: self.writer.next_onset_s(),
            reserved_bytes: self.reserved_to.saturating_sub(written),
        }
    }

    fn bytes_per_s(&self) -> f64 {
        self.writer.record_bytes() as f64 / self.record_s
    }

    /// Why the file is not under its name any more; `None` while it is.
    pub fn displaced(&self) -> Option<&'static str> {
        session_folder::displaced(self.writer.output(), &self.path)
    }

    /// Goes on under the same name in `dir`, with a copy of what is recorded; the file that it was
    /// in keeps that. If it cannot be copied, from a disk that is gone or for want of room, the
    /// recording there begins with a hole. Returns the seconds of that. Nothing there is written over.
    ///
    /// # Errors
    /// [`RecorderError::Disk`]; the recording goes on where it was.
    pub fn move_to(&mut self, dir: &Path) -> Result<f64, RecorderError> {
        let Some(name) = self.path.file_name() else { return Ok(0.0) };
        let path = dir.join(name);
        // So that the copy's header counts them. If the disk refuses, they are kept.
        let _ = self.sync();
        let bytes = self.writer.whole_bytes();
        let copied = session_folder::copy(self.writer.output(), bytes, &path);
        let moved = match copied {
            Ok(file) => {
                let left = self.writer.replace_output(file);
                let _ = left.set_len(bytes);
                let _ = left.unlock();
                self.reserved_to = bytes;
                Ok(0.0)
            }
            Err(reason) => self.begin_again(&path).map_err(|_| reason),
        };
        match moved {
            Ok(hole_s) => {
                self.path = path;
                Ok(hole_s)
            }
            Err(error) => Err(RecorderError::Disk { path, reason: error.to_string() }),
        }
    }

    /// Begins a recording at `path` that goes on with what is not on the disk yet.
    fn begin_again(&mut self, path: &Path) -> Result<f64, EdfError> {
        let hole_s = self.writer.next_onset_s();
        let file =
            open_recording(OpenOptions::new().read(true).write(true).create_new(true), path)?;
        let begun = EdfWriter::open_ended(file, &self.spec, EQUIPMENT);
        self.writer = begun.inspect_err(|_| drop(std::fs::remove_file(path)))?;
        (self.synced, self.reserved_to) = (self.writer.place(), self.writer.header_bytes());
        for record in self.unsynced.drain(..).rev() {
            self.pending.push_front(record);
        }
        // The first record says where the recording starts.
        if self.pending.front().is_none_or(|record| record.index > 0) && hole_s > 0.0 {
            let empty = self.slots.empty_record();
            self.pending.push_front(empty);
        }
        Ok(hole_s)
    }

    fn enqueue(&mut self, mut record: Record) {
        self.slots.lost.merged += slots::merge(&mut record.missing, self.gap_room);
        self.pending.push_back(record);
    }

    fn write_pending(&mut self) -> Result<(), RecorderError> {
        while let Some(record) = self.pending.pop_front() {
            match self.write(&record) {
                Ok(()) => {
                    self.unsynced_samples += record.sample_count();
                    self.unsynced.push(record);
                    self.unsynced_since.get_or_insert_with(Instant::now);
                    if self.unsynced_samples >= MAX_UNSYNCED {
                        self.sync()?;
                    }
                }
                Err(error @ EdfError::Io(_)) => {
                    self.pending.push_front(record);
                    return Err(self.disk(error));
                }
                // Trying again would not help.
                Err(error) => {
                    self.slots.lost.unstorable += record.sample_count();
                    return Err(self.disk(error));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), EdfError> {
        let onset_s = record.index as f64 * self.record_s;
        let declared: Vec<Annotation> = record
            .missing
            .iter()
            .filter_map(|missing| {
                let rate_hz = self.rates_hz.get(missing.channel)?;
                let first = missing.samples.start as f64 / rate_hz;
                Some(Annotation {
                    onset_s: onset_s + first,
                    duration_s: Some(missing.samples.len() as f64 / rate_hz),
                    text: missing.reason.declaration(self.labels.get(missing.channel)?),
                })
            })
            .collect();
        if self.writer.is_behind_hole(onset_s) {
            self.writer.declare_holes()?;
            // Before the hole: read as EDF+C, all behind it would be early.
            self.writer.output().sync_data()?;
        }
        let samples: Vec<&[i32]> = record.samples.iter().map(Vec::as_slice).collect();
        self.writer.write_record_at(onset_s, &samples, &declared)
    }

    fn disk(&self, error: EdfError) -> RecorderError {
        RecorderError::Disk { path: self.path.clone(), reason: error_reason(error) }
    }
}

fn file_name(signals: &[SignalInfo]) -> &'static str {
    match signals::sample_format(signals) {
        SampleFormat::I16 => RECORDINGS[0],
        SampleFormat::I24 => RECORDINGS[1],
    }
}

/// Opens a recording as `open` does. A link under its name is neither followed nor removed: it may be
/// where another night was moved to.
fn open_recording(options: &OpenOptions, path: &Path) -> std::io::Result<File> {
    if crate::files::is_link(path) {
        return Err(std::io::Error::other("it is a link, not a regular file"));
    }
    open_alone(options, path)
}

fn error_reason(error: EdfError) -> String {
    match error {
        EdfError::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}
