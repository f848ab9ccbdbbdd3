//! What happens to a session besides its samples: for the log, in words for people, and as JSON.

use serde::Serialize;

use super::clock::HostSeconds;
use super::ledger::SampleLedger;
use super::types::Refused;

/// Lines of a kind in a minute of the session, for events that any connection can cause.
const PER_MINUTE: u32 = 60;
/// The same where there is a line a channel or a device.
const PER_MINUTE_OF_CHANNELS: u32 = 2400;

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
#[derive(Debug, Clone, PartialEq, Serialize, strum::IntoStaticStr)]
#[serde(tag = "event", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
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
    /// A link is gone and not missed: its device ended, or comes over another one.
    LinkClosed {
        /// What kind and where.
        link: String,
        /// Why.
        reason: String,
    },
    /// What links refused, since the last line of this kind.
    Refused {
        /// What.
        kind: Refused,
        /// How many.
        count: u64,
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
    /// A device sends, and nothing of it is recorded: an alarm, until it says hello and is taken.
    NotRecorded {
        /// The device.
        device: String,
        /// Why.
        reason: String,
    },
    /// A device that has no place in the running recording gets a recording of its own.
    OwnRecording {
        /// The device.
        device: String,
        /// Its link.
        link: String,
    },
    /// The session does not go on in the folder that was there before, which is left as it is.
    NewFolder {
        /// The folder's name.
        left: String,
        /// Why.
        reason: String,
    },
    /// What was known of the stages before a cut cannot be used; they are computed again from the
    /// recording.
    StagedAgain {
        /// Why.
        reason: String,
    },
    /// Nothing is staged, only recorded.
    NotStaged {
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
    /// Samples came that the recording lacks.
    Unrecorded {
        /// From, seconds after the session's start.
        from_s: f64,
        /// To, seconds after the session's start.
        to_s: f64,
        /// Samples of all channels; 0 where nobody counted them.
        samples: u64,
        /// Why.
        reason: String,
    },
    /// The session's files are not under their names any more; it goes on in another folder.
    Moved {
        /// The folder; `null` if there is none yet.
        folder: Option<String>,
        /// What became of the last one.
        reason: String,
    },
    /// How much room there is for the recording, where it is less than a night.
    Room {
        /// Hours.
        hours: f64,
    },
    /// Staging could not keep up: provisional epochs that were not scored.
    Overload {
        /// Epochs, in all.
        epochs_skipped: u64,
    },
    /// Lines of a kind that were left out, being too many in a minute.
    LeftOutLines {
        /// The kind, as `event` has it.
        kind: &'static str,
        /// How many.
        lines: u64,
    },
    /// Lines that the disk did not take.
    MissingLines {
        /// How many.
        lines: u64,
    },
    /// The log has its most of bytes: from here on it has only what is essential.
    Full {
        /// The most.
        bytes: u64,
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
            SessionEvent::LinkClosed { link, reason } => write!(f, "{link}: closed ({reason})"),
            SessionEvent::Refused { kind, count } => write!(f, "refused: {count} {}", kind.what()),
            SessionEvent::CutOff { link, reason } => write!(f, "{link}: cut off: {reason}"),
            SessionEvent::Device { device, model, channels, .. } => {
                write!(f, "device {device} ({model}) has {channels} channels")
            }
            SessionEvent::NotRecorded { device, reason } => {
                write!(f, "device {device}: not recorded: {reason}")
            }
            SessionEvent::OwnRecording { device, .. } => {
                write!(f, "device {device}: has no place in this recording, gets one of its own")
            }
            SessionEvent::NewFolder { left, reason } => {
                write!(f, "{left} is left as it is: {reason}")
            }
            SessionEvent::StagedAgain { reason } => {
                write!(f, "staged again from the recording: {reason}")
            }
            SessionEvent::NotStaged { reason } => write!(f, "recorded, not staged: {reason}"),
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
            SessionEvent::Unrecorded { from_s, to_s, samples: 0, reason } => {
                write!(f, "what came from {from_s:.1} s to {to_s:.1} s is not recorded: {reason}")
            }
            SessionEvent::Unrecorded { from_s, to_s, samples, reason } => write!(
                f,
                "{samples} samples from {from_s:.1} s to {to_s:.1} s are not recorded: {reason}"
            ),
            SessionEvent::Moved { folder: Some(folder), reason } => {
                write!(f, "the session goes on in {folder}: {reason}")
            }
            SessionEvent::Moved { folder: None, reason } => write!(f, "{reason}"),
            SessionEvent::Room { hours } => {
                write!(f, "room for {hours:.1} h of recording, less than a night; free some")
            }
            SessionEvent::Overload { epochs_skipped } => write!(
                f,
                "staging cannot keep up: {epochs_skipped} epochs without a provisional stage so far"
            ),
            SessionEvent::LeftOutLines { kind, lines } => {
                write!(f, "{lines} more lines of kind {kind} within a minute")
            }
            SessionEvent::MissingLines { lines } => {
                write!(f, "{lines} lines are missing here: the disk took none")
            }
            SessionEvent::Full { bytes } => write!(
                f,
                "{bytes} bytes are full: from here on only the session's start and end, recorder, contact, mark and silence"
            ),
            SessionEvent::Ended { reason } => write!(f, "session over: {reason}"),
        }
    }
}

