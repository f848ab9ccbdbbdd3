//! The arithmetic, generic over the instruction set: a vector holds one activation of as many
//! patches as it has lanes. Rows (channels) are padded with zeros for the convolutions.

use pulp::{Simd, WithSimd};

use super::weights::{Convolution, TAPS};
use super::{TokenizerKernel, TokenizerScratch};

/// Output channels of one tile.
const CHANNELS: usize = 4;
/// Zeros before and behind the positions of a row.
const PAD: usize = 2;

/// A convolution's weights in the order the tiles read them.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// For each block of output channels, for each input channel: [tap][channel of the block].
    taps: Vec<[[f32; CHANNELS]; TAPS]>,
    bias: Vec<[f32; CHANNELS]>,
}

impl Layer {
    pub(super) fn new(c: &Convolution) -> Self {
        let blocks = c.outputs.div_ceil(CHANNELS);
        let mut taps = vec![[[0.0; CHANNELS]; TAPS]; blocks * c.inputs];
        let mut bias = vec![[0.0; CHANNELS]; blocks];
        for output in 0..c.outputs {
            let (block, lane) = (output / CHANNELS, output % CHANNELS);
            bias[block][lane] = c.bias[output];
            for input in 0..c.inputs {
                for tap in 0..TAPS {
                    taps[block * c.inputs + input][tap][lane] =
                        c.weight[(output * c.inputs + input) * TAPS + tap];
                }
            }
        }
        Self { taps, bias }
    }
}

/// All patches of a call.
pub(super) struct Run<'a> {
    pub kernel: &'a TokenizerKernel,
    pub scratch: &'a mut TokenizerScratch,
    pub patches: &'a [f32],
    pub tokens: &'a mut [f32],
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Run { kernel, scratch, patches, tokens } = self;
        let (samples, embed_dim) = (kernel.patch_samples(), kernel.embed_dim());
        let batches =
            patches.chunks(samples * S::F32_LANES).zip(tokens.chunks_mut(embed_dim * S::F32_LANES));
        for (patches, tokens) in batches {
            run_batch(simd, kernel, scratch, patches, tokens);
        }
    }
}

/// As many patches as there are lanes, or fewer.
#[inline(always)]
fn run_batch<S: Simd>(
    simd: S,
    kernel: &TokenizerKernel,
    scratch: &mut TokenizerScratch,
    patches: &[f32],
    tokens: &mut [f32],
) {
    let weights = &kernel.weights;
    let last = weights.convolutions.last().map_or(1, |c| c.outputs);
    let vectors = weights
        .convolutions
        .iter()
        .map(|c| c.outputs * row_length(c.length))
        .fold(row_length(weights.patch_samples).max(last + kernel.embed_dim()), usize::max);
    let mut input = aligned::<S>(&mut scratch.front, vectors);
    let mut output = aligned::<S>(&mut scratch.back, vectors);

    load(simd, patches, weights.patch_samples, input);
    for (convolution, layer) in weights.convolutions.iter().zip(&kernel.layers) {
        let mean = convolve(simd, convolution, layer, input, output);
        normalize(simd, convolution, mean, output);
        std::mem::swap(&mut input, &mut output);
    }
    let (features, rest) = output.split_at_mut(last);
    let length = weights.convolutions.last().map_or(1, |c| c.length);
    let scale = simd.splat_f32s(1.0 / length as f32);
    for (feature, row) in features.iter_mut().zip(input.chunks_exact(row_length(length))) {
        *feature = simd.mul_f32s(sum(simd, &row[PAD..PAD + length]), scale);
    }
    let embedding = &mut rest[..kernel.embed_dim()];
    linear(simd, features, &weights.linear_weight, &weights.linear_bias, embedding);
    store(simd, embedding, tokens);
}

fn row_length(positions: usize) -> usize {
    positions + 2 * PAD
}

/// `vectors` vectors of `buffer` that begin on a cache line.
#[inline(always)]
fn aligned<S: Simd>(buffer: &mut Vec<f32>, vectors: usize) -> &mut [S::f32s] {
    const LINE: usize = 16;
    let length = vectors * S::F32_LANES;
    if buffer.len() < length + LINE {
        buffer.resize(length + LINE, 0.0);
    }
    let skip = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    S::as_mut_simd_f32s(&mut buffer[skip..skip + length]).0
}

