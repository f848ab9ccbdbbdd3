//! The recurrence of one bidirectional LSTM layer: a few nights at a time go through all their
//! tokens with the recurrent weights in the cache. Backward goes through them in reverse, and
//! the weights' gradient is one product over all tokens at the end.

use burn::backend::Flex;
use burn::prelude::*;
use burn::tensor::activation;
use burn::tensor::ops::FloatTensorOps;
use burn_flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::simd::{VECTORS, accumulate, load, sigmoid, store, tanh};
use super::{Kernels, Op, flex, primitive, wrap};

/// Nights in one task: their sums fill the registers.
const ROWS: usize = 4;

/// The recurrence of both directions: `gates` [N, T, 4 H] without their recurrent part, forward
/// and backward, in PyTorch's order (input, forget, candidate, output); `weights` [H, 4 H]. Gives
/// the outputs [N, T, 2 H].
pub fn bilstm<B: Kernels>(gates: [Tensor<B, 3>; 2], weights: [Tensor<B, 2>; 2]) -> Tensor<B, 3> {
    let ([ahead, back], [weight_ahead, weight_back]) = (gates, weights);
    let inputs =
        [primitive(ahead), primitive(back), primitive(weight_ahead), primitive(weight_back)];
    B::run(BiLstmOp, inputs).map_or_else(
        |[ahead, back, weight_ahead, weight_back]| {
            bilstm_chain([wrap(ahead), wrap(back)], [wrap(weight_ahead), wrap(weight_back)])
        },
        wrap,
    )
}

/// [`bilstm`] by burn's operations.
pub fn bilstm_chain<B: Backend>(
    [ahead, back]: [Tensor<B, 3>; 2],
    [weight_ahead, weight_back]: [Tensor<B, 2>; 2],
) -> Tensor<B, 3> {
    Tensor::cat(vec![chain(ahead, weight_ahead, false), chain(back, weight_back, true)], 2)
}

/// One direction by burn's operations: [N, T, H].
fn chain<B: Backend>(gates: Tensor<B, 3>, weight: Tensor<B, 2>, reverse: bool) -> Tensor<B, 3> {
    let [n, tokens, width] = gates.dims();
    let units = width / 4;
    let mut output: Tensor<B, 2> = Tensor::zeros([n, units], &gates.device());
    let mut cell = output.clone();
    let mut outputs = Vec::with_capacity(tokens);
    for step in 0..tokens {
        let token = if reverse { tokens - 1 - step } else { step };
        let input = gates.clone().narrow(1, token, 1).squeeze_dim(1);
        let sum: Tensor<B, 2> = input + output.matmul(weight.clone());
        let gate = |index: usize| sum.clone().narrow(1, index * units, units);
        cell = activation::sigmoid(gate(1)) * cell
            + activation::sigmoid(gate(0)) * activation::tanh(gate(2));
        output = activation::sigmoid(gate(3)) * activation::tanh(cell.clone());
        outputs.push(output.clone().unsqueeze_dim(1));
    }
    if reverse {
        outputs.reverse();
    }
    Tensor::cat(outputs, 1)
}

/// Both directions of a layer. Inputs: what the input adds to the gates, forward and backward,
/// [N, T, 4 H] with the gates in PyTorch's order, biases included; then the recurrent weights,
/// forward and backward, [H, 4 H]. Output [N, T, 2 H].
#[derive(Debug, Clone, Copy)]
struct BiLstmOp;

/// What one direction keeps.
#[derive(Debug)]
struct DirectionTape {
    sizes: Sizes,
    weight: FlexTensor,
    /// After their functions, [N, T, 4 H].
    gates: Vec<f32>,
    /// [N, T, H].
    cells: Vec<f32>,
    /// [N, T, H].
    outputs: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    nights: usize,
    tokens: usize,
    units: usize,
    /// From the last token to the first.
    reverse: bool,
}

impl Sizes {
    /// The token of step `step`.
    fn token(&self, step: usize) -> usize {
        if self.reverse { self.tokens - 1 - step } else { step }
    }

    /// Values of `width` a token, for the nights of one task.
    fn task(&self, width: usize) -> usize {
        (ROWS * self.tokens * width).max(1)
    }

    /// Values of `width` a token, for all nights.
    fn all(&self, width: usize) -> usize {
        self.nights * self.tokens * width
    }
}

impl Op<4> for BiLstmOp {
    type Tape = [DirectionTape; 2];

    /// A night's 5,760 steps of a chain are 100,000 launches.
    const ON_HOST: bool = true;

