//! What a device's account says: its ledger by channel, its clock, the rates that were measured.

use super::super::clock::HostSeconds;
use super::super::event::{MeasuredRate, SessionEvent};
use super::super::ledger::SampleLedger;
use super::super::slot::Slot;
use super::{Device, DeviceChannel, Out};
use crate::health::arrivals::{ChannelArrivals, DeviceArrivals};
use crate::text::hex;

/// Time between two blocks of a device that sends, seconds.
const SENDS_WITHIN_S: f64 = 60.0;
/// Parts of what a device's rates promise that make it plausible: samples that arrive, and the time
/// from the first to the last of them.
const PLAUSIBLE: f64 = 0.5;
const SPAN: f64 = 0.9;
/// Between two blocks of samples, seconds, beside twice their length.
const PAUSE_S: f64 = 2.0;

impl Device {
    /// Whether it has sent any samples.
    pub(in super::super) fn has_sent(&self) -> bool {
        self.received > 0
    }

    /// Whether it has sent samples for `seconds`, about as many as its rates say and its clock
    /// shows, and still does.
    pub(in super::super) fn has_streamed(&self, seconds: f64, now_s: HostSeconds) -> bool {
        let is_described = !self.channels.is_empty() && self.channels.iter().all(Option::is_some);
        if !is_described || !self.fit.is_usable(now_s) || now_s - self.since_s < seconds {
            return false;
        }
        let channels = || self.channels.iter().flatten();
        let spans = channels().filter_map(|channel| {
            let ((first, first_tick), (last, last_tick)) = (channel.first?, channel.last?);
            let signal_s = last.saturating_sub(first) as f64 / channel.signal.rate_hz;
            let clock_s = last_tick.saturating_sub(first_tick) as f64 / f64::from(self.tick_hz);
            Some(signal_s.min(clock_s))
        });
        let span_s = spans.fold(0.0, f64::max);
        let rate_hz: f64 = self.signals().map(|signal| signal.rate_hz).sum();
        let has_enough = self.received as f64 >= PLAUSIBLE * seconds.max(span_s) * rate_hz;
        let block_s = channels().map(|channel| channel.longest_block_s).fold(0.0, f64::max);
        let has_span = span_s + block_s >= SPAN * seconds;
        has_enough && has_span && now_s - self.heard_s < PAUSE_S + 2.0 * block_s
    }

    /// Each recorded channel's ledger so far.
    pub(in super::super) fn ledgers(&self) -> impl Iterator<Item = (&str, SampleLedger)> {
        self.slots.iter().map(|slot| (slot.label.as_str(), self.ledger(slot)))
    }

    fn ledger(&self, slot: &Slot) -> SampleLedger {
        let here = self.channels.iter().flatten().find(|c| c.signal.label == slot.label);
        slot.ledger.plus(here.map(|c| c.reassembly.ledger).unwrap_or_default())
    }

    /// Samples of it came in the last seconds, whether they have a place or not.
    pub(in super::super) fn sends(&self, now_s: HostSeconds) -> bool {
        self.received > 0 && now_s - self.heard_s < SENDS_WITHIN_S
    }

    /// What arrives of it.
    pub(in super::super) fn arrivals(&self, now_s: HostSeconds) -> DeviceArrivals {
        let age_s = |since_s: HostSeconds| (now_s - since_s.max(self.since_s)).max(0.0);
        let channel = |slot: &Slot| {
            let here = self.channels.iter().flatten().find(|c| slot.holds(&c.signal));
            ChannelArrivals {
                label: slot.label.clone(),
                age_s: age_s(slot.placed_s),
                block_s: here.map(|c| c.longest_block_s).unwrap_or_default(),
            }
        };
        let channels: Vec<ChannelArrivals> = self.slots.iter().map(channel).collect();
        let newest_s = channels.iter().map(|c| c.age_s).reduce(f64::min);
        DeviceArrivals {
            device: self.id,
            has_come: !self.channels.is_empty(),
            has_ended: self.stopped,
            age_s: newest_s.unwrap_or_else(|| age_s(self.heard_s)),
            channels,
        }
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
