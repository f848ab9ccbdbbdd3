//! The firmware but for its hardware: collects samples into blocks, remembers the blocks until the
//! host acknowledges them, answers the host. Owns all memory that it needs and allocates none.
//! Everything runs in the main loop, so nothing is shared.

use sfm_firmware_bridge::{
    Channel, EncodeError, FromDevice, FromHost, Hello, MAX_PAYLOAD_BYTES, Mark, MarkKind,
    PROTOCOL_VERSION, SCHEMA_HASH, SampleRate, Samples, Status, TimeReply, encode, pack,
    shortest_format,
};

/// Ticks of the clock in a second.
pub const TICK_HZ: u32 = 1000;
/// Number of channels.
pub const CHANNELS: usize = 3;

/// The longest block, samples: a quarter of a second of EEG.
const BLOCK_SAMPLES: usize = 64;
/// Blocks that are remembered: 5 s of this sensor.
const MEMORY_BLOCKS: usize = 48;
/// A block that is not acknowledged for so long is sent again.
const RESEND_TICKS: u64 = TICK_HZ as u64;
const STATUS_TICKS: u64 = 60 * TICK_HZ as u64;

/// What is fixed about a channel.
pub struct Wiring {
    /// What the host is told.
    pub channel: Channel<'static>,
    /// Ticks from one sample to the next.
    pub ticks: u64,
    /// Samples of a block.
    block_samples: usize,
}

/// The channels of this sensor.
pub static WIRING: [Wiring; CHANNELS] = [
    eeg(0, "EEG C3-M2"),
    eeg(1, "EEG C4-M1"),
    Wiring {
        channel: Channel {
            channel: 2,
            label: "SpO2",
            unit: "%",
            rate: SampleRate { samples: 1, seconds: 1 },
            digital_min: 0,
            digital_max: 1000,
            physical_min: 0.0,
            physical_max: 100.0,
            bits: 10,
        },
        ticks: TICK_HZ as u64,
        block_samples: 1,
    },
];

const fn eeg(channel: u8, label: &'static str) -> Wiring {
    Wiring {
        channel: Channel {
            channel,
            label,
            unit: "uV",
            rate: SampleRate { samples: 250, seconds: 1 },
            digital_min: -8_388_608,
            digital_max: 8_388_607,
            physical_min: -187_500.0,
            physical_max: 187_500.0,
            bits: 24,
        },
        ticks: TICK_HZ as u64 / 250,
        block_samples: BLOCK_SAMPLES,
    }
}

/// Contiguous samples of a channel. Without samples it is a free place.
#[derive(Clone, Copy)]
struct Block {
    channel: u8,
    length: u8,
    /// When it was sent last.
    sent_tick: Option<u64>,
    counter: u64,
    tick: u64,
    values: [i32; BLOCK_SAMPLES],
}

impl Block {
    const FREE: Self = Block {
        channel: 0,
        length: 0,
        sent_tick: None,
        counter: 0,
        tick: 0,
        values: [0; BLOCK_SAMPLES],
    };

    fn values(&self) -> &[i32] {
        self.values.get(..usize::from(self.length)).unwrap_or_default()
    }

    fn end(&self) -> u64 {
        self.counter + u64::from(self.length)
    }

    fn add(&mut self, value: i32) {
        if let Some(place) = self.values.get_mut(usize::from(self.length)) {
            *place = value;
            self.length += 1;
        }
    }
}

/// A sensor between its converter and its link.
pub struct Sensor {
    session: u64,
    /// Samples are sent: the host has said *start*.
    streaming: bool,
    /// The host acknowledges, so sending again makes sense.
    acknowledges: bool,
    /// Messages of the introduction that were sent: the hello, then the channels.
    introduced: usize,
    /// A time request that waits for its reply, and when it came.
    time_request: Option<(u32, u64)>,
    /// When the button was pressed, until that is sent.
    pressed: Option<u64>,
    marks: u32,
    status_tick: u64,
    dropped_blocks: u32,
    /// The open block of each channel.
    open: [Block; CHANNELS],
    /// Closed blocks, the oldest at `oldest`.
    memory: [Block; MEMORY_BLOCKS],
    oldest: usize,
}

impl Sensor {
    /// A sensor after its boot; `session` is a new random number.
    pub const fn new(session: u64) -> Self {
        Sensor {
            session,
            streaming: false,
            acknowledges: false,
            introduced: 0,
            time_request: None,
            pressed: None,
            marks: 0,
            status_tick: 0,
            dropped_blocks: 0,
            open: [Block::FREE; CHANNELS],
            memory: [Block::FREE; MEMORY_BLOCKS],
            oldest: 0,
        }
    }

    /// Names the session: a static sensor is made before there is a random number.
    pub fn boot(&mut self, session: u64) {
        self.session = session;
    }

