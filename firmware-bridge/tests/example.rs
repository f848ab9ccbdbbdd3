//! The example firmware's sensor on this machine: a host behind a bad link gets every sample that
//! its memory can hold, and is told of the rest.

// Miri would take an hour.
#![cfg(not(miri))]
#![allow(clippy::unwrap_used)]

use sfm_firmware_bridge::{Decoder, FromDevice, FromHost, MAX_FRAME_BYTES, MarkKind};

#[allow(dead_code)]
#[path = "../example/src/sensor.rs"]
mod sensor;

use sensor::{CHANNELS, Sensor, TICK_HZ, WIRING};

const SECONDS: u64 = 60;

/// Sample `index` of a channel, in the channel's range.
fn value(channel: usize, index: u64) -> i32 {
    (index as i32 * 31 + channel as i32 * 7) % 1000
}

/// The host's side of the link: what arrived.
#[derive(Default)]
struct Host {
    /// By channel, whether sample `index` is there.
    arrived: [Vec<bool>; CHANNELS],
    introductions: usize,
    time_replies: Vec<(u32, u64, u64)>,
    marks: Vec<u32>,
    dropped_blocks: u32,
    repeated: usize,
}

impl Host {
    fn takes(&mut self, frame: &[u8]) {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let mut input = frame;
        match Decoder::new(&mut buffer).push::<FromDevice>(&mut input).unwrap().unwrap() {
            FromDevice::Hello(hello) => {
                assert!(hello.is_compatible());
                assert_eq!((hello.session, usize::from(hello.channels)), (42, CHANNELS));
                self.introductions += 1;
            }
            FromDevice::Channel(_) => self.introductions += 1,
            FromDevice::Samples(block) => {
                let channel = usize::from(block.channel);
                assert_eq!(block.tick, block.counter * WIRING[channel].ticks);
                for (index, sent) in (block.counter..).zip(block.values().unwrap()) {
                    assert_eq!(sent, value(channel, index));
                    let arrived = &mut self.arrived[channel];
                    arrived.resize(arrived.len().max(index as usize + 1), false);
                    self.repeated +=
                        usize::from(std::mem::replace(&mut arrived[index as usize], true));
                }
            }
            FromDevice::TimeReply(reply) => {
                self.time_replies.push((reply.request, reply.received_tick, reply.sent_tick));
            }
            FromDevice::Mark(mark) => {
                assert_eq!(mark.kind, MarkKind::Button);
                self.marks.push(mark.number);
            }
            FromDevice::Status(status) => self.dropped_blocks = status.dropped_blocks,
            FromDevice::Bye(_) | FromDevice::Contact(_) => panic!("this sensor sends none"),
        }
    }

    /// Samples of the channel before the first that is missing, counted from `start`.
    fn contiguous(&self, channel: usize, start: usize) -> usize {
        self.arrived[channel].iter().skip(start).take_while(|&&there| there).count() + start
    }
}

/// A sensor and its converter.
struct Bench {
    sensor: Sensor,
    now: u64,
    out: [u8; MAX_FRAME_BYTES],
}

impl Bench {
    fn new() -> Self {
        Self { sensor: Sensor::new(42), now: 0, out: [0; MAX_FRAME_BYTES] }
    }

    /// Converts for a tick.
    fn tick(&mut self) {
        for (channel, wiring) in WIRING.iter().enumerate() {
            if self.now.is_multiple_of(wiring.ticks) {
                let index = self.now / wiring.ticks;
                self.sensor.sample(channel, value(channel, index), self.now);
            }
        }
        self.now += 1;
    }

    fn frame(&mut self) -> Option<&[u8]> {
        self.sensor.next_frame(self.now, &mut self.out).map(Result::unwrap)
    }
}

