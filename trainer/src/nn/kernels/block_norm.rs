//! What follows a convolution of the tokenizer, block by block with patches as lanes: BatchNorm,
//! ELU, and LayerNorm over channels and positions.

use pulp::Simd;

use super::conv::{PAD, row_length};
use super::simd::{Aligned, elu};

/// Sizes and weights of the two normalizations.
#[derive(Debug, Clone)]
pub(super) struct BlockNorm {
    pub channels: usize,
    pub length: usize,
    /// LayerNorm's, [channels, length].
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub epsilon: f32,
    pub batch: BatchNorm,
}

/// BatchNorm of one batch.
#[derive(Debug, Clone, Default)]
pub(super) struct BatchNorm {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub epsilon: f32,
    pub mean: Vec<f32>,
    /// One over the standard deviation.
    pub scale: Vec<f32>,
}

/// Count, mean and sum of squared deviations of one channel.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moments {
    pub count: f64,
    pub mean: f64,
    pub squares: f64,
}

impl Moments {
    /// Of both (Chan et al. 1983).
    pub fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let apart = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + apart * other.count / count,
            squares: self.squares
                + other.squares
                + apart * apart * self.count * other.count / count,
        }
    }
}

/// The moments of each channel of a convolution's output block; `mask` is 1 for patches, 0 for
/// lanes without one.
#[inline(always)]
pub(super) fn moments<S: Simd>(
    simd: S,
    length: usize,
    mask: S::f32s,
    block: &[S::f32s],
    moments: &mut [Moments],
) {
    let count = simd.reduce_sum_f32s(mask) * length as f32;
    for (row, moments) in block.chunks_exact(row_length(length)).zip(moments) {
        let row = &row[PAD..PAD + length];
        let mean = simd.reduce_sum_f32s(simd.mul_f32s(mask, sum(simd, row))) / count;
        let center = simd.splat_f32s(mean);
        let mut squares = [simd.splat_f32s(0.0); 4];
        for row in row.chunks(4) {
            for (squares, &x) in squares.iter_mut().zip(row) {
                let x = simd.sub_f32s(x, center);
                *squares = simd.mul_add_e_f32s(x, x, *squares);
            }
        }
        let squares = simd.reduce_sum_f32s(simd.mul_f32s(mask, sum(simd, &squares)));
        *moments = Moments { count: count.into(), mean: mean.into(), squares: squares.into() };
    }
}

impl BlockNorm {
    /// `input`, a convolution's output block, normalized into `output`; keeps LayerNorm's mean
    /// and one over its standard deviation.
    #[inline(always)]
    pub fn forward<S: Simd>(
        &self,
        simd: S,
        input: &[S::f32s],
        output: &mut [S::f32s],
        kept: &mut [S::f32s],
    ) {
        let (row_length, positions) = (row_length(self.length), PAD..PAD + self.length);
        let per_count = simd.splat_f32s(1.0 / (self.channels * self.length) as f32);
        let mut total = simd.splat_f32s(0.0);
        let rows = input.chunks_exact(row_length).zip(output.chunks_exact_mut(row_length));
        for (channel, (input, output)) in rows.enumerate() {
            let (scale, shift) = self.batch.affine(simd, channel);
            let output = &mut output[positions.clone()];
            for (y, &x) in output.iter_mut().zip(&input[positions.clone()]) {
                *y = elu(simd, simd.mul_add_e_f32s(x, scale, shift));
            }
            total = simd.add_f32s(total, sum(simd, output));
        }
        let mean = simd.mul_f32s(total, per_count);
        let mut squares = [simd.splat_f32s(0.0); 4];
        for row in output.chunks_exact(row_length) {
            for row in row[positions.clone()].chunks(4) {
                for (squares, &y) in squares.iter_mut().zip(row) {
                    let y = simd.sub_f32s(y, mean);
                    *squares = simd.mul_add_e_f32s(y, y, *squares);
                }
            }
        }
        let variance = simd.mul_f32s(sum(simd, &squares), per_count);
        let variance = simd.add_f32s(variance, simd.splat_f32s(self.epsilon));
        let scale = simd.div_f32s(simd.splat_f32s(1.0), simd.sqrt_f32s(variance));
        let affine = self.gamma.chunks_exact(self.length).zip(self.beta.chunks_exact(self.length));
        for (row, (gamma, beta)) in output.chunks_exact_mut(row_length).zip(affine) {
            let row = &mut row[positions.clone()];
            for ((y, &gamma), &beta) in row.iter_mut().zip(gamma).zip(beta) {
                let z = simd.mul_f32s(simd.sub_f32s(*y, mean), scale);
                *y = simd.mul_add_e_f32s(z, simd.splat_f32s(gamma), simd.splat_f32s(beta));
            }
        }
        kept[0] = mean;
        kept[1] = scale;
    }

