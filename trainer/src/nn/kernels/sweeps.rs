//! One task of a sweep over the batch: what a thread does with a vector of patches or a few.

use pulp::{Simd, WithSimd};

use super::super::tokenizer::KERNEL;
use super::block_norm::{BlockNorm, Moments, NormSums, moments};
use super::conv::{
    Convolution, PAD, bias_gradient, convolve, input_gradient, row_length, weight_gradient,
};
use super::simd::{Aligned, vectors, vectors_mut};
use super::tokenizer::Layer;

/// Vectors of patches whose weight gradients are summed in registers: fewer sums across lanes.
pub(super) const GROUP: usize = 4;

/// Lanes of a vector on this machine.
pub(super) struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// 1 in lanes with a patch, 0 in those behind the last one.
#[inline(always)]
fn mask<S: Simd>(simd: S, count: usize, block: usize) -> S::f32s {
    const ONES: [f32; 64] = [1.0; 64];
    let present = count.saturating_sub(block * S::F32_LANES).min(S::F32_LANES);
    simd.partial_load_f32s(&ONES[..present])
}

/// A convolution over one vector of patches, whose input is there.
pub(super) struct Next<'a> {
    pub convolution: &'a Convolution,
    /// Patches of the batch.
    pub count: usize,
    /// Which vector of patches.
    pub block: usize,
    pub input: &'a mut [f32],
    pub output: &'a mut [f32],
    pub moments: &'a mut [Moments],
}

impl Next<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let output = vectors_mut::<S>(self.output);
        convolve(simd, self.convolution, vectors::<S>(self.input), output);
        let mask = mask(simd, self.count, self.block);
        moments(simd, self.convolution.length, mask, output, self.moments);
    }
}

/// The first convolution.
pub(super) struct First<'a> {
    /// [lane, samples].
    pub patches: &'a [f32],
    pub next: Next<'a>,
}

impl WithSimd for First<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let samples = 2 * self.next.convolution.length;
        let row = vectors_mut::<S>(self.next.input);
        let lanes: &mut [f32] = pulp::bytemuck::cast_slice_mut(&mut row[PAD..PAD + samples]);
        for (lane, patch) in self.patches.chunks_exact(samples).enumerate() {
            for (place, &x) in lanes.chunks_exact_mut(S::F32_LANES).zip(patch) {
                place[lane] = x;
            }
        }
        self.next.run(simd);
    }
}

/// Any other convolution, after the normalization of the block below.
pub(super) struct Following<'a> {
    pub norm: &'a BlockNorm,
    pub convolved: &'a [f32],
    /// Gets LayerNorm's mean and scale.
    pub kept: &'a mut [f32],
    pub next: Next<'a>,
}

impl WithSimd for Following<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (convolved, kept) = (vectors::<S>(self.convolved), vectors_mut::<S>(self.kept));
        self.norm.forward(simd, convolved, vectors_mut::<S>(self.next.input), kept);
        self.next.run(simd);
    }
}

/// The last normalization, and the mean over positions.
pub(super) struct Features<'a> {
    pub norm: &'a BlockNorm,
    pub convolved: &'a [f32],
    pub kept: &'a mut [f32],
    /// [lane, channels].
    pub features: &'a mut [f32],
}

impl WithSimd for Features<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { norm, convolved, kept, features } = self;
        let mut output = Aligned::zeros(convolved.len());
        let rows = vectors_mut::<S>(output.values_mut());
        norm.forward(simd, vectors::<S>(convolved), rows, vectors_mut::<S>(kept));
        let rows = rows.chunks_exact(row_length(norm.length));
        for (channel, row) in rows.enumerate() {
            let zero = simd.splat_f32s(0.0);
            let row = &row[PAD..PAD + norm.length];
            let sum = row.iter().fold(zero, |sum, &x| simd.add_f32s(sum, x));
            let mean = simd.mul_f32s(sum, simd.splat_f32s(1.0 / norm.length as f32));
            let lanes: &[f32] = pulp::bytemuck::cast_slice(std::slice::from_ref(&mean));
            for (feature, &x) in features.chunks_exact_mut(norm.channels).zip(lanes) {
                feature[channel] = x;
            }
        }
    }
}

/// What a part of the batch kept of one block, from its first vector of patches on.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptPart<'a> {
    pub input: &'a [f32],
    pub output: &'a [f32],
    pub norm: &'a [f32],
}

/// From the features' gradient to that before the last block's ELU.
pub(super) struct Top<'a> {
    pub norm: &'a BlockNorm,
    pub kept: KeptPart<'a>,
    /// Floats of one vector of patches in `gradient`.
    pub size: usize,
    pub gradient: &'a mut [f32],
    /// [patch, channels].
    pub features: &'a [f32],
}

impl WithSimd for Top<'_> {
    type Output = NormSums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> NormSums {
        let Self { norm, kept, size, gradient, features } = self;
        let mut normalize = NormBack::new::<S>(norm, kept);
        let row = row_length(norm.length);
        let per_length = simd.splat_f32s(1.0 / norm.length as f32);
        let mut lanes = vec![0.0; S::F32_LANES];
        let features = features.chunks(norm.channels * S::F32_LANES);
        for (block, (gradient, features)) in
            gradient.chunks_exact_mut(size).zip(features).enumerate()
        {
            let gradient = vectors_mut::<S>(gradient);
            for (channel, row) in gradient.chunks_exact_mut(row).take(norm.channels).enumerate() {
                lanes.fill(0.0);
                for (lane, feature) in lanes.iter_mut().zip(features.chunks_exact(norm.channels)) {
                    *lane = feature[channel];
                }
                row.fill(simd.mul_f32s(simd.partial_load_f32s(&lanes), per_length));
            }
            normalize.run(simd, block, gradient);
        }
        normalize.sums
    }
}

