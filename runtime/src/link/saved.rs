//! `session.json`: what it takes to go on with a session that was cut, or to finish it. Written at
//! the start, replaced as a whole. Holds age and sex where they were given, and no other data of a
//! person.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hub::Totals;
use super::ledger::{FrameLedger, SampleLedger};
use super::session::SessionChannel;
use crate::night::{Demographics, Sex};
use crate::signal::SignalInfo;
use crate::sink::formats::FormatArgs;
use crate::sink::report::ReportArgs;

/// The file's name in a session's folder.
pub const FILE_NAME: &str = "session.json";
/// A session's file is short; anything longer is none.
const MAX_BYTES: u64 = 4 << 20;
const VERSION: u32 = 1;

/// A live session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedSession {
    version: u32,
    /// Slot 0 by the wall clock, milliseconds after 1970-01-01 UTC.
    pub start_utc_ms: i64,
    /// Slot 0, local time.
    pub start: String,
    /// The bundle file; `None` for the built-in one.
    pub bundle: Option<PathBuf>,
    /// SHA-256 of the bundle, hexadecimal.
    pub bundle_sha256: String,
    /// Years.
    pub age: Option<f64>,
    /// Sex.
    pub sex: Option<Sex>,
    /// `--map` and the files that stand for the channel rules.
    pub map: Vec<String>,
    /// As `--channel-groups`.
    pub channel_groups: Option<PathBuf>,
    /// As `--channel-rules`.
    pub channel_rules: Option<PathBuf>,
    /// The report and its like that are wanted.
    #[serde(default)]
    pub report: ReportArgs,
    /// `--format` and its like.
    #[serde(default)]
    pub formats: FormatArgs,
    /// What is recorded, in the recording's order.
    pub channels: Vec<SavedChannel>,
    /// The session came to its end.
    pub ended: bool,
    /// Frames of all links.
    #[serde(default)]
    pub frames: FrameLedger,
}

/// A channel of a live session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedChannel {
    /// Its device, hexadecimal.
    pub device: String,
    /// The device's label.
    pub label: String,
    /// Label in the recording.
    pub recorded_as: String,
    /// Nominal rate, Hz.
    pub rate_hz: f64,
    /// Physical dimension.
    pub unit: String,
    /// Physical and digital limits.
    pub physical: (f64, f64),
    /// Digital limits.
    pub digital: (i32, i32),
    /// What became of its samples.
    #[serde(default)]
    pub ledger: SampleLedger,
}

/// What became of everything that the sensors sent.
#[derive(Debug, Serialize)]
pub struct Links<'a> {
    frames: FrameLedger,
    channels: &'a [SavedChannel],
}

impl SavedSession {
    /// The session that starts now.
    pub fn new(start: (i64, String), channels: &[SessionChannel]) -> Self {
        Self {
            version: VERSION,
            start_utc_ms: start.0,
            start: start.1,
            bundle: None,
            bundle_sha256: String::new(),
            age: None,
            sex: None,
            map: Vec::new(),
            channel_groups: None,
            channel_rules: None,
            report: ReportArgs::default(),
            formats: FormatArgs::default(),
            channels: channels.iter().map(SavedChannel::new).collect(),
            ended: false,
            frames: FrameLedger::default(),
        }
    }

    /// Reads the session of a folder.
    ///
    /// # Errors
    /// One sentence with the file.
    pub fn read(dir: &Path) -> Result<Self, String> {
        let path = dir.join(FILE_NAME);
        let refuse = |reason: String| format!("{}: {reason}", path.display());
        let length =
            fs::metadata(&path).map_err(|e| refuse(format!("cannot be read ({e})")))?.len();
        if length > MAX_BYTES {
            return Err(refuse("is too long for a session's file".to_owned()));
        }
        let text =
            fs::read_to_string(&path).map_err(|e| refuse(format!("cannot be read ({e})")))?;
        let session: Self =
            serde_json::from_str(&text).map_err(|e| refuse(format!("is damaged ({e})")))?;
        if session.version != VERSION {
            let version = session.version;
            return Err(refuse(format!("is of version {version}, this program knows {VERSION}")));
        }
        Ok(session)
    }

