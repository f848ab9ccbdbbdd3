//! Attention of one head in one sequence, a few queries at a time against all keys.

use pulp::Simd;

use super::super::transformer::ABSENT_SCORE;
use super::attention::Sizes;
use super::dropout::Mask;
use super::simd::{Aligned, accumulate, exp, load, store, vectors, vectors_mut};

/// Queries at a time: their sums fill the registers.
const ROWS: usize = 4;

/// Dropout, and the row number of a head's first query in it.
pub(super) type HeadMask = Option<(Mask, usize)>;

/// One head of one sequence.
pub(super) struct Head {
    sizes: Sizes,
    /// Keys of a group: what a row of the small product has in registers.
    group: usize,
    lanes: usize,
    /// T in whole groups.
    keys: usize,
    /// Added to each key's score.
    bias: Vec<f32>,
    /// Scaled, [T, d].
    queries: Vec<f32>,
    /// Keys and values with tokens as lanes, [group][d][token of the group].
    across: [Aligned; 2],
    /// Keys and values with dimensions as lanes, [vector of dimensions][token][lane].
    along: [Aligned; 2],
    /// Gradients of keys and values, like `along`.
    gradients: [Aligned; 2],
    /// Of a few queries, [row][key].
    weights: Aligned,
    /// The gradient of their scores.
    slopes: Aligned,
}

impl Head {
    /// For all heads of a sequence, one after the other.
    pub fn new(sizes: Sizes, group: usize, lanes: usize, present: &[f32]) -> Self {
        let keys = sizes.tokens.next_multiple_of(group);
        // Behind the last key: no share in any sum of exponentials.
        let mut bias = vec![f32::MIN / 4.0; keys];
        for (bias, &present) in bias.iter_mut().zip(present) {
            *bias = (present - 1.0) * ABSENT_SCORE as f32;
        }
        let dims = sizes.head_dim.next_multiple_of(lanes);
        let across = || Aligned::zeros(keys * sizes.head_dim);
        let along = || Aligned::zeros(keys * dims);
        Self {
            sizes,
            group,
            lanes,
            keys,
            bias,
            queries: vec![0.0; sizes.tokens * sizes.head_dim],
            across: [across(), across()],
            along: [along(), along()],
            gradients: [along(), along()],
            weights: Aligned::zeros(ROWS * keys),
            slopes: Aligned::zeros(ROWS * keys),
        }
    }

    /// Where dimension `dim` of `token` lies in `along`.
    fn place(&self, token: usize, dim: usize) -> usize {
        (dim / self.lanes * self.keys + token) * self.lanes + dim % self.lanes
    }

    /// Takes a head's queries, keys and values.
    #[inline(always)]
    pub fn gather(&mut self, projected: &[f32], head: usize) {
        let Sizes { head_dim, .. } = self.sizes;
        let width = self.sizes.width();
        let scale = 1.0 / (head_dim as f32).sqrt();
        for (token, row) in projected.chunks_exact(3 * width).enumerate() {
            let part = |i: usize| &row[i * width + head * head_dim..][..head_dim];
            let query = &mut self.queries[token * head_dim..][..head_dim];
            query.iter_mut().zip(part(0)).for_each(|(q, &x)| *q = x * scale);
            for i in 0..2 {
                for (dim, &x) in part(i + 1).iter().enumerate() {
                    let across =
                        (token / self.group * head_dim + dim) * self.group + token % self.group;
                    self.across[i].values_mut()[across] = x;
                    let along = self.place(token, dim);
                    self.along[i].values_mut()[along] = x;
                }
            }
        }
        self.gradients.iter_mut().for_each(|gradient| gradient.values_mut().fill(0.0));
    }

