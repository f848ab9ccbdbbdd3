//! How often stages change on their way from provisional over settled to final.

use sfm_models::SleepStage;

use super::record::{EpochRow, place};
use crate::event::EpochStatus;

/// The stages and `?`.
pub(super) const KINDS: usize = SleepStage::COUNT + 1;

/// Epochs by an earlier stage (row) and a later one (column), in the order W, N1, N2, N3, R, `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transitions {
    /// Epochs.
    pub counts: [[u32; KINDS]; KINDS],
}

impl Transitions {
    /// Over the epochs that had both.
    pub fn of(epochs: &[EpochRow], from: EpochStatus, to: EpochStatus) -> Self {
        let mut counts = [[0; KINDS]; KINDS];
        for epoch in epochs {
            if let (Some(a), Some(b)) = (epoch.stages[place(from)], epoch.stages[place(to)]) {
                counts[kind(a)][kind(b)] += 1;
            }
        }
        Transitions { counts }
    }

    /// Epochs that had both.
    pub fn epochs(&self) -> u32 {
        self.counts.iter().flatten().sum()
    }

    /// Epochs that kept their stage.
    pub fn kept(&self) -> u32 {
        (0..KINDS).map(|k| self.counts[k][k]).sum()
    }

    /// Cohen's kappa; `None` without epochs and where chance alone agrees always.
    pub fn kappa(&self) -> Option<f64> {
        let epochs = f64::from(self.epochs());
        let row = |k: usize| f64::from(self.counts[k].iter().sum::<u32>());
        let column = |k: usize| f64::from(self.counts.iter().map(|row| row[k]).sum::<u32>());
        let chance = (0..KINDS).map(|k| row(k) * column(k)).sum::<f64>() / (epochs * epochs);
        let kept = f64::from(self.kept()) / epochs;
        (epochs > 0.0 && chance < 1.0).then(|| (kept - chance) / (1.0 - chance))
    }
}

fn kind(stage: Option<SleepStage>) -> usize {
    stage.map_or(SleepStage::COUNT, SleepStage::index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_counted_by_both_stages() {
        let (w, n2) = (Some(SleepStage::Wake), Some(SleepStage::N2));
        let row = |a, b| EpochRow { stages: [Some(a), b, None], probabilities: None };
        let mut epochs = vec![row(w, Some(w)); 20];
        epochs.extend(vec![row(w, Some(n2)); 5]);
        epochs.extend(vec![row(n2, Some(w)); 10]);
        epochs.extend(vec![row(n2, Some(n2)); 15]);
        epochs.push(row(w, None));
        let found = Transitions::of(&epochs, EpochStatus::Provisional, EpochStatus::Settled);
        assert_eq!((found.epochs(), found.kept(), found.counts[0][2]), (50, 35, 5));
        // The example of Cohen's kappa in Wikipedia: 0.4.
        assert!((found.kappa().expect("defined") - 0.4).abs() < 1e-9);
        let none = Transitions::of(&epochs, EpochStatus::Settled, EpochStatus::Final);
        assert_eq!((none.epochs(), none.kappa()), (0, None));
    }
}
