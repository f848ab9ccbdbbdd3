//! The tokenizer's convolution (k 5, stride 2, padding 2) and its two gradients, with patches as
//! lanes: a vector holds one activation of as many patches as it has lanes, a row is one
//! channel's positions with zeros around them, a block is the rows of one vector of patches.

use pulp::Simd;

use super::super::tokenizer::KERNEL;
use super::block_norm::sum;

/// Zeros before and behind the positions of a row.
pub(super) const PAD: usize = KERNEL / 2;
/// Channels of one tile.
const CHANNELS: usize = 4;

/// Vectors of a row.
pub(super) fn row_length(positions: usize) -> usize {
    positions + 2 * PAD
}

/// A convolution's sizes, and its weights in the orders that the tiles read them.
#[derive(Debug, Clone)]
pub(super) struct Convolution {
    pub inputs: usize,
    pub outputs: usize,
    /// Output positions; twice as many come in.
    pub length: usize,
    /// For each tile of output channels, for each input channel: [tap][channel of the tile].
    taps: Vec<[[f32; CHANNELS]; KERNEL]>,
    bias: Vec<[f32; CHANNELS]>,
    /// For each tile of input channels, for each output channel: [tap][channel of the tile].
    taps_back: Vec<[[f32; CHANNELS]; KERNEL]>,
}

impl Convolution {
    /// `weight` [outputs, inputs, 5] and `bias` [outputs].
    pub fn new(weight: &[f32], bias: &[f32], inputs: usize, length: usize) -> Self {
        let outputs = bias.len();
        let (tiles, tiles_back) = (outputs.div_ceil(CHANNELS), inputs.div_ceil(CHANNELS));
        let mut taps = vec![[[0.0; CHANNELS]; KERNEL]; tiles * inputs];
        let mut taps_back = vec![[[0.0; CHANNELS]; KERNEL]; tiles_back * outputs];
        let mut bias_tiles = vec![[0.0; CHANNELS]; tiles];
        for output in 0..outputs {
            bias_tiles[output / CHANNELS][output % CHANNELS] = bias[output];
            for input in 0..inputs {
                let weights = &weight[(output * inputs + input) * KERNEL..][..KERNEL];
                for (tap, &weight) in weights.iter().enumerate() {
                    taps[output / CHANNELS * inputs + input][tap][output % CHANNELS] = weight;
                    taps_back[input / CHANNELS * outputs + output][tap][input % CHANNELS] = weight;
                }
            }
        }
        Self { inputs, outputs, length, taps, bias: bias_tiles, taps_back }
    }

    /// Vectors of an output block.
    pub fn output_block(&self) -> usize {
        self.outputs * row_length(self.length)
    }

    /// Vectors of an input block.
    pub fn input_block(&self) -> usize {
        self.inputs * row_length(2 * self.length)
    }
}

/// An input block to an output block.
#[inline(always)]
pub(super) fn convolve<S: Simd>(
    simd: S,
    c: &Convolution,
    input: &[S::f32s],
    output: &mut [S::f32s],
) {
    let rows = output.chunks_mut(CHANNELS * row_length(c.length));
    for ((rows, taps), bias) in rows.zip(c.taps.chunks_exact(c.inputs)).zip(&c.bias) {
        let mut position = 0;
        // Wider tiles would save loads, but the compiler then spills their sums.
        while position + 2 <= c.length {
            convolve_tile::<S, 2>(simd, c, input, taps, bias, rows, position);
            position += 2;
        }
        if position < c.length {
            convolve_tile::<S, 1>(simd, c, input, taps, bias, rows, position);
        }
    }
}

#[inline(always)]
fn convolve_tile<S: Simd, const P: usize>(
    simd: S,
    c: &Convolution,
    input: &[S::f32s],
    taps: &[[[f32; CHANNELS]; KERNEL]],
    bias: &[f32; CHANNELS],
    rows: &mut [S::f32s],
    position: usize,
) {
    let mut sums = bias.map(|b| [simd.splat_f32s(b); P]);
    for (row, taps) in input.chunks_exact(row_length(2 * c.length)).zip(taps) {
        let x = &row[2 * position..2 * position + 2 * P + KERNEL - 2];
        for (tap, weights) in taps.iter().enumerate() {
            for (sums, &weight) in sums.iter_mut().zip(weights) {
                let weight = simd.splat_f32s(weight);
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.mul_add_e_f32s(weight, x[2 * p + tap], *sum);
                }
            }
        }
    }
    for (row, sums) in rows.chunks_exact_mut(row_length(c.length)).zip(&sums) {
        row[PAD + position..PAD + position + P].copy_from_slice(sums);
    }
}

