//! Networks of other sizes than the published ones: every size is a parameter.

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, Param, RunningState};
use burn::prelude::*;
use burn::tensor::Distribution;
use sfm_trainer::nn::{
    Base, BaseConfig, EncoderConfig, PoolingConfig, RiskHeadConfig, StagerConfig, TokenizerConfig,
    TransformerLayerConfig,
};

use crate::data::Device;
use crate::graphs::{check_base, check_risk, check_staging};

/// Adds noise to every parameter, so that biases and norms are not 0 and 1.
struct Noise;

impl ModuleMapper<Flex> for Noise {
    fn map_float<const D: usize>(
        &mut self,
        param: Param<Tensor<Flex, D>>,
    ) -> Param<Tensor<Flex, D>> {
        param.map(|tensor| {
            let noise = tensor.random_like(Distribution::Normal(0.0, 0.1));
            tensor + noise
        })
    }
}

fn base(embed_dim: usize, heads: usize, layers: usize, patch_samples: usize) -> Base<Flex> {
    let device = Device::default();
    let layer = TransformerLayerConfig::new(embed_dim, heads).with_feed_forward(96);
    let pooling = PoolingConfig::new(layer.clone());
    let encoder = EncoderConfig::new(layer.with_norm_first(true), layers, pooling.clone(), 64);
    let tokenizer = TokenizerConfig::new(patch_samples, embed_dim);
    let mut base: Base<Flex> =
        BaseConfig::new(tokenizer, pooling, encoder, true).init(&device).map(&mut Noise);
    for block in &mut base.tokenizer.blocks {
        let [channels, ..] = block.conv.weight.dims();
        let random = |low, high| {
            let values = Distribution::Uniform(low, high);
            RunningState::new(Tensor::<Flex, 1>::random([channels], values, &device))
        };
        block.batch_norm.running_mean = random(-1.0, 1.0);
        block.batch_norm.running_var = random(0.2, 3.0);
    }
    base
}

#[test]
fn base_of_other_sizes() {
    check_base(&base(64, 2, 3, 128));
    check_base(&base(16, 1, 2, 640));
    check_base(&base(96, 6, 1, 1280));
}

#[test]
fn heads_of_other_sizes() {
    let device = Device::default();
    for (embed_dim, heads, layers, classes, modalities) in [(64, 2, 3, 7, 4), (32, 8, 2, 5, 3)] {
        let layer = TransformerLayerConfig::new(embed_dim, heads).with_feed_forward(80);
        let pooling = PoolingConfig::new(layer.clone());
        let layer = layer.with_norm_first(true);
        let stager = StagerConfig::new(pooling.clone(), layer, layers, classes, 100)
            .init(&device)
            .map(&mut Noise);
        check_staging(&stager, modalities, 31);
        for demographics in [true, false] {
            let config = RiskHeadConfig::new(pooling.clone(), layers, classes)
                .with_demographics(demographics);
            check_risk(&config.init(&device).map(&mut Noise), modalities, 31);
        }
    }
}
