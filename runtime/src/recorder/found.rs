//! What is found of a recording that was begun before: where it is, how much of it is whole, and what its
//! header says of its signals.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Recorded, RecorderError};
use crate::edf::{Continuity, EdfError, RecordReader, onset};
use crate::session_folder::RECORDINGS;
use crate::signal::SignalInfo;

/// Records at the end that a power cut may have left as zeros.
const MAX_DAMAGED_RECORDS: u64 = 64;

/// The recording in a folder. A link counts as one, wherever it leads.
pub fn recording_in(dir: &Path) -> Option<PathBuf> {
    RECORDINGS.map(|name| dir.join(name)).into_iter().find(|path| path.symlink_metadata().is_ok())
}

pub(super) fn no_recording(dir: &Path) -> RecorderError {
    let reason = "holds no recording; give the folder of a live session".to_owned();
    RecorderError::Refused { path: dir.to_owned(), reason }
}

pub(super) fn not_gone_on_with(path: PathBuf, error: EdfError) -> RecorderError {
    match error {
        EdfError::Io(error) => RecorderError::Disk { path, reason: error.to_string() },
        error => {
            let reason = format!("{error}; it can only be replayed");
            RecorderError::Refused { path, reason }
        }
    }
}

/// Records before the first of those at the end that keep no time, as after a power cut.
pub(super) fn whole_records(reader: &mut RecordReader<File>) -> Result<u64, EdfError> {
    let count = reader.header().record_count;
    let mut whole = count;
    for record in (count.saturating_sub(MAX_DAMAGED_RECORDS)..count).rev() {
        if reader.record_onset_s(record)?.is_none() {
            whole = record;
        }
    }
    Ok(whole)
}

/// The recording by its header and its first `whole` records.
pub(super) fn describe(
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
    let extent = onset::extent(reader, whole)?;
    let first_s = extent.first_s;
    let last_s = if whole > 0 { extent.last_s } else { -header.record_duration_s };
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
        warnings: extent.warnings(whole, header.record_duration_s),
    })
}
