//! A host in virtual time: starts devices, acknowledges, decodes, and counts by counters alone.

use std::collections::{BTreeMap, BTreeSet};

use sfm_firmware_bridge::{
    Decoder, FromDevice, FromHost, MAX_FRAME_BYTES, MarkKind, SampleRate, encode,
};

use super::super::{
    ChannelSpec, DeviceReport, Faults, Link, Packet, Plan, Playback, Sensor, SensorSpec,
};

pub const SEED: u64 = 7;

/// What a host heard.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Hello { device: u64, session: u64, channels: u8 },
    Channel(String),
    Samples { channel: usize, counter: u64, tick: u64, values: Vec<i32> },
    Mark { number: u32, tick: u64, kind: MarkKind },
    Status { tick: u64, dropped_blocks: u32 },
    Contact { channel: u8, tick: u64, lead_off: bool },
    Time { request: u32, received_tick: u64, sent_tick: u64 },
    Bye,
    Bad,
    Down,
    Up,
}

/// Finds frames in bytes that arrive in pieces.
#[derive(Default)]
pub struct Listener {
    open: Vec<u8>,
}

impl Listener {
    pub fn take(&mut self, bytes: &[u8], mut hear: impl FnMut(Heard)) {
        self.open.extend_from_slice(bytes);
        while let Some(end) = self.open.iter().position(|&byte| byte == 0) {
            let frame: Vec<u8> = self.open.drain(..=end).collect();
            let mut buffer = [0; MAX_FRAME_BYTES];
            let mut decoder = Decoder::new(&mut buffer);
            match decoder.push::<FromDevice>(&mut frame.as_slice()) {
                Some(Ok(message)) => hear(owned(message)),
                Some(Err(_)) => hear(Heard::Bad),
                None => {}
            }
        }
    }
}

fn owned(message: FromDevice<'_>) -> Heard {
    match message {
        FromDevice::Hello(h) => {
            assert!(h.is_compatible());
            Heard::Hello { device: h.device, session: h.session, channels: h.channels }
        }
        FromDevice::Channel(c) => Heard::Channel(c.label.to_owned()),
        FromDevice::Samples(s) => Heard::Samples {
            channel: s.channel.into(),
            counter: s.counter,
            tick: s.tick,
            values: s.values().expect("whole samples").collect(),
        },
        FromDevice::Mark(m) => Heard::Mark { number: m.number, tick: m.tick, kind: m.kind },
        FromDevice::Status(s) => Heard::Status { tick: s.tick, dropped_blocks: s.dropped_blocks },
        FromDevice::Contact(c) => {
            Heard::Contact { channel: c.channel, tick: c.tick, lead_off: c.lead_off }
        }
        FromDevice::TimeReply(t) => Heard::Time {
            request: t.request,
            received_tick: t.received_tick,
            sent_tick: t.sent_tick,
        },
        FromDevice::Bye(_) => Heard::Bye,
    }
}

pub fn say(message: FromHost) -> Vec<u8> {
    encode(&message, &mut [0; MAX_FRAME_BYTES]).expect("it has room").to_vec()
}

/// Rates from 512 Hz to one sample in 30 s; the first channel needs 24 bits.
pub fn channels() -> Vec<ChannelSpec> {
    let channel = |source: usize, samples, seconds, digital_max: i32| ChannelSpec {
        label: format!("C{source}"),
        unit: "uV".into(),
        rate: SampleRate { samples, seconds },
        digital_min: -digital_max - 1,
        digital_max,
        physical_min: -1000.0,
        physical_max: 1000.0,
        source,
    };
    vec![
        channel(0, 512, 1, 0x7f_ffff),
        channel(1, 256, 1, 0x7fff),
        channel(2, 32, 1, 0x7fff),
        channel(3, 1, 1, 0x7fff),
        channel(4, 1, 30, 0x7fff),
    ]
}

/// A value that no neighbor has.
pub fn value(channel: usize, index: u64) -> i32 {
    let range = if channel == 0 { 16_000_001 } else { 60_001 };
    ((index * 7919 + channel as u64 * 131) % range) as i32 - (range / 2) as i32
}

pub fn playback() -> Playback {
    Playback::Function(Box::new(value))
}

pub fn spec(duration_s: f64) -> SensorSpec {
    SensorSpec {
        device: super::super::device_id(SEED, 0, 0),
        seed: SEED,
        channels: channels(),
        link: Link::Datagram,
        one_way: false,
        drift_ppm: 0.0,
        marks_lights: true,
        from_s: 0.0,
        duration_s,
        block_s: None,
        memory_s: 0.0,
        faults: Faults::default(),
        plan: Plan::default(),
    }
}

