//! How sound each channel's signal is, epoch by epoch: flat, clipped, implausible, full of line
//! noise. Works on the samples as the source gave them, on the channel's own slots of a second, so
//! the verdict does not depend on how they arrived. It changes no sample; what the network is not
//! given is decided piece by piece in `pieces`. Runs where the channel is drained.

mod pieces;

use std::collections::VecDeque;
use std::f64::consts::TAU;

use sfm_models::EPOCH_SECONDS;
use sfm_models::Modality;

pub use self::pieces::{MaskRule, PieceMeter};
use crate::event::ChannelQuality;
use crate::montage::unit_uv;
use crate::signal::SignalInfo;

/// A channel slower than this is a trend: it may stay at one value or at its limit for long.
const MIN_RATE_HZ: f64 = 10.0;
/// A channel needs more than this to hold 60 Hz, Hz.
const MIN_LINE_RATE_HZ: f64 = 120.0;
/// Line frequencies, Hz.
const LINE_HZ: [f64; 2] = [50.0, 60.0];
/// One second in this many is searched for line noise.
const LINE_EVERY: u64 = 5;
/// Less line noise than this, a share of the power, is usual.
const LINE_SHARE: f32 = 0.3;
/// A second with this part of its samples at a limit is clipped; a single peak may touch it.
const CLIPPED_PART: f32 = 0.02;
/// Part of an epoch that is flat or clipped when a lead is off.
const LEAD_OFF_PART: f32 = 0.5;

/// What signals of a modality are never like.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Smallest range of values within a second; at most this is flat.
    flat: f32,
    /// Largest range within a second.
    wild: f32,
    /// Values outside are implausible.
    values: (f32, f32),
    /// Values from which on a sample is at the converter's limit, below and above.
    limits: (f32, f32),
    /// It is a sign of a fault to be flat for one second, and not only for a whole epoch.
    flat_by_second: bool,
}

impl Bounds {
    fn of(signal: &SignalInfo, modality: Modality) -> Self {
        // Range within a second, uV: a chin at rest in REM sleep has a microvolt, any EEG several;
        // movements make a few millivolts.
        let (flat_uv, wild_uv) = match modality {
            Modality::Bas => (0.5, 5_000.0),
            Modality::Emg => (0.1, 20_000.0),
            Modality::Ekg => (1.0, 30_000.0),
            Modality::Resp => (0.0, f32::INFINITY),
        };
        let (flat, wild) = match unit_uv(&signal.unit) {
            Some(uv) if modality != Modality::Resp => (flat_uv / uv, wild_uv / uv),
            _ => (0.0, f32::INFINITY),
        };
        let slow = signal.rate_hz < MIN_RATE_HZ;
        let values =
            if is_spo2(signal) { (50.0, 100.0) } else { (f32::NEG_INFINITY, f32::INFINITY) };
        Self {
            flat: if slow { -1.0 } else { flat },
            wild,
            values,
            limits: if slow { (f32::NEG_INFINITY, f32::INFINITY) } else { limits(signal) },
            flat_by_second: modality != Modality::Resp,
        }
    }
}

fn is_spo2(signal: &SignalInfo) -> bool {
    // A fraction or a raw voltage of the oximeter is something else.
    let percent =
        signal.unit.trim() == "%" || (signal.unit.trim().is_empty() && signal.physical_max > 90.0);
    percent && is_spo2_label(&signal.label)
}

/// Whether a label is that of an oxygen saturation.
pub(crate) fn is_spo2_label(label: &str) -> bool {
    let label: String = label.chars().filter(char::is_ascii_alphanumeric).collect();
    let label = label.to_ascii_lowercase();
    ["spo2", "sao2", "o2sat", "osat"].iter().any(|name| label.contains(name))
}

/// Whether a label is that of an oximeter's pulse rate, not of its wave.
pub(crate) fn is_pulse_label(label: &str) -> bool {
    let label: String = label.chars().filter(char::is_ascii_alphabetic).collect();
    let label = label.to_ascii_lowercase();
    ["hr", "heartrate", "pr", "pulse", "pulserate", "pulsr", "puls"].contains(&label.as_str())
}

