//! What the modules of links share: names, settings, counts and refusals, without any behavior of links.

use serde::Serialize;

use super::clock::HostSeconds;
use super::ledger::{FrameLedger, SampleLedger};
use crate::health::arrivals::Arrivals;
use crate::signal::SignalInfo;

/// Number of a link, new for each connection.
pub type LinkId = u64;

/// A device does what no sensor does; its link is to be closed. One sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// What a session waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Devices without which recording does not begin before `wait_s` is over.
    pub devices: usize,
    /// How long to wait for the others once one device is there, seconds.
    pub wait_s: f64,
    /// How long a missing sample is waited for, seconds of signal.
    pub patience_s: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { devices: 1, wait_s: 30.0, patience_s: 5.0 }
    }
}

/// Silence that is worth a line in the log, seconds of the session and real ones.
const SILENCE_S: (f64, f64) = (2.0, 0.25);
/// A silent device's signal is given up after the patience, and not before this, real seconds.
const GIVE_UP_REAL_S: f64 = 1.0;

impl Settings {
    pub(super) fn silence_s(&self, speed: f64) -> f64 {
        SILENCE_S.0.max(SILENCE_S.1 * speed)
    }

    pub(super) fn give_up_s(&self, speed: f64) -> f64 {
        self.patience_s.max(GIVE_UP_REAL_S * speed)
    }
}

/// Where the session's time axis lies on the host's clock.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// The host's time of slot 0; `None` before the session has started.
    pub started_s: Option<HostSeconds>,
    /// Of the host's clock: limits of real time stay limits of real time.
    pub speed: f64,
}

impl Axis {
    /// The host's time of slot 0, or 0 before it is known.
    pub fn start_s(&self) -> HostSeconds {
        self.started_s.unwrap_or(0.0)
    }
}

/// A channel of the session and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionChannel {
    /// The device.
    pub device: u64,
    /// The device's own label.
    pub label: String,
    /// As it is recorded.
    pub signal: SignalInfo,
}

/// A session that was cut and may go on.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// Its channels, in the recording's order, each with the first slot that is not recorded.
    pub channels: Vec<(SessionChannel, u64)>,
    /// Its devices' channels that no recording can hold: device and label.
    pub left_out: Vec<(u64, String)>,
    /// Seconds from its start until now.
    pub elapsed_s: f64,
    /// Seconds from now within which its devices have to come.
    pub within_s: f64,
}

/// A session's counts.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Each channel's ledger, in the recording's order.
    pub channels: Vec<SampleLedger>,
    /// Each device.
    pub devices: Vec<DeviceTotals>,
    /// Frames of all links of the session.
    pub frames: FrameLedger,
    /// Blocks that the session's thread did not take.
    pub dropped_blocks: u64,
    /// Links that are up.
    pub links: usize,
    /// What arrives.
    pub arrivals: Arrivals,
}

/// A device's counts and its clock.
#[derive(Debug, Clone, Copy)]
pub struct DeviceTotals {
    /// The device.
    pub device: u64,
    /// It has a link.
    pub is_up: bool,
    /// The sum over its channels.
    pub samples: SampleLedger,
    /// Parts per million that its clock is fast.
    pub fast_ppm: Option<f64>,
    /// The session's time at its tick 0, seconds.
    pub offset_s: Option<f64>,
    /// Median round trip, seconds.
    pub round_trip_s: Option<f64>,
}

/// Why a device gets no session.
#[derive(Debug)]
pub enum NoBed {
    /// The one that it is to lie beside is still being begun.
    NotYet,
    /// One sentence.
    Refused(String),
}

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// Connections and datagrams of who said no hello.
    NoHello,
    /// Hellos of devices that `--allow-device` does not name.
    NotAllowed,
    /// Links that were cut off.
    CutOff,
    /// Datagrams and hellos of who was cut off less than a minute ago.
    Barred,
    /// Devices that said hello and sent no samples as they should.
    Unproven,
    /// Datagrams beyond what an address, or all strangers together, may send.
    OverBudget,
    /// Links that were closed for newer ones.
    Displaced,
    /// New links, because all there are belong to known devices.
    NoRoom,
    /// Devices that got no bed.
    NoBed,
    /// Datagrams that the kernel dropped, because this program did not take them in time.
    Overrun,
}

impl Refused {
    /// All kinds.
    pub const ALL: [Refused; 10] = [
        Refused::NoHello,
        Refused::NotAllowed,
        Refused::CutOff,
        Refused::Barred,
        Refused::Unproven,
        Refused::OverBudget,
        Refused::Displaced,
        Refused::NoRoom,
        Refused::NoBed,
        Refused::Overrun,
    ];

    /// Its label in metrics and log.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::NoHello => "no_hello",
            Refused::NotAllowed => "not_allowed",
            Refused::CutOff => "cut_off",
            Refused::Barred => "barred",
            Refused::Unproven => "unproven",
            Refused::OverBudget => "over_budget",
            Refused::Displaced => "displaced",
            Refused::NoRoom => "no_room",
            Refused::NoBed => "no_bed",
            Refused::Overrun => "overrun",
        }
    }

    /// What was refused, for people.
    pub fn what(self) -> &'static str {
        match self {
            Refused::NoHello => "connections or datagrams without a hello",
            Refused::NotAllowed => "hellos of devices that --allow-device does not name",
            Refused::CutOff => "links cut off",
            Refused::Barred => "messages of who was cut off less than a minute ago",
            Refused::Unproven => "devices that said hello and sent no samples",
            Refused::OverBudget => "datagrams beyond the budget of their address",
            Refused::Displaced => "links without a device closed for newer ones",
            Refused::NoRoom => "links too many",
            Refused::NoBed => "devices without a bed",
            Refused::Overrun => {
                "datagrams dropped by the kernel (net.core.rmem_max limits the buffer)"
            }
        }
    }

    /// A sensor may be among them, so somebody should look.
    pub fn is_harm(self) -> bool {
        use Refused::{Displaced, NoBed, NoRoom, OverBudget, Overrun};
        matches!(self, OverBudget | Displaced | NoRoom | NoBed | Overrun)
    }
}