    /// The softmax of `ROWS` queries from `first` on, into `weights`; behind the last query, of
    /// that one again.
    #[inline(always)]
    fn softmax<S: Simd, const V: usize>(&mut self, simd: S, first: usize) {
        let Sizes { tokens, head_dim, .. } = self.sizes;
        let rows: [&[f32]; ROWS] = std::array::from_fn(|r| {
            &self.queries[(first + r).min(tokens - 1) * head_dim..][..head_dim]
        });
        let bias = Some(&self.bias[..]);
        products::<S, V>(simd, rows, &self.across[0], bias, self.keys, &mut self.weights);
        for row in self.weights.values_mut().chunks_exact_mut(self.keys) {
            let row = vectors_mut::<S>(row);
            let low = simd.splat_f32s(f32::MIN);
            let highest = row.iter().fold(low, |high, &x| simd.max_f32s(high, x));
            let highest = simd.splat_f32s(simd.reduce_max_f32s(highest));
            let mut sum = simd.splat_f32s(0.0);
            for x in row.iter_mut() {
                *x = exp(simd, simd.sub_f32s(*x, highest));
                sum = simd.add_f32s(sum, *x);
            }
            let scale = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
            row.iter_mut().for_each(|x| *x = simd.mul_f32s(*x, scale));
        }
    }

    /// Writes the head's part of `output` [T, E].
    #[inline(always)]
    pub fn forward<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        mask: HeadMask,
        head: usize,
        output: &mut [f32],
    ) {
        let Sizes { tokens, head_dim, .. } = self.sizes;
        let width = self.sizes.width();
        for first in (0..tokens).step_by(ROWS) {
            self.softmax::<S, V>(simd, first);
            drop_out(mask, first, self.keys, self.weights.values_mut());
            let queries = ROWS.min(tokens - first);
            combine(simd, self.weights.values(), &self.along[1], self.keys, |row, at, values| {
                if row < queries {
                    let place = &mut output[(first + row) * width + head * head_dim..][..head_dim];
                    store(simd, place, at, values);
                }
            });
        }
    }

    /// Writes the head's part of `gradient` [T, 3 E], from that of the output [T, E].
    #[inline(always)]
    pub fn backward<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        mask: HeadMask,
        head: usize,
        output: &[f32],
        gradient: &mut [f32],
    ) {
        let Sizes { tokens, head_dim, .. } = self.sizes;
        let width = self.sizes.width();
        let scale = simd.splat_f32s(1.0 / (head_dim as f32).sqrt());
        let none = vec![0.0; head_dim];
        for first in (0..tokens).step_by(ROWS) {
            let queries = ROWS.min(tokens - first);
            // Behind the last query: zero, so that nothing comes from there.
            let rows: [&[f32]; ROWS] = std::array::from_fn(|r| {
                let row = (first + r) * width + head * head_dim;
                if r < queries { &output[row..][..head_dim] } else { &none[..] }
            });
            self.softmax::<S, V>(simd, first);
            products::<S, V>(simd, rows, &self.across[1], None, self.keys, &mut self.slopes);
            drop_out(mask, first, self.keys, self.slopes.values_mut());
            let slopes = self.slopes.values_mut().chunks_exact_mut(self.keys);
            for (slopes, weights) in slopes.zip(self.weights.values().chunks_exact(self.keys)) {
                let (slopes, weights) = (vectors_mut::<S>(slopes), vectors::<S>(weights));
                let mut sum = simd.splat_f32s(0.0);
                for (&slope, &weight) in slopes.iter().zip(weights) {
                    sum = simd.mul_add_e_f32s(slope, weight, sum);
                }
                let mean = simd.splat_f32s(simd.reduce_sum_f32s(sum));
                for (slope, &weight) in slopes.iter_mut().zip(weights) {
                    *slope = simd.mul_f32s(weight, simd.sub_f32s(*slope, mean));
                }
            }
            drop_out(mask, first, self.keys, self.weights.values_mut());
            combine(simd, self.slopes.values(), &self.along[0], self.keys, |row, at, values| {
                if row < queries {
                    let row = (first + row) * 3 * width + head * head_dim;
                    store(simd, &mut gradient[row..][..head_dim], at, simd.mul_f32s(values, scale));
                }
            });
            let queries: [&[f32]; ROWS] = std::array::from_fn(|r| {
                &self.queries[(first + r).min(tokens - 1) * head_dim..][..head_dim]
            });
            let [keys, values] = &mut self.gradients;
            spread(simd, self.slopes.values(), queries, self.keys, keys);
            spread(simd, self.weights.values(), rows, self.keys, values);
        }
        for i in 0..2 {
            for token in 0..tokens {
                for dim in 0..head_dim {
                    gradient[(token * 3 + i + 1) * width + head * head_dim + dim] =
                        self.gradients[i].values()[self.place(token, dim)];
                }
            }
        }
    }
}