/// Half a digital step within the converter's limits.
fn limits(signal: &SignalInfo) -> (f32, f32) {
    let Some(scale) = signal.scale() else { return (f32::NEG_INFINITY, f32::INFINITY) };
    let (a, b) = (scale.physical(signal.digital_min), scale.physical(signal.digital_max));
    let half_step =
        (b - a).abs() / 2.0 / (f64::from(signal.digital_max) - f64::from(signal.digital_min)).abs();
    ((a.min(b) + half_step) as f32, (a.max(b) - half_step) as f32)
}

/// Watches one channel.
#[derive(Debug, Clone)]
pub struct QualityMeter {
    bounds: Bounds,
    rate_hz: f64,
    /// Slots of one second, rounded up.
    second_slots: u64,
    epoch: u32,
    /// Slots of the open epoch.
    epoch_start: u64,
    epoch_end: u64,
    tally: Tally,
    second: Second,
    line: Option<LineNoise>,
    /// Epochs that are complete and were not asked for yet.
    closed: VecDeque<(u32, Tally)>,
}

/// An epoch so far.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    samples: u64,
    flat: u64,
    clipped: u64,
    implausible: u64,
    bad: u64,
    /// Of the seconds that were searched.
    line: LinePower,
}

/// Power at each line frequency and in all.
#[derive(Debug, Clone, Copy, Default)]
struct LinePower {
    line: [f64; 2],
    all: f64,
}

impl LinePower {
    /// Share of the stronger line frequency, 0 to 1; 0 where nothing was searched.
    fn share(&self) -> f64 {
        if self.all > 0.0 { self.line[0].max(self.line[1]) / self.all } else { 0.0 }
    }
}

/// A second so far.
#[derive(Debug, Clone, Copy)]
struct Second {
    end: u64,
    samples: u64,
    least: f32,
    most: f32,
    at_limit: u64,
    searched: bool,
}

impl Second {
    const NONE: Second = Second {
        end: 0,
        samples: 0,
        least: f32::INFINITY,
        most: f32::NEG_INFINITY,
        at_limit: 0,
        searched: false,
    };
}

impl QualityMeter {
    /// A meter for a channel of `modality`.
    pub fn new(signal: &SignalInfo, modality: Modality) -> Self {
        let rate_hz = signal.rate_hz;
        let mut meter = Self {
            bounds: Bounds::of(signal, modality),
            rate_hz,
            second_slots: (rate_hz.ceil() as u64).max(1),
            epoch: 0,
            epoch_start: 0,
            epoch_end: 0,
            tally: Tally::default(),
            second: Second::NONE,
            line: (rate_hz > MIN_LINE_RATE_HZ).then(|| LineNoise::new(rate_hz)),
            closed: VecDeque::new(),
        };
        meter.begin_epoch(0);
        meter
    }

    /// Takes samples of which the first has slot `start`, in order and each slot once.
    pub fn take(&mut self, mut start: u64, mut samples: &[f32]) {
        while !samples.is_empty() {
            if start >= self.second.end {
                self.begin_second(start);
            }
            let now = samples.len().min((self.second.end - start).min(usize::MAX as u64) as usize);
            let (here, rest) = samples.split_at(now);
            self.second.take(here, self.bounds.limits);
            if let Some(line) = self.line.as_mut().filter(|_| self.second.searched) {
                line.take(here);
            }
            start += now as u64;
            samples = rest;
        }
    }

    /// The verdict on epoch `epoch`, of which part `part` (0 to 1) is in the recording, and the
    /// part of what is present that is sound. To be asked when all of the epoch is decided, for
    /// one epoch after the other.
    pub fn epoch(&mut self, epoch: u32, part: f64) -> (ChannelQuality, f32) {
        if self.epoch == epoch {
            self.close_second();
            let tally = std::mem::take(&mut self.tally);
            return self.verdict(&tally, epoch, part);
        }
        while let Some((closed, tally)) = self.closed.pop_front_if(|(closed, _)| *closed <= epoch) {
            if closed == epoch {
                return self.verdict(&tally, epoch, part);
            }
        }
        self.verdict(&Tally::default(), epoch, part)
    }

