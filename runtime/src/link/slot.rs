//! A recorded channel on the session's time axis: the same through all sessions of its device.

use super::align::Alignment;
use super::clock::HostSeconds;
use super::ledger::SampleLedger;
use crate::signal::{DigitalBlock, SignalInfo};

/// One channel on the session's axis; it outlives the device's sessions.
#[derive(Debug)]
pub(super) struct Slot {
    /// The device's label.
    pub label: String,
    recorded: SignalInfo,
    pub alignment: Alignment,
    /// Of all sessions of the device.
    pub ledger: SampleLedger,
    pub logged: SampleLedger,
    /// When a sample last got its place.
    pub placed_s: HostSeconds,
}

impl Slot {
    pub(super) fn new(label: &str, index: usize, recorded: &SignalInfo, first: u64) -> Self {
        Self {
            label: label.to_owned(),
            alignment: Alignment::new(index, recorded.rate_hz, first),
            recorded: recorded.clone(),
            ledger: SampleLedger::default(),
            logged: SampleLedger::default(),
            placed_s: f64::NEG_INFINITY,
        }
    }

    /// Whether these are its samples: the same label, rate and digital range, and the same physical
    /// range but for what the header has no room for.
    pub(super) fn holds(&self, signal: &SignalInfo) -> bool {
        let recorded = &self.recorded;
        let range = recorded.physical_max - recorded.physical_min;
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-3 * range.abs();
        self.label == signal.label
            && (recorded.rate_hz - signal.rate_hz).abs() < 1e-6
            && recorded.digital_min == signal.digital_min
            && recorded.digital_max == signal.digital_max
            && near(recorded.physical_min, signal.physical_min)
            && near(recorded.physical_max, signal.physical_max)
    }

    /// Nothing from before `at_s` seconds after the session's start will come.
    pub(super) fn give_up_before(&mut self, at_s: f64, blocks: &mut Vec<DigitalBlock>) {
        let slot = (at_s * self.alignment.rate_hz()).floor().max(0.0) as u64;
        self.alignment.give_up_before(slot, &mut |b| blocks.push(b));
    }
}
