//! Single waves of EEG and EOG, each with a form and a time: spindles, K-complexes, vertex waves,
//! sawtooth waves, eye movements, blinks. Rates and forms as in the AASM manual.

use std::f32::consts::PI;
use std::ops::Range;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use sfm_models::SleepStage;
use sfm_models::SleepStage::{N1, N2, N3, Rem, Wake};

use super::events::{Span, at_random};
use super::person::Person;
use sfm_models::EPOCH_S;

/// The forms, in the order of a channel's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Sigma burst of N2.
    Spindle,
    /// Sharp negative wave, then a slower positive one.
    KComplex,
    /// Sharp wave of N1.
    Vertex,
    /// Train of 2 to 4 Hz triangles in REM.
    Sawtooth,
    /// Horizontal eye movement; the amplifier lets the new position decay.
    Saccade,
    /// Lid closure: both eyes in the same direction.
    Blink,
}

/// Number of forms.
pub const FORMS: usize = 6;
/// No wave is longer, seconds.
const LONGEST_S: f64 = 5.0;

/// One wave.
#[derive(Debug, Clone, Copy)]
pub struct Wave {
    /// Its form.
    pub form: Form,
    /// When.
    pub span: Span,
    /// Height, microvolts; negative turns it over.
    pub amplitude_uv: f32,
    /// Frequency of spindles and sawtooth waves, Hz.
    pub hz: f32,
}

impl Wave {
    /// Microvolts at `time_s` after the wave's onset.
    pub fn value(&self, time_s: f32) -> f32 {
        let part = time_s / self.span.duration_s as f32;
        let bell = |center: f32, width: f32| (-0.5 * ((time_s - center) / width).powi(2)).exp();
        let swell = (PI * part).sin().max(0.0);
        let shape = match self.form {
            Form::Spindle => swell * swell * (2.0 * PI * self.hz * time_s).sin(),
            Form::KComplex => 0.55 * bell(0.75, 0.14) - bell(0.35, 0.08),
            Form::Vertex => 0.3 * bell(0.26, 0.05) - bell(0.12, 0.035),
            Form::Sawtooth => swell * (1.0 - 2.0 * (self.hz * time_s).fract()),
            Form::Saccade => (1.0 - (-time_s / 0.025).exp()) * (-time_s / 0.55).exp(),
            Form::Blink => swell * swell,
        };
        self.amplitude_uv * shape
    }
}

/// All waves of a night, in order of time.
pub fn waves(
    rng: &mut ChaCha8Rng,
    stages: &[SleepStage],
    eyes_open: &[bool],
    person: &Person,
) -> Vec<Wave> {
    let mut waves = Vec::new();
    let mut scatter = |rng: &mut ChaCha8Rng,
                       form: Form,
                       per_min: &dyn Fn(SleepStage) -> f64,
                       duration_s: Range<f64>,
                       amplitude_uv: Range<f32>,
                       hz: Range<f32>| {
        for span in at_random(rng, stages, |s| 60.0 * per_min(s), duration_s) {
            let amplitude_uv = rng.random_range(amplitude_uv.clone());
            waves.push(Wave { form, span, amplitude_uv, hz: rng.random_range(hz.clone()) });
        }
    };
    let spindles = |s| match s {
        N2 => person.spindles_per_min,
        N3 => 0.25 * person.spindles_per_min,
        _ => 0.0,
    };
    let hz = person.spindle_hz;
    scatter(rng, Form::Spindle, &spindles, 0.6..1.6, 15.0..29.0, hz - 0.5..hz + 0.5);
    let complexes = |s| if s == N2 { 1.6 } else { 0.0 };
    scatter(rng, Form::KComplex, &complexes, 1.3..1.31, 70.0..130.0, 1.0..1.1);
    let vertex = |s| if s == N1 { 2.0 } else { 0.0 };
    scatter(rng, Form::Vertex, &vertex, 0.5..0.51, 35.0..70.0, 1.0..1.1);
    let sawtooth = |s| if s == Rem { 0.8 } else { 0.0 };
    scatter(rng, Form::Sawtooth, &sawtooth, 2.0..4.5, 12.0..24.0, 2.2..3.2);
    eye_movements(rng, stages, eyes_open, person, &mut waves);
    waves.sort_by(|a, b| a.span.start_s.total_cmp(&b.span.start_s));
    waves
}

/// Bursts of rapid eye movements in REM; saccades and blinks while the eyes are open.
fn eye_movements(
    rng: &mut ChaCha8Rng,
    stages: &[SleepStage],
    eyes_open: &[bool],
    person: &Person,
    waves: &mut Vec<Wave>,
) {
    for (epoch, &stage) in stages.iter().enumerate() {
        let open = eyes_open.get(epoch).copied().unwrap_or(false);
        let (bursts, blinks) = match stage {
            Rem => (rng.random_range(1..5), 0),
            Wake if open => (rng.random_range(2..6), rng.random_range(4..11)),
            _ => (0, 0),
        };
        let start_s = epoch as f64 * EPOCH_S;
        for _ in 0..bursts {
            let mut time_s = start_s + rng.random_range(0.0..EPOCH_S - 4.0);
            for _ in 0..rng.random_range(2..6) {
                let span = Span { start_s: time_s, duration_s: 3.0 };
                let sign = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
                let amplitude_uv = sign * person.eyes * rng.random_range(50.0..150.0);
                waves.push(Wave { form: Form::Saccade, span, amplitude_uv, hz: 1.0 });
                time_s += rng.random_range(0.3..1.0);
            }
        }
        for _ in 0..blinks {
            let span = Span {
                start_s: start_s + rng.random_range(0.0..EPOCH_S - 1.0),
                duration_s: rng.random_range(0.25..0.45),
            };
            let amplitude_uv = person.eyes * rng.random_range(90.0..200.0);
            waves.push(Wave { form: Form::Blink, span, amplitude_uv, hz: 1.0 });
        }
    }
}

/// The waves that touch a stretch of time.
pub fn touching(waves: &[Wave], start_s: f64, end_s: f64) -> impl Iterator<Item = &Wave> {
    let first = waves.partition_point(|w| w.span.start_s < start_s - LONGEST_S);
    waves[first..]
        .iter()
        .take_while(move |w| w.span.start_s < end_s)
        .filter(move |w| w.span.end_s() > start_s)
}