    fn forward(&self, inputs: [FlexTensor; 4]) -> (FlexTensor, Self::Tape) {
        let [gates_forward, gates_backward, weight_forward, weight_backward] = inputs;
        let (ahead, back) = rayon::join(
            || DirectionTape::run(gates_forward, weight_forward, false),
            || DirectionTape::run(gates_backward, weight_backward, true),
        );
        let Sizes { nights, tokens, units, .. } = ahead.sizes;
        let mut output = vec![0.0; ahead.sizes.all(2 * units)];
        let halves = ahead.outputs.par_chunks(units).zip(back.outputs.par_chunks(units));
        output.par_chunks_mut(2 * units).zip(halves).with_min_len(1024).for_each(
            |(token, (ahead, back))| {
                token[..units].copy_from_slice(ahead);
                token[units..].copy_from_slice(back);
            },
        );
        (flex(output, [nights, tokens, 2 * units]), [ahead, back])
    }

    fn backward(
        &self,
        tape: &Self::Tape,
        output: FlexTensor,
        needed: [bool; 4],
    ) -> [Option<FlexTensor>; 4] {
        let output = output.to_contiguous();
        let [ahead, back] = tape;
        let ((gates_forward, weight_forward), (gates_backward, weight_backward)) = rayon::join(
            || ahead.backward(output.storage(), needed[2]),
            || back.backward(output.storage(), needed[3]),
        );
        [Some(gates_forward), Some(gates_backward), weight_forward, weight_backward]
    }
}

impl DirectionTape {
    fn run(gates: FlexTensor, weight: FlexTensor, reverse: bool) -> Self {
        let (gates, weight) = (gates.to_contiguous(), weight.to_contiguous());
        let [nights, tokens, width] = gates.layout().shape().dims();
        let sizes = Sizes { nights, tokens, units: width / 4, reverse };
        let mut tape = Self {
            sizes,
            weight,
            gates: gates.storage::<f32>().to_vec(),
            cells: vec![0.0; sizes.all(sizes.units)],
            outputs: vec![0.0; sizes.all(sizes.units)],
        };
        let arch = Arch::new();
        let weight: &[f32] = tape.weight.storage();
        tape.gates
            .par_chunks_mut(sizes.task(width))
            .zip(tape.cells.par_chunks_mut(sizes.task(sizes.units)))
            .zip(tape.outputs.par_chunks_mut(sizes.task(sizes.units)))
            .for_each(|((gates, cells), outputs)| {
                arch.dispatch(Forward { sizes, weight, gates, cells, outputs });
            });
        tape
    }

    /// The gradients of gates and recurrent weights, from that of both directions' output.
    fn backward(&self, output: &[f32], needs_weight: bool) -> (FlexTensor, Option<FlexTensor>) {
        let sizes = self.sizes;
        let Sizes { nights, tokens, units, .. } = sizes;
        let arch = Arch::new();
        let weight: &[f32] = self.weight.storage();
        let mut gates = vec![0.0; sizes.all(4 * units)];
        gates
            .par_chunks_mut(sizes.task(4 * units))
            .zip(output.par_chunks(sizes.task(2 * units)))
            .zip(self.gates.par_chunks(sizes.task(4 * units)))
            .zip(self.cells.par_chunks(sizes.task(units)))
            .for_each(|(((gradient, output), gates), cells)| {
                arch.dispatch(Backward { sizes, weight, output, gates, cells, gradient });
            });
        let gates = flex(gates, [nights * tokens, 4 * units]);
        let weight = needs_weight.then(|| {
            let before = flex(self.outputs_before(), [nights * tokens, units]);
            Flex::float_matmul(before.transpose(0, 1), gates.clone())
        });
        (gates.reshape([nights, tokens, 4 * units].into()), weight)
    }

    /// The output that each token started from, [N T, H]; zeros at a night's start.
    fn outputs_before(&self) -> Vec<f32> {
        let Sizes { tokens, units, reverse, .. } = self.sizes;
        let mut before = vec![0.0; self.outputs.len()];
        let (night, shared) = ((tokens * units).max(1), tokens.saturating_sub(1) * units);
        before.par_chunks_mut(night).zip(self.outputs.par_chunks(night)).for_each(
            |(before, outputs)| {
                if reverse {
                    before[..shared].copy_from_slice(&outputs[night - shared..]);
                } else {
                    before[night - shared..].copy_from_slice(&outputs[..shared]);
                }
            },
        );
        before
    }
}

