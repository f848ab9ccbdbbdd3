//! Two hypnograms of one night side by side: how far they agree, stage by stage, and where they do
//! not. Only epochs that both have scored are compared; the others are counted.

use sfm_models::SleepStage;

use super::Stages;
use crate::confusion::Confusion;

/// A night scored twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Epochs by the reference's stage (rows) and ours (columns), W to R.
    pub confusion: Confusion,
    /// Epochs of the reference.
    pub reference_epochs: usize,
    /// Epochs of ours.
    pub our_epochs: usize,
    /// Epochs of both that the reference has not scored, whatever ours is.
    pub unscored_reference: usize,
    /// Epochs of both that ours alone has not scored.
    pub unscored_ours: usize,
}

impl Agreement {
    /// Compares epoch by epoch from the start of the recording, to the end of the shorter one.
    pub fn of(reference: &Stages, ours: &Stages) -> Self {
        let mut agreement = Agreement {
            confusion: Confusion::new(SleepStage::COUNT),
            reference_epochs: reference.len(),
            our_epochs: ours.len(),
            unscored_reference: 0,
            unscored_ours: 0,
        };
        for pair in reference.iter().zip(ours) {
            match pair {
                (Some(truth), Some(stage)) => {
                    agreement.confusion.add(truth.index(), stage.index());
                }
                (None, _) => agreement.unscored_reference += 1,
                (Some(_), None) => agreement.unscored_ours += 1,
            }
        }
        agreement
    }
}
