//! Devices that no host may suffer from: what a broken or malicious one says. It listens to nobody
//! and never says bye. Deterministic, like [`super::Sensor`]; keeps no account.

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use sfm_firmware_bridge::{
    Channel, FromDevice, Hello, MAX_FRAME_BYTES, PROTOCOL_VERSION, SCHEMA_HASH, SampleFormat,
    SampleRate, Samples, encode,
};

use super::Packet;
use super::faults::{generator, mixed};

/// Ways to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HostileKind {
    /// Counters and ticks that jump through all of 64 bits
    HugeCounters,
    /// Rates of 0/0, 1/4294967295, 4294967295/1; and 100 times the samples that 256 Hz allows
    WrongRates,
    /// 10,000 channel descriptions, long labels, samples of channels that do not exist
    Channels,
    /// 10,000 hellos in a second, each of another device and session
    Hellos,
    /// One byte in a second, of a frame that never ends
    Trickle,
    /// 40 kB of random bytes in a second
    Garbage,
}

/// Rates that no channel has, and two that one may have.
const RATES: [(u32, u32); 6] = [(0, 0), (0, 1), (1, u32::MAX), (u32::MAX, 1), (256, 1), (1, 1)];
const CHANNEL_MESSAGES: u64 = 10_000;
const GARBAGE_BYTES: usize = 1000;

/// A hostile device.
#[derive(Debug)]
pub struct Hostile {
    kind: HostileKind,
    device: u64,
    rng: ChaCha8Rng,
    end_s: f64,
    next_s: f64,
    now_s: f64,
    /// Steps of this connection.
    steps: u64,
    is_severed: bool,
}

impl Hostile {
    /// One that goes on for `duration_s` of true time; a stream begins without a connection.
    pub fn new(
        kind: HostileKind,
        device: u64,
        seed: u64,
        duration_s: f64,
        is_stream: bool,
    ) -> Self {
        let mut rng = generator(seed);
        rng.set_stream(mixed(&[3, device]));
        Hostile {
            kind,
            device,
            rng,
            end_s: duration_s,
            next_s: 0.0,
            now_s: 0.0,
            steps: 0,
            is_severed: is_stream,
        }
    }

