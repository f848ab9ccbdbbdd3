//! The thread of one stream: takes its samples, numbers them, and speaks the wire protocol. When
//! the sender is gone it waits for it to come back: the same outlet goes on with its counters and a
//! hole, another is a new session, as after a reboot.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use sfm_firmware_bridge::{
    Channel, Decoder, FromDevice, FromHost, Hello, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES,
    PROTOCOL_VERSION, SCHEMA_HASH, SampleRate, Samples, TimeReply, encode, pack, shortest_format,
};
use tokio::sync::mpsc::Sender;

use super::Stream;
use super::library::{ChannelText, InletError, Library, Value, ValueKind};
use super::slots::Slots;

/// Ticks are microseconds of the sender's clock.
const TICK_HZ: u32 = 1_000_000;
/// How often samples are fetched. The host's requests are answered at once.
const FETCH_EVERY: Duration = Duration::from_millis(50);
/// Samples of all channels that are fetched at a time.
const FETCH_SAMPLES: usize = 512;
/// The longest block: as many samples of 4 bytes as a payload holds.
const BLOCK_SAMPLES: usize = MAX_PAYLOAD_BYTES / 4;
/// Digital steps in a unit of a floating-point stream.
const STEPS: f64 = 100.0;
/// Limits of a floating-point stream, units.
const LIMIT: f32 = 80_000.0;

/// Values of a sample by channel; `None` is lost.
type Row = Vec<Option<i32>>;

/// The host is gone: the thread ends.
struct Gone;

/// One stream that speaks the wire protocol.
pub struct Speaker {
    library: &'static Library,
    stream: Stream,
    frames: Sender<Vec<u8>>,
    host: Receiver<Vec<u8>>,
    /// The host has said *start*.
    streaming: bool,
    slots: Slots<Row>,
    /// What makes steps of a floating-point value, by channel.
    gains: Vec<f64>,
}

impl Speaker {
    pub fn new(
        library: &'static Library,
        stream: Stream,
        frames: Sender<Vec<u8>>,
        host: Receiver<Vec<u8>>,
    ) -> Self {
        let slots = Slots::new(stream.rate_hz);
        let gains = gains(&stream);
        Self { library, stream, frames, host, streaming: false, slots, gains }
    }

    /// Until the host is gone.
    pub fn run(mut self) {
        // The first estimate takes the library a second; it is kept up to date in the background.
        let _ = self.stream.inlet.time_correction_s(Duration::from_secs(2));
        let mut ended = self.introduce();
        while ended.is_ok() {
            ended = self.listen().and_then(|()| self.fetch());
        }
    }

