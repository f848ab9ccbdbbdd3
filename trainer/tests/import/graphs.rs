//! Exported graphs in tract against the burn modules they were exported from.

use std::collections::BTreeMap;

use burn::backend::Flex;
use burn::prelude::*;
use burn::tensor::Distribution;
use sfm_models::graph;
use sfm_trainer::export::{base_graphs, risk_graphs, staging_graphs};
use sfm_trainer::nn::{Base, RiskHead, Stager};

use crate::data::{Device, assert_close, mini, recordings, values};
use crate::engine::{Input, first, input, run};

/// Rows of the staging head's attention run at once in these tests; tokens are no multiple.
const QUERY_BLOCK: usize = 13;

pub fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::default())
}

/// 1 and 0 in a fixed pattern; the first row is all 0.
pub fn mask<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    let size: usize = shape.iter().product();
    let last = shape[D - 1];
    let present = |i: usize| f32::from(i >= last && !(i * 7 + i / 5).is_multiple_of(4));
    let values: Vec<f32> = (0..size).map(present).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::default())
}

#[test]
fn tract_equals_burn() {
    for recording in recordings() {
        let imported = recording.base();
        check_base(&imported.base);
        check_staging(&recording.staging(&imported), 4, 50);
        check_risk(&recording.risk(&imported).head, 4, 50);
    }
}

pub fn check_base(base: &Base<Flex>) {
    let graphs: BTreeMap<_, _> = base_graphs(base).into_iter().collect();
    let [_, embed_dim] = base.tokenizer.linear.weight.dims();

    let patches = random([5, base.tokenizer.patch_samples()]);
    let found = first::<2>(&graphs[graph::TOKENIZER], &[input("patches", &patches)]);
    assert_close("tokenizer", &values(&found), &values(&base.tokenizer.forward(patches)));

    for channels in [1, 2, 6] {
        let (tokens, present) = (random([7, channels, embed_dim]), mask([7, channels]));
        let inputs = [input("tokens", &tokens), input("present", &present)];
        let found = first::<2>(&graphs[graph::POOL], &inputs);
        let expected = base.pooling.forward(tokens, present);
        assert_close("pool", &values(&found), &values(&expected));
    }

    for length in [1, 6, 60] {
        let (tokens, present) = (random([3, length, embed_dim]), mask([3, length]));
        let inputs = [input("tokens", &tokens), input("present", &present)];
        let outputs = run(&graphs[graph::ENCODER], &inputs);
        let expected = base.encoder.forward(tokens, present);
        assert_close("encoder, embeddings", &outputs[0].2, &values(&expected.embeddings));
        assert_close("encoder, window", &outputs[1].2, &values(&expected.window));
    }
}

/// Runs the head in its parts, as the runtime does, with some modalities and one whole token
/// absent.
pub fn check_staging(stager: &Stager<Flex>, modalities: usize, length: usize) {
    let graphs: BTreeMap<_, _> = staging_graphs(stager).into_iter().collect();
    let [embed_dim, _] = stager.classifier.weight.dims();
    let (tokens, present) = (random([length, modalities, embed_dim]), mask([length, modalities]));
    let position = (0..length as i64).collect();
    let inputs =
        [input("tokens", &tokens), input("present", &present), Input::Int("position", position)];
    let mut x = first::<2>(&graphs[graph::STAGING_POOL], &inputs);
    let any: Tensor<Flex, 1> = present.clone().max_dim(1).squeeze_dim(1);
    for layer in 0..stager.layers.len() {
        let projected = run(&graphs[&graph::staging_key_value(layer)], &[input("x", &x)]);
        let named = |name| {
            let (_, shape, values) = projected.iter().find(|output| output.0 == name).unwrap();
            Input::Float(name, shape.clone(), values.clone())
        };
        let blocks = (0..length).step_by(QUERY_BLOCK).map(|start| {
            let rows = x.clone().slice(start..(start + QUERY_BLOCK).min(length));
            let inputs = [input("x", &rows), named("key"), named("value"), input("present", &any)];
            first::<2>(&graphs[&graph::staging_attend(layer)], &inputs)
        });
        x = Tensor::cat(blocks.collect(), 0);
    }
    let found = first::<2>(&graphs[graph::STAGING_RNN], &[input("x", &x)]);
    let expected =
        stager.forward(tokens.swap_dims(0, 1).unsqueeze(), present.swap_dims(0, 1).unsqueeze());
    assert_close("staging", &values(&found), &values(&expected));
}

pub fn check_risk(head: &RiskHead<Flex>, modalities: usize, length: usize) {
    let graphs: BTreeMap<_, _> = risk_graphs(head).into_iter().collect();
    let [embed_dim, _] = head.pooling.layer.out_proj.weight.dims();
    let (tokens, present) = (random([length, modalities, embed_dim]), mask([length, modalities]));
    let demographics = Tensor::from_data([[0.6, 1.0]], &Device::default());
    let inputs = [input("tokens", &tokens), input("present", &present)];
    let x = first::<2>(&graphs[graph::RISK_POOL], &inputs);
    let inputs = [input("x", &x), input("demographics", &demographics)];
    let outputs = run(&graphs[graph::RISK_RNN], &inputs);
    let expected = head.forward(
        tokens.swap_dims(0, 1).unsqueeze(),
        present.swap_dims(0, 1).unsqueeze(),
        demographics,
    );
    assert_close("risk, embedding", &outputs[0].2, &values(&expected.embedding));
    assert_close("risk, hazards", &outputs[1].2, &values(&expected.log_hazard));
}

#[test]
fn absent_tokens_change_nothing() {
    let base = mini().base().base;
    let graphs: BTreeMap<_, _> = base_graphs(&base).into_iter().collect();
    let [_, e] = base.tokenizer.linear.weight.dims();
    let (tokens, more) = (random([2, 3, e]), random([2, 2, e]) * 50.0);
    let embeddings = |tokens: Tensor<Flex, 3>, present: Tensor<Flex, 2>| {
        let inputs = [input("tokens", &tokens), input("present", &present)];
        first::<2>(&graphs[graph::POOL], &inputs)
    };
    let present = Tensor::ones([2, 3], &Device::default());
    let alone = embeddings(tokens.clone(), present.clone());
    let absent = Tensor::zeros([2, 2], &Device::default());
    let found =
        embeddings(Tensor::cat(vec![tokens, more], 1), Tensor::cat(vec![present, absent], 1));
    assert_close("pool with absent channels", &values(&found), &values(&alone));
}
