//! The session log: what happens to links, devices and clocks. Other than the pipeline's events it
//! knows times of day, and no replay repeats it. One JSON object a line in `session.jsonl`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::clock::HostSeconds;
use super::ledger::SampleLedger;
use crate::sink::json_text;

/// The log's name in a session's folder.
pub const FILE_NAME: &str = "session.jsonl";
/// No line is longer.
const MAX_LINE_BYTES: u64 = 1 << 16;

/// Appends to `session.jsonl`.
#[derive(Debug)]
pub struct SessionLog {
    path: PathBuf,
    file: Option<File>,
}

impl SessionLog {
    /// Opens the log of `dir`, behind what is there. A line that was cut, by a kill or a full disk, is
    /// taken away: the next one would be glued to it.
    ///
    /// # Errors
    /// One sentence with the file.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let path = dir.join(FILE_NAME);
        let opened = OpenOptions::new().create(true).read(true).append(true).open(&path);
        match opened.and_then(|file| cut_to_lines(&file).map(|()| file)) {
            Ok(file) => Ok(Self { path, file: Some(file) }),
            Err(e) => Err(format!("{}: cannot be written ({e})", path.display())),
        }
    }

    /// Appends a line, by one write. The first failure is returned and ends the log; the session
    /// goes on without.
    pub fn write(&mut self, line: &LogLine) -> Option<String> {
        let json = json_text(line).ok()?;
        let failure = self.file.as_mut()?.write_all(json.as_bytes()).err()?;
        self.file.take().as_ref().map(cut_to_lines);
        Some(format!("{}: cannot be written ({failure})", self.path.display()))
    }
}

/// Takes away what is behind the last line of `file`, looking back no further than a line is long.
fn cut_to_lines(mut file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LINE_BYTES)))?;
    file.read_to_end(&mut tail)?;
    match tail.iter().rposition(|&byte| byte == b'\n') {
        Some(last) => file.set_len(length - (tail.len() - last - 1) as u64),
        None if length <= MAX_LINE_BYTES => file.set_len(0),
        None => Ok(()),
    }
}

/// A line of the session log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogLine {
    /// When, seconds after the start of the session by the monotonic clock; negative before it.
    pub session_s: f64,
    /// When, by the host's wall clock, as it was set then.
    pub utc: String,
    /// What.
    #[serde(flatten)]
    pub event: SessionEvent,
}

/// What happened, with the host's monotonic time of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Noted {
    /// When.
    pub at_s: HostSeconds,
    /// What.
    pub event: SessionEvent,
}

