//! The messages. Every change to a name, a type or an order here changes [`SCHEMA_HASH`]; with it
//! goes a new [`PROTOCOL_VERSION`]. [`Hello`] alone never changes: it is what a device and a host
//! of different versions have in common.

use postcard_schema::{Schema, key::hash::fnv1a64};
use serde::{Deserialize, Serialize};

use crate::sample::{SampleError, SampleFormat, SampleValues};

/// Version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// FNV-1a hash of the schema of all messages: two builds with the same hash understand each other.
pub const SCHEMA_HASH: [u8; 8] =
    fnv1a64::hash_ty_path::<(FromDevice<'static>, FromHost)>("sfm-firmware-bridge");

/// What a device sends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Schema)]
pub enum FromDevice<'a> {
    /// Who speaks; the first message of a connection.
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// One channel; all of them follow the hello.
    #[serde(borrow)]
    Channel(Channel<'a>),
    /// Contiguous samples of one channel.
    #[serde(borrow)]
    Samples(Samples<'a>),
    /// Something a person did.
    Mark(Mark),
    /// How the device is.
    Status(Status),
    /// How an electrode or a sensor sits.
    Contact(Contact),
    /// Answer to [`FromHost::TimeRequest`].
    TimeReply(TimeReply),
    /// The device ends the session.
    Bye(ByeReason),
}

/// What a host sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum FromHost {
    /// Send the hello and the channels (again), then samples.
    Start,
    /// Send no more samples.
    Stop,
    /// Answer with [`FromDevice::TimeReply`] at once.
    TimeRequest {
        /// Returned as it is.
        request: u32,
    },
    /// Every sample of `channel` before `counter` has arrived; a device with memory sends again
    /// what it does not see acknowledged.
    Acknowledge {
        /// Index of the channel.
        channel: u8,
        /// The counter of the first sample that is not acknowledged.
        counter: u64,
    },
}

/// Who speaks. This message is the same in every version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Hello<'a> {
    /// [`PROTOCOL_VERSION`] of the device.
    pub protocol: u16,
    /// [`SCHEMA_HASH`] of the device.
    pub schema: [u8; 8],
    /// The device, the same for its whole life.
    pub device: u64,
    /// The recording, a new one after each boot: counters and ticks begin anew with it.
    pub session: u64,
    /// Ticks of the device's clock in a second, nominal.
    pub tick_hz: u32,
    /// Number of channels; their indices are 0 to `channels - 1`.
    pub channels: u8,
    /// Model and firmware, for people.
    pub model: &'a str,
}

impl Hello<'_> {
    /// Whether every other message of the device can be understood by this build.
    pub fn is_compatible(&self) -> bool {
        self.protocol == PROTOCOL_VERSION && self.schema == SCHEMA_HASH
    }
}

/// A sampling rate as a ratio: 256 samples in 1 s, 1 sample in 30 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct SampleRate {
    /// Samples ...
    pub samples: u32,
    /// ... in so many seconds.
    pub seconds: u32,
}

impl SampleRate {
    /// The rate in Hz; `None` if it is zero or infinite.
    pub fn hz(self) -> Option<f64> {
        let possible = self.samples > 0 && self.seconds > 0;
        possible.then(|| f64::from(self.samples) / f64::from(self.seconds))
    }
}

/// One channel of the device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Schema)]
pub struct Channel<'a> {
    /// Index, less than [`Hello::channels`].
    pub channel: u8,
    /// Label as EDF+ writes it, e.g. `EEG C4-M1`.
    pub label: &'a str,
    /// Physical dimension, e.g. `uV`.
    pub unit: &'a str,
    /// Nominal sampling rate.
    pub rate: SampleRate,
    /// Smallest digital value.
    pub digital_min: i32,
    /// Largest digital value.
    pub digital_max: i32,
    /// Physical value of `digital_min`.
    pub physical_min: f32,
    /// Physical value of `digital_max`.
    pub physical_max: f32,
    /// Resolution of the converter, bits.
    pub bits: u8,
}

/// Contiguous samples of one channel, packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Samples<'a> {
    /// Index of the channel.
    pub channel: u8,
    /// Samples of the channel in this session before the first one here, lost ones included.
    pub counter: u64,
    /// The device's clock when the first sample was taken, ticks since boot.
    pub tick: u64,
    /// How `payload` is packed.
    pub format: SampleFormat,
    /// The packed samples, see [`crate::pack`].
    pub payload: &'a [u8],
}

impl<'a> Samples<'a> {
    /// The digital values.
    ///
    /// # Errors
    /// [`SampleError::Ragged`] if the payload is no whole number of samples.
    pub fn values(&self) -> Result<SampleValues<'a>, SampleError> {
        SampleValues::new(self.format, self.payload)
    }
}

/// Something a person did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Mark {
    /// Marks of this session before this one: a hole is a lost mark, a repetition is a resent one.
    pub number: u32,
    /// When, ticks since boot.
    pub tick: u64,
    /// What.
    pub kind: MarkKind,
}

/// What a mark means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum MarkKind {
    /// The event button was pressed.
    Button,
    /// Lights off: the sleeper is to sleep.
    LightsOff,
    /// Lights on.
    LightsOn,
}

/// How the device is. `None` where it does not measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Status {
    /// When, ticks since boot.
    pub tick: u64,
    /// Charge of the battery, percent.
    pub battery_percent: Option<u8>,
    /// Temperature of the device, tenths of a degree Celsius.
    pub temperature_decicelsius: Option<i16>,
    /// Sample blocks of this session that the device had to throw away.
    pub dropped_blocks: u32,
}

/// How the electrode or sensor of a channel sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Contact {
    /// Index of the channel.
    pub channel: u8,
    /// When, ticks since boot.
    pub tick: u64,
    /// It is off.
    pub lead_off: bool,
    /// Impedance, ohm; `None` where it is not measured.
    pub impedance_ohm: Option<u32>,
}

/// The device's clock around a time request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct TimeReply {
    /// The number of the request.
    pub request: u32,
    /// When the request had arrived, ticks since boot.
    pub received_tick: u64,
    /// When this reply was sent, ticks since boot.
    pub sent_tick: u64,
}

/// Why the device ends the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum ByeReason {
    /// The host or a person stopped it.
    Stopped,
    /// The battery is empty.
    Battery,
    /// The device cannot go on.
    Fault,
}