    /// Puts the file into `dir`, on the disk before its name.
    ///
    /// # Errors
    /// One sentence with the file.
    pub fn write(&self, dir: &Path) -> Result<(), String> {
        let path = dir.join(FILE_NAME);
        let part = dir.join(format!(".{FILE_NAME}.part"));
        let text = serde_json::to_vec_pretty(self).map_err(|e| e.to_string())?;
        let replace = || {
            fs::write(&part, &text)?;
            fs::File::open(&part)?.sync_all()?;
            fs::rename(&part, &path)?;
            fs::File::open(dir)?.sync_all()
        };
        replace()
            .map_err(|e: std::io::Error| format!("{}: cannot be written ({e})", path.display()))
    }

    /// Adds the counts of the links since the session began or went on.
    #[must_use]
    pub fn plus(mut self, totals: &Totals) -> Self {
        self.frames = self.frames.plus(totals.frames);
        for (channel, ledger) in self.channels.iter_mut().zip(&totals.channels) {
            channel.ledger = channel.ledger.plus(*ledger);
        }
        self
    }

    /// The channels as a session has them.
    ///
    /// # Errors
    /// One sentence: the file is damaged.
    pub fn session_channels(&self) -> Result<Vec<SessionChannel>, String> {
        let channel = |saved: &SavedChannel| {
            let device = u64::from_str_radix(&saved.device, 16).ok()?;
            let signal = saved.signal();
            Some(SessionChannel { device, label: saved.label.clone(), signal })
        };
        let channels: Option<Vec<_>> = self.channels.iter().map(channel).collect();
        channels.ok_or_else(|| format!("{FILE_NAME} is damaged: a device has no number"))
    }

    /// The gap ledger of the links, for `night.json`.
    pub fn links(&self) -> Links<'_> {
        Links { frames: self.frames, channels: &self.channels }
    }

    /// Age and sex, where both were given.
    pub fn demographics(&self) -> Option<Demographics> {
        let (age_years, sex) = self.age.zip(self.sex)?;
        Some(Demographics { age_years, sex })
    }
}

impl SavedChannel {
    fn new(channel: &SessionChannel) -> Self {
        let SessionChannel { device, label, signal } = channel;
        Self {
            device: super::log::hex(*device),
            label: label.clone(),
            recorded_as: signal.label.clone(),
            rate_hz: signal.rate_hz,
            unit: signal.unit.clone(),
            physical: (signal.physical_min, signal.physical_max),
            digital: (signal.digital_min, signal.digital_max),
            ledger: SampleLedger::default(),
        }
    }

    /// As it is recorded.
    pub fn signal(&self) -> SignalInfo {
        SignalInfo {
            label: self.recorded_as.clone(),
            rate_hz: self.rate_hz,
            unit: self.unit.clone(),
            physical_min: self.physical.0,
            physical_max: self.physical.1,
            digital_min: self.digital.0,
            digital_max: self.digital.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> SessionChannel {
        let signal = SignalInfo {
            label: "EEG C4-M1".into(),
            rate_hz: 256.0,
            unit: "uV".into(),
            physical_min: -312.5,
            physical_max: 312.49,
            digital_min: -32_768,
            digital_max: 32_767,
        };
        SessionChannel { device: 0xfeed, label: "EEG C4-M1".into(), signal }
    }

    #[test]
    fn a_session_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut saved = SavedSession::new((5, "2026-01-02T22:00:00".into()), &[channel()]);
        saved.age = Some(61.5);
        saved.write(dir.path()).expect("written");
        let read = SavedSession::read(dir.path()).expect("read");
        assert_eq!(read, saved);
        assert_eq!(read.session_channels(), Ok(vec![channel()]));
    }

    #[test]
    fn damage_and_other_versions_are_refused_with_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(SavedSession::read(dir.path()).expect_err("absent").contains(FILE_NAME));
        let saved = SavedSession::new((5, String::new()), &[channel()]);
        let text = serde_json::to_string(&saved).expect("JSON");
        for text in [&text[..text.len() / 2], &text.replace("\"version\":1", "\"version\":7")] {
            fs::write(dir.path().join(FILE_NAME), text).expect("written");
            assert!(SavedSession::read(dir.path()).expect_err("refused").contains(FILE_NAME));
        }
    }
}