/// Something that happened to a session besides its samples. Devices are named by their number in
/// hexadecimal.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SessionEvent {
    /// Recording begins, or goes on after the program was stopped.
    Started {
        /// Channels that are recorded.
        channels: usize,
        /// The session was cut and goes on.
        resumed: bool,
    },
    /// A link to one or more devices is there.
    LinkUp {
        /// What kind and where.
        link: String,
    },
    /// A link broke; it is tried again.
    LinkDown {
        /// What kind and where.
        link: String,
        /// Why.
        reason: String,
    },
    /// A link is closed for good: what comes over it is no sensor.
    CutOff {
        /// What kind and where.
        link: String,
        /// What it did.
        reason: String,
    },
    /// A device said who it is.
    Device {
        /// The device.
        device: String,
        /// Its session since it was switched on.
        session: String,
        /// Model and firmware.
        model: String,
        /// Number of channels.
        channels: u8,
    },
    /// A device will not be used.
    NotUsed {
        /// The device.
        device: String,
        /// Why.
        reason: String,
    },
    /// A channel will not be used.
    LeftOut {
        /// The device.
        device: String,
        /// The channel's label.
        channel: String,
        /// Why.
        reason: String,
    },
    /// A device started again: its counters and its clock begin anew.
    Restarted {
        /// The device.
        device: String,
        /// Its new session.
        session: String,
    },
    /// Nothing has come from a device for two seconds.
    Silence {
        /// The device.
        device: String,
        /// Since when, seconds after the session's start.
        since_s: f64,
    },
    /// A silent device is heard again.
    Heard {
        /// The device.
        device: String,
        /// How long it was silent, seconds.
        silent_s: f64,
    },
    /// How a device's clock compares with the host's.
    Clock {
        /// The device.
        device: String,
        /// Parts per million that it is fast.
        fast_ppm: f64,
        /// Median round trip, milliseconds; `null` for a device that does not answer.
        round_trip_ms: Option<f64>,
        /// How far the fit may be off, milliseconds.
        uncertainty_ms: f64,
        /// Measured beside nominal rates.
        rates: Vec<MeasuredRate>,
    },
    /// A device's clock went somewhere else.
    ClockJump {
        /// The device.
        device: String,
        /// The channel's label.
        channel: String,
        /// By how much, seconds.
        seconds: f64,
    },
    /// The wall clock was set; no sample moves for it.
    UtcStep {
        /// By how much, seconds.
        seconds: f64,
    },
    /// An electrode or sensor came off or was put back, or its impedance was measured.
    Contact {
        /// The device.
        device: String,
        /// The channel's label.
        channel: String,
        /// It is off.
        lead_off: bool,
        /// Ohm.
        impedance_ohm: Option<u32>,
    },
    /// How a device is.
    Status {
        /// The device.
        device: String,
        /// Charge, percent.
        battery_percent: Option<u8>,
        /// Degrees Celsius.
        temperature_c: Option<f64>,
        /// Sample blocks that the device threw away.
        dropped_blocks: u32,
    },
    /// Something a person did.
    Mark {
        /// The device; empty for a mark made at the host.
        device: String,
        /// When the device took it, seconds after the session's start.
        onset_s: f64,
        /// What, in the words of `annotations.edf`.
        mark: &'static str,
    },
    /// A channel's ledger, where something was lost, late, repeated or out of order in the last
    /// minute: totals since the start of the session.
    Ledger {
        /// The device.
        device: String,
        /// The channel's label.
        channel: String,
        /// The totals.
        #[serde(flatten)]
        samples: SampleLedger,
    },
    /// Frames of a device that were damaged in the last minute: totals.
    Rejected {
        /// The link.
        link: String,
        /// Frames whose CRC-32 or COBS code was wrong.
        frames: u64,
    },
    /// A device ended its session.
    Bye {
        /// The device.
        device: String,
        /// Why.
        reason: &'static str,
    },
    /// The recording stopped, or goes on.
    Recorder {
        /// It records.
        recording: bool,
        /// Why not.
        reason: String,
    },
    /// Staging could not keep up: provisional epochs that were not scored.
    Overload {
        /// Epochs, in all.
        epochs_skipped: u64,
    },
    /// The session is over.
    Ended {
        /// Why.
        reason: String,
    },
}

/// A channel's rate by the session's clock.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasuredRate {
    /// Label.
    pub channel: String,
    /// As the device says, Hz.
    pub nominal_hz: f64,
    /// As measured, Hz.
    pub measured_hz: f64,
}

/// A device's number as people write it.
pub fn hex(number: u64) -> String {
    format!("{number:016x}")
}

