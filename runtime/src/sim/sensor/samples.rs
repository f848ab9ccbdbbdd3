//! The way of the samples: taken by the block, sent, kept or lost, and gone through the link's queue.
//! Every step is entered in the channel's account.

use sfm_firmware_bridge::{
    FromDevice, MAX_FRAME_BYTES, SampleFormat, Samples, pack, shortest_format,
};

use super::super::memory::Block;
use super::super::queue::Cargo;
use super::super::sampler::Sampler;
use super::super::{Cause, Faults, Packet, SimError};
use super::{Out, Sensor, TICK_HZ, speech};

impl Sensor {
    /// Takes the next block of a channel and sends, keeps or loses it.
    pub(super) fn take_block(&mut self, channel: usize) -> Result<(), SimError> {
        let (Some(sampling), Some(boot_s)) = (self.sampling, self.boot_s) else { return Ok(()) };
        let (Some(sampler), Some(spec)) =
            (self.samplers.get_mut(channel), self.spec.channels.get(channel))
        else {
            return Ok(());
        };
        let total = sampler.total;
        let range = sampler.next_block(total);
        let (counter, count) = (range.start, range.end - range.start);
        sampler.take(&sampling, self.spec.from_s, count, &mut self.playback, &mut self.values)?;
        let clock = 1.0 + self.spec.drift_ppm * 1e-6;
        let first_tick = (sampling.start_s - boot_s) * clock * f64::from(TICK_HZ);
        let tick = first_tick + counter as f64 * f64::from(TICK_HZ) / spec.rate_hz();
        let bytes = samples_frame(
            channel,
            counter,
            tick.round() as u64,
            shortest_format(&self.values),
            &self.values,
        );
        let is_exempt = counter == 0 || range.end == total;
        let block = Block { channel, counter, count, is_exempt, bytes };
        if let Some(session) = self.report.sessions.last_mut()
            && let Some(taken) = session.taken.get_mut(channel)
        {
            *taken += count;
        }
        let is_sent = self.is_usable() && !self.memory.has_unsent();
        if let Some(ledger) = self.ledgers.get_mut(channel) {
            ledger.taken(counter, count);
            if !is_sent && self.memory.exists() {
                ledger.delayed(counter);
            }
        }
        let mut dropped = u64::from(!is_sent && !self.memory.exists());
        if is_sent {
            self.send_block(&block, 0);
        }
        dropped += self.memory.keep(block, self.now_s, is_sent);
        self.dropped_blocks = self.dropped_blocks.saturating_add(dropped as u32);
        Ok(())
    }

    /// Sends a block that was sent `sendings` times before.
    fn send_block(&mut self, block: &Block, sendings: u64) {
        let jitter_alone = Faults { jitter_s: self.spec.faults.jitter_s, ..Faults::default() };
        let faults = if block.is_exempt { jitter_alone } else { self.spec.faults };
        let &Block { channel, counter, count, .. } = block;
        let key = [1, self.spec.device, self.boots, channel as u64, counter, sendings];
        let mut fate = faults.fate(&self.fates, &key);
        if fate.copies == 0
            && let Some(ledger) = self.ledgers.get_mut(channel)
        {
            ledger.failed(counter, Cause::Loss);
        }
        for copy in 0..fate.copies {
            let corrupted = fate.corrupted.get(copy).is_some_and(|&corrupted| corrupted);
            let mut bytes = block.bytes.clone();
            if corrupted {
                fate.corrupt(&mut bytes);
            }
            let cargo = Cargo { channel, counter, count, resent: sendings > 0, corrupted };
            self.queue.send(self.now_s + fate.jitter_s, fate.held_s, bytes, Some(cargo));
        }
    }

    /// Sends the next block that waits in memory; `false` if there is none.
    pub(super) fn send_waiting(&mut self) -> bool {
        let next = self.memory.next(self.now_s);
        if let Some((block, sendings)) = &next {
            self.send_block(block, *sendings);
        }
        next.is_some()
    }

    /// Sends everything that is due, whole block or not.
    pub(super) fn flush(&mut self, out: Out<'_>) -> Result<(), SimError> {
        if let Some(sampling) = self.sampling {
            let taken = |sampler: &Sampler| sampler.taken_at(&sampling, self.now_s);
            let taken: Vec<u64> = self.samplers.iter().map(taken).collect();
            for (channel, taken) in taken.into_iter().enumerate() {
                while self.samplers.get(channel).is_some_and(|s| s.next < taken) {
                    self.take_block(channel)?;
                }
            }
        }
        while self.is_usable() && self.send_waiting() {}
        while self.is_usable()
            && let Some((happened_s, note)) = self.notes.pop_front()
        {
            self.say_note(happened_s, note);
        }
        self.leave_all(out);
        Ok(())
    }

    pub(super) fn leave_until(&mut self, now_s: f64, out: Out<'_>) {
        while let Some(frame) = self.queue.pop_due(now_s) {
            self.leave(frame.due_s, &frame.bytes, frame.cargo, out);
        }
    }

    /// Everything on its way arrives now.
    pub(super) fn leave_all(&mut self, out: Out<'_>) {
        while let Some(frame) = self.queue.pop() {
            self.leave(self.now_s, &frame.bytes, frame.cargo, out);
        }
    }

    fn leave(&mut self, at_s: f64, bytes: &[u8], cargo: Option<Cargo>, out: Out<'_>) {
        out(Packet::Frame { at_s, bytes });
        let Some(cargo) = cargo else { return };
        let Some(ledger) = self.ledgers.get_mut(cargo.channel) else { return };
        match cargo.corrupted {
            true => ledger.corrupted(cargo.counter),
            false => ledger.delivered(cargo.counter, cargo.count, cargo.resent),
        }
    }
}

/// A *samples* frame.
fn samples_frame(
    channel: usize,
    counter: u64,
    tick: u64,
    format: SampleFormat,
    values: &[i32],
) -> Vec<u8> {
    let mut packed = [0; MAX_FRAME_BYTES];
    // Values are clipped to the channel's range and blocks are cut to what a frame holds.
    let payload = pack(format, values, &mut packed).unwrap_or_default();
    let channel = channel as u8;
    speech::frame(&FromDevice::Samples(Samples { channel, counter, tick, format, payload }))
}
