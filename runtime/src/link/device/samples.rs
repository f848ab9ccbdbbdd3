//! The way of a device's samples: from counters, over the clock's fit, to slots; and the holes that
//! are given up.

use sfm_firmware_bridge::Samples;

use super::super::clock::HostSeconds;
use super::super::event::SessionEvent;
use super::super::reassembly::Run;
use super::super::slot::Slot;
use super::super::types::{Axis, Settings, Violation};
use super::{Device, DeviceChannel, Out};
use crate::text::hex;

/// Samples of the future, seconds: a clock fit is never this wrong.
const MAX_AHEAD_S: f64 = 5.0;
/// A device may send this much more than its rates say before it counts as a flood, seconds.
const SPARE_S: f64 = 600.0;
/// Blocks that are kept until it is known where they lie, seconds of signal.
const MAX_HELD_S: f64 = 120.0;
/// The same in blocks.
const MAX_HELD_BLOCKS: usize = 4096;

impl DeviceChannel {
    /// Of what has no place yet the newest signal counts.
    fn keep_newest(&mut self) {
        let most = (MAX_HELD_S * self.signal.rate_hz) as usize + 1;
        let mut passed = 0;
        for run in &self.held {
            let too_many = self.held.len() - passed > MAX_HELD_BLOCKS;
            if self.held_samples <= most && !too_many {
                break;
            }
            self.held_samples -= run.samples.len();
            passed += 1;
        }
        self.held.drain(..passed);
    }
}

