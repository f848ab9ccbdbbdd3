//! Outputs and gradients against PyTorch's.

use burn::prelude::*;
use sfm_tests::reference::{self, Reference, assert_close};
use sfm_trainer::nn::BiLstmConfig;

use crate::fill::{Train, backward, fill, fill_parameters, gradients};

/// Relative to the largest value of an array, or to 1.
const TOLERANCE: f32 = 1e-5;

#[track_caller]
fn check(name: &str, found: &[f32]) {
    let golden = Reference { dir: reference::root().join("tests/data/train") }.expected(name);
    let largest = golden.values.iter().fold(1.0, |a: f32, b| a.max(b.abs()));
    assert_close(name, found, &golden.values, TOLERANCE * largest);
}

#[track_caller]
fn check_all(case: &str, found: &[Vec<f32>]) {
    for (i, gradient) in found.iter().enumerate() {
        check(&format!("{case}.{i}"), gradient);
    }
}

fn vec<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

#[test]
fn lstm() {
    let module = fill_parameters(BiLstmConfig::new(6, 20, 2).init::<Train>(&Default::default()));
    let x = fill([5, 7, 6], 40).require_grad();
    let y = module.forward(x.clone());
    check("lstm.output", &vec(y.clone()));
    let found = backward(y, 50).backward();
    check("lstm.x", &vec(x.grad(&found).unwrap()));
    check_all("lstm", &gradients(&module, &found));
}