impl SessionEvent {
    /// Somebody should look at once: the recording is in danger.
    pub fn is_loss(&self) -> bool {
        use SessionEvent::{Moved, Recorder, Unrecorded};
        matches!(self, Recorder { recording: false, .. } | Unrecorded { .. } | Moved { .. })
    }

    /// Its name in the log.
    pub fn kind(&self) -> &'static str {
        self.into()
    }

    /// What the night is read by: never left out. None of it comes more often than a device's own
    /// limits let it.
    pub fn is_essential(&self) -> bool {
        self.most_per_minute().is_none()
    }

    /// Lines of its kind in a minute of the session at most; `None` without a limit.
    pub(super) fn most_per_minute(&self) -> Option<u32> {
        match self {
            SessionEvent::Started { .. }
            | SessionEvent::Ended { .. }
            | SessionEvent::NewFolder { .. }
            | SessionEvent::StagedAgain { .. }
            | SessionEvent::NotStaged { .. }
            | SessionEvent::Recorder { .. }
            | SessionEvent::Unrecorded { .. }
            | SessionEvent::Moved { .. }
            | SessionEvent::Contact { .. }
            | SessionEvent::Mark { .. }
            | SessionEvent::Silence { .. }
            | SessionEvent::Heard { .. } => None,
            SessionEvent::LeftOut { .. }
            | SessionEvent::Clock { .. }
            | SessionEvent::Status { .. }
            | SessionEvent::Ledger { .. } => Some(PER_MINUTE_OF_CHANNELS),
            _ => Some(PER_MINUTE),
        }
    }

    /// Somebody should look.
    pub fn is_trouble(&self) -> bool {
        use SessionEvent::{
            ClockJump, CutOff, LeftOut, LinkDown, Moved, NotRecorded, NotStaged, Overload,
            OwnRecording, Recorder, Restarted, Room, Silence, StagedAgain, Unrecorded, UtcStep,
        };
        match self {
            LinkDown { .. }
            | CutOff { .. }
            | NotRecorded { .. }
            | NotStaged { .. }
            | OwnRecording { .. }
            | StagedAgain { .. }
            | LeftOut { .. }
            | Restarted { .. }
            | Silence { .. }
            | ClockJump { .. }
            | UtcStep { .. }
            | Unrecorded { .. }
            | Moved { .. }
            | Room { .. }
            | Overload { .. } => true,
            Recorder { recording, .. } => !recording,
            SessionEvent::Refused { kind, .. } => kind.is_harm(),
            SessionEvent::Contact { lead_off, .. } => *lead_off,
            _ => false,
        }
    }
}
