//! What a device's account says: its ledger by channel, its clock, the rates that were measured.

use super::super::clock::HostSeconds;
use super::super::ledger::SampleLedger;
use super::super::log::{MeasuredRate, SessionEvent, hex};
use super::super::slot::Slot;
use super::{Device, DeviceChannel, Out};

impl Device {
    /// Each recorded channel's ledger so far.
    pub(in super::super) fn ledgers(&self) -> impl Iterator<Item = (&str, SampleLedger)> {
        self.slots.iter().map(|slot| (slot.label.as_str(), self.ledger(slot)))
    }

    fn ledger(&self, slot: &Slot) -> SampleLedger {
        let here = self.channels.iter().flatten().find(|c| c.signal.label == slot.label);
        slot.ledger.plus(here.map(|c| c.reassembly.ledger).unwrap_or_default())
    }

    pub(super) fn log_ledger(&mut self, now_s: HostSeconds, out: &mut Out) {
        let device = hex(self.id);
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get(index) else { continue };
            let samples = self.ledger(slot);
            let troubles = |l: SampleLedger| {
                (
                    l.lost,
                    l.late,
                    l.duplicate,
                    l.reordered,
                    l.resent,
                    l.clock_dropped,
                    l.clock_repeated,
                )
            };
            if troubles(samples) == troubles(slot.logged) {
                continue;
            }
            let (device, channel) = (device.clone(), slot.label.clone());
            out.note(now_s, SessionEvent::Ledger { device, channel, samples });
            if let Some(slot) = self.slots.get_mut(index) {
                slot.logged = samples;
            }
        }
    }

    pub(super) fn log_clock(&self, now_s: HostSeconds, out: &mut Out) {
        let Some(fast_ppm) = self.fit.fast_ppm() else { return };
        out.note(
            now_s,
            SessionEvent::Clock {
                device: hex(self.id),
                fast_ppm,
                round_trip_ms: self.fit.round_trip_s().map(|s| s * 1e3),
                uncertainty_ms: self.fit.uncertainty_s() * 1e3,
                rates: self.channels.iter().flatten().filter_map(|c| self.measured(c)).collect(),
            },
        );
    }

    fn measured(&self, channel: &DeviceChannel) -> Option<MeasuredRate> {
        let ((first, first_tick), (last, last_tick)) = (channel.first?, channel.last?);
        let seconds = self.fit.host_s(last_tick)? - self.fit.host_s(first_tick)?;
        (last > first && seconds > 0.0).then(|| MeasuredRate {
            channel: channel.signal.label.clone(),
            nominal_hz: channel.signal.rate_hz,
            measured_hz: (last - first) as f64 / seconds,
        })
    }
}