/// Forward, for the nights of one task.
struct Forward<'a> {
    sizes: Sizes,
    weight: &'a [f32],
    /// Before their functions; after them, when done.
    gates: &'a mut [f32],
    cells: &'a mut [f32],
    outputs: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let packed = pack_gates(simd, self.weight, self.sizes.units);
        match self.outputs.len() / (self.sizes.tokens * self.sizes.units).max(1) {
            0 => {}
            1 => self.run::<S, 1>(simd, &packed),
            2 => self.run::<S, 2>(simd, &packed),
            3 => self.run::<S, 3>(simd, &packed),
            _ => self.run::<S, ROWS>(simd, &packed),
        }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(&mut self, simd: S, packed: &[[S::f32s; 4]]) {
        let Sizes { tokens, units, .. } = self.sizes;
        let blocks = units.div_ceil(S::F32_LANES);
        let mut before = vec![0.0; R * units];
        let mut cell = vec![[simd.splat_f32s(0.0); R]; blocks];
        for step in 0..tokens {
            let token = self.sizes.token(step);
            let rows: [&[f32]; R] = std::array::from_fn(|r| &before[r * units..(r + 1) * units]);
            for (block, (columns, cell)) in packed.chunks_exact(units).zip(&mut cell).enumerate() {
                let unit = block * S::F32_LANES;
                let mut sums: [[S::f32s; 4]; R] = std::array::from_fn(|r| {
                    let gates = &self.gates[(r * tokens + token) * 4 * units..][..4 * units];
                    std::array::from_fn(|g| load(simd, &gates[g * units..(g + 1) * units], unit))
                });
                accumulate(simd, rows, columns, &mut sums);
                for (r, (sums, cell)) in sums.into_iter().zip(cell).enumerate() {
                    let [input, forget, candidate, output] = [
                        sigmoid(simd, sums[0]),
                        sigmoid(simd, sums[1]),
                        tanh(simd, sums[2]),
                        sigmoid(simd, sums[3]),
                    ];
                    let kept = simd.mul_f32s(forget, *cell);
                    *cell = simd.mul_add_e_f32s(input, candidate, kept);
                    let y = simd.mul_f32s(output, tanh(simd, *cell));
                    let row = r * tokens + token;
                    let gates = &mut self.gates[row * 4 * units..][..4 * units];
                    for (g, value) in [input, forget, candidate, output].into_iter().enumerate() {
                        store(simd, &mut gates[g * units..(g + 1) * units], unit, value);
                    }
                    store(simd, &mut self.cells[row * units..][..units], unit, *cell);
                    store(simd, &mut self.outputs[row * units..][..units], unit, y);
                }
            }
            for (r, before) in before.chunks_exact_mut(units).enumerate() {
                before.copy_from_slice(&self.outputs[(r * tokens + token) * units..][..units]);
            }
        }
    }
}

/// Backward, for the nights of one task.
struct Backward<'a> {
    sizes: Sizes,
    weight: &'a [f32],
    /// Gradient of both directions' outputs, [n, T, 2 H].
    output: &'a [f32],
    gates: &'a [f32],
    cells: &'a [f32],
    /// Of the gates before their functions: the result.
    gradient: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.sizes.units.div_ceil(S::F32_LANES) {
            1 => self.rows::<S, 1>(simd),
            2 => self.rows::<S, 2>(simd),
            _ => self.rows::<S, VECTORS>(simd),
        }
    }
}

