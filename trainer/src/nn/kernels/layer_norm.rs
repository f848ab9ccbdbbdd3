//! LayerNorm over the last axis, row by row.

use burn::nn::LayerNorm;
use burn::prelude::*;
use burn_flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::simd::{load, store};
use super::{Kernels, NORM_EPSILON, Op, flex, primitive, wrap};

/// Parts into which rows are cut for sums: their number must not depend on the threads'.
const PARTS: usize = 16;

/// `norm`, whose epsilon is PyTorch's default, of the last axis.
pub fn layer_norm<B: Kernels, const D: usize>(
    x: Tensor<B, D>,
    norm: &LayerNorm<B>,
) -> Tensor<B, D> {
    let Some(beta) = &norm.beta else { return norm.forward(x) };
    let inputs = [primitive(x), primitive(norm.gamma.val()), primitive(beta.val())];
    B::run(LayerNormOp, inputs).map_or_else(|[x, ..]| norm.forward(wrap(x)), wrap)
}

/// Inputs [.., E], [E] and [E]; output [.., E].
#[derive(Debug)]
struct LayerNormOp;

#[derive(Debug)]
struct Tape {
    x: FlexTensor,
    gamma: FlexTensor,
    /// Mean, and one over the standard deviation, of each row.
    kept: Vec<[f32; 2]>,
}

impl Op<3> for LayerNormOp {
    type Tape = Tape;

    fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Tape) {
        let [x, gamma, beta] = inputs.map(|input| input.to_contiguous());
        let shape = x.layout().shape().clone();
        let width = gamma.layout().num_elements().max(1);
        let values: &[f32] = x.storage();
        let mut y = vec![0.0; values.len()];
        let mut kept = vec![[0.0; 2]; values.len() / width];
        let rows = kept.len().div_ceil(PARTS).max(1);
        let arch = Arch::new();
        y.par_chunks_mut(rows * width)
            .zip(values.par_chunks(rows * width))
            .zip(kept.par_chunks_mut(rows))
            .for_each(|((y, x), kept)| {
                let (gamma, beta) = (gamma.storage(), beta.storage());
                arch.dispatch(Forward { gamma, beta, x, y, kept });
            });
        let length = y.len();
        (flex(y, [length]).reshape(shape), Tape { x, gamma, kept })
    }

    fn backward(&self, tape: &Tape, output: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let output = output.to_contiguous();
        let gamma: &[f32] = tape.gamma.storage();
        let width = gamma.len().max(1);
        let rows = tape.kept.len().div_ceil(PARTS).max(1);
        let values: &[f32] = tape.x.storage();
        let mut gradient = vec![0.0; values.len()];
        let arch = Arch::new();
        let sums: Vec<[Vec<f32>; 2]> = gradient
            .par_chunks_mut(rows * width)
            .zip(values.par_chunks(rows * width))
            .zip(output.storage::<f32>().par_chunks(rows * width))
            .zip(tape.kept.par_chunks(rows))
            .map(|(((gradient, x), output), kept)| {
                arch.dispatch(Backward { gamma, x, output, kept, gradient })
            })
            .collect();
        let [gamma, beta] = [0, 1].map(|i| {
            let mut total = vec![0.0; width];
            for part in &sums {
                total.iter_mut().zip(&part[i]).for_each(|(total, x)| *total += x);
            }
            Some(flex(total, [width]))
        });
        let length = gradient.len();
        let shape = tape.x.layout().shape().clone();
        [Some(flex(gradient, [length]).reshape(shape)), gamma, beta]
    }
}

struct Forward<'a> {
    gamma: &'a [f32],
    beta: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
    kept: &'a mut [[f32; 2]],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { gamma, beta, x, y, kept } = self;
        let width = gamma.len();
        let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(kept);
        for ((x, y), kept) in rows {
            let mean = simd.reduce_sum_f32s(fold(simd, width, |at, sum| {
                simd.add_f32s(sum, load(simd, x, at))
            })) / width as f32;
            let center = simd.splat_f32s(mean);
            let mut squares = 0.0;
            // Lanes behind the row's end would count as deviations.
            let whole = width / S::F32_LANES * S::F32_LANES;
            squares += simd.reduce_sum_f32s(fold(simd, whole, |at, sum| {
                let x = simd.sub_f32s(load(simd, x, at), center);
                simd.mul_add_e_f32s(x, x, sum)
            }));
            squares += x[whole..].iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
            let scale = 1.0 / (squares / width as f32 + NORM_EPSILON as f32).sqrt();
            *kept = [mean, scale];
            for at in (0..width).step_by(S::F32_LANES) {
                let z = simd.sub_f32s(load(simd, x, at), center);
                let z = simd.mul_f32s(z, simd.splat_f32s(scale));
                let value = simd.mul_add_e_f32s(z, load(simd, gamma, at), load(simd, beta, at));
                store(simd, y, at, value);
            }
        }
    }
}

struct Backward<'a> {
    gamma: &'a [f32],
    x: &'a [f32],
    output: &'a [f32],
    kept: &'a [[f32; 2]],
    gradient: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = [Vec<f32>; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [Vec<f32>; 2] {
        let Self { gamma, x, output, kept, gradient } = self;
        let width = gamma.len();
        let (mut gammas, mut betas) = (vec![0.0; width], vec![0.0; width]);
        let rows = x
            .chunks_exact(width)
            .zip(output.chunks_exact(width))
            .zip(gradient.chunks_exact_mut(width))
            .zip(kept);
        for (((x, output), gradient), &[mean, scale]) in rows {
            let (center, spread) = (simd.splat_f32s(mean), simd.splat_f32s(scale));
            let normal = |at| simd.mul_f32s(simd.sub_f32s(load(simd, x, at), center), spread);
            let mut total = simd.splat_f32s(0.0);
            let mut product = total;
            for at in (0..width).step_by(S::F32_LANES) {
                let (g, z) = (load(simd, output, at), normal(at));
                let gamma_sum = simd.mul_add_e_f32s(g, z, load(simd, &gammas, at));
                store(simd, &mut gammas, at, gamma_sum);
                let beta_sum = simd.add_f32s(g, load(simd, &betas, at));
                store(simd, &mut betas, at, beta_sum);
                let g = simd.mul_f32s(g, load(simd, gamma, at));
                total = simd.add_f32s(total, g);
                product = simd.mul_add_e_f32s(g, z, product);
            }
            let total = simd.splat_f32s(simd.reduce_sum_f32s(total) / width as f32);
            let product = simd.splat_f32s(simd.reduce_sum_f32s(product) / width as f32);
            for at in (0..width).step_by(S::F32_LANES) {
                let g = simd.mul_f32s(load(simd, output, at), load(simd, gamma, at));
                let g = simd.sub_f32s(g, total);
                let g = simd.negate_mul_add_e_f32s(normal(at), product, g);
                store(simd, gradient, at, simd.mul_f32s(g, spread));
            }
        }
        [gammas, betas]
    }
}

/// Folds over the vectors of `length` floats.
#[inline(always)]
fn fold<S: Simd>(simd: S, length: usize, f: impl Fn(usize, S::f32s) -> S::f32s) -> S::f32s {
    (0..length).step_by(S::F32_LANES).fold(simd.splat_f32s(0.0), |sum, at| f(at, sum))
}
