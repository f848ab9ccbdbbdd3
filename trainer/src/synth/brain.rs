//! EEG and EOG: a 1/f background and five rhythms whose strength follows the stage, shared by all
//! electrodes with weights of their own, a background of each electrode alone, and the single
//! waves of `waves`. Renders epoch after epoch; memory does not grow with the night.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sfm_models::SleepStage;

use super::events::{Events, Span, stage_at};
use super::noise::{HighPass, LowPass, Resonator, White};
use super::person::Person;
use super::waves::{FORMS, Wave, touching};
use sfm_models::EPOCH_S;

/// Strengths change this often, seconds.
const STEP_S: f64 = 0.25;
/// Corners of the background's low-passes, Hz: their sum falls with 1/f.
const CORNERS_HZ: [f32; 4] = [0.5, 2.0, 7.0, 25.0];
/// Rhythms: slow waves, theta, alpha, sigma, beta, rolling eyes.
pub const RHYTHMS: usize = 6;
/// Wires sway below this frequency when a body moves, Hz, and so strongly, microvolts.
const SWAY_HZ: f32 = 1.2;
const SWAY_UV: f32 = 40.0;
/// The amplifiers' high-pass, Hz.
const COUPLING_HZ: f32 = 0.2;
const GAINS: usize = CORNERS_HZ.len() + RHYTHMS;

/// Root mean squares in microvolts by stage, of the background's parts and the rhythms.
const STRENGTHS: [[f32; GAINS]; SleepStage::COUNT] = [
    [2.4, 2.4, 2.4, 4.8, 0.0, 1.6, 7.5, 1.6, 4.0, 4.0],
    [3.1, 4.3, 4.3, 2.0, 0.0, 4.8, 2.0, 1.2, 1.4, 18.0],
    [5.0, 6.8, 5.0, 1.9, 7.0, 4.2, 1.6, 2.6, 0.9, 2.0],
    [8.0, 12.0, 5.0, 1.5, 32.0, 5.0, 1.0, 1.5, 0.4, 0.0],
    [3.2, 4.0, 4.0, 2.0, 0.0, 4.0, 2.0, 0.8, 1.45, 4.5],
];
const ALPHA: usize = 6;
const SLOW: usize = 4;
/// Factors on the strengths during an arousal.
const AROUSAL: [f32; GAINS] = [1.0, 1.0, 1.0, 2.2, 0.5, 1.0, 2.5, 1.2, 3.0, 1.0];

/// How an electrode pair sees the brain and the eyes.
#[derive(Debug, Clone, Copy)]
pub struct Electrode {
    /// Factor on the background.
    pub background: f32,
    /// Weights of the rhythms.
    pub rhythms: [f32; RHYTHMS],
    /// Weights of the single waves.
    pub waves: [f32; FORMS],
}

/// Generator of all electrodes of a recording.
#[derive(Debug)]
pub struct Brain {
    rate_hz: f64,
    gains: [f32; GAINS],
    factors: [f32; GAINS],
    white: White,
    common: Background,
    rhythms: [Resonator; RHYTHMS],
    electrodes: Vec<Contact>,
    /// Strength of the sway of loose wires, microvolts.
    sway_uv: f32,
    drift: ChaCha8Rng,
}

/// An electrode pair and what only it picks up.
#[derive(Debug)]
struct Contact {
    electrode: Electrode,
    own: Background,
    sway: LowPass,
    sway_source: White,
    coupling: HighPass,
}

/// The low-passes of one background and their source.
#[derive(Debug)]
struct Background {
    white: White,
    parts: [LowPass; CORNERS_HZ.len()],
}

impl Background {
    fn new(rng: &mut ChaCha8Rng, rate_hz: f32) -> Self {
        let parts = CORNERS_HZ.map(|corner| LowPass::new(corner, rate_hz));
        Background { white: White::new(rng), parts }
    }

    #[inline]
    fn step(&mut self, gains: &[f32; GAINS]) -> f32 {
        let white = self.white.sample();
        let parts = self.parts.iter_mut().zip(gains);
        parts.map(|(part, gain)| gain * part.step(white)).sum()
    }
}

impl Contact {
    fn new(rng: &mut ChaCha8Rng, electrode: Electrode, rate_hz: f32) -> Self {
        Contact {
            electrode,
            own: Background::new(rng, rate_hz),
            sway: LowPass::new(SWAY_HZ, rate_hz),
            sway_source: White::new(rng),
            coupling: HighPass::new(COUPLING_HZ, rate_hz),
        }
    }
}

impl Brain {
    /// Electrodes at one sampling rate.
    pub fn new(
        mut rng: ChaCha8Rng,
        person: &Person,
        electrodes: &[Electrode],
        rate_hz: f64,
    ) -> Self {
        let rate = rate_hz as f32;
        let rng = &mut rng;
        let rhythms = [
            Resonator::new(0.85, 0.7, rate),
            Resonator::new(5.5, 2.5, rate),
            Resonator::new(person.alpha_hz, 1.0, rate),
            Resonator::new(person.spindle_hz, 2.0, rate),
            Resonator::new(21.0, 10.0, rate),
            Resonator::new(0.3, 0.15, rate),
        ];
        Brain {
            rate_hz,
            gains: STRENGTHS[SleepStage::Wake.index()],
            factors: [1.0; GAINS],
            white: White::new(rng),
            common: Background::new(rng, rate),
            rhythms,
            electrodes: electrodes.iter().map(|&e| Contact::new(rng, e, rate)).collect(),
            sway_uv: 0.0,
            drift: rng.clone(),
        }
    }

