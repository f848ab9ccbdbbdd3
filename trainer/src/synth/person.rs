//! A sleeper: what differs between people and stays the same over their nights. Four traits, age,
//! apnea burden, fragmentation and heart rate variability, decide about outcomes; the others are
//! there so that no two brains look alike.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;

use super::noise::stream;

/// Traits on which hazards depend, in the order of their coefficients.
pub const TRAITS: [&str; 5] = ["age", "apnea_burden", "fragmentation", "hrv", "male"];

/// A simulated sleeper.
#[derive(Debug, Clone, Serialize)]
pub struct Person {
    /// Number of the subject in the cohort.
    pub subject: u64,
    /// Age in years, 20 to 90.
    pub age_years: f64,
    /// Male, else female.
    pub male: bool,
    /// Apneas and hypopneas per hour of sleep, expected.
    pub ahi: f64,
    /// Spontaneous arousals per hour of sleep, expected.
    pub arousals_per_h: f64,
    /// Standard deviation of beat-to-beat intervals at rest, ms.
    pub hrv_ms: f64,
    /// Standardized traits in the order of [`TRAITS`]; `male` is 0.5 or -0.5.
    pub traits: [f64; 5],
    /// Heart rate in quiet sleep, per minute.
    pub heart_rate: f64,
    /// Breaths per minute in quiet sleep.
    pub breath_rate: f64,
    /// Posterior rhythm, Hz.
    pub alpha_hz: f32,
    /// Factor on the posterior rhythm.
    pub alpha: f32,
    /// Factor on slow waves.
    pub slow_wave: f32,
    /// Spindles per minute of N2.
    pub spindles_per_min: f64,
    /// Spindle frequency, Hz.
    pub spindle_hz: f32,
    /// Factor on all EEG: skull and skin.
    pub eeg: f32,
    /// Factor on muscle activity.
    pub muscle: f32,
    /// Factor on eye movements.
    pub eyes: f32,
    /// Periodic leg movements per hour of NREM sleep.
    pub legs_per_h: f64,
    /// Baseline oxygen saturation, %.
    pub saturation: f64,
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let z: f64 = StandardNormal.sample(rng);
    z.clamp(-2.5, 2.5)
}

/// `median` times a log-normal factor.
fn spread(rng: &mut ChaCha8Rng, median: f64, sigma: f64) -> f64 {
    median * (sigma * normal(rng)).exp()
}

impl Person {
    /// The sleeper of this seed and number.
    pub fn new(seed: u64, subject: u64) -> Person {
        let rng = &mut stream(seed, "person", subject);
        let male = rng.random_bool(0.5);
        let sex = if male { 0.5 } else { -0.5 };
        let age = normal(rng).clamp(-2.0, 2.0);
        // Correlated as in people, weakly enough that each trait tells something of its own.
        let apnea = 0.2 * age + 0.3 * sex + 0.95 * normal(rng);
        let ahi = (8.0 * apnea.exp()).min(60.0);
        let apnea = (ahi / 8.0).ln();
        let fragmentation = 0.2 * age + 0.97 * normal(rng);
        let hrv = -0.3 * age + 0.95 * normal(rng);
        let age_factor = (-0.12 * age) as f32;
        Person {
            subject,
            age_years: 58.0 + 14.0 * age,
            male,
            ahi,
            arousals_per_h: 9.0 * (0.55 * fragmentation).exp(),
            hrv_ms: 45.0 * (0.5 * hrv).exp(),
            traits: [age, apnea, fragmentation, hrv, sex],
            heart_rate: 62.0 + 6.0 * normal(rng),
            breath_rate: 14.5 + 1.2 * normal(rng),
            alpha_hz: 9.8 + 0.5 * normal(rng) as f32 - 0.2 * age as f32,
            alpha: spread(rng, 1.0, 0.18) as f32,
            slow_wave: age_factor.exp() * spread(rng, 1.0, 0.1) as f32,
            spindles_per_min: spread(rng, 5.0, 0.2),
            spindle_hz: 13.3 + 0.35 * normal(rng) as f32,
            eeg: spread(rng, 1.0, 0.1) as f32,
            muscle: spread(rng, 1.0, 0.25) as f32,
            eyes: spread(rng, 1.0, 0.15) as f32,
            legs_per_h: spread(rng, 3.0, 1.0),
            saturation: 95.5 + 0.7 * normal(rng),
        }
    }
}
