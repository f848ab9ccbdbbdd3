//! `batch.json`, the last file of a recording's folder: which file it was made from, with what, how
//! it went, and which files came of it. Without it, where it speaks of another file, bundle or
//! setting, or where one of its files is not as it was written, the recording is still to be worked
//! off; so a kill or a power cut at any moment costs the nights that were under way, no more.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::archive::Entry;
use super::outputs::{Look, OutputFile};
use crate::event::{ChannelLedger, Event, Night};
use crate::files::{self, Durability};
use crate::night::Demographics;
use crate::sink::{ReplacedFile, Sink, SinkError};

/// The marker's name.
pub const FILE_NAME: &str = "batch.json";
/// Held by the run that is at work in the folder.
pub const LOCK: &str = ".batch.lock";
/// A marker longer than this is none.
const MAX_BYTES: u64 = 1 << 20;
/// Version of a marker that lists its files. Before there was none in it.
const FORMAT: u32 = 2;

/// What a recording's results follow from. Engine and threads are not in it: their results agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name in the archive.
    pub recording: String,
    /// Size of the file; 0 if it cannot be looked at.
    pub bytes: u64,
    /// When the file was last changed, nanoseconds since 1970.
    pub modified_ns: u64,
    /// SHA-256 of the bundle.
    pub bundle_sha256: String,
    /// SHA-256 of the settings as text.
    pub settings: String,
    /// The program and its version.
    pub software: String,
    /// Age of the person, where it is known.
    pub age_years: Option<f64>,
    /// Sex of the person, where it is known.
    pub sex: Option<crate::night::Sex>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All files are there.
    Done,
    /// There is a reason why not.
    Failed,
}

/// The content of `batch.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    /// Version of what follows.
    #[serde(default)]
    pub format: u32,
    /// What the results follow from.
    #[serde(flatten)]
    pub identity: Identity,
    /// How it went.
    pub status: Status,
    /// Why it failed, one line.
    pub reason: Option<String>,
    /// The signals of the last pass.
    pub quality: Option<Quality>,
    /// The files that were written, before this one.
    #[serde(default)]
    pub outputs: Vec<OutputFile>,
}

/// How far a recording is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not begun, cut off, or failed: it is to be worked off.
    Open,
    /// Done, and its files are whole.
    Done,
    /// It was done, but this file is not there as it was written: to be done again.
    Changed(String),
    /// It was done by a version that did not list its files: to be done again.
    Unlisted,
}

impl Identity {
    /// Of `entry` as its file is now.
    pub fn of(
        entry: &Entry,
        bundle_sha256: &str,
        settings: &str,
        demographics: Option<Demographics>,
    ) -> Self {
        let metadata = std::fs::metadata(&entry.file).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        let since = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
        Identity {
            recording: entry.name.clone(),
            bytes: metadata.map_or(0, |metadata| metadata.len()),
            modified_ns: since.map_or(0, |since| since.as_nanos() as u64),
            bundle_sha256: bundle_sha256.to_owned(),
            settings: sfm_models::bundle::sha256_hex(settings.as_bytes()),
            software: concat!("sfm-stream ", env!("CARGO_PKG_VERSION")).to_owned(),
            age_years: demographics.map(|d| d.age_years),
            sex: demographics.map(|d| d.sex),
        }
    }
}

impl Marker {
    /// Of a recording that is done.
    pub fn done(identity: Identity, quality: Option<Quality>, outputs: Vec<OutputFile>) -> Self {
        Self { format: FORMAT, identity, status: Status::Done, reason: None, quality, outputs }
    }

    /// Of one that failed, with the reason on one line.
    pub fn failed(identity: Identity, reason: String) -> Self {
        let (reason, quality, outputs) = (Some(reason), None, Vec::new());
        Self { format: FORMAT, identity, status: Status::Failed, reason, quality, outputs }
    }

    /// How far the recording of `identity` is, whose results lie in `folder`.
    pub fn progress(folder: &Path, identity: &Identity, look: Look) -> Progress {
        match Self::read(folder, identity) {
            Some(marker) if marker.status == Status::Done => marker.is_believed(folder, look),
            _ => Progress::Open,
        }
    }

    /// Whether `done` is to be believed.
    pub fn is_believed(&self, folder: &Path, look: Look) -> Progress {
        if self.format < FORMAT || self.outputs.is_empty() {
            return Progress::Unlisted;
        }
        match super::outputs::changed(folder, &self.outputs, look) {
            Some(name) => Progress::Changed(name.to_owned()),
            None => Progress::Done,
        }
    }

    /// The marker in `folder`, if it is there, whole, and of `identity`.
    pub fn read(folder: &Path, identity: &Identity) -> Option<Self> {
        let mut json = Vec::new();
        let file = files::open_input(&folder.join(FILE_NAME)).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut json).ok()?;
        serde_json::from_slice(&json).ok().filter(|marker: &Self| marker.identity == *identity)
    }

    /// Puts the marker in place, whole or not at all; on the disk when this returns.
    ///
    /// # Errors
    /// One sentence with the file and the reason.
    pub fn write(&self, folder: &Path) -> Result<(), SinkError> {
        let path = folder.join(FILE_NAME);
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|reason| SinkError::cannot_write(&path, reason))?;
        json.push(b'\n');
        files::replace(&path, &json, Durability::Synced)
            .map_err(|reason| SinkError::cannot_write(&path, reason))
    }
}

