//! Which hazards are shown to people: the highest by percentile in the bundle's cohort, and none where
//! the night is no ground for any. Relative hazards of one person's night are easily misread, so the
//! rule is strict, and the same for report, terminal, cohort and FHIR. Files for machines (`risk.csv`,
//! `night.json`) hold them in any case.

use crate::event::Night;

/// Hazards shown.
const TOP: usize = 10;
/// Less sleep says too little of hazards, minutes.
const MIN_SLEEP_MIN: f64 = 240.0;
/// So do more missing modalities.
const MAX_ABSENT: usize = 1;

/// What of a night is too little to show hazards of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoGround {
    /// Less than 4 h of sleep.
    LittleSleep,
    /// Two modalities or more are missing.
    Modalities,
}

/// Whether a night is ground enough to show hazards to people.
///
/// # Errors
/// What there is too little of.
pub fn may_be_shown(tst_min: f64, modalities_absent: usize) -> Result<(), NoGround> {
    if tst_min < MIN_SLEEP_MIN {
        return Err(NoGround::LittleSleep);
    }
    if modalities_absent > MAX_ABSENT { Err(NoGround::Modalities) } else { Ok(()) }
}

impl Night {
    /// Whether the night is ground enough to show to people what follows from the whole of it: hazards,
    /// apnea.
    ///
    /// # Errors
    /// What there is too little of.
    pub fn is_ground(&self) -> Result<(), NoGround> {
        may_be_shown(self.statistics.tst_min, self.missing.len())
    }
}

/// Why none are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// The night is no ground for them.
    NoGround(NoGround),
    /// The bundle has none, or age and sex were not given; a note of the night says which.
    NotComputed,
    /// The bundle brings no quantiles of its training cohort to compare with.
    NoCohort,
}

/// One of the highest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hazard {
    /// Index of its label.
    pub index: usize,
    /// Relative log-hazard.
    pub log_hazard: f32,
    /// Percentile in the cohort.
    pub percentile: f32,
}

/// The hazards to show, highest percentile first, and of how many.
///
/// # Errors
/// Why there are none to show.
pub fn highest(night: &Night) -> Result<(Vec<Hazard>, usize), Withheld> {
    night.is_ground().map_err(Withheld::NoGround)?;
    let risk = night.risk.as_ref().filter(|risk| !risk.log_hazards.is_empty());
    let risk = risk.ok_or(Withheld::NotComputed)?;
    let percentiles = risk.percentiles.as_ref().ok_or(Withheld::NoCohort)?;
    let both = risk.log_hazards.iter().zip(percentiles).enumerate();
    let mut hazards: Vec<Hazard> = both
        .map(|(index, (&log_hazard, &percentile))| Hazard { index, log_hazard, percentile })
        .filter(|hazard| hazard.percentile.is_finite() && hazard.log_hazard.is_finite())
        .collect();
    if hazards.is_empty() {
        return Err(Withheld::NoCohort);
    }
    let all = hazards.len();
    hazards.sort_by(|a, b| b.percentile.total_cmp(&a.percentile).then(a.index.cmp(&b.index)));
    hazards.truncate(TOP);
    Ok((hazards, all))
}

#[cfg(test)]
mod tests {
    use sfm_models::Modality;

    use super::*;
    use crate::event::{OvernightRisk, Pass};
    use crate::statistics::SleepStatistics;

    fn with_risk(tst_min: f64, missing: &[Modality]) -> Night {
        Night {
            statistics: SleepStatistics { tst_min, ..SleepStatistics::default() },
            missing: missing.to_vec(),
            risk: Some(OvernightRisk {
                embedding: vec![],
                log_hazards: (0..14).map(|k| k as f32).collect(),
                percentiles: Some(
                    (0..14).map(|k| if k == 3 { f32::NAN } else { 90.0 - k as f32 }).collect(),
                ),
                tokens: 1,
                tokens_left_out: 0,
            }),
            ..Night::empty(Pass::Final)
        }
    }

    #[test]
    fn the_highest_percentiles_come_first() {
        let (hazards, all) = highest(&with_risk(240.0, &[Modality::Emg])).expect("shown");
        assert_eq!((hazards.len(), all), (10, 13));
        let order: Vec<usize> = hazards.iter().map(|hazard| hazard.index).collect();
        assert_eq!(order[..5], [0, 1, 2, 4, 5]);
    }

    #[test]
    fn nothing_is_shown_of_a_night_that_says_too_little() {
        let no_ground = |of| Err(Withheld::NoGround(of));
        assert_eq!(highest(&with_risk(239.5, &[])), no_ground(NoGround::LittleSleep));
        let missing = [Modality::Emg, Modality::Ekg];
        assert_eq!(highest(&with_risk(240.0, &missing)), no_ground(NoGround::Modalities));
        let mut bare = with_risk(240.0, &[]);
        bare.risk.as_mut().expect("there").percentiles = None;
        assert_eq!(highest(&bare), Err(Withheld::NoCohort));
        bare.risk.as_mut().expect("there").log_hazards.clear();
        assert_eq!(highest(&bare), Err(Withheld::NotComputed));
        bare.risk = None;
        assert_eq!(highest(&bare), Err(Withheld::NotComputed));
    }
}
