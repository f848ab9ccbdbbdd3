//! Figures of classifiers, defined as scikit-learn defines them.

use serde::Serialize;
pub use sfm_runtime::confusion::{ClassFigures, Confusion};

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