/// Makes `folder` and takes it for this run: no marker is left of an earlier one, and the lock is
/// held as long as the file lives.
///
/// # Errors
/// One sentence: another run is at work there, or the folder cannot be written.
pub fn claim(folder: &Path) -> Result<File, String> {
    let refuse = |reason: String| format!("{}: {reason}", folder.display());
    let written = |e: std::io::Error| refuse(format!("cannot be written ({e})"));
    files::make_folder_within(folder).map_err(written)?;
    let lock = files::open(File::options().write(true).create(true), &folder.join(LOCK));
    let lock = lock.map_err(written)?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        // A file system without locks is no reason not to work.
        return Err(refuse("another run is at work on it".to_owned()));
    }
    ReplacedFile::open(folder, FILE_NAME).map_err(|e| e.to_string())?;
    Ok(lock)
}

/// The signals of a night in a few figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Mean over the epochs of the part of the signal that is present, per cent.
    pub present_pct: Option<f64>,
    /// Mean over the epochs of the part of the present signal that is sound, per cent.
    pub sound_pct: Option<f64>,
    /// Epochs in which a lead was off.
    pub lead_off_epochs: u64,
    /// Samples that are missing, of all channels, per cent.
    pub missing_pct: Option<f64>,
    /// Gaps of all channels.
    pub gaps: u64,
}

/// Sums up the events of a pass, and hands the figures over at its end.
#[derive(Debug)]
pub struct QualitySink {
    epochs: u64,
    present: f64,
    unsound: f64,
    lead_off: u64,
    to: std::sync::mpsc::Sender<Quality>,
}

impl QualitySink {
    /// One that tells `to` at the end of every pass.
    pub fn new(to: std::sync::mpsc::Sender<Quality>) -> Self {
        Self { epochs: 0, present: 0.0, unsound: 0.0, lead_off: 0, to }
    }

    fn summary(&self, night: &Night) -> Quality {
        let mean = |sum: f64| (self.epochs > 0).then(|| 100.0 * sum / self.epochs as f64);
        let sum = |of: fn(&ChannelLedger) -> u64| -> u64 { night.ledger.iter().map(of).sum() };
        let (missing, all) = (sum(|c| c.missing_of().0), sum(|c| c.missing_of().1));
        Quality {
            present_pct: mean(self.present),
            sound_pct: mean(self.epochs as f64 - self.unsound),
            lead_off_epochs: self.lead_off,
            missing_pct: (all > 0).then(|| 100.0 * missing as f64 / all as f64),
            gaps: sum(|c| c.gaps),
        }
    }
}

impl Sink for QualitySink {
    fn name(&self) -> String {
        "quality".to_owned()
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        match event {
            Event::Started(_) => *self = Self::new(self.to.clone()),
            // Of a live pass every epoch comes at least twice.
            Event::Epoch(epoch) if epoch.status != crate::event::EpochStatus::Provisional => {
                self.epochs += 1;
                self.present += f64::from(epoch.quality);
            }
            Event::Quality(quality) => {
                self.unsound += f64::from(1.0 - quality.sound);
                self.lead_off += u64::from(quality.channels.iter().any(|c| c.lead_off));
            }
            // Nobody listens any more: there is nobody to tell.
            Event::Night(night) => drop(self.to.send(self.summary(night))),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_of_one_file_and_one_setting() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("n.edf");
        std::fs::write(&file, "abc").expect("written");
        let entry = Entry { name: "n".into(), file: file.clone(), folder: "n.sfm-out".into() };
        let folder = dir.path().join("n.sfm-out");
        let lock = claim(&folder).expect("free");
        assert!(claim(&folder).expect_err("taken").contains("another run"));
        let identity = Identity::of(&entry, "b", "final", None);
        let before = super::super::outputs::Before::of(&folder).expect("read");
        std::fs::write(folder.join("night.json"), "{}").expect("written");
        let written = before.written(&folder).expect("synced");
        let marker = Marker::done(identity.clone(), None, written);
        assert_eq!(Marker::read(&folder, &identity), None);
        marker.write(&folder).expect("written");
        assert_eq!(Marker::read(&folder, &identity), Some(marker.clone()));
        let progress = || Marker::progress(&folder, &identity, Look::Contents);
        assert_eq!(progress(), Progress::Done);
        std::fs::write(folder.join("night.json"), "[]").expect("written");
        assert_eq!(progress(), Progress::Changed("night.json".to_owned()));
        // As the first version wrote it.
        let mut old = serde_json::to_value(&marker).expect("JSON");
        let fields = old.as_object_mut().expect("an object");
        fields.retain(|name, _| name != "format" && name != "outputs");
        std::fs::write(folder.join(FILE_NAME), old.to_string()).expect("written");
        assert_eq!(progress(), Progress::Unlisted);
        Marker::failed(identity.clone(), "no".to_owned()).write(&folder).expect("written");
        assert_eq!(progress(), Progress::Open);
        marker.write(&folder).expect("written");
        assert_eq!(Marker::read(&folder, &Identity::of(&entry, "c", "final", None)), None);
        assert_eq!(Marker::read(&folder, &Identity::of(&entry, "b", "live", None)), None);
        std::fs::write(&file, "abcd").expect("written");
        assert_eq!(Marker::read(&folder, &Identity::of(&entry, "b", "final", None)), None);
        std::fs::write(folder.join(FILE_NAME), "{\"recording\": \"n").expect("written");
        assert_eq!(Marker::read(&folder, &identity), None, "half a marker is none");
        drop(lock);
        let _lock = claim(&folder).expect("free again");
        assert!(!folder.join(FILE_NAME).exists());
    }
}
