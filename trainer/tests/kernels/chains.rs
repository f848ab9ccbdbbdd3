//! Fused operations against chains of burn's, at sizes where vectors and tasks are not full.

use burn::nn::{DropoutConfig, LinearConfig};
use burn::prelude::*;
use sfm_tests::reference::assert_close;
use sfm_trainer::nn::kernels::{self, Activation};
use sfm_trainer::nn::{TokenizerConfig, TransformerLayerConfig};

use crate::fill::{Train, backward, fill, fill_parameters, gradients};

/// Relative to the largest value of an array, or to 1.
const TOLERANCE: f32 = 3e-5;
/// The chain's own rounding through six blocks; the goldens, in double precision, are stricter.
const DEEP: f32 = 1e-3;

fn vec<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

#[track_caller]
fn check(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    let largest = expected.iter().fold(1.0, |a: f32, b| a.max(b.abs()));
    assert_close(what, found, expected, tolerance * largest);
}

/// Values without the likeness of the sines' rows, which BatchNorm would blow up.
fn noise(shape: [usize; 2]) -> Tensor<Train, 2> {
    let values = (0..shape[0] * shape[1]).map(|i| (i * i % 10_007) as f32 / 5_000.0 - 1.0);
    Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), &Default::default())
}

#[test]
fn lstm() {
    for (nights, tokens, units) in [(1, 1, 1), (2, 9, 16), (3, 5, 33), (4, 4, 64), (9, 3, 80)] {
        let run = |fused: bool| {
            let gates = [41, 42].map(|salt| fill([nights, tokens, 4 * units], salt).require_grad());
            let weights = [43, 44].map(|salt| {
                fill::<Train, 2>([units, 4 * units], salt).mul_scalar(0.3).detach().require_grad()
            });
            let run = if fused { kernels::bilstm } else { kernels::bilstm_chain };
            let y = run(gates.clone(), weights.clone());
            let output = vec(y.clone());
            let found = backward(y, 50).backward();
            let gradient = |x: &Tensor<Train, 3>| vec(x.grad(&found).unwrap());
            let weight_gradient = |x: &Tensor<Train, 2>| vec(x.grad(&found).unwrap());
            let [g0, g1] = gates.each_ref().map(gradient);
            let [w0, w1] = weights.each_ref().map(weight_gradient);
            [output, g0, g1, w0, w1]
        };
        for (i, (found, expected)) in run(true).iter().zip(run(false)).enumerate() {
            check(&format!("{nights} {tokens} {units}: {i}"), found, &expected, TOLERANCE);
        }
    }
}

#[test]
fn convolutions() {
    let device = Default::default();
    for patches in [1, 16, 300] {
        let run = |fused: bool| {
            let module = fill_parameters(TokenizerConfig::new(192, 8).init::<Train>(&device));
            let x = noise([patches, 192]).require_grad();
            let run = if fused { kernels::convolutions } else { kernels::convolutions_chain };
            let y = run(x.clone(), &module.blocks);
            let mut all = vec![vec(y.clone())];
            let found = (backward(y, 50)
                + module.linear.weight.val().sum()
                + module.linear.bias.as_ref().unwrap().val().sum())
            .backward();
            all.push(vec(x.grad(&found).unwrap()));
            all.extend(gradients(&module, &found));
            all
        };
        for (i, (found, expected)) in run(true).iter().zip(run(false)).enumerate() {
            check(&format!("{patches} patches: {i}"), found, &expected, DEEP);
        }
    }
}