    /// Turns `gradient` of a block after LayerNorm into that before ELU, in place. `input` and
    /// `kept` as of forward. Adds to LayerNorm's gradients, a vector a weight, and to BatchNorm's.
    #[inline(always)]
    pub fn backward<S: Simd>(
        &self,
        simd: S,
        input: &[S::f32s],
        kept: &[S::f32s],
        gradient: &mut [S::f32s],
        scratch: &mut [S::f32s],
        sums: &mut NormSums,
    ) {
        let (row_length, positions) = (row_length(self.length), PAD..PAD + self.length);
        let (mean, scale) = (kept[0], kept[1]);
        let zero = simd.splat_f32s(0.0);
        let one = simd.splat_f32s(1.0);
        let mut total = zero;
        let mut product = zero;
        let gammas = S::as_mut_simd_f32s(sums.gamma.values_mut()).0;
        let betas = S::as_mut_simd_f32s(sums.beta.values_mut()).0;
        for channel in 0..self.channels {
            let (factor, shift) = self.batch.affine(simd, channel);
            let weights = channel * self.length..(channel + 1) * self.length;
            let row = channel * row_length..(channel + 1) * row_length;
            let values = input[row.clone()][positions.clone()]
                .iter()
                .zip(&gradient[row.clone()][positions.clone()])
                .zip(&mut scratch[row][positions.clone()]);
            let weights = self.gamma[weights.clone()]
                .iter()
                .zip(&mut gammas[weights.clone()])
                .zip(&mut betas[weights]);
            for (((&x, &g), bent), ((&weight, gamma), beta)) in values.zip(weights) {
                *bent = elu(simd, simd.mul_add_e_f32s(x, factor, shift));
                let z = simd.mul_f32s(simd.sub_f32s(*bent, mean), scale);
                *gamma = simd.mul_add_e_f32s(g, z, *gamma);
                *beta = simd.add_f32s(g, *beta);
                let g = simd.mul_f32s(g, simd.splat_f32s(weight));
                total = simd.add_f32s(total, g);
                product = simd.mul_add_e_f32s(g, z, product);
            }
        }
        let per_count = simd.splat_f32s(1.0 / (self.channels * self.length) as f32);
        let total = simd.mul_f32s(total, per_count);
        let product = simd.mul_f32s(product, per_count);
        for channel in 0..self.channels {
            let center = simd.splat_f32s(self.batch.mean[channel]);
            let spread = simd.splat_f32s(self.batch.scale[channel]);
            let row = channel * row_length..(channel + 1) * row_length;
            let values = input[row.clone()][positions.clone()]
                .iter()
                .zip(&mut gradient[row.clone()][positions.clone()])
                .zip(&scratch[row][positions.clone()]);
            let gamma = &self.gamma[channel * self.length..(channel + 1) * self.length];
            let mut plain = zero;
            let mut weighted = zero;
            for (((&x, g), &bent), &weight) in values.zip(gamma) {
                let z = simd.mul_f32s(simd.sub_f32s(bent, mean), scale);
                let centered =
                    simd.mul_add_e_f32s(*g, simd.splat_f32s(weight), simd.neg_f32s(total));
                let before = simd.mul_f32s(scale, simd.negate_mul_add_e_f32s(z, product, centered));
                // The slope of ELU is 1 above zero, exp(x) = ELU + 1 below.
                let slope = simd.add_f32s(simd.min_f32s(bent, zero), one);
                *g = simd.mul_f32s(before, slope);
                plain = simd.add_f32s(plain, *g);
                let normal = simd.mul_f32s(simd.sub_f32s(x, center), spread);
                weighted = simd.mul_add_e_f32s(*g, normal, weighted);
            }
            let [sum, product] = &mut sums.batch[channel];
            *sum += f64::from(simd.reduce_sum_f32s(plain));
            *product += f64::from(simd.reduce_sum_f32s(weighted));
        }
    }