    /// Takes a sample of the converter. While the host has not said *start* it counts, and is
    /// thrown away.
    pub fn sample(&mut self, channel: usize, value: i32, now: u64) {
        let (Some(wiring), Some(open)) = (WIRING.get(channel), self.open.get_mut(channel)) else {
            return;
        };
        if !self.streaming {
            open.counter = open.end() + 1;
            open.length = 0;
            return;
        }
        if open.length == 0 {
            open.channel = wiring.channel.channel;
            open.tick = now;
        }
        open.add(value);
        if usize::from(open.length) < wiring.block_samples {
            return;
        }
        let closed = *open;
        open.counter = closed.end();
        open.length = 0;
        self.remember(closed);
    }

    /// Puts a block in the place of the oldest, which is lost if it was not sent yet.
    fn remember(&mut self, block: Block) {
        if let Some(place) = self.memory.get_mut(self.oldest) {
            if place.length > 0 && place.sent_tick.is_none() {
                self.dropped_blocks += 1;
            }
            *place = block;
        }
        self.oldest = if self.oldest + 1 < MEMORY_BLOCKS { self.oldest + 1 } else { 0 };
    }

    /// The event button was pressed.
    pub fn press(&mut self, now: u64) {
        self.pressed = Some(now);
    }

    /// Takes a message of the host.
    pub fn host_says(&mut self, message: FromHost, now: u64) {
        match message {
            FromHost::Start => (self.streaming, self.introduced) = (true, 0),
            FromHost::Stop => self.streaming = false,
            FromHost::TimeRequest { request } => self.time_request = Some((request, now)),
            FromHost::Acknowledge { channel, counter } => {
                self.acknowledges = true;
                for block in &mut self.memory {
                    if block.channel == channel && block.end() <= counter {
                        block.length = 0;
                    }
                }
            }
        }
    }

    /// The next frame to send, if there is one. What is urgent comes first; what is sent again
    /// comes last.
    ///
    /// # Errors
    /// None if `out` has room for the longest frame.
    pub fn next_frame<'o>(
        &mut self,
        now: u64,
        out: &'o mut [u8],
    ) -> Option<Result<&'o [u8], EncodeError>> {
        if let Some((request, received_tick)) = self.time_request.take() {
            let reply = TimeReply { request, received_tick, sent_tick: now };
            return Some(encode(&FromDevice::TimeReply(reply), out));
        }
        if self.introduced <= CHANNELS {
            self.introduced += 1;
            return Some(encode(&self.introduction(self.introduced - 1), out));
        }
        if let Some(tick) = self.pressed.take() {
            let mark = Mark { number: self.marks, tick, kind: MarkKind::Button };
            self.marks = self.marks.wrapping_add(1);
            return Some(encode(&FromDevice::Mark(mark), out));
        }
        if now >= self.status_tick {
            self.status_tick = now + STATUS_TICKS;
            return Some(encode(&FromDevice::Status(self.status(now)), out));
        }
        self.next_block(now, out)
    }

    fn introduction(&self, index: usize) -> FromDevice<'static> {
        match index.checked_sub(1).and_then(|channel| WIRING.get(channel)) {
            Some(wiring) => FromDevice::Channel(wiring.channel),
            None => FromDevice::Hello(Hello {
                protocol: PROTOCOL_VERSION,
                schema: SCHEMA_HASH,
                device: 0x5F3_0001,
                session: self.session,
                tick_hz: TICK_HZ,
                channels: CHANNELS as u8,
                model: "example firmware 1",
            }),
        }
    }

    fn status(&self, now: u64) -> Status {
        Status {
            tick: now,
            battery_percent: Some(100),
            temperature_decicelsius: None,
            dropped_blocks: self.dropped_blocks,
        }
    }

    /// The oldest block that was never sent, or else the oldest that waits for its acknowledgment.
    fn next_block<'o>(
        &mut self,
        now: u64,
        out: &'o mut [u8],
    ) -> Option<Result<&'o [u8], EncodeError>> {
        if !self.streaming {
            return None;
        }
        let (newer, older) = self.memory.split_at_mut_checked(self.oldest)?;
        let mut by_age = older.iter_mut().chain(newer).filter(|block| block.length > 0);
        let mut again = None;
        let fresh = by_age.find_map(|block| match block.sent_tick {
            None => Some(block),
            Some(sent) => {
                if again.is_none() && self.acknowledges && now >= sent + RESEND_TICKS {
                    again = Some(block);
                }
                None
            }
        });
        let block = fresh.or(again)?;
        block.sent_tick = Some(now);
        let format = shortest_format(block.values());
        let mut payload = [0; MAX_PAYLOAD_BYTES];
        let payload = pack(format, block.values(), &mut payload).ok()?;
        let Block { channel, counter, tick, .. } = *block;
        let samples = Samples { channel, counter, tick, format, payload };
        Some(encode(&FromDevice::Samples(samples), out))
    }
}