    /// Adds an epoch in microvolts to `out`, one buffer an electrode.
    pub fn render(&mut self, epoch: usize, night: &BrainNight<'_>, out: &mut [Vec<f32>]) {
        let samples = (EPOCH_S * self.rate_hz) as usize;
        let step = (STEP_S * self.rate_hz) as usize;
        out.iter_mut().for_each(|o| o.resize(samples, 0.0));
        self.wander();
        for start in (0..samples).step_by(step) {
            let time_s = epoch as f64 * EPOCH_S + start as f64 / self.rate_hz;
            self.follow(time_s, epoch, night);
            for i in start..(start + step).min(samples) {
                self.sample(i, night.person.eeg, out);
            }
        }
        self.add_waves(epoch, night, out);
        for (contact, out) in self.electrodes.iter_mut().zip(out) {
            out.iter_mut().for_each(|x| *x = contact.coupling.step(*x));
        }
    }

    /// Each epoch differs from the last of its stage.
    fn wander(&mut self) {
        for factor in &mut self.factors {
            let z: f32 = StandardNormal.sample(&mut self.drift);
            *factor = (0.6 * factor.ln() + 0.1 * z.clamp(-2.5, 2.5)).exp();
        }
    }

    fn follow(&mut self, time_s: f64, epoch: usize, night: &BrainNight<'_>) {
        let stage = stage_at(night.stages, time_s);
        let moving = within(&night.events.movements, time_s);
        let aroused = moving || within(&night.events.arousals, time_s);
        let sway_uv = if moving { SWAY_UV } else { 0.0 };
        self.sway_uv += 0.5 * (sway_uv - self.sway_uv);
        let open = night.eyes_open.get(epoch).copied().unwrap_or(false);
        for (k, gain) in self.gains.iter_mut().enumerate() {
            let mut target = STRENGTHS[stage.index()][k] * self.factors[k];
            target *= match k {
                ALPHA if stage == SleepStage::Wake && open => 0.4 * night.person.alpha,
                ALPHA => night.person.alpha,
                SLOW => night.person.slow_wave,
                _ => 1.0,
            };
            if aroused {
                target *= AROUSAL[k];
            }
            // Stages slide into one another within a second or two.
            *gain += 0.2 * (target - *gain);
        }
    }

    #[inline]
    fn sample(&mut self, i: usize, eeg: f32, out: &mut [Vec<f32>]) {
        let background = self.common.step(&self.gains);
        let mut rhythms = [0.0; RHYTHMS];
        for (k, rhythm) in rhythms.iter_mut().enumerate() {
            *rhythm = self.gains[CORNERS_HZ.len() + k] * self.rhythms[k].step(self.white.sample());
        }
        for (contact, out) in self.electrodes.iter_mut().zip(out) {
            let own = contact.own.step(&self.gains);
            let mut sum = contact.electrode.background * (0.6 * background + 0.8 * own);
            for (weight, rhythm) in contact.electrode.rhythms.iter().zip(&rhythms) {
                sum += weight * rhythm;
            }
            sum += self.sway_uv * contact.sway.step(contact.sway_source.sample());
            out[i] = eeg * sum;
        }
    }

    fn add_waves(&self, epoch: usize, night: &BrainNight<'_>, out: &mut [Vec<f32>]) {
        let start_s = epoch as f64 * EPOCH_S;
        for wave in touching(night.waves, start_s, start_s + EPOCH_S) {
            let first = ((wave.span.start_s - start_s) * self.rate_hz).ceil().max(0.0) as usize;
            let samples = (EPOCH_S * self.rate_hz) as usize;
            let last = ((wave.span.end_s() - start_s) * self.rate_hz) as usize;
            for i in first..last.min(samples) {
                let time_s = start_s + i as f64 / self.rate_hz - wave.span.start_s;
                let value = wave.value(time_s as f32);
                for (contact, out) in self.electrodes.iter().zip(out.iter_mut()) {
                    out[i] += contact.electrode.waves[wave.form as usize] * value;
                }
            }
        }
    }
}

/// What the brain does in a night.
#[derive(Debug, Clone, Copy)]
pub struct BrainNight<'a> {
    /// The sleeper.
    pub person: &'a Person,
    /// Stages by epoch.
    pub stages: &'a [SleepStage],
    /// Whether the eyes are open, by epoch.
    pub eyes_open: &'a [bool],
    /// Arousals and movements.
    pub events: &'a Events,
    /// Single waves.
    pub waves: &'a [Wave],
}

/// Whether a time lies in one of the spans, which are in order of time and shorter than 20 s.
pub fn within(spans: &[Span], time_s: f64) -> bool {
    let first = spans.partition_point(|s| s.start_s < time_s - 20.0);
    spans[first..].iter().take_while(|s| s.start_s <= time_s).any(|s| s.part(time_s).is_some())
}
