//! A linear layer with what follows it elementwise: bias, ReLU, dropout. The products are
//! matrix products over all rows at once; burn's own would be one a sequence in backward.

use burn::backend::Flex;
use burn::nn::{Dropout, Linear};
use burn::prelude::*;
use burn::tensor::activation;
use burn::tensor::ops::FloatTensorOps;
use burn_flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::dropout::Mask;
use super::{Kernels, Op, flex, primitive, wrap};

/// Parts into which rows are cut for sums: their number must not depend on the threads'.
const PARTS: usize = 16;
/// Rows of one task.
const ROWS: usize = 32;

/// Groups of rows of a product on a GPU: some times as many as it has processors, with few outputs.
const GROUPS: usize = 256;
/// Rows of a group: fewer would cost more for the sums of the groups than they gain.
const GROUP_ROWS: usize = 512;

/// What follows a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// max(x, 0).
    Relu,
}

/// `linear` of the last axis, `activation`, and dropout while training.
pub fn dense<B: Kernels, const D: usize>(
    x: Tensor<B, D>,
    linear: &Linear<B>,
    activation: Activation,
    dropout: Option<&Dropout>,
) -> Tensor<B, D> {
    let Some(bias) = &linear.bias else {
        return dense_chain(x, linear, activation, dropout);
    };
    let train = B::ad_enabled(&x.device());
    let dropout_probability = dropout.filter(|_| train).map_or(0.0, |dropout| dropout.prob);
    let op = DenseOp { activation, dropout: dropout_probability };
    let inputs = [primitive(x), primitive(linear.weight.val()), primitive(bias.val())];
    B::run(op, inputs)
        .map_or_else(|[x, ..]| dense_chain(wrap(x), linear, activation, dropout), wrap)
}

/// [`dense`] by burn's operations.
pub fn dense_chain<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    linear: &Linear<B>,
    activation: Activation,
    dropout: Option<&Dropout>,
) -> Tensor<B, D> {
    let y = product(x, linear.weight.val(), linear.bias.as_ref().map(|bias| bias.val()));
    let y = if activation == Activation::Relu { activation::relu(y) } else { y };
    match dropout {
        Some(dropout) => dropout.forward(y),
        None => y,
    }
}

/// `x` `[.., I]` times `weight` `[I, O]` plus `bias` `[O]` by burn's operations. The rows go in groups:
/// the weight's gradient is one product a group and their sum, so that a GPU has as many sums
/// under way as there are groups, and memory holds no more than that many gradients.
pub fn product<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, D> {
    let mut shape = x.dims();
    let [inputs, outputs] = weight.dims();
    let rows = shape.iter().product::<usize>() / inputs.max(1);
    let groups = groups(rows);
    let x = x.reshape([groups, rows / groups, inputs]);
    let y = burn::tensor::module::linear(x, weight, bias);
    shape[D - 1] = outputs;
    y.reshape(shape)
}

/// The most groups of equally many rows, at most [`GROUPS`], with at least [`GROUP_ROWS`] in each.
fn groups(rows: usize) -> usize {
    let most = (rows / GROUP_ROWS).clamp(1, GROUPS);
    (1..=most).rev().find(|groups| rows.is_multiple_of(*groups)).unwrap_or(1)
}

/// Inputs [.., I], [I, O] and [O]; output [.., O].
#[derive(Debug)]
struct DenseOp {
    activation: Activation,
    dropout: f64,
}

#[derive(Debug)]
struct Tape {
    /// [rows, I].
    x: FlexTensor,
    weight: FlexTensor,
    mask: Option<Mask>,
    /// After ReLU and dropout: where it is zero, so is the gradient.
    output: Option<FlexTensor>,
}

