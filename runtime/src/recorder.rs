//! `recording.edf`, or `recording.bdf` where a signal needs 24 bits: the samples of a live session
//! as they were decided, record by record as it goes. Gaps are filled and declared in their records;
//! a silence of all channels of over an hour is a hole (EDF+D). The header says EDF+D and counts -1
//! records until the recording is finished; without holes it is EDF+C then. Runs on its own thread, [`RecorderThread`]; refuses signals
//! that are not [`recordable`].
//!
//! A record lasts 1 s, with odd rates 2 or 5 s, and is on the disk at most 5 s after its first
//! sample was decided: a power cut costs no more. A failed write ends the recording for good; what
//! is there stays readable and is gone on with by [`Recorder::reopen`]. Trying again would put a
//! hole into every replay that the live pass never saw, on a disk that rarely gets better.

mod annotations;
mod signals;
mod slots;
mod thread;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use annotations::{
    AnnotationLog, AnnotationSink, Annotations, EVENT_BUTTON, LIGHTS_OFF, LIGHTS_ON, marks,
};
pub use signals::{recordable, storable};
pub use slots::Lost;
pub use thread::{RecorderThread, spawn};

use self::slots::{Record, Slots};
use crate::edf::{
    Annotation, Continuity, DateTime, EdfError, EdfWriter, RecordReader, SampleFormat,
};
use crate::signal::{DigitalBlock, SignalInfo};

/// What the header names as the equipment.
const EQUIPMENT: &str = concat!("sfm-stream_", env!("CARGO_PKG_VERSION"));
/// A power cut loses at most this much of what was decided, seconds.
const MAX_LOST_S: f64 = 5.0;
/// Records at the end that a power cut may have left as zeros.
const MAX_DAMAGED_RECORDS: u64 = 64;

/// Why a recording cannot be begun, or ends. Every message is one line that names the file.
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
    /// The disk is full, read-only or gone: nothing more is recorded, what is there can be read.
    #[error("{file}: cannot be written any more ({reason})", file = .path.display())]
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
    /// When the first record was written that is not yet on the disk for sure.
    unsynced: Option<Instant>,
}

impl Recorder {
    /// Begins a recording in `dir`, replacing one that exists. `start` is the local time of slot 0.
    ///
    /// # Errors
    /// [`RecorderError::Refused`] if the signals are not what [`recordable`] makes of them;
    /// [`RecorderError::Disk`].
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
        let spec = signals::spec(signals, Some(start));
        let begin = || -> Result<EdfWriter<File>, EdfError> {
            let file = open(OpenOptions::new().write(true).create(true), &path)?;
            // Not before it is known that nobody else writes to it.
            file.set_len(0)?;
            for other in FILE_NAMES.map(|name| dir.join(name)) {
                if other != path && other.exists() {
                    std::fs::remove_file(other)?;
                }
            }
            let writer = EdfWriter::open_ended(file, &spec, EQUIPMENT)?;
            writer.output().sync_all()?;
            // The name, too, has to be there after a power cut.
            File::open(dir)?.sync_all()?;
            Ok(writer)
        };
        match begin() {
            Ok(writer) => Ok(Self::new(writer, path, signals, 0)),
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
        let found = FILE_NAMES.map(|name| dir.join(name)).into_iter().find(|path| path.exists());
        let Some(path) = found else {
            let reason = "holds no recording; give the folder of a live session".to_owned();
            return Err(RecorderError::Refused { path: dir.to_owned(), reason });
        };
        match Self::go_on(&path) {
            Ok(found) => Ok(found),
            Err(EdfError::Io(error)) => {
                Err(RecorderError::Disk { path, reason: error.to_string() })
            }
            Err(error) => {
                let reason = format!("{error}; it can only be replayed");
                Err(RecorderError::Refused { path, reason })
            }
        }
    }

    fn go_on(path: &Path) -> Result<(Self, Recorded), EdfError> {
        let file = open(OpenOptions::new().read(true).write(true), path)?;
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
        writer.output().set_len(end)?;
        writer.leave_open()?;
        let record = (recorded.end_s / spec.record_duration_s).round() as u64;
        let recorder = Self::new(writer, path.to_owned(), &recorded.signals, record);
        Ok((recorder, recorded))
    }

    fn new(writer: EdfWriter<File>, path: PathBuf, signals: &[SignalInfo], record: u64) -> Self {
        let spec = signals::spec(signals, None);
        let channels: Vec<(usize, i32)> =
            spec.signals.iter().map(|s| (s.samples_per_record, s.digital_min)).collect();
        Self {
            writer,
            path,
            labels: signals.iter().map(|signal| signal.label.clone()).collect(),
            rates_hz: signals.iter().map(|signal| signal.rate_hz).collect(),
            record_s: spec.record_duration_s,
            gap_room: signals::gap_room(&spec.signals, spec.sample_format),
            slots: Slots::new(&channels, storable(signals), spec.record_duration_s, record),
            unsynced: None,
        }
    }