/// The way back through the normalizations of a block, for one vector of patches after another.
struct NormBack<'a> {
    norm: &'a BlockNorm,
    kept: KeptPart<'a>,
    scratch: Aligned,
    sums: NormSums,
}

impl<'a> NormBack<'a> {
    #[inline(always)]
    fn new<S: Simd>(norm: &'a BlockNorm, kept: KeptPart<'a>) -> Self {
        let size = norm.channels * row_length(norm.length) * S::F32_LANES;
        let sums = NormSums::zeros(norm.channels, norm.length, S::F32_LANES);
        Self { norm, kept, scratch: Aligned::zeros(size), sums }
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S, block: usize, gradient: &mut [S::f32s]) {
        let size = self.norm.channels * row_length(self.norm.length);
        let input = &vectors::<S>(self.kept.output)[block * size..(block + 1) * size];
        let kept = &vectors::<S>(self.kept.norm)[2 * block..2 * block + 2];
        let scratch = vectors_mut::<S>(self.scratch.values_mut());
        self.norm.backward(simd, input, kept, gradient, scratch, &mut self.sums);
    }
}

/// A part's sums of the gradients of a convolution's weights.
#[derive(Debug)]
pub(super) struct ConvolutionSums {
    weight: Vec<f32>,
    bias: Vec<f64>,
}

impl ConvolutionSums {
    /// Weight and bias, summed over all parts in order.
    pub fn merge(parts: &[Self]) -> (Vec<f32>, Vec<f32>) {
        let Some((first, rest)) = parts.split_first() else { return Default::default() };
        let (mut weight, mut bias) = (first.weight.clone(), first.bias.clone());
        for part in rest {
            weight.iter_mut().zip(&part.weight).for_each(|(sum, x)| *sum += x);
            bias.iter_mut().zip(&part.bias).for_each(|(sum, x)| *sum += x);
        }
        (weight, bias.iter().map(|&x| x as f32).collect())
    }
}

/// From the gradient before a block's ELU to its weights', and to that before the ELU of the
/// block below, or to the patches'.
pub(super) struct Back<'a> {
    pub layer: &'a Layer,
    /// [`NormSums::batch`] of the whole batch over its count.
    pub means: &'a [[f32; 2]],
    /// Patches of the batch.
    pub count: usize,
    /// The part's first vector of patches.
    pub first: usize,
    pub kept: KeptPart<'a>,
    pub below: Option<(&'a BlockNorm, KeptPart<'a>)>,
    /// Floats of one vector of patches in `gradient`.
    pub size: usize,
    pub gradient: &'a mut [f32],
    /// The part's patches' gradients [patch, samples]; empty where nobody wants them.
    pub patches: &'a mut [f32],
}

impl WithSimd for Back<'_> {
    type Output = (ConvolutionSums, NormSums);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (ConvolutionSums, NormSums) {
        let Layer { convolution, norm } = self.layer;
        let (input_size, output_size) = (convolution.input_block(), convolution.output_block());
        let mut scratch = Aligned::zeros(GROUP * output_size * S::F32_LANES);
        let scratch = vectors_mut::<S>(scratch.values_mut());
        let mut sums = ConvolutionSums {
            weight: vec![0.0; convolution.outputs * convolution.inputs * KERNEL],
            bias: vec![0.0; convolution.outputs],
        };
        let mut below = self.below.map(|(norm, kept)| NormBack::new::<S>(norm, kept));
        let inputs = vectors::<S>(self.kept.input).chunks(GROUP * input_size);
        let outputs = vectors::<S>(self.kept.output).chunks(GROUP * output_size);
        let groups = self.gradient.chunks_mut(GROUP * self.size);
        for (group, ((gradient, inputs), outputs)) in groups.zip(inputs).zip(outputs).enumerate() {
            let members = gradient.len() / self.size;
            let blocks =
                scratch.chunks_exact_mut(output_size).zip(outputs.chunks_exact(output_size));
            for (member, ((scratch, output), gradient)) in
                blocks.zip(gradient.chunks_exact(self.size)).enumerate()
            {
                let mask = mask(simd, self.count, self.first + group * GROUP + member);
                let gradient = vectors::<S>(gradient);
                norm.backward_batch(simd, mask, output, self.means, gradient, scratch);
            }
            let convolved = &scratch[..members * output_size];
            let inputs = &inputs[..members * input_size];
            bias_gradient(simd, convolution, convolved, &mut sums.bias);
            weight_gradient(simd, convolution, inputs, convolved, &mut sums.weight);
            let blocks =
                gradient.chunks_exact_mut(self.size).zip(convolved.chunks_exact(output_size));
            for (member, (gradient, convolved)) in blocks.enumerate() {
                let block = group * GROUP + member;
                let gradient = &mut vectors_mut::<S>(gradient)[..input_size];
                if let Some(below) = &mut below {
                    input_gradient(simd, convolution, convolved, gradient);
                    below.run(simd, block, gradient);
                } else if !self.patches.is_empty() {
                    input_gradient(simd, convolution, convolved, gradient);
                    let samples = 2 * convolution.length;
                    let lanes: &[f32] = pulp::bytemuck::cast_slice(&gradient[PAD..PAD + samples]);
                    let patches = self.patches.chunks_mut(samples * S::F32_LANES).nth(block);
                    for (lane, patch) in
                        patches.into_iter().flat_map(|p| p.chunks_exact_mut(samples)).enumerate()
                    {
                        for (x, lanes) in patch.iter_mut().zip(lanes.chunks_exact(S::F32_LANES)) {
                            *x = lanes[lane];
                        }
                    }
                }
            }
        }
        (sums, below.map(|below| below.sums).unwrap_or_default())
    }
}
