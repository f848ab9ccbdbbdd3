//! Tokenizer: six strided convolutions take one patch of one channel to one token.

use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig1d,
};
use burn::prelude::*;
use burn::tensor::activation::elu;

use super::Kernels;
use super::kernels::{self, Activation};

/// Channels before, between and after the convolutions.
pub const CHANNELS: [usize; 7] = [1, 4, 8, 16, 32, 64, 128];
/// Taps of every convolution.
pub const KERNEL: usize = 5;
/// Every convolution halves the length, so a patch must be a multiple of this many samples.
pub const PATCH_MULTIPLE: usize = 64;

/// Sizes of a [`Tokenizer`].
#[derive(Config, Debug)]
pub struct TokenizerConfig {
    /// Samples of one patch; a multiple of [`PATCH_MULTIPLE`].
    pub patch_samples: usize,
    /// E, the length of a token.
    pub embed_dim: usize,
}

/// Convolution, BatchNorm, ELU, and LayerNorm over channels and length together.
#[derive(Module, Debug)]
pub struct ConvBlock<B: Backend> {
    /// k 5, stride 2, padding 2.
    pub conv: Conv1d<B>,
    /// Over the batch, per channel.
    pub batch_norm: BatchNorm<B>,
    /// Over [channels * length], flattened: burn normalizes the last axis only.
    pub norm: LayerNorm<B>,
}

/// A patch to a token.
#[derive(Module, Debug)]
pub struct Tokenizer<B: Backend> {
    /// The six convolution blocks.
    pub blocks: Vec<ConvBlock<B>>,
    /// The mean over the remaining length, 128 to E.
    pub linear: Linear<B>,
}

impl TokenizerConfig {
    /// Channels in, channels out and output length of each convolution.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let patch_samples = self.patch_samples;
        CHANNELS
            .iter()
            .zip(CHANNELS.iter().skip(1))
            .enumerate()
            .map(move |(i, (&input, &output))| (input, output, patch_samples >> (i + 1)))
    }

    /// A tokenizer with random weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Tokenizer<B> {
        let block = |(input, output, length)| ConvBlock {
            conv: Conv1dConfig::new(input, output, KERNEL)
                .with_stride(2)
                .with_padding(PaddingConfig1d::Explicit(KERNEL / 2, KERNEL / 2))
                .init(device),
            batch_norm: BatchNormConfig::new(output).init(device),
            norm: LayerNormConfig::new(output * length).init(device),
        };
        Tokenizer {
            blocks: self.blocks().map(block).collect(),
            linear: LinearConfig::new(CHANNELS[CHANNELS.len() - 1], self.embed_dim).init(device),
        }
    }
}

impl<B: Kernels> Tokenizer<B> {
    /// `patches` [N, patch_samples] to [N, E].
    pub fn forward(&self, patches: Tensor<B, 2>) -> Tensor<B, 2> {
        let features = kernels::convolutions(patches, &self.blocks);
        kernels::dense(features, &self.linear, Activation::None, None)
    }
}

impl<B: Backend> Tokenizer<B> {
    /// Samples of one patch, as the LayerNorms' sizes tell.
    pub fn patch_samples(&self) -> usize {
        self.blocks.first().map_or(0, |block| {
            let [channels, ..] = block.conv.weight.dims();
            let [size] = block.norm.gamma.dims();
            2 * size / channels
        })
    }
}

impl<B: Kernels> ConvBlock<B> {
    /// [N, C_in, L] to [N, C_out, L / 2].
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let x = elu(self.batch_norm.forward(self.conv.forward(x)), 1.0);
        let [n, channels, length] = x.dims();
        self.norm.forward(x.reshape([n, channels * length])).reshape([n, channels, length])
    }
}