    fn verdict(&self, tally: &Tally, epoch: u32, part: f64) -> (ChannelQuality, f32) {
        let slots = self.epoch_slot(u64::from(epoch) + 1) - self.epoch_slot(u64::from(epoch));
        let expected = (slots as f64 * part).max(1.0);
        let of_expected = |count: u64| part_of(count as f64 / expected);
        // All of the epoch and nothing else makes a slow or resting signal flat.
        let flat =
            if self.bounds.flat_by_second || tally.flat >= tally.samples { tally.flat } else { 0 };
        let line = part_of(tally.line.share());
        let line_noise = if line >= LINE_SHARE { line } else { 0.0 };
        let mut quality = ChannelQuality {
            missing: 1.0 - of_expected(tally.samples),
            flat: of_expected(flat),
            clipped: of_expected(tally.clipped),
            implausible: of_expected(tally.implausible),
            line_noise,
            ..ChannelQuality::default()
        };
        quality.lead_off =
            self.bounds.flat_by_second && quality.flat + quality.clipped >= LEAD_OFF_PART;
        if tally.samples == 0 {
            return (quality, 1.0);
        }
        let bad = tally.bad + if self.bounds.flat_by_second { 0 } else { flat };
        let sound = 1.0 - part_of(bad as f64 / tally.samples as f64);
        (quality, sound * (1.0 - line_noise))
    }

    fn begin_second(&mut self, slot: u64) {
        self.close_second();
        if slot >= self.epoch_end {
            let tally = std::mem::take(&mut self.tally);
            self.closed.push_back((self.epoch, tally));
            self.begin_epoch(slot);
        }
        let index = (slot - self.epoch_start) / self.second_slots;
        let end = self.epoch_start + (index + 1) * self.second_slots;
        // Only a second that is there from its first slot on can be searched.
        let whole = slot == end - self.second_slots && end <= self.epoch_end;
        let searched = whole && index.is_multiple_of(LINE_EVERY);
        self.second = Second { end: end.min(self.epoch_end), searched, ..Second::NONE };
        if let Some(line) = &mut self.line {
            line.begin();
        }
    }

    fn close_second(&mut self) {
        let second = std::mem::replace(&mut self.second, Second::NONE);
        if second.samples == 0 {
            return;
        }
        let (count, bounds) = (second.samples, &self.bounds);
        let SecondVerdict { flat, clipped, implausible } = second.verdict(bounds);
        let of = |is: bool| if is { count } else { 0 };
        self.tally.samples += count;
        self.tally.flat += of(flat);
        self.tally.clipped += of(clipped);
        self.tally.implausible += of(implausible);
        self.tally.bad += of(clipped || implausible || (flat && bounds.flat_by_second));
        let whole = second.searched && count == self.second_slots;
        if let Some(line) = self.line.as_ref().filter(|_| whole) {
            line.add_to(&mut self.tally.line);
        }
    }

    fn begin_epoch(&mut self, slot: u64) {
        let mut epoch = (slot as f64 / (self.rate_hz * EPOCH_SECONDS as f64)) as u64;
        while self.epoch_slot(epoch + 1) <= slot {
            epoch += 1;
        }
        while epoch > 0 && self.epoch_slot(epoch) > slot {
            epoch -= 1;
        }
        self.epoch = u32::try_from(epoch).unwrap_or(u32::MAX);
        self.epoch_start = self.epoch_slot(epoch).min(slot);
        self.epoch_end = self.epoch_slot(epoch + 1).max(slot.saturating_add(1));
    }

    /// First slot of an epoch.
    fn epoch_slot(&self, epoch: u64) -> u64 {
        (epoch as f64 * EPOCH_SECONDS as f64 * self.rate_hz).ceil() as u64
    }
}

/// What is wrong with a second.
struct SecondVerdict {
    flat: bool,
    clipped: bool,
    implausible: bool,
}