/// Transposes patches into lanes; lanes without a patch are zero.
#[inline(always)]
fn load<S: Simd>(simd: S, patches: &[f32], samples: usize, row: &mut [S::f32s]) {
    const COLUMNS: usize = 16;
    let zero = simd.splat_f32s(0.0);
    row[..row_length(samples)].fill(zero);
    let lanes: &mut [f32] = pulp::bytemuck::cast_slice_mut(&mut row[PAD..PAD + samples]);
    for (block, lanes) in lanes.chunks_mut(COLUMNS * S::F32_LANES).enumerate() {
        for (lane, patch) in patches.chunks_exact(samples).enumerate() {
            let columns = lanes.len() / S::F32_LANES;
            let patch = &patch[block * COLUMNS..block * COLUMNS + columns];
            for (place, &x) in lanes.chunks_exact_mut(S::F32_LANES).zip(patch) {
                place[lane] = x;
            }
        }
    }
}

/// Transposes lanes back into tokens.
#[inline(always)]
fn store<S: Simd>(_: S, embedding: &[S::f32s], tokens: &mut [f32]) {
    let lanes: &[f32] = pulp::bytemuck::cast_slice(embedding);
    for (lane, token) in tokens.chunks_exact_mut(embedding.len()).enumerate() {
        for (y, place) in token.iter_mut().zip(lanes.chunks_exact(S::F32_LANES)) {
            *y = place[lane];
        }
    }
}

/// Convolution and ELU; returns the mean over channels and positions.
#[inline(always)]
fn convolve<S: Simd>(
    simd: S,
    convolution: &Convolution,
    layer: &Layer,
    input: &[S::f32s],
    output: &mut [S::f32s],
) -> S::f32s {
    let length = convolution.length;
    let mut total = simd.splat_f32s(0.0);
    let rows = output.chunks_mut(CHANNELS * row_length(length));
    let taps = layer.taps.chunks_exact(convolution.inputs);
    for (block, ((taps, bias), rows)) in taps.zip(&layer.bias).zip(rows).enumerate() {
        let channels = CHANNELS.min(convolution.outputs - block * CHANNELS);
        let rows = &mut rows[..channels * row_length(length)];
        let mut tile = Tile { simd, input, taps, bias, rows, length, total };
        let mut position = 0;
        if S::REGISTER_COUNT >= 32 {
            while position + 5 <= length {
                tile.run::<5>(position);
                position += 5;
            }
        }
        while position + 2 <= length {
            tile.run::<2>(position);
            position += 2;
        }
        if position < length {
            tile.run::<1>(position);
        }
        total = tile.total;
    }
    let count = convolution.outputs * length;
    simd.mul_f32s(total, simd.splat_f32s(1.0 / count as f32))
}

/// A few output channels at a few positions: what fits into the registers.
struct Tile<'a, S: Simd> {
    simd: S,
    input: &'a [S::f32s],
    taps: &'a [[[f32; CHANNELS]; TAPS]],
    bias: &'a [f32; CHANNELS],
    /// The output rows of the block's channels.
    rows: &'a mut [S::f32s],
    length: usize,
    /// Sum of the outputs so far.
    total: S::f32s,
}

impl<S: Simd> Tile<'_, S> {
    #[inline(always)]
    fn run<const P: usize>(&mut self, position: usize) {
        let simd = self.simd;
        let mut sums = self.bias.map(|b| [simd.splat_f32s(b); P]);
        let input_row = row_length(2 * self.length);
        for (row, taps) in self.input.chunks_exact(input_row).zip(self.taps) {
            let x = &row[2 * position..2 * position + 2 * P + TAPS - 2];
            for (tap, weights) in taps.iter().enumerate() {
                for (sums, &weight) in sums.iter_mut().zip(weights) {
                    let weight = simd.splat_f32s(weight);
                    for (p, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.mul_add_e_f32s(weight, x[2 * p + tap], *sum);
                    }
                }
            }
        }
        let mut tile_total = simd.splat_f32s(0.0);
        for (row, sums) in self.rows.chunks_exact_mut(row_length(self.length)).zip(&sums) {
            let place = &mut row[PAD + position..PAD + position + P];
            for (y, &sum) in place.iter_mut().zip(sums) {
                *y = elu(simd, sum);
                tile_total = simd.add_f32s(tile_total, *y);
            }
        }
        self.total = simd.add_f32s(self.total, tile_total);
    }
}