/// The gradient of an output block, zeros around its rows, to that of the input block.
#[inline(always)]
pub(super) fn input_gradient<S: Simd>(
    simd: S,
    c: &Convolution,
    output: &[S::f32s],
    input: &mut [S::f32s],
) {
    let rows = input.chunks_mut(CHANNELS * row_length(2 * c.length));
    for (rows, taps) in rows.zip(c.taps_back.chunks_exact(c.outputs)) {
        let mut position = 0;
        while position + 2 <= c.length {
            input_tile::<S, 2>(simd, c, output, taps, rows, position);
            position += 2;
        }
        if position < c.length {
            input_tile::<S, 1>(simd, c, output, taps, rows, position);
        }
    }
}

/// Input positions 2 p and 2 p + 1 of P output positions: three taps reach the even one (from
/// one output position ahead to one behind), two the odd one.
#[inline(always)]
fn input_tile<S: Simd, const P: usize>(
    simd: S,
    c: &Convolution,
    output: &[S::f32s],
    taps: &[[[f32; CHANNELS]; KERNEL]],
    rows: &mut [S::f32s],
    position: usize,
) {
    let zero = simd.splat_f32s(0.0);
    let mut even = [[zero; P]; CHANNELS];
    let mut odd = [[zero; P]; CHANNELS];
    for (row, taps) in output.chunks_exact(row_length(c.length)).zip(taps) {
        let g = &row[PAD + position - 1..PAD + position + P + 1];
        for (channel, (even, odd)) in even.iter_mut().zip(&mut odd).enumerate() {
            let [w0, w1, w2, w3, w4] = taps.map(|tap| simd.splat_f32s(tap[channel]));
            for (p, (even, odd)) in even.iter_mut().zip(odd).enumerate() {
                *even = simd.mul_add_e_f32s(w0, g[p + 2], *even);
                *odd = simd.mul_add_e_f32s(w1, g[p + 2], *odd);
                *even = simd.mul_add_e_f32s(w2, g[p + 1], *even);
                *odd = simd.mul_add_e_f32s(w3, g[p + 1], *odd);
                *even = simd.mul_add_e_f32s(w4, g[p], *even);
            }
        }
    }
    let rows = rows.chunks_exact_mut(row_length(2 * c.length));
    for (row, (even, odd)) in rows.zip(even.iter().zip(&odd)) {
        let place = &mut row[PAD + 2 * position..PAD + 2 * position + 2 * P];
        for ((pair, &even), &odd) in place.chunks_exact_mut(2).zip(even).zip(odd) {
            pair[0] = even;
            pair[1] = odd;
        }
    }
}

/// Adds the weights' gradient [outputs, inputs, 5] from a few blocks, which one after the other
/// lie in `input` and, as gradients, in `output`.
#[inline(always)]
pub(super) fn weight_gradient<S: Simd>(
    simd: S,
    c: &Convolution,
    input: &[S::f32s],
    output: &[S::f32s],
    weight: &mut [f32],
) {
    let tiles = weight.chunks_mut(CHANNELS * c.inputs * KERNEL);
    for (tile, weight) in tiles.enumerate() {
        for i in 0..c.inputs {
            let mut sums = [[simd.splat_f32s(0.0); KERNEL]; CHANNELS];
            let blocks = input.chunks_exact(c.input_block());
            for (input, output) in blocks.zip(output.chunks_exact(c.output_block())) {
                let x = &input[i * row_length(2 * c.length)..][..row_length(2 * c.length)];
                // A tile may reach over the last channel: it repeats that one, unread.
                let rows: [&[S::f32s]; CHANNELS] = std::array::from_fn(|channel| {
                    let channel = (tile * CHANNELS + channel).min(c.outputs - 1);
                    &output[channel * row_length(c.length) + PAD..][..c.length]
                });
                weight_tile(simd, x, rows, c.length, &mut sums);
            }
            for (weight, sums) in weight.chunks_exact_mut(c.inputs * KERNEL).zip(sums) {
                for (weight, sum) in weight[i * KERNEL..(i + 1) * KERNEL].iter_mut().zip(sums) {
                    *weight += simd.reduce_sum_f32s(sum);
                }
            }
        }
    }
}

/// Adds the bias's gradient [outputs] from a few blocks of gradients.
#[inline(always)]
pub(super) fn bias_gradient<S: Simd>(
    simd: S,
    c: &Convolution,
    output: &[S::f32s],
    bias: &mut [f64],
) {
    for output in output.chunks_exact(c.output_block()) {
        for (row, bias) in output.chunks_exact(row_length(c.length)).zip(&mut *bias) {
            *bias += f64::from(simd.reduce_sum_f32s(sum(simd, row)));
        }
    }
}

#[inline(always)]
fn weight_tile<S: Simd>(
    simd: S,
    x: &[S::f32s],
    rows: [&[S::f32s]; CHANNELS],
    length: usize,
    sums: &mut [[S::f32s; KERNEL]; CHANNELS],
) {
    let mut local = *sums;
    let rows = rows.map(|row| &row[..length]);
    for position in 0..length {
        let x = &x[2 * position..2 * position + KERNEL];
        for (row, sums) in rows.iter().zip(&mut local) {
            let g = row[position];
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum = simd.mul_add_e_f32s(g, x, *sum);
            }
        }
    }
    *sums = local;
}
