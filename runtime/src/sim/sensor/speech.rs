//! What a device says besides samples. Every message goes through the link's queue with its jitter
//! and is spared all other faults.

use sfm_firmware_bridge::{
    Channel, Contact, FromDevice, Hello, MAX_FRAME_BYTES, Mark, MarkKind, PROTOCOL_VERSION,
    SCHEMA_HASH, Status, TimeReply, encode,
};

use super::super::{Faults, Packet, SensorSpec};
use super::{HELLO_S, ONE_WAY_HELLO_S, Out, Sensor, TICK_HZ};

const MODEL: &str = concat!("sfm-sim ", env!("CARGO_PKG_VERSION"));
/// An electrode that sits, ohm.
const GOOD_IMPEDANCE_OHM: u32 = 5_000;
/// The battery lasts for this long, seconds of device time.
const BATTERY_S: f64 = 24.0 * 3600.0;
/// Near the skin.
const TEMPERATURE_DECICELSIUS: i16 = 305;

/// A mark, or a channel's contact and whether it is off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Note {
    Mark(MarkKind),
    Contact(usize, bool),
}

/// The frame of a message.
pub(super) fn frame(message: &FromDevice<'_>) -> Vec<u8> {
    let mut buffer = [0; MAX_FRAME_BYTES];
    // All lengths are checked when a device is made.
    encode(message, &mut buffer).map(<[u8]>::to_vec).unwrap_or_default()
}

/// The *channel* message of a device's channel.
fn channel_message(spec: &SensorSpec, index: usize) -> Option<FromDevice<'_>> {
    let channel = spec.channels.get(index)?;
    let range = i64::from(channel.digital_max) - i64::from(channel.digital_min);
    Some(FromDevice::Channel(Channel {
        channel: index as u8,
        label: &channel.label,
        unit: &channel.unit,
        rate: channel.rate,
        digital_min: channel.digital_min,
        digital_max: channel.digital_max,
        physical_min: channel.physical_min,
        physical_max: channel.physical_max,
        bits: (i64::BITS - range.leading_zeros()) as u8,
    }))
}

impl Sensor {
    /// Hello and channels, a zero byte before them.
    pub(super) fn greet(&mut self, at_s: f64) {
        let pause_s = if self.spec.one_way { ONE_WAY_HELLO_S } else { HELLO_S };
        self.hello_s = at_s + pause_s / self.clock();
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            schema: SCHEMA_HASH,
            device: self.spec.device,
            session: self.session,
            tick_hz: TICK_HZ,
            channels: self.spec.channels.len() as u8,
            model: MODEL,
        };
        let mut bytes = vec![0];
        bytes.extend(frame(&FromDevice::Hello(hello)));
        self.say_bytes(bytes, at_s);
        for index in 0..self.spec.channels.len() {
            let bytes = channel_message(&self.spec, index).map(|m| frame(&m)).unwrap_or_default();
            self.say_bytes(bytes, at_s);
        }
    }

    /// Without jitter a reply does not wait behind anything.
    pub(super) fn say_time(&mut self, request: u32, received_tick: u64, at_s: f64, out: Out<'_>) {
        let sent_tick = self.tick(at_s);
        let reply = FromDevice::TimeReply(TimeReply { request, received_tick, sent_tick });
        if self.spec.faults.jitter_s > 0.0 {
            self.say(&reply, at_s);
        } else {
            out(Packet::Frame { at_s, bytes: &frame(&reply) });
        }
    }

    pub(super) fn say_status(&mut self) {
        let tick = self.tick(self.now_s);
        let charge = 1.0 - tick as f64 / f64::from(TICK_HZ) / BATTERY_S;
        let status = Status {
            tick,
            battery_percent: Some((charge * 100.0).clamp(1.0, 100.0) as u8),
            temperature_decicelsius: Some(TEMPERATURE_DECICELSIUS),
            dropped_blocks: self.dropped_blocks,
        };
        self.say(&FromDevice::Status(status), self.now_s);
    }

    pub(super) fn say_note(&mut self, happened_s: f64, note: Note) {
        let tick = self.tick(happened_s);
        let message = match note {
            Note::Mark(kind) => {
                let number = self.marks;
                self.marks += 1;
                FromDevice::Mark(Mark { number, tick, kind })
            }
            Note::Contact(channel, lead_off) => FromDevice::Contact(Contact {
                channel: channel as u8,
                tick,
                lead_off,
                impedance_ohm: (!lead_off).then_some(GOOD_IMPEDANCE_OHM),
            }),
        };
        self.say(&message, self.now_s);
    }

    pub(super) fn say(&mut self, message: &FromDevice<'_>, at_s: f64) {
        self.say_bytes(frame(message), at_s);
    }

    fn say_bytes(&mut self, bytes: Vec<u8>, at_s: f64) {
        let jitter_alone = Faults { jitter_s: self.spec.faults.jitter_s, ..Faults::default() };
        let key = [2, self.spec.device, self.boots, self.controls];
        self.controls += 1;
        let jitter_s = jitter_alone.fate(&self.fates, &key).jitter_s;
        self.queue.send(at_s + jitter_s, 0.0, bytes, None);
    }
}