/// LayerNorm over channels and positions, in place, and the zeros around the rows.
#[inline(always)]
fn normalize<S: Simd>(simd: S, c: &Convolution, mean: S::f32s, output: &mut [S::f32s]) {
    let zero = simd.splat_f32s(0.0);
    let mut squares = zero;
    for row in output[..c.outputs * row_length(c.length)].chunks_exact(row_length(c.length)) {
        let mut partial = [zero; 4];
        for x in row[PAD..PAD + c.length].chunks(4) {
            for (partial, &x) in partial.iter_mut().zip(x) {
                let deviation = simd.sub_f32s(x, mean);
                *partial = simd.mul_add_e_f32s(deviation, deviation, *partial);
            }
        }
        squares = simd.add_f32s(squares, sum(simd, &partial));
    }
    let count = (c.outputs * c.length) as f32;
    let variance = simd.mul_f32s(squares, simd.splat_f32s(1.0 / count));
    let std = simd.sqrt_f32s(simd.add_f32s(variance, simd.splat_f32s(c.epsilon)));
    let scale = simd.div_f32s(simd.splat_f32s(1.0), std);

    let rows = output.chunks_exact_mut(row_length(c.length));
    let affine = c.norm_weight.chunks_exact(c.length).zip(c.norm_bias.chunks_exact(c.length));
    for (row, (weight, bias)) in rows.zip(affine) {
        row[..PAD].fill(zero);
        row[PAD + c.length..].fill(zero);
        for ((x, &weight), &bias) in row[PAD..PAD + c.length].iter_mut().zip(weight).zip(bias) {
            let z = simd.mul_f32s(simd.sub_f32s(*x, mean), scale);
            *x = simd.mul_add_e_f32s(z, simd.splat_f32s(weight), simd.splat_f32s(bias));
        }
    }
}

/// `output` = `input` x `weight` [input, output] + `bias`.
#[inline(always)]
fn linear<S: Simd>(
    simd: S,
    input: &[S::f32s],
    weight: &[f32],
    bias: &[f32],
    output: &mut [S::f32s],
) {
    const COLUMNS: usize = 8;
    let width = output.len();
    for (block, output) in output.chunks_mut(COLUMNS).enumerate() {
        let first = block * COLUMNS;
        let mut sums = [simd.splat_f32s(0.0); COLUMNS];
        for (sum, &bias) in sums.iter_mut().zip(&bias[first..first + output.len()]) {
            *sum = simd.splat_f32s(bias);
        }
        for (&x, row) in input.iter().zip(weight.chunks_exact(width)) {
            for (sum, &weight) in sums.iter_mut().zip(&row[first..first + output.len()]) {
                *sum = simd.mul_add_e_f32s(x, simd.splat_f32s(weight), *sum);
            }
        }
        output.copy_from_slice(&sums[..output.len()]);
    }
}

#[inline(always)]
fn sum<S: Simd>(simd: S, values: &[S::f32s]) -> S::f32s {
    values.iter().fold(simd.splat_f32s(0.0), |sum, &x| simd.add_f32s(sum, x))
}

/// x for x > 0, exp(x) - 1 below. The negative part is reduced to 2^n * exp(r), |r| <= ln(2)/2,
/// and exp(r) - 1 is a minimax polynomial, so small |x| keep their digits: |error| < 1e-7.
#[inline(always)]
pub(super) fn elu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Adding it rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const Q: [f32; 5] =
        [1.395_047_98e-3, 8.368_889_3e-3, 4.166_620_6e-2, 1.666_651_88e-1, 5.000_000_1e-1];
    // NaN as the second operand stays NaN.
    let zero = simd.splat_f32s(0.0);
    let low = simd.max_f32s(simd.splat_f32s(-87.0), simd.min_f32s(zero, x));
    let rounded =
        simd.mul_add_e_f32s(low, simd.splat_f32s(std::f32::consts::LOG2_E), simd.splat_f32s(ROUND));
    let n = simd.sub_f32s(rounded, simd.splat_f32s(ROUND));
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN_2_HIGH), low);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN_2_LOW), r);
    let mut q = simd.splat_f32s(Q[0]);
    for coefficient in &Q[1..] {
        q = simd.mul_add_e_f32s(q, r, simd.splat_f32s(*coefficient));
    }
    let exp_r_minus_1 = simd.mul_add_e_f32s(simd.mul_f32s(r, r), q, r);
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let two_to_n =
        simd.transmute_f32s_u32s(simd.add_u32s(bits, simd.splat_u32s(1.0_f32.to_bits())));
    let two_to_n_minus_1 = simd.sub_f32s(two_to_n, simd.splat_f32s(1.0));
    let negative = simd.mul_add_e_f32s(two_to_n, exp_r_minus_1, two_to_n_minus_1);
    simd.add_f32s(simd.max_f32s(zero, x), negative)
}
