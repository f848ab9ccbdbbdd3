//! Outputs and gradients against PyTorch's.

use burn::module::AutodiffModule;
use burn::module::RunningState;
use burn::prelude::*;
use sfm_tests::reference::{self, Reference, assert_close};
use sfm_trainer::nn::{
    BaseConfig, BiLstmConfig, EncoderConfig, PoolingConfig, TokenizerConfig, TransformerLayerConfig,
};

use crate::fill::{Train, backward, fill, fill_parameters, gradients, values};

/// Relative to the largest value of an array, or to 1.
const TOLERANCE: f32 = 3e-5;

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

/// The products of gradients with two patterns, and their norms.
#[track_caller]
fn check_products(name: &str, gradients: &[Vec<f32>]) {
    let dot = |gradient: &[f32], other: &[f32]| -> f32 {
        gradient.iter().zip(other).map(|(a, b)| a * b).sum()
    };
    let rows = gradients.iter().flat_map(|gradient| {
        let pattern = |salt| dot(gradient, &values(gradient.len(), salt, 1.0, 0.0));
        [pattern(60), pattern(61), dot(gradient, gradient).sqrt()]
    });
    check(name, &rows.collect::<Vec<_>>());
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

#[test]
fn tokenizer() {
    let device = Default::default();
    let mut module = fill_parameters(TokenizerConfig::new(128, 8).init::<Train>(&device));
    for block in &mut module.blocks {
        let [channels] = block.batch_norm.gamma.dims();
        let running = |salt, scale, center| {
            let values = values(channels, salt, scale, center);
            RunningState::new(Tensor::from_data(TensorData::new(values, [channels]), &device))
        };
        block.batch_norm.running_mean = running(30, 0.2, 0.0);
        block.batch_norm.running_var = running(31, 0.5, 1.0);
    }
    let x = fill([19, 128], 40).require_grad();
    check("tokenizer_eval.output", &vec(module.valid().forward(x.clone().inner())));
    let y = module.forward(x.clone());
    check("tokenizer_train.output", &vec(y.clone()));
    let found = backward(y, 50).backward();
    check("tokenizer_train.x", &vec(x.grad(&found).unwrap()));
    check_products("tokenizer_train.gradients", &gradients(&module, &found));
    let norms = module.blocks.iter().map(|block| &block.batch_norm);
    let running: Vec<_> =
        norms.clone().flat_map(|norm| vec(norm.running_mean.value_sync())).collect();
    check("tokenizer_train.running_mean", &running);
    let running: Vec<_> = norms.flat_map(|norm| vec(norm.running_var.value_sync())).collect();
    check("tokenizer_train.running_var", &running);
}

#[test]
fn transformer() {
    for (case, norm_first) in [("pre_norm", true), ("post_norm", false)] {
        let config = TransformerLayerConfig::new(16, 4).with_feed_forward(32).with_dropout(0.0);
        let config = config.with_norm_first(norm_first);
        let module = fill_parameters(config.init::<Train>(&Default::default()));
        let x = fill([3, 5, 16], 40).require_grad();
        let present =
            [[1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 1.0, 0.0]];
        let y = module.forward(x.clone(), Tensor::from_data(present, &Default::default()));
        check(&format!("{case}.output"), &vec(y.clone()));
        let found = backward(y, 50).backward();
        check(&format!("{case}.x"), &vec(x.grad(&found).unwrap()));
        check_all(case, &gradients(&module, &found));
    }
}

#[test]
fn base() {
    let layer = |norm_first| {
        let config = TransformerLayerConfig::new(16, 4).with_feed_forward(32).with_dropout(0.0);
        config.with_norm_first(norm_first)
    };
    let pooling = PoolingConfig::new(layer(false));
    let encoder = EncoderConfig::new(layer(true), 1, pooling.clone(), 8);
    let config = BaseConfig::new(TokenizerConfig::new(128, 16), pooling, encoder, false);
    let module = fill_parameters(config.init::<Train>(&Default::default()));
    let mut present = vec![1.0; 2 * 3 * 4];
    for place in [15, 19, 20, 21, 22, 23] {
        present[place] = 0.0;
    }
    let present = TensorData::new(present, [2, 3, 4]);
    let present: Tensor<Train, 3> = Tensor::from_data(present, &Default::default());
    let patches = fill([2, 3, 4, 128], 40) * present.clone().unsqueeze_dim(3);
    let encoded = module.forward(patches, present.clone());
    let any: Tensor<Train, 2> = present.max_dim(1).squeeze_dim(1);
    let tokens = encoded.embeddings * any.unsqueeze_dim(2);
    check("base.tokens", &vec(tokens.clone()));
    check("base.windows", &vec(encoded.window.clone()));
    let loss = backward(tokens, 50) + backward(encoded.window, 51);
    check_products("base.gradients", &gradients(&module, &loss.backward()));
}