    /// Serves the host until it is time to fetch.
    fn listen(&mut self) -> Result<(), Gone> {
        match self.host.recv_timeout(FETCH_EVERY) {
            Ok(bytes) => {
                let arrived = self.sender_ticks();
                let mut buffer = [0; MAX_FRAME_BYTES];
                let mut decoder = Decoder::new(&mut buffer);
                let mut input = bytes.as_slice();
                while let Some(message) = decoder.push::<FromHost>(&mut input) {
                    // What is damaged inside a process was damaged on purpose; nothing is lost.
                    if let Ok(message) = message {
                        self.host_says(message, arrived)?;
                    }
                }
            }
            // A host that only listens.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(FETCH_EVERY),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if self.frames.is_closed() { Err(Gone) } else { Ok(()) }
    }

    fn host_says(&mut self, message: FromHost, arrived: Option<u64>) -> Result<(), Gone> {
        match message {
            FromHost::Start => {
                self.streaming = true;
                self.introduce()
            }
            FromHost::Stop => {
                self.streaming = false;
                Ok(())
            }
            FromHost::TimeRequest { request } => match (arrived, self.sender_ticks()) {
                (Some(received_tick), Some(sent_tick)) => {
                    let reply = TimeReply { request, received_tick, sent_tick };
                    self.send(&FromDevice::TimeReply(reply))
                }
                // Without a correction there is no honest answer.
                _ => Ok(()),
            },
            // TCP carries the stream: nothing can be sent again.
            FromHost::Acknowledge { .. } => Ok(()),
        }
    }

    /// The sender's clock now.
    fn sender_ticks(&self) -> Option<u64> {
        let correction_s = self.stream.inlet.time_correction_s(Duration::ZERO).ok()?;
        Some(ticks(self.library.clock_s() - correction_s))
    }

    fn send(&self, message: &FromDevice) -> Result<(), Gone> {
        let mut out = [0; MAX_FRAME_BYTES];
        match encode(message, &mut out) {
            Ok(frame) => self.frames.blocking_send(frame.to_vec()).map_err(|_| Gone),
            Err(error) => {
                tracing::error!("LSL stream: {error}");
                Ok(())
            }
        }
    }

    fn introduce(&self) -> Result<(), Gone> {
        let info = &self.stream.info;
        let (uid, source_id) = (info.uid(), info.source_id());
        let device = if source_id.is_empty() { &uid } else { &source_id };
        self.send(&FromDevice::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            schema: SCHEMA_HASH,
            device: name_hash(device),
            session: name_hash(&uid),
            tick_hz: TICK_HZ,
            channels: u8::try_from(self.stream.channels).unwrap_or(u8::MAX),
            model: &format!("LSL {} ({}) of {}", info.name(), info.kind(), info.host()),
        }))?;
        let mut texts = info.channels(self.stream.channels).into_iter();
        (0..u8::MAX).take(self.stream.channels).try_for_each(|channel| {
            let mut text = texts.next().unwrap_or_default();
            if text.label.is_empty() {
                text.label = format!("CH{}", u16::from(channel) + 1);
            }
            self.send(&FromDevice::Channel(self.channel(channel, &text)))
        })
    }

    fn channel<'t>(&self, channel: u8, text: &'t ChannelText) -> Channel<'t> {
        let (digital_min, digital_max, bits) = match self.stream.kind {
            ValueKind::Integer { bits } => {
                let unused_bits = 32 - u32::from(bits.clamp(8, 32));
                (i32::MIN >> unused_bits, i32::MAX >> unused_bits, bits)
            }
            _ => (-(LIMIT * STEPS as f32) as i32, (LIMIT * STEPS as f32) as i32, 24),
        };
        let integer = self.stream.kind != ValueKind::Float;
        let physical_min = if integer { digital_min as f32 } else { -LIMIT };
        let physical_max = if integer { digital_max as f32 } else { LIMIT };
        Channel {
            channel,
            label: &text.label,
            unit: if integer { &text.unit } else { scaled(&text.unit).1 },
            rate: ratio(self.stream.rate_hz),
            digital_min,
            digital_max,
            physical_min,
            physical_max,
            bits,
        }
    }

    /// Takes what has come and sends what is decided.
    fn fetch(&mut self) -> Result<(), Gone> {
        loop {
            let taken = match self.stream.kind {
                ValueKind::Float => self.pull(float_steps),
                _ => self.pull(|value: i32, _| Some(value)),
            };
            self.send_decided(false)?;
            match taken {
                Ok(taken) if taken == FETCH_SAMPLES => {}
                Ok(_) => return Ok(()),
                Err(error) => return self.reconnect(error),
            }
        }
    }

    /// Hands what has come to the slots; the number of samples.
    fn pull<T: Value>(
        &mut self,
        digital: impl Fn(T, f64) -> Option<i32>,
    ) -> Result<usize, InletError> {
        let channels = self.stream.channels;
        let mut values = vec![T::default(); FETCH_SAMPLES * channels];
        let mut stamps = [0.0; FETCH_SAMPLES];
        let taken = self.stream.inlet.pull(&mut values, &mut stamps)?;
        for (row, &stamp_s) in values.chunks_exact(channels).zip(&stamps).take(taken) {
            let row = row.iter().zip(&self.gains).map(|(&value, &gain)| digital(value, gain));
            self.slots.push(stamp_s, row.collect());
        }
        Ok(taken)
    }

    /// Sends samples as blocks; with `all`, also those whose place is not certain.
    fn send_decided(&mut self, all: bool) -> Result<(), Gone> {
        let mut blocks: Vec<Block> = vec![Block::default(); self.stream.channels];
        while let Some(slot) = if all { self.slots.flush() } else { self.slots.pop() } {
            // Before its start a device counts, and throws away.
            if !self.streaming {
                continue;
            }
            for (channel, (block, value)) in blocks.iter_mut().zip(slot.sample).enumerate() {
                if block.ends_before(slot.counter, value) {
                    self.send_block(channel, block)?;
                }
                if let Some(value) = value {
                    block.add(slot.counter, slot.time_s, value);
                }
            }
        }
        blocks
            .iter_mut()
            .enumerate()
            .try_for_each(|(channel, block)| self.send_block(channel, block))
    }

    /// Sends a block, if there is one, and empties it.
    fn send_block(&self, channel: usize, block: &mut Block) -> Result<(), Gone> {
        let values = std::mem::take(&mut block.values);
        let format = shortest_format(&values);
        let mut payload = [0; MAX_PAYLOAD_BYTES];
        match pack(format, &values, &mut payload) {
            Ok(payload) if !values.is_empty() => self.send(&FromDevice::Samples(Samples {
                channel: u8::try_from(channel).unwrap_or(u8::MAX),
                counter: block.counter,
                tick: ticks(block.time_s),
                format,
                payload,
            })),
            _ => Ok(()),
        }
    }

    /// Waits until the sender is back.
    fn reconnect(&mut self, error: InletError) -> Result<(), Gone> {
        self.send_decided(true)?;
        let (uid, source_id) = (self.stream.info.uid(), self.stream.info.source_id());
        tracing::warn!("LSL stream `{}` is gone ({error:?})", self.stream.info.name());
        let (field, name) =
            if source_id.is_empty() { ("uid", &uid) } else { ("source_id", &source_id) };
        // The name cannot end the quotes that it stands in.
        let query = format!("{field}=\"{}\"", name.replace('"', ""));
        loop {
            if self.frames.is_closed() {
                return Err(Gone);
            }
            let Ok(found) = self.library.resolve(&query, 1, Duration::from_secs(1)) else {
                return Err(Gone);
            };
            let Some(Ok(stream)) = found.first().map(Stream::open) else { continue };
            let same = stream.info.uid() == uid && stream.channels == self.stream.channels;
            self.gains = gains(&stream);
            self.stream = stream;
            let _ = self.stream.inlet.time_correction_s(Duration::from_secs(2));
            if !same {
                self.slots = Slots::new(self.stream.rate_hz);
            }
            return self.introduce();
        }
    }
}

