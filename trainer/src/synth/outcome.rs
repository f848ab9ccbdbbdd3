//! What becomes of a sleeper: for each label a Weibull time to the event whose hazard depends on
//! the sleeper's traits with coefficients written down here, cut off by loss to follow-up and the
//! study's end. The linear predictor is known, so the best possible C-index is.

use rand::Rng;
use rand_distr::{Distribution, Exp1};
use serde::Serialize;

use super::noise::stream;
use super::person::Person;

/// A label and its log hazard ratios for one standard deviation of each of
/// [`TRAITS`](super::person::TRAITS).
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Phecode 1.2.
    pub phecode: &'static str,
    /// Its name.
    pub phenotype: &'static str,
    /// Log hazard ratios.
    pub coefficients: [f64; 5],
    /// Years after which half of the average sleepers have the event.
    pub median_years: f64,
}

/// The simulated labels. Coefficients are larger than any in people, so that the truth reaches a
/// C-index of about 0.85.
pub const OUTCOMES: [Outcome; 6] = [
    outcome("401.1", "Essential hypertension", [0.9, 1.4, 0.6, -0.7, 0.2], 10.0),
    outcome("427.21", "Atrial fibrillation", [1.1, 1.2, 0.4, -1.0, 0.3], 10.5),
    outcome("428.2", "Heart failure NOS", [1.0, 1.1, 0.8, -1.0, 0.2], 10.5),
    outcome("290.1", "Dementias", [1.4, 0.5, 1.4, -0.4, -0.2], 10.5),
    outcome("250.2", "Type 2 diabetes", [0.7, 1.4, 0.9, -0.7, 0.2], 10.0),
    outcome("433.3", "Cerebral ischemia", [1.2, 1.3, 0.6, -0.7, 0.1], 11.0),
];

/// Shape of the Weibull distribution: hazards rise with time.
const SHAPE: f64 = 1.3;
/// The study's end, years.
const STUDY_YEARS: f64 = 14.0;
/// The first loss to follow-up, years.
const FIRST_LOSS_YEARS: f64 = 3.0;

const fn outcome(
    phecode: &'static str,
    phenotype: &'static str,
    coefficients: [f64; 5],
    median_years: f64,
) -> Outcome {
    Outcome { phecode, phenotype, coefficients, median_years }
}

/// What is observed of one label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// The linear predictor that made the time.
    pub log_hazard: f64,
    /// Whether the event was seen.
    pub event: bool,
    /// Years to the event or to the end of observation.
    pub years: f64,
}

impl Outcome {
    /// Sum of traits times coefficients.
    pub fn log_hazard(&self, person: &Person) -> f64 {
        self.coefficients.iter().zip(&person.traits).map(|(c, t)| c * t).sum()
    }
}

/// What is observed of each of [`OUTCOMES`].
pub fn observe(seed: u64, person: &Person) -> [Observed; OUTCOMES.len()] {
    let rng = &mut stream(seed, "outcome", person.subject);
    let lost_years = rng.random_range(FIRST_LOSS_YEARS..2.0 * STUDY_YEARS).min(STUDY_YEARS);
    OUTCOMES.map(|outcome| {
        let log_hazard = outcome.log_hazard(person);
        let waiting: f64 = Exp1.sample(rng);
        let scaled = waiting / (std::f64::consts::LN_2 * log_hazard.exp());
        let years = outcome.median_years * scaled.powf(1.0 / SHAPE);
        Observed { log_hazard, event: years < lost_years, years: years.min(lost_years).max(0.01) }
    })
}

/// Harrell's C-index: of all pairs whose order is known, the share in which the higher hazard had
/// the event first; ties of hazard count half. `None` without such a pair.
pub fn concordance(observed: &[Observed]) -> Option<f64> {
    let (mut pairs, mut agreeing) = (0_u64, 0.0);
    for first in observed.iter().filter(|o| o.event) {
        for later in observed.iter().filter(|o| o.years > first.years) {
            pairs += 1;
            agreeing += match first.log_hazard.total_cmp(&later.log_hazard) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    (pairs > 0).then(|| agreeing / pairs as f64)
}