    /// The recording's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a block and writes the records that are decided with it. What is late or cannot be
    /// stored is counted and stays missing.
    ///
    /// # Errors
    /// [`RecorderError::Disk`]: the recording is over, to be closed with [`Recorder::finish`].
    pub fn push(&mut self, block: &DigitalBlock) -> Result<(), RecorderError> {
        self.slots.push(block);
        while let Some(record) = self.slots.next() {
            self.write(record)?;
        }
        Ok(())
    }

    /// When [`Recorder::sync`] is to be called at the latest; `None` while all is on the disk.
    pub fn sync_at(&self) -> Option<Instant> {
        // The record that is still open is lost as well.
        Some(self.unsynced? + Duration::from_secs_f64((MAX_LOST_S - self.record_s).max(0.0)))
    }

    /// Waits until what is written is on the disk.
    ///
    /// # Errors
    /// As [`Recorder::push`].
    pub fn sync(&mut self) -> Result<(), RecorderError> {
        self.unsynced = None;
        self.writer.output().sync_data().map_err(|error| self.disk(error.into()))
    }

    /// Writes what is left, the last record filled up, sets the header's count and waits for the
    /// disk.
    ///
    /// # Errors
    /// [`RecorderError::Disk`]; the file is left as whole as it can be.
    pub fn finish(mut self) -> Result<Written, RecorderError> {
        let mut outcome = Ok(());
        while outcome.is_ok() {
            let Some(record) = self.slots.next_at_end() else { break };
            outcome = self.write(record);
        }
        let closed = self.close();
        outcome.and(closed)
    }

    /// Closes a recording that cannot go on, without what is left.
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
            // A record that a full disk cut short.
            writer.output().set_len(writer.whole_bytes())?;
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

    fn write(&mut self, mut record: Record) -> Result<(), RecorderError> {
        self.slots.lost.merged += slots::merge(&mut record.missing, self.gap_room);
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
        let samples: Vec<&[i32]> = record.samples.iter().map(Vec::as_slice).collect();
        self.writer
            .write_record_at(onset_s, &samples, &declared)
            .map_err(|error| self.disk(error))?;
        self.unsynced.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn disk(&self, error: EdfError) -> RecorderError {
        RecorderError::Disk { path: self.path.clone(), reason: error_reason(error) }
    }
}

const FILE_NAMES: [&str; 2] = ["recording.edf", "recording.bdf"];

fn file_name(signals: &[SignalInfo]) -> &'static str {
    match signals::sample_format(signals) {
        SampleFormat::I16 => FILE_NAMES[0],
        SampleFormat::I24 => FILE_NAMES[1],
    }
}

/// Opens a recording for this program alone; some network disks know no locks, and go without.
fn open(options: &OpenOptions, path: &Path) -> std::io::Result<File> {
    let file = options.open(path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(std::io::Error::other("another program is recording into it"))
        }
        _ => Ok(file),
    }
}

fn error_reason(error: EdfError) -> String {
    match error {
        EdfError::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// Records before the first of those at the end that keep no time, as after a power cut.
fn whole_records(reader: &mut RecordReader<File>) -> Result<u64, EdfError> {
    let count = reader.header().record_count;
    let mut whole = count;
    for record in (count.saturating_sub(MAX_DAMAGED_RECORDS)..count).rev() {
        if reader.record_onset_s(record)?.is_none() {
            whole = record;
        }
    }
    Ok(whole)
}

fn describe(
    path: &Path,
    reader: &mut RecordReader<File>,
    whole: u64,
) -> Result<Recorded, EdfError> {
    let foreign = |reason: &str| EdfError::Unwritable(reason.into());
    let header = reader.header().clone();
    let ours = header.equipment.starts_with("sfm-stream")
        && header.continuity != Continuity::Plain
        && header.record_duration_s > 0.0;
    if !ours {
        return Err(foreign("it was not recorded by this program"));
    }
    let first_s = if whole > 0 { reader.record_onset_s(0)? } else { None }.unwrap_or_default();
    let last_s = match whole.checked_sub(1) {
        Some(last) => reader.record_onset_s(last)?.unwrap_or(f64::NAN) - first_s,
        None => -header.record_duration_s,
    };
    let end_s = ((last_s / header.record_duration_s).round() + 1.0) * header.record_duration_s;
    if !(0.0..=1e7).contains(&end_s) {
        return Err(foreign("its last record has no place in time"));
    }
    let samples = header.signals.iter().filter(|signal| !signal.is_annotation);
    let signals: Vec<SignalInfo> = samples
        .map(|signal| SignalInfo {
            label: signal.label.clone(),
            rate_hz: header.rate_hz(signal),
            unit: signal.unit.clone(),
            physical_min: signal.physical_min,
            physical_max: signal.physical_max,
            digital_min: signal.digital_min,
            digital_max: signal.digital_max,
        })
        .collect();
    Ok(Recorded {
        path: path.to_owned(),
        ends: signals.iter().map(|signal| (end_s * signal.rate_hz).round() as u64).collect(),
        signals,
        start: header.start.map(|start| start.plus_seconds(first_s)),
        end_s,
    })
}
