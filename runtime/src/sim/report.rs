//! What a simulation did, to the sample: the `--report` file. Plain data; the words are
//! defined at [`ChannelReport`].

use serde::{Deserialize, Serialize};

use super::plan::{LeadOff, Span};

/// A whole simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The recording.
    pub file: Option<String>,
    /// Seed of everything.
    pub seed: u64,
    /// Multiple of real time.
    pub speed: f64,
    /// One per device, bed by bed.
    pub devices: Vec<DeviceReport>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DeviceReport {
    /// The bed it belongs to, from 0.
    pub bed: usize,
    /// Its identity.
    pub device: u64,
    /// How much too fast its clock was, parts per million.
    pub drift_ppm: f64,
    /// How it ended: `end`, `stopped` by the host, `interrupted`, `failed: ...`.
    pub ended: String,
    /// True time of recording time 0, seconds; `None` if no host ever started it.
    pub start_s: Option<f64>,
    /// The same as UTC; `None` without a wall clock.
    pub start_utc: Option<String>,
    /// From boot to crash or end, those that took samples.
    pub sessions: Vec<SessionReport>,
    /// In the device's order.
    pub channels: Vec<ChannelReport>,
    /// Outages of the link that took place.
    pub disconnects: Vec<Span>,
    /// From crash to boot.
    pub reboots: Vec<Span>,
    /// Channels that were flat.
    pub lead_offs: Vec<LeadOff>,
    /// Connections that broke without being told to.
    pub broken_connections: u64,
    /// Datagrams that this machine's network refused: what was in them is not accounted for.
    pub send_errors: u64,
}

/// One session of a device. Times are recording time, seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Its identity.
    pub session: u64,
    /// Tick 0.
    pub boot_s: f64,
    /// Sample 0 of every channel.
    pub start_s: f64,
    /// No sample lies here or later.
    pub end_s: f64,
    /// Samples taken, by channel.
    pub taken: Vec<u64>,
}

/// Why samples were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The frame vanished.
    Loss,
    /// The frame was corrupted.
    Corruption,
    /// The frame was never sent.
    Outage,
}

/// Contiguous samples that were lost for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    /// Index into [`DeviceReport::sessions`].
    pub session: usize,
    /// Counter of the first.
    pub counter: u64,
    /// How many.
    pub count: u64,
    /// Why.
    pub cause: Cause,
}

/// One channel, over all sessions of its device. All numbers are samples but the last. Every sample that was *taken* is either
/// *delivered* or *lost*.
///
/// - **taken**: the device measured it; its session's counters count it.
/// - **delivered**: at least one frame with it left the simulator unharmed.
/// - **lost**: no such frame did, for which there are three reasons, by what became of its last copy:
///   the frame vanished (*loss*), was corrupted (*corruption*), or was never sent (*outage*: the link
///   was down or not started, and the device had no memory or forgot).
/// - **duplicate**: delivered copies beyond the first. A frame sent twice of which one copy was
///   corrupted adds nothing here, nor to lost.
/// - **reordered**: delivered for the first time, by its first sending, after a sample of the channel
///   and session with a higher counter.
/// - **resent**: delivered for the first time by a later sending, in answer to an acknowledgement.
/// - **delayed**: delivered for the first time from memory after an outage, in order.
/// - **frames corrupted**: frames that left with flipped bits; each is one frame that the host's
///   decoder refuses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChannelReport {
    /// Label.
    pub label: String,
    /// Measured.
    pub taken: u64,
    /// Arrived at least once.
    pub delivered: u64,
    /// Never arrived: the sum of the next three.
    pub lost: u64,
    /// Their last frame vanished.
    pub lost_by_loss: u64,
    /// Their last frame was corrupted.
    pub lost_by_corruption: u64,
    /// They were never sent.
    pub lost_by_outage: u64,
    /// Copies beyond the first.
    pub duplicate: u64,
    /// After later ones.
    pub reordered: u64,
    /// By a later sending.
    pub resent: u64,
    /// From memory, after an outage.
    pub delayed: u64,
    /// Frames with flipped bits.
    pub frames_corrupted: u64,
    /// Where the lost ones lie.
    pub lost_ranges: Vec<LostRange>,
}
