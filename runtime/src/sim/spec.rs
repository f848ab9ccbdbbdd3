//! What a simulated device is: identity, channels, clock, link, memory and faults. Refuses what does
//! not fit the wire protocol. Plain data.

use std::collections::BTreeMap;

use sfm_firmware_bridge::{MAX_PAYLOAD_BYTES, SampleFormat, SampleRate};
use sfm_models::Modality;

use super::faults::mixed;
use super::{Faults, Plan, SimError};
use crate::montage::ChannelRules;
use crate::signal::SignalInfo;

/// Label and unit together, bytes: any EDF has less, and the message must fit a frame.
const MAX_TEXT_BYTES: usize = 200;
/// JSON readers hold integers exactly up to here: identifiers stay below.
const ID_BITS: u32 = 53;
/// A block of the default length holds about so many samples ...
const DEFAULT_BLOCK_SAMPLES: f64 = 32.0;
/// ... within these lengths, seconds.
const DEFAULT_BLOCK_S: (f64, f64) = (0.1, 0.25);
/// No crystal is this bad; neither is any test.
const MAX_DRIFT_PPM: f64 = 100_000.0;
/// Events keep at least so far apart, seconds.
const MARGIN_S: f64 = 5.0;
/// Longest recording and memory, seconds (7 days).
const MAX_S: f64 = 7.0 * 86_400.0;

/// How a device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// UDP: says hello each second until it is started; does not notice an outage's end otherwise
    /// than by going on.
    Datagram,
    /// A serial line: like [`Link::Datagram`].
    Serial,
    /// TCP: each connection begins with a hello and waits for *start*. It begins severed:
    /// [`super::Sensor::restore`] says that a connection stands, also after [`super::Packet::LinkUp`].
    Stream,
}

/// One channel of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelSpec {
    /// Label as EDF+ writes it.
    pub label: String,
    /// Physical dimension.
    pub unit: String,
    /// Nominal rate.
    pub rate: SampleRate,
    /// Smallest digital value; larger and smaller ones of the recording are clipped.
    pub digital_min: i32,
    /// Largest digital value.
    pub digital_max: i32,
    /// Physical value of `digital_min`.
    pub physical_min: f32,
    /// Physical value of `digital_max`.
    pub physical_max: f32,
    /// The channel's index in its [`super::Playback`].
    pub source: usize,
}

impl ChannelSpec {
    /// Nominal rate, Hz; 0 where it is not possible.
    pub fn rate_hz(&self) -> f64 {
        self.rate.hz().unwrap_or_default()
    }

    /// The smallest format that holds the digital range.
    pub fn format(&self) -> SampleFormat {
        let holds = |format: &SampleFormat| {
            format.holds(self.digital_min) && format.holds(self.digital_max)
        };
        [SampleFormat::I16, SampleFormat::I24].into_iter().find(holds).unwrap_or(SampleFormat::I32)
    }

    /// Samples of a block of `block_s` seconds, or of the default length.
    pub fn block_samples(&self, block_s: Option<f64>) -> u64 {
        let rate_hz = self.rate_hz();
        let (shortest_s, longest_s) = DEFAULT_BLOCK_S;
        let default_s = (DEFAULT_BLOCK_SAMPLES / rate_hz).clamp(shortest_s, longest_s);
        let samples = (block_s.unwrap_or(default_s) * rate_hz).round() as u64;
        samples.clamp(1, (MAX_PAYLOAD_BYTES / self.format().bytes().unwrap_or(4)) as u64)
    }

    /// The digital value of a signal that is not there: physical zero, or what is nearest to it.
    pub fn flat(&self) -> i32 {
        let (min, max) = (f64::from(self.physical_min), f64::from(self.physical_max));
        let digital = (f64::from(self.digital_min), f64::from(self.digital_max));
        let zero = digital.0 - min * (digital.1 - digital.0) / (max - min);
        // The conversion saturates, and is 0 for what is no number.
        (zero.round() as i32).clamp(self.digital_min, self.digital_max)
    }
}

/// One device.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorSpec {
    /// Its identity, see [`device_id`].
    pub device: u64,
    /// Decides session ids and the fate of every frame.
    pub seed: u64,
    /// 1 to 255 channels.
    pub channels: Vec<ChannelSpec>,
    /// How it is connected.
    pub link: Link,
    /// It never listens: samples from boot on, hello every 10 s.
    pub one_way: bool,
    /// How much too fast its clock is, parts per million: sample k lies at true time
    /// `k / (rate * (1 + drift))` after its first.
    pub drift_ppm: f64,
    /// It says when the lights go off and on: one sensor of a bed does.
    pub marks_lights: bool,
    /// Where in the recording it begins, seconds.
    pub from_s: f64,
    /// Recording time at which it ends, seconds.
    pub duration_s: f64,
    /// Length of a block of samples, seconds; `None`: 0.1 to 0.25 s by rate. At least one sample, at
    /// most what a frame holds.
    pub block_s: Option<f64>,
    /// It keeps blocks this long, in seconds, to send them again; 0: not at all.
    pub memory_s: f64,
    /// What happens to single frames.
    pub faults: Faults,
    /// What happens to the device.
    pub plan: Plan,
}

