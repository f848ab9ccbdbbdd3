//! Which hazards the report shows: the highest by percentile in the bundle's cohort, and none where
//! the night is no ground for any. Relative hazards of one person's night are easily misread, so the
//! rule is strict.

use sfm_models::Modality;

use crate::event::Night;
use crate::night::{NoGround, may_be_shown};

/// Hazards shown.
const TOP: usize = 10;

/// Why none are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Withheld {
    /// The night is no ground for them.
    NoGround(NoGround),
    /// The bundle has none, or age and sex were not given; a note of the night says which.
    NotComputed,
    /// The bundle brings no quantiles of its training cohort to compare with.
    NoCohort,
}

/// One of the highest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hazard {
    /// Index of its label.
    pub index: usize,
    /// Relative log-hazard.
    pub log_hazard: f32,
    /// Percentile in the cohort.
    pub percentile: f32,
}

/// The hazards to show, highest percentile first, and of how many.
pub(super) fn highest(
    night: &Night,
    missing: &[Modality],
) -> Result<(Vec<Hazard>, usize), Withheld> {
    may_be_shown(night.statistics.tst_min, missing.len()).map_err(Withheld::NoGround)?;
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
    use super::super::tests::night;
    use super::*;
    use crate::event::{OvernightRisk, Pass};

    fn with_risk(epochs_of_sleep: usize) -> Night {
        let mut night = night(Pass::Final, &"2".repeat(epochs_of_sleep));
        night.risk = Some(OvernightRisk {
            embedding: vec![],
            log_hazards: (0..14).map(|k| k as f32).collect(),
            percentiles: Some(
                (0..14).map(|k| if k == 3 { f32::NAN } else { 90.0 - k as f32 }).collect(),
            ),
            tokens: 1,
            tokens_left_out: 0,
        });
        night
    }

    #[test]
    fn the_highest_percentiles_come_first() {
        let (hazards, all) = highest(&with_risk(480), &[Modality::Emg]).expect("shown");
        assert_eq!((hazards.len(), all), (10, 13));
        let order: Vec<usize> = hazards.iter().map(|hazard| hazard.index).collect();
        assert_eq!(order[..5], [0, 1, 2, 4, 5]);
    }

    #[test]
    fn nothing_is_shown_of_a_night_that_says_too_little() {
        assert_eq!(highest(&with_risk(479), &[]), Err(Withheld::NoGround(NoGround::LittleSleep)));
        let missing = [Modality::Emg, Modality::Ekg];
        assert_eq!(
            highest(&with_risk(480), &missing),
            Err(Withheld::NoGround(NoGround::Modalities))
        );
        let mut bare = with_risk(480);
        bare.risk.as_mut().expect("there").percentiles = None;
        assert_eq!(highest(&bare, &[]), Err(Withheld::NoCohort));
        bare.risk.as_mut().expect("there").log_hazards.clear();
        assert_eq!(highest(&bare, &[]), Err(Withheld::NotComputed));
        bare.risk = None;
        assert_eq!(highest(&bare, &[]), Err(Withheld::NotComputed));
    }
}