/// Contiguous samples of a channel.
#[derive(Debug, Clone, Default)]
struct Block {
    counter: u64,
    time_s: f64,
    values: Vec<i32>,
}

impl Block {
    /// Whether a sample with this number does not go into this block.
    fn ends_before(&self, counter: u64, value: Option<i32>) -> bool {
        let contiguous = self.counter + self.values.len() as u64 == counter;
        !self.values.is_empty()
            && (value.is_none() || !contiguous || self.values.len() >= BLOCK_SAMPLES)
    }

    fn add(&mut self, counter: u64, time_s: f64, value: i32) {
        if self.values.is_empty() {
            (self.counter, self.time_s) = (counter, time_s);
        }
        self.values.push(value);
    }
}

fn ticks(time_s: f64) -> u64 {
    (time_s * f64::from(TICK_HZ)).round() as u64
}

/// 64-bit FNV-1a: the same in every build.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Steps of a floating-point value that `gain` brings to its unit; `None` if it is no number.
fn float_steps(value: f64, gain: f64) -> Option<i32> {
    let limit = f64::from(LIMIT) * STEPS;
    let steps = (value * gain * STEPS).round().clamp(-limit, limit);
    (!steps.is_nan()).then_some(steps as i32)
}

/// The factor by which values in `unit` are multiplied, and the unit that they have then: in volts
/// a step of 0.01 would leave nothing of an EEG.
fn scaled(unit: &str) -> (f64, &str) {
    match unit.to_ascii_lowercase().as_str() {
        "v" | "volt" | "volts" => (1e6, "uV"),
        "mv" | "millivolt" | "millivolts" => (1e3, "uV"),
        "uv" | "µv" | "μv" | "microvolt" | "microvolts" => (1.0, "uV"),
        _ => (1.0, unit),
    }
}

fn gains(stream: &Stream) -> Vec<f64> {
    let mut texts = stream.info.channels(stream.channels).into_iter();
    let channels = 0..stream.channels;
    channels.map(|_| texts.next().map_or(1.0, |text| scaled(&text.unit).0)).collect()
}

/// The rate as a ratio, exact for rates like 256, 0.5 or 1/30 Hz.
fn ratio(rate_hz: f64) -> SampleRate {
    let samples = |seconds: u32| rate_hz * f64::from(seconds);
    let near = |samples: f64| samples >= 0.5 && (samples - samples.round()).abs() < 1e-6 * samples;
    let seconds = (1..=1000).find(|&seconds| near(samples(seconds))).unwrap_or(1000);
    SampleRate { samples: (samples(seconds).round() as u32).max(1), seconds }
}