impl Second {
    fn verdict(&self, bounds: &Bounds) -> SecondVerdict {
        let range = self.most - self.least;
        let clipped = self.at_limit as f32 > (CLIPPED_PART * self.samples as f32).max(2.0);
        let values_ok = self.least >= bounds.values.0 && self.most <= bounds.values.1;
        SecondVerdict {
            flat: !clipped && range <= bounds.flat,
            clipped,
            implausible: !values_ok || range > bounds.wild,
        }
    }

    fn take(&mut self, samples: &[f32], limits: (f32, f32)) {
        self.samples += samples.len() as u64;
        // Eight at a time: the compiler makes vector code of it.
        let (eights, rest) = samples.as_chunks::<8>();
        let (mut least, mut most, mut at_limit) = ([self.least; 8], [self.most; 8], [0_u32; 8]);
        for eight in eights {
            for (lane, &x) in eight.iter().enumerate() {
                least[lane] = if x < least[lane] { x } else { least[lane] };
                most[lane] = if x > most[lane] { x } else { most[lane] };
                at_limit[lane] += u32::from((x <= limits.0) | (x >= limits.1));
            }
        }
        for (lane, &x) in rest.iter().enumerate() {
            least[lane] = if x < least[lane] { x } else { least[lane] };
            most[lane] = if x > most[lane] { x } else { most[lane] };
            at_limit[lane] += u32::from((x <= limits.0) | (x >= limits.1));
        }
        self.least = least.into_iter().fold(self.least, f32::min);
        self.most = most.into_iter().fold(self.most, f32::max);
        self.at_limit += at_limit.into_iter().map(u64::from).sum::<u64>();
    }
}

/// Power at 50 and 60 Hz of one second: Goertzel's recursion, from the second's first sample on.
#[derive(Debug, Clone)]
struct LineNoise {
    cosines: [f64; 2],
    states: [[f64; 2]; 2],
    origin: Option<f64>,
    samples: f64,
    sum: f64,
    squares: f64,
}

impl LineNoise {
    fn new(rate_hz: f64) -> Self {
        let cosines = LINE_HZ.map(|hz| 2.0 * (TAU * hz / rate_hz).cos());
        Self { cosines, states: [[0.0; 2]; 2], origin: None, samples: 0.0, sum: 0.0, squares: 0.0 }
    }

    fn begin(&mut self) {
        *self = Self { cosines: self.cosines, ..Self::new(1.0) };
    }

    fn take(&mut self, samples: &[f32]) {
        let Some(&first) = samples.first() else { return };
        // Electrodes have an offset a thousand times as large as the signal.
        let origin = *self.origin.get_or_insert(f64::from(first));
        let [mut a, mut b] = self.states;
        for &x in samples {
            let x = f64::from(x) - origin;
            self.sum += x;
            self.squares += x * x;
            a = [x + self.cosines[0] * a[0] - a[1], a[0]];
            b = [x + self.cosines[1] * b[0] - b[1], b[0]];
        }
        self.states = [a, b];
        self.samples += samples.len() as f64;
    }

    /// Adds the second's power at each line frequency and in all, without its mean.
    fn add_to(&self, sum: &mut LinePower) {
        let power = self.squares / self.samples - (self.sum / self.samples).powi(2);
        if !(power > 0.0 && power.is_finite()) {
            return;
        }
        sum.all += power;
        for (index, ([s1, s2], cosine)) in self.states.iter().zip(self.cosines).enumerate() {
            let squared = s1 * s1 + s2 * s2 - cosine * s1 * s2;
            // A sine of amplitude a has |X|^2 = (a n / 2)^2 and the power a^2 / 2.
            sum.line[index] += 2.0 * squared / (self.samples * self.samples);
        }
    }
}

/// A part between 0 and 1 in thousandths: the events stay short.
pub(crate) fn part_of(part: f64) -> f32 {
    ((part.clamp(0.0, 1.0) * 1000.0).round() / 1000.0) as f32
}

#[cfg(test)]
#[path = "quality_tests.rs"]
mod tests;