impl std::fmt::Display for SessionEvent {
    /// One line for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SessionEvent::Started { channels, resumed: false } => {
                write!(f, "recording of {channels} channels begins")
            }
            SessionEvent::Started { channels, resumed: true } => {
                write!(f, "recording of {channels} channels goes on")
            }
            SessionEvent::LinkUp { link } => write!(f, "{link}: connected"),
            SessionEvent::LinkDown { link, reason } => write!(f, "{link}: down ({reason})"),
            SessionEvent::CutOff { link, reason } => write!(f, "{link}: cut off: {reason}"),
            SessionEvent::Device { device, model, channels, .. } => {
                write!(f, "device {device} ({model}) has {channels} channels")
            }
            SessionEvent::NotUsed { device, reason } => {
                write!(f, "device {device}: not used: {reason}")
            }
            SessionEvent::LeftOut { device, reason, .. } => write!(f, "device {device}: {reason}"),
            SessionEvent::Restarted { device, .. } => write!(f, "device {device}: started again"),
            SessionEvent::Silence { device, since_s } => {
                write!(f, "device {device}: silent since {since_s:.1} s")
            }
            SessionEvent::Heard { device, silent_s } => {
                write!(f, "device {device}: heard again after {silent_s:.1} s")
            }
            SessionEvent::Clock { device, fast_ppm, round_trip_ms, .. } => {
                write!(f, "device {device}: clock {fast_ppm:+.1} ppm")?;
                round_trip_ms.map_or(Ok(()), |ms| write!(f, ", round trip {ms:.2} ms"))
            }
            SessionEvent::ClockJump { device, channel, seconds } => {
                write!(f, "device {device}: the clock of '{channel}' jumped by {seconds:+.3} s")
            }
            SessionEvent::UtcStep { seconds } => {
                write!(f, "the wall clock was set by {seconds:+.3} s; no sample moves")
            }
            SessionEvent::Contact { device, channel, lead_off, .. } => {
                let state = if *lead_off { "is off" } else { "sits" };
                write!(f, "device {device}: '{channel}' {state}")
            }
            SessionEvent::Status { device, battery_percent, dropped_blocks, .. } => {
                write!(f, "device {device}: {dropped_blocks} blocks dropped")?;
                battery_percent.map_or(Ok(()), |percent| write!(f, ", battery {percent} %"))
            }
            SessionEvent::Mark { onset_s, mark, .. } => write!(f, "{mark} at {onset_s:.1} s"),
            SessionEvent::Ledger { device, channel, samples } => write!(
                f,
                "device {device}: '{channel}' so far: {} lost, {} of them late, {} repeated, {} out of order, {} sent again",
                samples.lost, samples.late, samples.duplicate, samples.reordered, samples.resent
            ),
            SessionEvent::Rejected { link, frames } => {
                write!(f, "{link}: {frames} damaged frames so far")
            }
            SessionEvent::Bye { device, reason } => {
                write!(f, "device {device}: ended its session ({reason})")
            }
            SessionEvent::Recorder { recording: true, reason } => {
                write!(f, "recording goes on: {reason}")
            }
            SessionEvent::Recorder { recording: false, reason } => {
                write!(f, "recording stopped: {reason}")
            }
            SessionEvent::Overload { epochs_skipped } => write!(
                f,
                "staging cannot keep up: {epochs_skipped} epochs without a provisional stage so far"
            ),
            SessionEvent::Ended { reason } => write!(f, "session over: {reason}"),
        }
    }
}

impl SessionEvent {
    /// Somebody should look.
    pub fn is_trouble(&self) -> bool {
        use SessionEvent::{
            ClockJump, CutOff, LeftOut, LinkDown, NotUsed, Overload, Recorder, Restarted, Silence,
            UtcStep,
        };
        match self {
            LinkDown { .. }
            | CutOff { .. }
            | NotUsed { .. }
            | LeftOut { .. }
            | Restarted { .. }
            | Silence { .. }
            | ClockJump { .. }
            | UtcStep { .. }
            | Overload { .. } => true,
            Recorder { recording, .. } => !recording,
            SessionEvent::Contact { lead_off, .. } => *lead_off,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_is_taken_away_before_the_log_goes_on() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(FILE_NAME);
        let ended = |reason: &str| LogLine {
            session_s: 1.0,
            utc: "2026-01-02T22:00:00Z".to_owned(),
            event: SessionEvent::Ended { reason: reason.to_owned() },
        };
        for (before, lines) in [("", 1), ("{}\n", 2), ("{}\n{\"half", 2), ("{\"half", 1)] {
            std::fs::write(&path, before).expect("written");
            let mut log = SessionLog::open(dir.path()).expect("opens");
            assert_eq!(log.write(&ended("end of the night")), None);
            let text = std::fs::read_to_string(&path).expect("read");
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(text.ends_with('\n') && !text.contains("half"), "{text}");
        }
    }
}
