//! The confusion matrix of a classifier and its figures, as scikit-learn defines them.

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