    /// Its identity.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Hands out what it sends until `true_time_s`.
    pub fn run_until(&mut self, true_time_s: f64, out: &mut impl FnMut(Packet<'_>)) {
        self.now_s = self.now_s.max(true_time_s);
        if self.is_severed {
            self.next_s = self.now_s;
            return;
        }
        while self.next_s <= true_time_s.min(self.end_s) {
            let at_s = self.next_s;
            self.step(&mut |bytes| out(Packet::Frame { at_s, bytes }));
            self.steps += 1;
            self.next_s += self.pause_s();
        }
    }

    /// The connection is gone.
    pub fn sever(&mut self) {
        self.is_severed = true;
    }

    /// There is a new connection.
    pub fn restore(&mut self) {
        self.is_severed = false;
        self.steps = 0;
    }

    /// A stream is to be connected.
    pub fn wants_connection(&self) -> bool {
        self.is_severed && !self.is_finished()
    }

    /// When it sends next, true time.
    pub fn next_due_s(&self) -> f64 {
        if self.is_severed { self.end_s } else { self.next_s }
    }

    /// Its time is over.
    pub fn is_finished(&self) -> bool {
        self.now_s >= self.end_s
    }

    fn pause_s(&self) -> f64 {
        match self.kind {
            HostileKind::HugeCounters | HostileKind::WrongRates => 0.125,
            HostileKind::Channels | HostileKind::Hellos => 0.1,
            HostileKind::Trickle => 1.0,
            HostileKind::Garbage => 0.025,
        }
    }

    fn step(&mut self, out: &mut dyn FnMut(&[u8])) {
        match self.kind {
            HostileKind::HugeCounters => self.huge_counters(out),
            HostileKind::WrongRates => self.wrong_rates(out),
            HostileKind::Channels => self.channels(out),
            HostileKind::Hellos => {
                for _ in 0..1000 {
                    let (device, session) = (self.rng.next_u64(), self.rng.next_u64());
                    say(&hello(device, session, 1), out);
                }
            }
            HostileKind::Trickle => {
                let frame = frame(&hello(self.device, 1, 1));
                let body = frame.len().saturating_sub(1).max(1);
                let place = (self.steps % body as u64) as usize;
                out(frame.get(place..=place).unwrap_or_default());
            }
            HostileKind::Garbage => {
                let mut bytes = [0; GARBAGE_BYTES];
                self.rng.fill_bytes(&mut bytes);
                out(&bytes);
            }
        }
    }

    fn huge_counters(&mut self, out: &mut dyn FnMut(&[u8])) {
        if self.steps == 0 {
            say(&hello(self.device, 1, 1), out);
            say(&channel(0, "EEG C4-M1", (256, 1)), out);
        }
        let (counter, tick) = match self.steps % 4 {
            0 => (32 * self.steps, 125_000 * self.steps),
            1 => (u64::MAX - self.rng.random_range(0..64), u64::MAX),
            2 => (1 << 63, self.rng.next_u64()),
            _ => (self.rng.next_u64(), 0),
        };
        say(&samples(0, counter, tick, &[0x55; 64]), out);
    }

    fn wrong_rates(&mut self, out: &mut dyn FnMut(&[u8])) {
        if self.steps == 0 {
            say(&hello(self.device, 1, RATES.len() as u8), out);
            for (index, rate) in (0..).zip(RATES) {
                say(&channel(index, &format!("EEG {index}"), rate), out);
            }
        }
        let tick = 125_000 * self.steps;
        for index in 0..RATES.len() as u8 {
            say(&samples(index, 32 * self.steps, tick, &[1; 64]), out);
        }
        for block in 0..100 {
            say(&samples(4, 32 * (100 * self.steps + block), tick, &[2; 64]), out);
        }
    }

    fn channels(&mut self, out: &mut dyn FnMut(&[u8])) {
        if self.steps == 0 {
            say(&hello(self.device, 1, u8::MAX), out);
        }
        let first = 500 * self.steps;
        for index in first..(first + 500).min(CHANNEL_MESSAGES) {
            let label = format!("EEG {index} {}", "x".repeat(800));
            say(&channel(index as u8, &label, (256, 1)), out);
        }
        let index = self.rng.random();
        say(&samples(index, 0, 0, &[3; 64]), out);
    }
}

fn hello(device: u64, session: u64, channels: u8) -> FromDevice<'static> {
    FromDevice::Hello(Hello {
        protocol: PROTOCOL_VERSION,
        schema: SCHEMA_HASH,
        device,
        session,
        tick_hz: 1_000_000,
        channels,
        model: "sfm-sim, hostile",
    })
}

fn channel(index: u8, label: &str, (samples, seconds): (u32, u32)) -> FromDevice<'_> {
    FromDevice::Channel(Channel {
        channel: index,
        label,
        unit: "uV",
        rate: SampleRate { samples, seconds },
        digital_min: -32_768,
        digital_max: 32_767,
        physical_min: -3276.8,
        physical_max: 3276.7,
        bits: 16,
    })
}

fn samples(channel: u8, counter: u64, tick: u64, payload: &[u8]) -> FromDevice<'_> {
    FromDevice::Samples(Samples { channel, counter, tick, format: SampleFormat::I16, payload })
}

fn say(message: &FromDevice<'_>, out: &mut dyn FnMut(&[u8])) {
    out(&frame(message));
}

fn frame(message: &FromDevice<'_>) -> Vec<u8> {
    let mut buffer = [0; MAX_FRAME_BYTES];
    encode(message, &mut buffer).map(<[u8]>::to_vec).unwrap_or_default()
}