/// A whole session between a device and a host.
pub struct Played {
    pub report: DeviceReport,
    pub bytes: Vec<u8>,
    /// With the true time at which it left, seconds.
    pub heard: Vec<(f64, Heard)>,
}

/// Plays to the end in steps of `step_s`. The host starts what says hello, connects what can be
/// connected and, if it `acknowledges`, does so twice a second.
pub fn play(spec: SensorSpec, playback: Playback, step_s: f64, acknowledges: bool) -> Played {
    let channels = spec.channels.len();
    let limit_s = 2.0 * spec.duration_s + 100.0;
    let mut sensor = Sensor::new(spec, playback).expect("a device");
    let mut listener = Listener::default();
    let (mut bytes, mut heard) = (Vec::new(), Vec::<(f64, Heard)>::new());
    let mut started = None;
    // What has come without a hole, by channel, and behind the first hole.
    let mut contiguous = vec![(0, BTreeMap::<u64, u64>::new()); channels];
    for step in 0.. {
        let now_s = f64::from(step) * step_s;
        assert!(now_s < limit_s, "no end");
        if sensor.wants_connection() {
            sensor.restore(now_s);
            started = None;
        }
        let first = heard.len();
        let run = sensor.run_until(now_s, &mut |packet| match packet {
            Packet::Frame { at_s, bytes: frame } => {
                bytes.extend_from_slice(frame);
                listener.take(frame, |message| heard.push((at_s, message)));
            }
            Packet::LinkDown { at_s } => heard.push((at_s, Heard::Down)),
            Packet::LinkUp { at_s } => heard.push((at_s, Heard::Up)),
        });
        run.expect("it plays on");
        for (_, message) in &heard[first..] {
            match message {
                Heard::Hello { session, .. } if started != Some(*session) => {
                    started = Some(*session);
                    contiguous.iter_mut().for_each(|c| *c = Default::default());
                    sensor.take(&say(FromHost::Start), now_s);
                }
                Heard::Samples { channel, counter, values, .. } => {
                    let (next, later) = &mut contiguous[*channel];
                    later.insert(*counter, counter + values.len() as u64);
                    while let Some(end) = later.remove(next) {
                        *next = end;
                    }
                }
                _ => {}
            }
        }
        if acknowledges && step % (0.5 / step_s) as i32 == 0 {
            for (channel, &(counter, _)) in (0..).zip(&contiguous) {
                sensor.take(&say(FromHost::Acknowledge { channel, counter }), now_s);
            }
        }
        if sensor.is_finished() {
            break;
        }
    }
    Played { report: sensor.report(), bytes, heard }
}

/// What a host can tell of one channel from the samples it decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub delivered: u64,
    pub lost: u64,
    pub duplicate: u64,
    pub reordered: u64,
    /// Session (by order) and counter of every lost sample.
    pub missing: BTreeSet<(usize, u64)>,
}

impl Played {
    /// The host's own account.
    pub fn counted(&self, channel: usize) -> Counted {
        let mut counted = Counted::default();
        let (mut session, mut seen) = (None, BTreeSet::new());
        let mut index = 0;
        let close = |counted: &mut Counted, index: usize, seen: &BTreeSet<u64>| {
            let total = seen.last().map_or(0, |last| last + 1);
            counted.delivered += seen.len() as u64;
            counted.lost += total - seen.len() as u64;
            counted.missing.extend((0..total).filter(|c| !seen.contains(c)).map(|c| (index, c)));
        };
        for (_, message) in &self.heard {
            match message {
                Heard::Hello { session: new, .. } if session != Some(*new) => {
                    if !seen.is_empty() {
                        close(&mut counted, index, &seen);
                        index += 1;
                        seen.clear();
                    }
                    session = Some(*new);
                }
                Heard::Samples { channel: of, counter, values, .. } if *of == channel => {
                    let is_late = seen.last().is_some_and(|last| counter < last);
                    for sample in *counter..counter + values.len() as u64 {
                        match seen.insert(sample) {
                            true => counted.reordered += u64::from(is_late),
                            false => counted.duplicate += 1,
                        }
                    }
                }
                _ => {}
            }
        }
        close(&mut counted, index, &seen);
        counted
    }

    pub fn count(&self, is_it: impl Fn(&Heard) -> bool) -> usize {
        self.heard.iter().filter(|(_, message)| is_it(message)).count()
    }
}
