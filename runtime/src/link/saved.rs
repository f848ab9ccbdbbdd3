//! `session.json`: what it takes to go on with a session that was cut, or to finish it. Written at
//! the start, replaced as a whole. Holds age, sex and the session's name where they were given, and
//! no other data of a person. Reads the files of version 1 too, which know neither the name nor
//! whether a session ended in order.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sfm_models::manifest::ChannelPolicy;

use super::ledger::{FrameLedger, SampleLedger};
use super::types::{SessionChannel, Totals};
use crate::files::{self, Durability};
use crate::night::{Demographics, Sex};
use crate::recorder::Unrecorded;
use crate::session_folder::SESSION;
use crate::signal::SignalInfo;
use crate::sink::formats::FormatArgs;
use crate::sink::report::ReportArgs;
use crate::text::hex;

/// A session's file is short; anything longer is none.
const MAX_BYTES: u64 = 4 << 20;
const VERSION: u32 = 2;
/// The oldest that is read.
const OLDEST: u32 = 1;

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
    /// SHA-256 of its networks and preprocessing; empty in version 1.
    #[serde(default)]
    pub network_sha256: String,
    /// `--session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
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
    /// What becomes of electrodes; of sessions that do not say, the reference's way. `None` where it is not
    /// known, and so the bundle's.
    #[serde(default = "reference")]
    pub channel_policy: Option<ChannelPolicy>,
    /// `--derive`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derive: Vec<String>,
    /// `--no-derive`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_derive: bool,
    /// `--keep-bad`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_bad: bool,
    /// The report and its like that are wanted.
    #[serde(default)]
    pub report: ReportArgs,
    /// `--format` and its like.
    #[serde(default)]
    pub formats: FormatArgs,
    /// What is recorded, in the recording's order.
    pub channels: Vec<SavedChannel>,
    /// Channels of its devices that no recording can hold: device, hexadecimal, and label.
    #[serde(default)]
    pub left_out: Vec<(String, String)>,
    /// The session ended in order: by its devices, or by who stopped the program.
    #[serde(default)]
    pub closed: bool,
    /// Nothing is left to do: the last pass is over as well.
    pub ended: bool,
    /// Frames of all links.
    #[serde(default)]
    pub frames: FrameLedger,
    /// Samples that came and that the recording lacks: the live pass had them, a replay has not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unrecorded: Vec<Unrecorded>,
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
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unrecorded: &'a [Unrecorded],
}

impl SavedSession {
    /// What a recording alone tells of its session: neither devices nor age and sex.
    pub fn salvaged(start: String, signals: &[SignalInfo]) -> Self {
        let channel = |signal: &SignalInfo| {
            let (label, signal) = (signal.label.clone(), signal.clone());
            SessionChannel { device: 0, label, signal }
        };
        let channels: Vec<_> = signals.iter().map(channel).collect();
        Self::new((0, start), &channels)
    }

    /// The session that starts now.
    pub fn new(start: (i64, String), channels: &[SessionChannel]) -> Self {
        Self {
            version: VERSION,
            start_utc_ms: start.0,
            start: start.1,
            bundle: None,
            bundle_sha256: String::new(),
            network_sha256: String::new(),
            session: None,
            age: None,
            sex: None,
            map: Vec::new(),
            channel_groups: None,
            channel_rules: None,
            channel_policy: None,
            derive: Vec::new(),
            no_derive: false,
            keep_bad: false,
            report: ReportArgs::default(),
            formats: FormatArgs::default(),
            channels: channels.iter().map(SavedChannel::new).collect(),
            left_out: Vec::new(),
            closed: false,
            ended: false,
            frames: FrameLedger::default(),
            unrecorded: Vec::new(),
        }
    }

    /// Reads the session of a folder.
    ///
    /// # Errors
    /// One sentence with the file.
    pub fn read(dir: &Path) -> Result<Self, String> {
        let path = dir.join(SESSION);
        let refuse = |reason: String| format!("{}: {reason}", path.display());
        let text = files::read_text(&path, MAX_BYTES)
            .map_err(|e| refuse(format!("cannot be read ({e})")))?;
        let session: Self = serde_json::from_str(&text).map_err(|e| {
            refuse(match version_of(&text) {
                Some(version) if version > VERSION => newer(version),
                _ => format!("is damaged ({e})"),
            })
        })?;
        if !(OLDEST..=VERSION).contains(&session.version) {
            return Err(refuse(newer(session.version)));
        }
        Ok(Self { version: VERSION, closed: session.closed || session.ended, ..session })
    }

    /// Puts the file into `dir`, on the disk before its name.
    ///
    /// # Errors
    /// One sentence with the file.
    pub fn write(&self, dir: &Path) -> Result<(), String> {
        let path = dir.join(SESSION);
        let text = serde_json::to_vec_pretty(self).map_err(|e| e.to_string())?;
        files::replace(&path, &text, Durability::Synced)
            .map_err(|e| format!("{}: cannot be written ({e})", path.display()))
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

    /// The left-out channels as a session has them; a damaged entry is none.
    pub fn session_left_out(&self) -> Vec<(u64, String)> {
        let number = |device: &str| u64::from_str_radix(device, 16).ok();
        self.left_out.iter().filter_map(|(d, label)| Some((number(d)?, label.clone()))).collect()
    }

    /// Whether it has channels of this device.
    pub fn has_device(&self, device: u64) -> bool {
        self.channels.iter().any(|channel| channel.device == hex(device))
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
        channels.ok_or_else(|| format!("{SESSION} is damaged: a device has no number"))
    }

    /// The gap ledger of the links, for `night.json`.
    pub fn links(&self) -> Links<'_> {
        Links { frames: self.frames, channels: &self.channels, unrecorded: &self.unrecorded }
    }

    /// Age and sex, where both were given.
    pub fn demographics(&self) -> Option<Demographics> {
        let (age_years, sex) = self.age.zip(self.sex)?;
        Some(Demographics { age_years, sex })
    }
}

fn reference() -> Option<ChannelPolicy> {
    Some(ChannelPolicy::Reference)
}

/// The version of a file that has fields of a later one.
fn version_of(text: &str) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    value.get("version")?.as_u64()?.try_into().ok()
}

fn newer(version: u32) -> String {
    format!("is of version {version}, this program knows {OLDEST} to {VERSION}")
}

impl SavedChannel {
    fn new(channel: &SessionChannel) -> Self {
        let SessionChannel { device, label, signal } = channel;
        Self {
            device: hex(*device),
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
    use std::fs;

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
        assert!(SavedSession::read(dir.path()).expect_err("absent").contains(SESSION));
        let saved = SavedSession::new((5, String::new()), &[channel()]);
        let text = serde_json::to_string(&saved).expect("JSON");
        for text in [&text[..text.len() / 2], &text.replace("\"version\":2", "\"version\":7")] {
            fs::write(dir.path().join(SESSION), text).expect("written");
            assert!(SavedSession::read(dir.path()).expect_err("refused").contains(SESSION));
        }
        let later = text.replace("\"version\":2", "\"version\":3,\"more\":1");
        fs::write(dir.path().join(SESSION), later).expect("written");
        let said = SavedSession::read(dir.path()).expect_err("refused");
        assert!(said.contains("version 3"), "{said}");
    }
}
