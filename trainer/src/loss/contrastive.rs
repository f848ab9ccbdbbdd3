//! The contrastive losses of SleepFM (Thapa et al.): embeddings of the same window by different
//! modalities are to be more alike than those of different windows. Where the reference drops
//! recordings that lack a modality, a mask leaves out the missing ones; with nothing missing the
//! loss is the reference's.

use burn::prelude::*;
use burn::tensor::activation::log_softmax;
use serde::{Deserialize, Serialize};

use crate::optim::in_f32;

/// As PyTorch's `normalize`.
const MIN_NORM: f64 = 1e-12;
/// Taken off the logit of a window that is not there.
const ABSENT: f64 = 1e9;

/// What is compared with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Each modality with the mean of the others.
    #[default]
    LeaveOneOut,
    /// Each pair of modalities.
    Pairwise,
}

/// Windows compared with windows: each row of `logits` should be greatest on the diagonal, and so
/// should each column.
#[derive(Debug, Clone)]
pub struct Contrast<B: Backend> {
    /// [P, N, N]: comparisons, windows on the left side, windows on the right side.
    pub logits: Tensor<B, 3>,
    /// [P, N]: 1 where the window has both sides.
    pub valid: Tensor<B, 2>,
}

/// Scales the embeddings to length 1, float32.
pub fn normalized<B: Backend>(embeddings: Tensor<B, 3>) -> Tensor<B, 3> {
    let x = in_f32(embeddings);
    // Before the root: its gradient at 0, which absent modalities have, is infinite.
    let norm = (x.clone() * x.clone()).sum_dim(2).clamp_min(MIN_NORM * MIN_NORM).sqrt();
    x / norm
}

impl<B: Backend> Contrast<B> {
    /// Compares as `objective` says. `embeddings` [M, N, E] are [`normalized`], `present` [M, N] is
    /// 1 where the modality is there, `temperature` `[1]` is the logarithm of the logits' factor.
    pub fn new(
        objective: Objective,
        embeddings: Tensor<B, 3>,
        present: Tensor<B, 2>,
        temperature: Tensor<B, 1>,
    ) -> Self {
        let present = in_f32(present);
        match objective {
            Objective::LeaveOneOut => Self::leave_one_out(embeddings, present, temperature),
            Objective::Pairwise => Self::pairwise(embeddings, present, temperature),
        }
    }

    fn leave_one_out(
        embeddings: Tensor<B, 3>,
        present: Tensor<B, 2>,
        temperature: Tensor<B, 1>,
    ) -> Self {
        let there = embeddings * present.clone().unsqueeze_dim(2);
        let others = present.clone().sum_dim(0) - present.clone();
        let mean = (there.clone().sum_dim(0) - there.clone())
            / others.clone().clamp_min(1.0).unsqueeze_dim(2);
        // The mean of the others is not scaled to length 1 again, as in the reference.
        Self::between(there, mean, present * others.clamp(0.0, 1.0), temperature)
    }

    fn pairwise(
        embeddings: Tensor<B, 3>,
        present: Tensor<B, 2>,
        temperature: Tensor<B, 1>,
    ) -> Self {
        let [modalities, ..] = embeddings.dims();
        let (left, right): (Vec<i64>, Vec<i64>) =
            pairs(modalities).map(|(i, j)| (i as i64, j as i64)).unzip();
        let device = embeddings.device();
        let index = |side: Vec<i64>| {
            let count = side.len();
            Tensor::<B, 1, Int>::from_data(TensorData::new(side, [count]), &device)
        };
        let (left, right) = (index(left), index(right));
        Self::between(
            embeddings.clone().select(0, left.clone()),
            embeddings.select(0, right.clone()),
            present.clone().select(0, left) * present.select(0, right),
            temperature,
        )
    }

    fn between(
        left: Tensor<B, 3>,
        right: Tensor<B, 3>,
        valid: Tensor<B, 2>,
        temperature: Tensor<B, 1>,
    ) -> Self {
        let factor = in_f32(temperature).exp().reshape([1, 1, 1]);
        Self { logits: left.matmul(right.transpose()) * factor, valid }
    }

    /// The cross-entropy of both directions, the mean over all rows and columns that are there, `[1]`.
    pub fn loss(&self) -> Tensor<B, 1> {
        let [_, windows, _] = self.logits.dims();
        let diagonal = Tensor::<B, 2>::eye(windows, &self.logits.device()).unsqueeze::<3>();
        let diagonal = in_f32(diagonal);
        let absent = (self.valid.clone() - 1.0) * ABSENT;
        let rows = log_softmax(self.logits.clone() + absent.clone().unsqueeze_dim(1), 2);
        let columns = log_softmax(self.logits.clone() + absent.unsqueeze_dim(2), 1);
        let hits = ((rows + columns) * diagonal).sum_dim(2).squeeze_dim::<2>(2);
        let count = self.valid.clone().sum().clamp_min(1.0) * 2.0;
        -(hits * self.valid.clone()).sum() / count
    }

    /// How many windows found themselves, on the host.
    pub fn retrieval(&self) -> Vec<Retrieval> {
        let [_, windows, _] = self.logits.dims();
        // Both are float32 by construction.
        let logits = self.logits.to_data().to_vec::<f32>().unwrap_or_default();
        let valid = in_f32(self.valid.clone()).to_data().to_vec::<f32>().unwrap_or_default();
        let count = windows.max(1);
        logits
            .chunks(count * count)
            .zip(valid.chunks(count))
            .map(|(logits, valid)| Retrieval::count(logits, valid))
            .collect()
    }
}

/// The pairs of `modalities`, the first before the second.
pub fn pairs(modalities: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..modalities).flat_map(move |i| (i + 1..modalities).map(move |j| (i, j)))
}

/// How often a window's embedding by one side is most alike to the same window's by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retrieval {
    /// Windows found by rows: right side searched with the left.
    pub rows: u64,
    /// Windows found by columns: left side searched with the right.
    pub columns: u64,
    /// Windows searched for, in each direction.
    pub windows: u64,
}

impl Retrieval {
    fn count(logits: &[f32], valid: &[f32]) -> Self {
        let windows = valid.len();
        let there: Vec<usize> = (0..windows).filter(|&i| valid[i] > 0.0).collect();
        let best = |value: &dyn Fn(usize) -> f32| {
            there.iter().copied().max_by(|&a, &b| value(a).total_cmp(&value(b)))
        };
        let found = |by_row: bool, i: usize| {
            let logit = |j: usize| match by_row {
                true => logits[i * windows + j],
                false => logits[j * windows + i],
            };
            u64::from(best(&logit) == Some(i))
        };
        Self {
            rows: there.iter().map(|&i| found(true, i)).sum(),
            columns: there.iter().map(|&i| found(false, i)).sum(),
            windows: there.len() as u64,
        }
    }

    /// Adds another batch's counts.
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.columns += other.columns;
        self.windows += other.windows;
    }

    /// Shares found by rows and by columns; `None` if nothing was searched for.
    pub fn shares(&self) -> Option<(f64, f64)> {
        let share = |found: u64| found as f64 / self.windows as f64;
        (self.windows > 0).then(|| (share(self.rows), share(self.columns)))
    }
}
