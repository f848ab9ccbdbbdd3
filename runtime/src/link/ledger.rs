//! The gap ledger of a link: what became of every sample that a device sent or should have sent.
//! Counted in samples of a channel, in frames where damage leaves no channel to tell.

use serde::Serialize;

/// One channel's samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SampleLedger {
    /// Samples that arrived in good frames, repetitions included.
    pub received: u64,
    /// Samples that are in the recording.
    pub placed: u64,
    /// Samples the device counted that are not in the recording: they never came, or too late.
    pub lost: u64,
    /// Of the lost ones, those that came after their place was given up.
    pub late: u64,
    /// Samples that had arrived before.
    pub duplicate: u64,
    /// Samples that arrived behind later ones, within a second of signal.
    pub reordered: u64,
    /// Samples that filled a hole older than that: the device sent them again.
    pub resent: u64,
    /// Samples left out to keep a clock that runs fast on the session's time.
    pub clock_dropped: u64,
    /// Samples written twice to keep a clock that runs slow on the session's time.
    pub clock_repeated: u64,
}

impl SampleLedger {
    /// The sum of two ledgers: of the sessions of a device that restarted.
    pub fn plus(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            placed: self.placed + other.placed,
            lost: self.lost + other.lost,
            late: self.late + other.late,
            duplicate: self.duplicate + other.duplicate,
            reordered: self.reordered + other.reordered,
            resent: self.resent + other.resent,
            clock_dropped: self.clock_dropped + other.clock_dropped,
            clock_repeated: self.clock_repeated + other.clock_repeated,
        }
    }
}

/// One device's frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct FrameLedger {
    /// Good frames.
    pub received: u64,
    /// Frames whose CRC-32 or COBS code was wrong, or that were too long.
    pub rejected: u64,
    /// Frames with a good CRC-32 that hold no message of this protocol.
    pub foreign: u64,
}

impl FrameLedger {
    /// The sum of two ledgers.
    pub fn plus(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            rejected: self.rejected + other.rejected,
            foreign: self.foreign + other.foreign,
        }
    }
}