#[test]
fn every_sample_arrives_over_a_link_that_loses_an_eighth() {
    let (mut bench, mut host) = (Bench::new(), Host::default());
    bench.sensor.host_says(FromHost::Start, 0);
    let (mut random, mut lost_blocks) = (1_u64, 0);
    for _ in 0..SECONDS * u64::from(TICK_HZ) {
        bench.tick();
        let introduced = host.introductions > CHANNELS;
        if let Some(sent) = bench.frame() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // The introduction is not sent again by itself.
            if introduced && random >> 61 == 0 {
                lost_blocks += 1;
            } else {
                host.takes(sent);
            }
        }
        for channel in 0..CHANNELS {
            let counter = host.contiguous(channel, 0) as u64;
            let acknowledge = FromHost::Acknowledge { channel: channel as u8, counter };
            bench.sensor.host_says(acknowledge, bench.now);
        }
    }
    assert!(lost_blocks > 10, "{lost_blocks}");
    for (channel, wiring) in WIRING.iter().enumerate() {
        let taken = SECONDS * u64::from(TICK_HZ) / wiring.ticks;
        let waiting = 3 * u64::from(TICK_HZ) / wiring.ticks;
        assert!(host.contiguous(channel, 0) as u64 + waiting >= taken, "{channel}");
    }
    assert_eq!((host.introductions, host.dropped_blocks), (1 + CHANNELS, 0));
    assert!(host.repeated > 0, "only samples behind a hole that was filled come twice");
}

#[test]
fn nothing_is_sent_twice_to_a_host_that_never_acknowledges() {
    let (mut bench, mut host) = (Bench::new(), Host::default());
    bench.sensor.host_says(FromHost::Start, 0);
    for _ in 0..10 * TICK_HZ {
        bench.tick();
        if let Some(frame) = bench.frame() {
            host.takes(frame);
        }
    }
    assert_eq!(host.repeated, 0);
    assert!(host.arrived[0].iter().all(|&there| there) && host.arrived[0].len() > 2300);
}

#[test]
fn blocks_that_were_never_sent_are_counted() {
    let (mut bench, mut host) = (Bench::new(), Host::default());
    bench.sensor.host_says(FromHost::Start, 0);
    // The link stands still for a minute; then everything that is remembered comes.
    for _ in 0..60 * TICK_HZ {
        bench.tick();
    }
    while let Some(frame) = bench.frame() {
        host.takes(frame);
    }
    let blocks = 2 * (60 * 250 / 64) + 60;
    assert_eq!(host.dropped_blocks, blocks - 48);
    let there = host.arrived[0].iter().filter(|&&there| there).count();
    assert!(there >= 64 * 15 && host.arrived[0].len() == 60 * 250 / 64 * 64, "{there}");
}

#[test]
fn the_host_is_answered() {
    let (mut bench, mut host) = (Bench::new(), Host::default());
    for _ in 0..1000 {
        bench.tick();
        if let Some(frame) = bench.frame() {
            host.takes(frame);
        }
    }
    assert_eq!(host.introductions, 1 + CHANNELS);
    assert!(host.arrived.iter().all(Vec::is_empty), "the host has not said start");

    bench.sensor.host_says(FromHost::TimeRequest { request: 9 }, 1000);
    bench.sensor.press(1001);
    bench.sensor.host_says(FromHost::Start, 1001);
    bench.now = 1002;
    while let Some(frame) = bench.frame() {
        host.takes(frame);
    }
    assert_eq!(host.time_replies, [(9, 1000, 1002)]);
    assert_eq!((host.marks.as_slice(), host.introductions), ([0].as_slice(), 2 + 2 * CHANNELS));

    bench.now = 1000;
    for _ in 0..1000 {
        bench.tick();
        if let Some(frame) = bench.frame() {
            host.takes(frame);
        }
    }
    // Counting went on before the start.
    let there: Vec<bool> = host.arrived[0].clone();
    assert!(there.len() > 250 && there[..250].iter().all(|there| !there) && there[250]);

    bench.sensor.host_says(FromHost::Stop, bench.now);
    for _ in 0..1000 {
        bench.tick();
        assert!(bench.frame().is_none());
    }
}
