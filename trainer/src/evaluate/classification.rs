//! Figures of classifiers, defined as scikit-learn defines them.

use serde::Serialize;

/// Counts by true class (rows) and predicted class (columns).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

/// Figures of one class; NaN where they are not defined.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Share of the predicted ones that are right.
    pub precision: f64,
    /// Share of the true ones that are found.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// True ones.
    pub support: u64,
}

impl Confusion {
    /// No counts yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts one; both are below the number of classes.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        self.counts[truth * self.classes + predicted] += 1;
    }

    /// Adds the counts of another of as many classes.
    pub fn merge(&mut self, other: &Confusion) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }

    /// Rows of counts, one a true class.
    pub fn rows(&self) -> Vec<Vec<u64>> {
        self.counts.chunks(self.classes.max(1)).map(<[u64]>::to_vec).collect()
    }

    /// All counts.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn row(&self, class: usize) -> u64 {
        self.counts[class * self.classes..][..self.classes].iter().sum()
    }

    fn column(&self, class: usize) -> u64 {
        self.counts.iter().skip(class).step_by(self.classes).sum()
    }

    fn hits(&self, class: usize) -> u64 {
        self.counts[class * self.classes + class]
    }

    /// Figures of a class. Precision is 0 if it is never predicted but occurs.
    pub fn class(&self, class: usize) -> ClassFigures {
        let (hits, truth, predicted) = (self.hits(class), self.row(class), self.column(class));
        let share = |of: u64| if of > 0 { hits as f64 / of as f64 } else { 0.0 };
        if truth + predicted == 0 {
            return ClassFigures {
                precision: f64::NAN,
                recall: f64::NAN,
                f1: f64::NAN,
                support: 0,
            };
        }
        ClassFigures {
            precision: share(predicted),
            recall: share(truth),
            f1: 2.0 * hits as f64 / (truth + predicted) as f64,
            support: truth,
        }
    }

    /// Mean F1 of the classes that occur, in truth or in prediction; NaN without counts.
    pub fn macro_f1(&self) -> f64 {
        let f1: Vec<f64> =
            (0..self.classes).map(|c| self.class(c).f1).filter(|f1| !f1.is_nan()).collect();
        f1.iter().sum::<f64>() / f1.len() as f64
    }

    /// Share that is right; NaN without counts.
    pub fn accuracy(&self) -> f64 {
        let hits: u64 = (0..self.classes).map(|c| self.hits(c)).sum();
        hits as f64 / self.total() as f64
    }

    /// Cohen's kappa: agreement beyond chance (Cohen 1960). NaN if chance alone agrees fully.
    pub fn kappa(&self) -> f64 {
        let total = self.total() as f64;
        let chance: f64 = (0..self.classes)
            .map(|c| self.row(c) as f64 / total * (self.column(c) as f64 / total))
            .sum();
        (self.accuracy() - chance) / (1.0 - chance)
    }
}

/// Area under the ROC curve: the probability that a positive scores over a negative, ties counted
/// half. `None` if there are no positives or no negatives.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len().min(positive.len())).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut below, mut wins) = (0_u64, 0.0);
    let (mut positives, mut negatives) = (0_u64, 0_u64);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let hits = tied.iter().filter(|&&i| positive[i]).count() as u64;
        let misses = tied.len() as u64 - hits;
        wins += hits as f64 * (below as f64 + 0.5 * misses as f64);
        below += misses;
        positives += hits;
        negatives += misses;
    }
    (positives > 0 && negatives > 0).then(|| wins / (positives as f64 * negatives as f64))
}

/// Minimum, quartiles and maximum of the finite values, interpolated linearly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quartiles {
    /// The least.
    pub min: f64,
    /// A quarter lies below.
    pub q1: f64,
    /// Half lies below.
    pub median: f64,
    /// Three quarters lie below.
    pub q3: f64,
    /// The greatest.
    pub max: f64,
}

impl Quartiles {
    /// Of `values`; `None` if none is finite.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Some(Self { min: at(0.0)?, q1: at(0.25)?, median: at(0.5)?, q3: at(0.75)?, max: at(1.0)? })
    }
}

/// The quantile at `share` (0..=1) of ascending values, interpolated linearly; `None` of none.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let (low, high) = (sorted.get(below)?, sorted.get((below + 1).min(last))?);
    Some(low + (high - low) * (place - below as f64))
}
