//! Heart beats and what they leave in signals. The interval between beats follows the stage, the
//! breath (respiratory sinus arrhythmia), slower waves, apneas and arousals.

use rand_chacha::ChaCha8Rng;
use sfm_models::SleepStage;

use super::brain::within;
use super::breath::Breathing;
use super::events::{Events, Span, stage_at};
use super::noise::{Resonator, White};
use super::person::Person;
use sfm_models::EPOCH_S;

/// Points per second of the tables of forms.
const TABLE_HZ: f64 = 1024.0;
/// Bumps of an ECG beat (lead II): time from the R peak in s, width in s, height in mV.
const ECG_BUMPS: [(f64, f64, f64); 5] = [
    (-0.17, 0.024, 0.12),
    (-0.032, 0.009, -0.12),
    (0.0, 0.011, 1.1),
    (0.032, 0.012, -0.24),
    (0.27, 0.05, 0.28),
];
/// Bumps of a pulse wave at the finger: time from the R peak, width, height.
const PULSE_BUMPS: [(f64, f64, f64); 2] = [(0.36, 0.075, 1.0), (0.62, 0.09, 0.4)];

/// The beats of a night.
#[derive(Debug)]
pub struct Beats {
    /// Times of the R peaks, seconds.
    times_s: Vec<f64>,
}

impl Beats {
    /// The beats of a night.
    pub fn new(
        rng: &mut ChaCha8Rng,
        person: &Person,
        stages: &[SleepStage],
        events: &Events,
        breathing: &Breathing,
    ) -> Self {
        let end_s = stages.len() as f64 * EPOCH_S;
        let mut white = White::new(rng);
        // Mayer waves and slower ones, a sample a beat at about one beat a second.
        let mut mayer = Resonator::new(0.1, 0.05, 1.0);
        let mut slow = Resonator::new(0.02, 0.02, 1.0);
        let mut times_s = Vec::with_capacity(end_s as usize * 2);
        let mut time_s = 0.3;
        while time_s < end_s {
            times_s.push(time_s);
            let (rate, vagal, sympathetic) = match stage_at(stages, time_s) {
                SleepStage::Wake => (1.12, 0.7, 0.9),
                SleepStage::N1 => (1.04, 0.9, 0.7),
                SleepStage::N2 => (1.0, 1.0, 0.5),
                SleepStage::N3 => (0.97, 1.1, 0.25),
                SleepStage::Rem => (1.07, 0.6, 0.9),
            };
            let sway_ms = person.hrv_ms
                * (vagal * (2.0 * std::f64::consts::PI * breathing.at(time_s).phase).sin()
                    + sympathetic * f64::from(mayer.step(white.sample()))
                    + 0.4 * f64::from(slow.step(white.sample())));
            let rate = person.heart_rate * rate * push(events, time_s);
            time_s += (60.0 / rate + sway_ms / 1000.0).clamp(0.35, 2.0);
        }
        Beats { times_s }
    }

    /// Heart rate per minute over the eight intervals before a time, rounded.
    pub fn rate(&self, time_s: f64) -> f32 {
        let last = self.times_s.partition_point(|&t| t <= time_s).max(9).min(self.times_s.len());
        let first = last.saturating_sub(9);
        match self.times_s.get(first..last) {
            Some([first, .., last]) => (60.0 * 8.0 / (last - first)).round() as f32,
            _ => 0.0,
        }
    }

    /// Times of the R peaks in a stretch of time, seconds.
    pub fn between(&self, start_s: f64, end_s: f64) -> &[f64] {
        let first = self.times_s.partition_point(|&t| t < start_s);
        let last = self.times_s.partition_point(|&t| t < end_s);
        self.times_s.get(first..last).unwrap_or_default()
    }
}

/// Factor on the heart rate: slower in an apnea, faster after it, and in every arousal.
fn push(events: &Events, time_s: f64) -> f64 {
    let aroused = if within(&events.arousals, time_s - 1.0) { 1.12 } else { 1.0 };
    let next = events.apneas.partition_point(|a| a.span.start_s <= time_s);
    let apnea = next.checked_sub(1).and_then(|last| events.apneas.get(last));
    let apneic = match apnea.map(|a| a.span) {
        Some(span) if span.part(time_s).is_some() => 0.94,
        Some(Span { start_s, duration_s }) if time_s < start_s + duration_s + 10.0 => 1.12,
        _ => 1.0,
    };
    aroused * apneic
}

/// What each beat adds to a signal.
#[derive(Debug)]
pub struct BeatForm {
    table: Vec<f32>,
    start_s: f64,
}

impl BeatForm {
    /// ECG in millivolts.
    pub fn ecg() -> Self {
        Self::of(&ECG_BUMPS, -0.27, 0.5)
    }

    /// Pulse wave of the finger, height 1.
    pub fn pulse() -> Self {
        Self::of(&PULSE_BUMPS, 0.1, 0.95)
    }

    fn of(bumps: &[(f64, f64, f64)], start_s: f64, end_s: f64) -> Self {
        let points = ((end_s - start_s) * TABLE_HZ) as usize;
        let height = |i: usize| {
            let time_s = start_s + i as f64 / TABLE_HZ;
            let bump = |&(center, width, height): &(f64, f64, f64)| {
                height * (-0.5 * ((time_s - center) / width).powi(2)).exp()
            };
            bumps.iter().map(bump).sum::<f64>() as f32
        };
        BeatForm { table: (0..points).map(height).collect(), start_s }
    }

    fn end_s(&self) -> f64 {
        self.start_s + self.table.len() as f64 / TABLE_HZ
    }

    /// Adds the beats to an epoch that starts at `start_s`.
    pub fn add(&self, beats: &Beats, start_s: f64, rate_hz: f64, out: &mut [f32]) {
        let end_s = start_s + out.len() as f64 / rate_hz;
        for beat_s in beats.between(start_s - self.end_s(), end_s - self.start_s) {
            let onset_s = beat_s + self.start_s;
            let first = ((onset_s - start_s) * rate_hz).ceil().max(0.0) as usize;
            let samples = out.iter_mut().enumerate().skip(first);
            for (i, x) in samples {
                let time_s = start_s + i as f64 / rate_hz - onset_s;
                let Some(value) = self.table.get((time_s * TABLE_HZ) as usize) else { break };
                *x += value;
            }
        }
    }
}