#[test]
fn attention() {
    let none = DropoutConfig::new(0.0).init();
    for (n, tokens, heads, head_dim) in
        [(1, 1, 1, 1), (9, 4, 2, 16), (2, 37, 3, 5), (2, 150, 2, 33)]
    {
        let width = heads * head_dim;
        // The last token is absent; in the last sequence, all but the first are.
        let present = (0..n * tokens).map(|i| {
            let (sequence, token) = (i / tokens, i % tokens);
            let last = sequence + 1 == n;
            if token == 0 || (!last && token + 1 < tokens) { 1.0 } else { 0.0 }
        });
        let present = TensorData::new(present.collect::<Vec<f32>>(), [n, tokens]);
        let run = |fused: bool| {
            let x = fill::<Train, 3>([n, tokens, 3 * width], 40).require_grad();
            let present = Tensor::from_data(present.clone(), &Default::default());
            let run = if fused { kernels::attention } else { kernels::attention_chain };
            let y = run(x.clone(), present, heads, &none);
            let output = vec(y.clone());
            let found = backward(y, 50).backward();
            [output, vec(x.grad(&found).unwrap())]
        };
        for (i, (found, expected)) in run(true).iter().zip(run(false)).enumerate() {
            check(&format!("{n} {tokens} {heads} {head_dim}: {i}"), found, &expected, TOLERANCE);
        }
    }
}

/// What stays is scaled, about the right share stays, and gradients pass where values did.
#[test]
fn dropout() {
    const WIDTH: usize = 40;
    let device = Default::default();
    let dropout = DropoutConfig::new(0.3).init();
    for activation in [Activation::None, Activation::Relu] {
        let mut linear = LinearConfig::new(WIDTH, WIDTH).init::<Train>(&device);
        linear.weight = linear.weight.map(|_| Tensor::eye(WIDTH, &device).require_grad());
        linear.bias = linear.bias.map(|bias| bias.map(|bias| (bias * 0.0).detach().require_grad()));
        let x = Tensor::<Train, 2>::ones([500, WIDTH], &device).require_grad();
        let run = || kernels::dense(x.clone(), &linear, activation, Some(&dropout));
        let y = run();
        assert_ne!(vec(y.clone()), vec(run()), "every call drops others");
        let output = vec(y.clone());
        assert!(output.iter().all(|&y| y == 0.0 || (y - 1.0 / 0.7).abs() < 1e-6));
        let share = output.iter().filter(|&&y| y == 0.0).count() as f64 / output.len() as f64;
        assert!((share - 0.3).abs() < 0.01, "{share}");
        assert_eq!(vec(x.grad(&y.sum().backward()).unwrap()), output);
    }
}

/// The expectation of attention with dropout is attention without, and a gradient that passes
/// the values alone is that of a linear map: its product with the values is the output's sum.
#[test]
fn attention_dropout() {
    let (n, tokens, width) = (400, 5, 8);
    let device = Default::default();
    let x = fill::<Train, 3>([1, tokens, 3 * width], 40).repeat_dim(0, n).require_grad();
    let present = Tensor::ones([n, tokens], &device);
    let run = |p| kernels::attention(x.clone(), present.clone(), 2, &DropoutConfig::new(p).init());
    let (with, without) = (run(0.4), run(0.0));
    let mean = (with.clone().mean_dim(0) - without.mean_dim(0)).abs().max().into_scalar();
    assert!(mean < 0.1, "{mean}");
    let sum = with.clone().sum().into_scalar();
    let gradient = x.grad(&with.sum().backward()).unwrap().narrow(2, 2 * width, width);
    let product = (gradient * x.inner().narrow(2, 2 * width, width)).sum().into_scalar();
    assert!((product - sum).abs() < 1e-3 * sum.abs().max(1.0), "{product} {sum}");
}

/// The same seed on one thread and on three.
#[test]
fn threads() {
    let device = Default::default();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let module = fill_parameters(TokenizerConfig::new(64, 8).init::<Train>(&device));
            let layer = TransformerLayerConfig::new(8, 2).with_feed_forward(300).with_dropout(0.0);
            let layer = fill_parameters(layer.init::<Train>(&device));
            let tokens = module.forward(fill([700, 64], 40)).reshape([35, 20, 8]);
            let y = layer.forward(tokens, Tensor::ones([35, 20], &device));
            let mut all = vec![vec(y.clone())];
            let found = backward(y, 50).backward();
            all.extend(gradients(&module, &found));
            all.extend(gradients(&layer, &found));
            all
        })
    };
    assert_eq!(run(1), run(3));
}
