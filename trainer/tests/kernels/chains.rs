//! Fused operations against chains of burn's, at sizes where vectors and tasks are not full.

use burn::prelude::*;
use sfm_tests::reference::assert_close;
use sfm_trainer::nn::kernels;

use crate::fill::{Train, backward, fill};

/// Relative to the largest value of an array, or to 1.
const TOLERANCE: f32 = 1e-5;

fn vec<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

#[track_caller]
fn check(what: &str, found: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(1.0, |a: f32, b| a.max(b.abs()));
    assert_close(what, found, expected, TOLERANCE * largest);
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
            check(&format!("{nights} {tokens} {units}: {i}"), found, &expected);
        }
    }
}