impl Device {
    pub(super) fn samples(
        &mut self,
        samples: &Samples<'_>,
        axis: &Axis,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<(), Violation> {
        let index = usize::from(samples.channel);
        let values = samples.values().map_err(|e| Violation(format!("sends {e}")))?;
        let place = match self.channels.get_mut(index) {
            Some(Some(channel)) => channel,
            // Its description is lost and has been asked for again; the device counts on.
            Some(None) => return Ok(()),
            None => return Err(Violation(format!("sends samples of channel {index} of fewer"))),
        };
        let run = Run { counter: samples.counter, tick: samples.tick, samples: values.collect() };
        if run.samples.is_empty() {
            return Ok(());
        }
        let length_s = run.samples.len() as f64 / place.signal.rate_hz;
        place.longest_block_s = place.longest_block_s.max(length_s.min(60.0));
        place.first.get_or_insert((run.counter, run.tick));
        place.last = Some((run.counter, run.tick));
        self.received += run.samples.len() as u64;
        let end_tick = run.tick.saturating_add((length_s * f64::from(self.tick_hz)) as u64);
        let held = &mut place.held;
        let held_samples = &mut place.held_samples;
        place
            .reassembly
            .push(run, &mut |run| {
                *held_samples += run.samples.len();
                held.push(run);
            })
            .map_err(|e| Violation(format!("counts {} samples, which no sensor does", e.0)))?;
        self.fit.arrival(end_tick, now_s);
        self.tick = self.tick.max(end_tick);
        if self.silent {
            self.silent = false;
            let silent_s = now_s - self.heard_s;
            out.note(now_s, SessionEvent::Heard { device: hex(self.id), silent_s });
        }
        self.heard_s = now_s;
        self.check_flood(now_s)?;
        self.place(index, axis, (now_s, false), out)
    }

    /// A device cannot send more than it has sampled, but for what it sends again.
    fn check_flood(&self, now_s: HostSeconds) -> Result<(), Violation> {
        let rate_hz: f64 = self.signals().map(|s| s.rate_hz).sum();
        let allowed = 1.5 * (now_s - self.since_s + SPARE_S) * rate_hz;
        if self.received as f64 > allowed {
            return Err(Violation("sends more samples than its rates allow".to_owned()));
        }
        Ok(())
    }

    /// Moves a channel's ordered runs to their places, as soon as these are known.
    fn place(
        &mut self,
        index: usize,
        axis: &Axis,
        (now_s, at_end): (HostSeconds, bool),
        out: &mut Out,
    ) -> Result<(), Violation> {
        let Some(Some(channel)) = self.channels.get_mut(index) else { return Ok(()) };
        let Some(start_s) = axis.started_s else {
            channel.keep_newest();
            return Ok(());
        };
        if !self.fit.is_usable(if at_end { f64::INFINITY } else { now_s }) {
            return Ok(());
        }
        let label = &channel.signal.label;
        let Some(slot) = self.slots.iter_mut().find(|s| s.holds(&channel.signal)) else {
            // It may get a place in another recording.
            channel.keep_newest();
            return Ok(());
        };
        channel.held_samples = 0;
        for run in channel.held.drain(..) {
            let Some(host_s) = self.fit.host_s(run.tick) else { continue };
            // A clock that was set: until the fit has followed, nobody knows where they lie.
            if host_s > now_s + MAX_AHEAD_S.max(axis.speed) {
                let samples = run.samples.len() as u64;
                (slot.ledger.late, slot.ledger.lost) =
                    (slot.ledger.late + samples, slot.ledger.lost + samples);
                continue;
            }
            let at = (host_s - start_s, self.fit.uncertainty_s());
            let blocks = &mut out.blocks;
            let placed = slot.ledger.placed;
            let jump = slot.alignment.place(&run, at, &mut slot.ledger, &mut |b| blocks.push(b));
            if slot.ledger.placed > placed {
                slot.placed_s = now_s;
            }
            if let Some(jump) = jump {
                let (device, channel, seconds) = (hex(self.id), label.clone(), jump.0);
                out.note(now_s, SessionEvent::ClockJump { device, channel, seconds });
            }
        }
        Ok(())
    }

    /// By the device's own clock: a stall of the link or of this program loses nothing.
    pub(super) fn give_up_holes(
        &mut self,
        settings: &Settings,
        axis: &Axis,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<(), Violation> {
        for index in 0..self.channels.len() {
            let tick = self.tick;
            let Some(Some(channel)) = self.channels.get_mut(index) else { continue };
            let patience_s = settings.patience_s + 2.0 * channel.longest_block_s;
            let (held, held_samples) = (&mut channel.held, &mut channel.held_samples);
            channel.reassembly.give_up_before(tick, patience_s, &mut |run| {
                *held_samples += run.samples.len();
                held.push(run);
            });
            let idle = channel.held.is_empty() && !channel.reassembly.has_hole();
            self.place(index, axis, (now_s, false), out)?;
            // A channel that has stopped while the others go on.
            let (Some(start_s), true) = (axis.started_s, idle) else { continue };
            if !self.fit.is_usable(now_s) {
                continue;
            }
            let behind = tick.saturating_sub(self.fit.ticks(patience_s));
            let Some(host_s) = self.fit.host_s(behind) else { continue };
            let Some(Some(channel)) = self.channels.get(index) else { continue };
            if let Some(slot) = self.slots.iter_mut().find(|s| s.holds(&channel.signal)) {
                // Not beyond the host's time, whatever the device's clock says.
                slot.give_up_before(host_s.min(now_s) - start_s, &mut out.blocks);
            }
        }
        self.give_up_undescribed(settings, axis, now_s, out);
        Ok(())
    }

    /// Recorded channels that the device, since it started again, has no more: nothing waits for them.
    fn give_up_undescribed(
        &mut self,
        settings: &Settings,
        axis: &Axis,
        now_s: HostSeconds,
        out: &mut Out,
    ) {
        let Some(start_s) = axis.started_s else { return };
        let at_s = now_s - settings.give_up_s(axis.speed) - start_s;
        let channels = &self.channels;
        let has = |slot: &Slot| channels.iter().flatten().any(|c| slot.holds(&c.signal));
        for slot in self.slots.iter_mut().filter(|slot| !has(slot)) {
            slot.give_up_before(at_s, &mut out.blocks);
        }
    }

    /// The device's session is over: what waits comes out.
    pub(super) fn end_session(&mut self, axis: &Axis, now_s: HostSeconds, out: &mut Out) {
        for index in 0..self.channels.len() {
            if let Some(Some(channel)) = self.channels.get_mut(index) {
                let held = &mut channel.held;
                channel.reassembly.finish(&mut |run| held.push(run));
                let ledger = std::mem::take(&mut channel.reassembly.ledger);
                let label = channel.signal.label.clone();
                // A session this short has nothing that could be placed wrongly.
                let _ = self.place(index, axis, (now_s, true), out);
                if let Some(slot) = self.slots.iter_mut().find(|s| s.label == label) {
                    slot.ledger = slot.ledger.plus(ledger);
                }
            }
        }
    }
}