    /// The gradient before ELU to that of the convolution's output, where `sums` are the whole
    /// batch's of [`NormSums::batch`] over its count. Lanes without a patch become zero.
    #[inline(always)]
    pub fn backward_batch<S: Simd>(
        &self,
        simd: S,
        mask: S::f32s,
        input: &[S::f32s],
        sums: &[[f32; 2]],
        gradient: &[S::f32s],
        output: &mut [S::f32s],
    ) {
        let (row_length, positions) = (row_length(self.length), PAD..PAD + self.length);
        let batch = &self.batch;
        for (channel, &[mean, product]) in sums.iter().enumerate() {
            let factor = simd.splat_f32s(batch.gamma[channel] * batch.scale[channel]);
            let factor = simd.mul_f32s(factor, mask);
            let center = simd.splat_f32s(batch.mean[channel]);
            let slope = simd.splat_f32s(product * batch.scale[channel]);
            let shift = simd.splat_f32s(mean);
            let row = channel * row_length..(channel + 1) * row_length;
            let output = output[row.clone()][positions.clone()].iter_mut();
            let values =
                input[row.clone()][positions.clone()].iter().zip(&gradient[row][positions.clone()]);
            for (y, (&x, &g)) in output.zip(values) {
                let g = simd.sub_f32s(g, shift);
                let g = simd.negate_mul_add_e_f32s(simd.sub_f32s(x, center), slope, g);
                *y = simd.mul_f32s(g, factor);
            }
        }
    }
}

impl BatchNorm {
    /// Takes mean and variance.
    pub fn set(&mut self, statistics: impl Iterator<Item = (f32, f32)>) {
        let epsilon = self.epsilon;
        (self.mean, self.scale) =
            statistics.map(|(mean, variance)| (mean, 1.0 / (variance + epsilon).sqrt())).unzip();
    }

    /// What multiplies a channel, and what is added then.
    #[inline(always)]
    fn affine<S: Simd>(&self, simd: S, channel: usize) -> (S::f32s, S::f32s) {
        let scale = self.gamma[channel] * self.scale[channel];
        let shift = self.beta[channel] - self.mean[channel] * scale;
        (simd.splat_f32s(scale), simd.splat_f32s(shift))
    }
}

/// What the normalizations' gradients sum over patches.
#[derive(Debug, Default)]
pub(super) struct NormSums {
    /// Of LayerNorm's weights, [channels, length, lane].
    pub gamma: Aligned,
    pub beta: Aligned,
    /// Of the gradient before ELU, by channel: its sum, and that of its product with
    /// BatchNorm's normalized input.
    pub batch: Vec<[f64; 2]>,
}

impl NormSums {
    /// Zeros.
    pub fn zeros(channels: usize, length: usize, lanes: usize) -> Self {
        Self {
            gamma: Aligned::zeros(channels * length * lanes),
            beta: Aligned::zeros(channels * length * lanes),
            batch: vec![[0.0; 2]; channels],
        }
    }

    /// The sums of all parts, in order: gradients of LayerNorm's weights, and BatchNorm's sums.
    pub fn merge(parts: &[Self], lanes: usize) -> (Vec<f32>, Vec<f32>, Vec<[f64; 2]>) {
        let Some(first) = parts.first() else { return Default::default() };
        let weights = |of: fn(&Self) -> &Aligned| {
            let mut total = vec![0.0; of(first).values().len() / lanes];
            for part in parts {
                for (total, lanes) in total.iter_mut().zip(of(part).values().chunks_exact(lanes)) {
                    *total += lanes.iter().sum::<f32>();
                }
            }
            total
        };
        let mut batch = vec![[0.0; 2]; first.batch.len()];
        for part in parts {
            for ([sum, product], part) in batch.iter_mut().zip(&part.batch) {
                *sum += part[0];
                *product += part[1];
            }
        }
        (weights(|part| &part.gamma), weights(|part| &part.beta), batch)
    }
}

/// The sum of `values`.
#[inline(always)]
pub(super) fn sum<S: Simd>(simd: S, values: &[S::f32s]) -> S::f32s {
    let mut sums = [simd.splat_f32s(0.0); 4];
    for values in values.chunks(4) {
        for (sum, &x) in sums.iter_mut().zip(values) {
            *sum = simd.add_f32s(*sum, x);
        }
    }
    simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]))
}
