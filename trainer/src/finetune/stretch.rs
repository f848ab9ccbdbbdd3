//! Stretches of nights as a batch of tensors, and how they are drawn.

use std::ops::Range;
use std::sync::Arc;

use burn::prelude::*;
use rand::Rng;
use sfm_models::Modality;

use crate::data::Night;

/// Contiguous tokens of a night, of the modalities that `kept` says.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The night.
    pub night: Arc<Night>,
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Modalities that go in, by their place in the night.
    pub kept: Subset,
}

/// A set of modalities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subset(u8);

impl Subset {
    /// All of them.
    pub const ALL: Subset = Subset((1 << Modality::COUNT) - 1);

    /// The 15 subsets with at least one modality, single ones first.
    pub fn every() -> Vec<Subset> {
        let mut every: Vec<Subset> = (1..=Self::ALL.0).map(Subset).collect();
        every.sort_by_key(|subset| subset.0.count_ones());
        every
    }

    /// Whether the modality at `index` is in it.
    pub fn has(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    /// `BAS+EKG` and the like.
    pub fn name(self) -> String {
        let names: Vec<&str> =
            Modality::ALL.iter().filter(|m| self.has(m.index())).map(|m| m.as_str()).collect();
        names.join("+")
    }

    /// With probability `drop` one of the subsets of what `night` has, else all.
    pub fn draw(night: &Night, drop: f64, rng: &mut impl Rng) -> Subset {
        if !rng.random_bool(drop) {
            return Self::ALL;
        }
        let has = |m: usize| night.modality(m).1.iter().any(|&p| p > 0.0);
        let there: Vec<usize> = (0..night.modalities.len()).filter(|&m| has(m)).collect();
        let chosen: u32 = rng.random_range(1..1_u32 << there.len().max(1));
        let bits = there.iter().enumerate().filter(|(place, _)| chosen & (1 << place) != 0);
        Subset(bits.map(|(_, &modality)| 1_u8 << modality).sum())
    }
}

impl Stretch {
    /// All of a night.
    pub fn whole(night: Arc<Night>, kept: Subset) -> Self {
        Self { tokens: 0..night.tokens, night, kept }
    }

    /// Whether the token at `index` of the stretch has any modality.
    pub fn recorded(&self, index: usize) -> bool {
        let token = self.tokens.start + index;
        (0..self.night.modalities.len())
            .any(|m| self.kept.has(m) && self.night.modality(m).1[token] > 0.0)
    }
}

/// Stretches of one length as `tokens` [N, M, T, E] and `present` [N, M, T].
pub fn tensors<B: Backend>(
    stretches: &[Stretch],
    device: &B::Device,
) -> (Tensor<B, 4>, Tensor<B, 3>) {
    let Some(first) = stretches.first() else {
        return (Tensor::zeros([0, 0, 0, 0], device), Tensor::zeros([0, 0, 0], device));
    };
    let (modalities, e) = (first.night.modalities.len(), first.night.embed_dim);
    let t = first.tokens.len();
    let mut values = Vec::with_capacity(stretches.len() * modalities * t * e);
    let mut present = Vec::with_capacity(stretches.len() * modalities * t);
    for stretch in stretches {
        let rows = stretch.tokens.clone();
        for modality in 0..modalities {
            if !stretch.kept.has(modality) {
                values.resize(values.len() + t * e, 0.0);
                present.resize(present.len() + t, 0.0);
                continue;
            }
            let (night, there) = stretch.night.modality(modality);
            values.extend_from_slice(&night[rows.start * e..rows.end * e]);
            present.extend_from_slice(&there[rows.clone()]);
        }
    }
    let n = stretches.len();
    (
        Tensor::from_data(TensorData::new(values, [n, modalities, t, e]), device),
        Tensor::from_data(TensorData::new(present, [n, modalities, t]), device),
    )
}

/// `count` stretches of `length` tokens of a night, each begun at random in its own share of the
/// night so that together they cover it; a night that is shorter goes whole, once.
pub fn spread(
    night: &Arc<Night>,
    (count, length): (usize, usize),
    drop: f64,
    rng: &mut impl Rng,
) -> Vec<Stretch> {
    let kept = Subset::draw(night, drop, rng);
    if night.tokens <= length {
        return vec![Stretch::whole(night.clone(), kept)];
    }
    let starts = night.tokens - length + 1;
    let start = |share: usize, rng: &mut _| {
        let (from, to) = (share * starts / count, (share + 1) * starts / count);
        rand::Rng::random_range(rng, from..to.max(from + 1))
    };
    (0..count)
        .map(|share| {
            let start = start(share, rng);
            Stretch { night: night.clone(), tokens: start..start + length, kept }
        })
        .collect()
}

/// Mean over each night's stretches of what `embed` makes of them, [N, E]. Stretches of different
/// lengths go in by length, so that nothing is padded.
pub fn embed<B: Backend>(
    nights: &[Vec<Stretch>],
    device: &B::Device,
    embed: impl Fn(Tensor<B, 4>, Tensor<B, 3>) -> Tensor<B, 2>,
) -> Tensor<B, 2> {
    let mut rows: Vec<Option<Tensor<B, 2>>> = vec![None; nights.len()];
    let key =
        |stretches: &[Stretch]| (stretches.first().map_or(0, |s| s.tokens.len()), stretches.len());
    let mut order: Vec<usize> = (0..nights.len()).collect();
    order.sort_by_key(|&night| key(&nights[night]));
    for group in order.chunk_by(|&a, &b| key(&nights[a]) == key(&nights[b])) {
        let stretches: Vec<Stretch> =
            group.iter().flat_map(|&night| nights[night].iter().cloned()).collect();
        let (tokens, present) = tensors::<B>(&stretches, device);
        let embedded = embed(tokens, present);
        let [_, e] = embedded.dims();
        let each = stretches.len() / group.len().max(1);
        let means: Tensor<B, 2> =
            embedded.reshape([group.len(), each, e]).mean_dim(1).squeeze_dim(1);
        for (row, &night) in group.iter().enumerate() {
            rows[night] = Some(means.clone().narrow(0, row, 1));
        }
    }
    Tensor::cat(rows.into_iter().flatten().collect(), 0)
}