impl Backward<'_> {
    #[inline(always)]
    fn rows<S: Simd, const V: usize>(mut self, simd: S) {
        let packed = pack_units::<S, V>(simd, self.weight, self.sizes.units);
        match self.cells.len() / (self.sizes.tokens * self.sizes.units).max(1) {
            0 => {}
            1 => self.run::<S, V, 1>(simd, &packed),
            2 => self.run::<S, V, 2>(simd, &packed),
            3 => self.run::<S, V, 3>(simd, &packed),
            _ => self.run::<S, V, ROWS>(simd, &packed),
        }
    }

    #[inline(always)]
    fn run<S: Simd, const V: usize, const R: usize>(&mut self, simd: S, packed: &[[S::f32s; V]]) {
        let Sizes { tokens, units, .. } = self.sizes;
        let zero = simd.splat_f32s(0.0);
        let groups = packed.len() / (4 * units).max(1);
        // What later steps pass back to the output and the cell, by block of units.
        let mut from_gates = vec![[zero; R]; groups * V];
        let mut from_cell = from_gates.clone();
        for step in (0..tokens).rev() {
            for block in 0..units.div_ceil(S::F32_LANES) {
                for r in 0..R {
                    let (output, cell) = (from_gates[block][r], from_cell[block][r]);
                    from_cell[block][r] =
                        self.cell(simd, step, r, block * S::F32_LANES, output, cell);
                }
            }
            let token = self.sizes.token(step);
            let rows: [&[f32]; R] = std::array::from_fn(|r| {
                &self.gradient[(r * tokens + token) * 4 * units..][..4 * units]
            });
            let columns = packed.chunks_exact(4 * units);
            for (columns, blocks) in columns.zip(from_gates.chunks_exact_mut(V)) {
                let mut sums = [[zero; V]; R];
                accumulate(simd, rows, columns, &mut sums);
                for (v, block) in blocks.iter_mut().enumerate() {
                    *block = std::array::from_fn(|r| sums[r][v]);
                }
            }
        }
    }

    /// One vector of units through one step; returns what it passes to the cell before.
    #[inline(always)]
    fn cell<S: Simd>(
        &mut self,
        simd: S,
        step: usize,
        r: usize,
        unit: usize,
        from_gates: S::f32s,
        from_cell: S::f32s,
    ) -> S::f32s {
        let Sizes { tokens, units, reverse, .. } = self.sizes;
        let row = r * tokens + self.sizes.token(step);
        let one = simd.splat_f32s(1.0);
        let gates = &self.gates[row * 4 * units..][..4 * units];
        let gate = |g: usize| load(simd, &gates[g * units..(g + 1) * units], unit);
        let [input, forget, candidate, output] = [gate(0), gate(1), gate(2), gate(3)];
        let cells = |row: usize| load(simd, &self.cells[row * units..][..units], unit);
        let bent = tanh(simd, cells(row));
        let before = if step == 0 {
            simd.splat_f32s(0.0)
        } else {
            cells(r * tokens + self.sizes.token(step - 1))
        };
        let half = if reverse { units } else { 0 };
        let y = load(simd, &self.output[row * 2 * units + half..][..units], unit);
        let y = simd.add_f32s(y, from_gates);
        // y = output * tanh(cell), and 1 - tanh^2 is its slope.
        let slope = simd.negate_mul_add_e_f32s(bent, bent, one);
        let cell = simd.mul_add_e_f32s(simd.mul_f32s(y, output), slope, from_cell);
        let bell = |gate: S::f32s| simd.mul_f32s(gate, simd.sub_f32s(one, gate));
        let candidate_slope = simd.negate_mul_add_e_f32s(candidate, candidate, one);
        let gradients = [
            simd.mul_f32s(simd.mul_f32s(cell, candidate), bell(input)),
            simd.mul_f32s(simd.mul_f32s(cell, before), bell(forget)),
            simd.mul_f32s(simd.mul_f32s(cell, input), candidate_slope),
            simd.mul_f32s(simd.mul_f32s(y, bent), bell(output)),
        ];
        let place = &mut self.gradient[row * 4 * units..][..4 * units];
        for (g, gradient) in gradients.into_iter().enumerate() {
            store(simd, &mut place[g * units..(g + 1) * units], unit, gradient);
        }
        simd.mul_f32s(cell, forget)
    }
}

/// `weight` [H, 4 H] as [block of units][H][gate].
#[inline(always)]
fn pack_gates<S: Simd>(simd: S, weight: &[f32], units: usize) -> Vec<[S::f32s; 4]> {
    (0..units.div_ceil(S::F32_LANES))
        .flat_map(|block| (0..units).map(move |k| (block * S::F32_LANES, k)))
        .map(|(unit, k)| {
            let row = &weight[k * 4 * units..][..4 * units];
            std::array::from_fn(|g| load(simd, &row[g * units..(g + 1) * units], unit))
        })
        .collect()
}

/// The transpose of `weight` [H, 4 H] as [group of V blocks of units][4 H][block].
#[inline(always)]
fn pack_units<S: Simd, const V: usize>(simd: S, weight: &[f32], units: usize) -> Vec<[S::f32s; V]> {
    let mut lanes = vec![0.0; S::F32_LANES];
    let mut packed = Vec::new();
    for group in 0..units.div_ceil(V * S::F32_LANES) {
        for k in 0..4 * units {
            packed.push(std::array::from_fn(|v| {
                for (lane, value) in lanes.iter_mut().enumerate() {
                    let unit = (group * V + v) * S::F32_LANES + lane;
                    *value = if unit < units { weight[unit * 4 * units + k] } else { 0.0 };
                }
                load(simd, &lanes, 0)
            }));
        }
    }
    packed
}