/// Each row's products with all keys or values, [row][key], on top of `bias`.
#[inline(always)]
fn products<S: Simd, const V: usize>(
    simd: S,
    rows: [&[f32]; ROWS],
    across: &Aligned,
    bias: Option<&[f32]>,
    keys: usize,
    output: &mut Aligned,
) {
    let columns = vectors::<S>(across.values()).as_chunks::<V>().0;
    let output = vectors_mut::<S>(output.values_mut());
    let length = keys / S::F32_LANES;
    for (group, columns) in columns.chunks_exact(rows[0].len()).enumerate() {
        let mut start = [simd.splat_f32s(0.0); V];
        if let Some(bias) = bias {
            start = std::array::from_fn(|v| load(simd, bias, (group * V + v) * S::F32_LANES));
        }
        let mut sums = [start; ROWS];
        accumulate(simd, rows, columns, &mut sums);
        for (row, sums) in output.chunks_exact_mut(length).zip(&sums) {
            row[group * V..(group + 1) * V].copy_from_slice(sums);
        }
    }
}

/// Sums keys or values by each row's weights [row][key]; gives vectors of dimensions.
#[inline(always)]
fn combine<S: Simd>(
    simd: S,
    weights: &[f32],
    along: &Aligned,
    keys: usize,
    mut give: impl FnMut(usize, usize, S::f32s),
) {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|r| &weights[r * keys..(r + 1) * keys]);
    let columns = vectors::<S>(along.values()).as_chunks::<1>().0;
    for (vector, columns) in columns.chunks_exact(keys).enumerate() {
        let mut sums = [[simd.splat_f32s(0.0)]; ROWS];
        accumulate(simd, rows, columns, &mut sums);
        for (row, [values]) in sums.into_iter().enumerate() {
            give(row, vector * S::F32_LANES, values);
        }
    }
}

/// Adds to each key's or value's gradient the rows, weighted.
#[inline(always)]
fn spread<S: Simd>(
    simd: S,
    weights: &[f32],
    rows: [&[f32]; ROWS],
    keys: usize,
    gradient: &mut Aligned,
) {
    let gradient = vectors_mut::<S>(gradient.values_mut());
    for (vector, gradient) in gradient.chunks_exact_mut(keys).enumerate() {
        let rows = rows.map(|row| load(simd, row, vector * S::F32_LANES));
        for (key, sum) in gradient.iter_mut().enumerate() {
            for (r, &row) in rows.iter().enumerate() {
                *sum = simd.mul_add_e_f32s(simd.splat_f32s(weights[r * keys + key]), row, *sum);
            }
        }
    }
}

/// Dropout of [row][key], where the first row is query `first`.
#[inline(always)]
fn drop_out(mask: HeadMask, first: usize, keys: usize, values: &mut [f32]) {
    let Some((mask, start)) = mask else { return };
    for (row, values) in values.chunks_exact_mut(keys).enumerate() {
        let row = mask.row(start + first + row);
        for (key, value) in values.iter_mut().enumerate() {
            *value *= mask.factor(row, key);
        }
    }
}