impl Op<3> for DenseOp {
    type Tape = Tape;

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, Tape) {
        let mut shape = x.layout().shape().to_vec();
        let [inputs, width] = weight.layout().shape().dims();
        let x = x.to_contiguous();
        let rows = x.layout().num_elements() / inputs.max(1);
        let x = x.reshape([rows, inputs].into());
        let mut y = Flex::float_matmul(x.clone(), weight.clone());
        let mask = Mask::draw(self.dropout);
        let bias = bias.to_contiguous();
        let (arch, relu) = (Arch::new(), self.activation == Activation::Relu);
        y.storage_mut::<f32>().par_chunks_mut((ROWS * width).max(1)).enumerate().for_each(
            |(task, values)| {
                arch.dispatch(Finish { bias: bias.storage(), relu, mask, task, values });
            },
        );
        let output = relu.then(|| y.clone());
        shape.pop();
        shape.push(width);
        (y.reshape(shape.into()), Tape { x, weight, mask, output })
    }

    fn backward(
        &self,
        tape: &Tape,
        output: FlexTensor,
        [needs_x, needs_weight, needs_bias]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let mut shape = output.layout().shape().to_vec();
        let [rows, inputs] = tape.x.layout().shape().dims();
        let [_, width] = tape.weight.layout().shape().dims();
        let output = output.to_contiguous();
        let part_rows = rows.div_ceil(PARTS).max(1);
        let arch = Arch::new();
        let active = tape.output.as_ref().map(|output| output.storage::<f32>());
        let changed = tape.mask.is_some() || active.is_some();
        let mut gradient = vec![0.0; if changed { rows * width } else { 0 }];
        let part = (part_rows * width).max(1);
        let mut places: Vec<&mut [f32]> = gradient.chunks_mut(part).collect();
        places.resize_with(rows.div_ceil(part_rows), Default::default);
        let sums: Vec<Vec<f32>> = output
            .storage::<f32>()
            .par_chunks(part)
            .zip(places)
            .enumerate()
            .map(|(index, (output, gradient))| {
                let active = active.map(|values| &values[index * part..]);
                let first = index * part_rows;
                arch.dispatch(Begin { width, mask: tape.mask, active, first, output, gradient })
            })
            .collect();
        let bias = needs_bias.then(|| {
            let mut total = vec![0.0; width];
            for part in &sums {
                total.iter_mut().zip(part).for_each(|(total, x)| *total += x);
            }
            flex(total, [width])
        });
        let gradient = if changed {
            flex(gradient, [rows, width])
        } else {
            output.reshape([rows, width].into())
        };
        let weight =
            needs_weight.then(|| Flex::float_matmul(tape.x.transpose(0, 1), gradient.clone()));
        let x = needs_x.then(|| {
            shape.pop();
            shape.push(inputs);
            Flex::float_matmul(gradient, tape.weight.transpose(0, 1)).reshape(shape.into())
        });
        [x, weight, bias]
    }
}

/// Bias, ReLU and dropout of a task's rows, in place.
struct Finish<'a> {
    bias: &'a [f32],
    relu: bool,
    mask: Option<Mask>,
    task: usize,
    values: &'a mut [f32],
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { bias, relu, mask, task, values } = self;
        let low = if relu { 0.0 } else { f32::NEG_INFINITY };
        for (row, values) in values.chunks_exact_mut(bias.len()).enumerate() {
            for (y, &bias) in values.iter_mut().zip(bias) {
                let sum = *y + bias;
                // Unlike f32::max, NaN stays.
                *y = if sum < low { low } else { sum };
            }
            if let Some(mask) = mask {
                let row = mask.row(task * ROWS + row);
                for (column, y) in values.iter_mut().enumerate() {
                    *y *= mask.factor(row, column);
                }
            }
        }
    }
}

/// The gradient before ReLU and dropout, if there are any, and its sum over a part's rows.
struct Begin<'a> {
    width: usize,
    mask: Option<Mask>,
    active: Option<&'a [f32]>,
    /// The part's first row.
    first: usize,
    output: &'a [f32],
    gradient: &'a mut [f32],
}

impl WithSimd for Begin<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
        let Self { width, mask, active, first, output, gradient } = self;
        let mut sums = vec![0.0; width];
        let scale = mask.map_or(1.0, |mask| mask.scale());
        for (index, output) in output.chunks_exact(width).enumerate() {
            let place = index * width..(index + 1) * width;
            if let Some(active) = active {
                let gradient = &mut gradient[place.clone()];
                for ((g, &y), &active) in gradient.iter_mut().zip(output).zip(&active[place]) {
                    *g = if active == 0.0 { 0.0 } else { y * scale };
                }
                sums.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += *g);
            } else if let Some(mask) = mask {
                let row = mask.row(first + index);
                let gradient = &mut gradient[place];
                for (column, (g, &y)) in gradient.iter_mut().zip(output).enumerate() {
                    *g = y * mask.factor(row, column);
                }
                sums.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += *g);
            } else {
                sums.iter_mut().zip(output).for_each(|(sum, g)| *sum += *g);
            }
        }
        sums
    }
}