impl SensorSpec {
    /// Refuses what does not fit the protocol or no device could be.
    ///
    /// # Errors
    /// [`SimError::Spec`].
    pub fn check(&self) -> Result<(), SimError> {
        let refuse = |reason: String| Err(SimError::Spec(reason));
        if self.channels.is_empty() || self.channels.len() > usize::from(u8::MAX) {
            let count = self.channels.len();
            return refuse(format!("a device has 1 to 255 channels, not {count}"));
        }
        for channel in &self.channels {
            let label = &channel.label;
            let possible = channel.rate.hz().is_some()
                && channel.digital_min < channel.digital_max
                && channel.physical_min.is_finite()
                && channel.physical_max.is_finite()
                && channel.physical_min != channel.physical_max
                && label.len() + channel.unit.len() <= MAX_TEXT_BYTES;
            if !possible {
                return refuse(format!("channel '{label}' has an impossible rate, range or label"));
            }
        }
        if !(-MAX_DRIFT_PPM..=MAX_DRIFT_PPM).contains(&self.drift_ppm) {
            return refuse(format!("a drift of {} ppm is not possible", self.drift_ppm));
        }
        let times = [self.from_s, self.duration_s, self.memory_s];
        if times.iter().any(|s| !(0.0..=MAX_S).contains(s)) || self.duration_s <= 0.0 {
            return refuse("times are from 0 s to 7 days, and a duration is not 0".into());
        }
        if self.block_s.is_some_and(|s| !(s > 0.0 && s <= MAX_S)) {
            return refuse("the length of a block is not possible".into());
        }
        self.faults.check()
    }

    /// How far what happens to the device is to keep from the ends of sessions and from each other,
    /// seconds, so that the first and the last block of every channel can be sent.
    pub fn margin_s(&self) -> f64 {
        MARGIN_S.max(2.0 * self.longest_block_s())
    }

    /// The longest block of any channel, seconds.
    pub fn longest_block_s(&self) -> f64 {
        let lengths =
            self.channels.iter().map(|c| c.block_samples(self.block_s) as f64 / c.rate_hz());
        lengths.fold(0.0, f64::max)
    }
}

/// The stable identity of a device of a bed: below 2^53, so that JSON holds it exactly.
pub fn device_id(seed: u64, bed: usize, sensor: usize) -> u64 {
    identity([seed, 1, bed as u64, sensor as u64])
}

/// An identity from what it stands for, never 0.
pub(super) fn identity(parts: [u64; 4]) -> u64 {
    (mixed(&parts) >> (u64::BITS - ID_BITS)).max(1)
}

/// Deals channels to `sensors` devices: ordered by modality (EEG and EOG, EKG, EMG, breathing, the
/// rest), then cut into runs of equal length, to within one channel.
pub fn deal(channels: &[ChannelSpec], sensors: usize) -> Vec<Vec<ChannelSpec>> {
    let modalities = modalities(channels);
    let place = |modality: Option<Modality>| match modality {
        Some(Modality::Bas) => 0,
        Some(Modality::Ekg) => 1,
        Some(Modality::Emg) => 2,
        Some(Modality::Resp) => 3,
        None => 4,
    };
    let mut ordered: Vec<_> = channels.iter().zip(modalities).collect();
    ordered.sort_by_key(|&(_, modality)| place(modality));
    let (count, sensors) = (ordered.len(), sensors.clamp(1, channels.len().max(1)));
    let run = |sensor: usize| count * sensor / sensors..count * (sensor + 1) / sensors;
    let dealt = |sensor: usize| ordered[run(sensor)].iter().map(|&(c, _)| c.clone()).collect();
    (0..sensors).map(dealt).collect()
}

fn modalities(channels: &[ChannelSpec]) -> Vec<Option<Modality>> {
    let info = |channel: &ChannelSpec| SignalInfo {
        label: channel.label.clone(),
        rate_hz: channel.rate_hz(),
        unit: channel.unit.clone(),
        physical_min: f64::from(channel.physical_min),
        physical_max: f64::from(channel.physical_max),
        digital_min: channel.digital_min,
        digital_max: channel.digital_max,
    };
    let signals: Vec<SignalInfo> = channels.iter().map(info).collect();
    let montage = ChannelRules::built_in().and_then(|r| r.assign(&signals, &BTreeMap::new()));
    match montage {
        Ok(montage) => montage.decisions.iter().map(|decision| decision.modality).collect(),
        // A label that two rules claim is the host's question; here the order is as good.
        Err(_) => vec![None; channels.len()],
    }
}
