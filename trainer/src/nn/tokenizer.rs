//! Tokenizer: six strided convolutions take one patch of one channel to one token.

use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig1d,
};
use burn::prelude::*;
use burn::tensor::activation::relu;

use super::Kernels;
use super::kernels::{self, Activation, NORM_EPSILON, product};

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
    /// [N, L, C_in] to [N, L / 2, C_out] by burn's operations: channels last, so that the
    /// convolution is one matrix product and its gradients are too. (burn's own gradient of a
    /// convolution's weights sums over all patches in a few thread blocks of a GPU.)
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let x = elu(self.normalize_batch(self.convolve(x)));
        let [n, length, channels] = x.dims();
        let size = length * channels;
        let channels_last = |weights: Tensor<B, 1>| {
            weights.reshape([channels, length]).transpose().reshape([1, size])
        };
        let x = x.reshape([n, size]);
        let (center, variance) = moments(&x, |x| x.mean_dim(1));
        let x = (x - center) / (variance + NORM_EPSILON).sqrt();
        let x = x * channels_last(self.norm.gamma.val());
        let x = match &self.norm.beta {
            Some(beta) => x + channels_last(beta.val()),
            None => x,
        };
        x.reshape([n, length, channels])
    }

    fn convolve(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [n, length, input] = x.dims();
        let [output, ..] = self.conv.weight.dims();
        let half = length / 2;
        // Two samples a row: a stride is a row, and the taps are the row before, the row, and the
        // first sample of the row behind. Zeros stand before the first and behind the last.
        let rows = x.reshape([n, half, 2 * input]);
        let zeros = Tensor::zeros([n, 1, 2 * input], &rows.device());
        let padded = Tensor::cat(vec![zeros.clone(), rows.clone(), zeros], 1);
        let before = padded.clone().narrow(1, 0, half);
        let behind = padded.narrow(1, 2, half).narrow(2, 0, input);
        let taps = Tensor::cat(vec![before, rows, behind], 2);
        let weight = self.conv.weight.val().permute([2, 1, 0]).reshape([KERNEL * input, output]);
        product(taps, weight, self.conv.bias.as_ref().map(|bias| bias.val()))
    }

    /// BatchNorm over patches and length. Training updates the running statistics as PyTorch
    /// does: the variance is the unbiased one.
    fn normalize_batch(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let norm = &self.batch_norm;
        let [n, length, channels] = x.dims();
        let shape = [1, 1, channels];
        let x = if B::ad_enabled(&x.device()) {
            // Two steps: a sum over everything but a few channels would keep a few blocks busy.
            let mean = |x: Tensor<B, 3>| x.mean_dim(1).mean_dim(0);
            let update = |old: Tensor<B, 1>, new: Tensor<B, 3>| {
                (old * (1.0 - norm.momentum) + new.reshape([channels]) * norm.momentum).detach()
            };
            let count = (n * length) as f64;
            let (center, variance) = moments(&x, mean);
            norm.running_mean.update(update(norm.running_mean.value_sync(), center.clone()));
            let unbiased = variance.clone() * (count / (count - 1.0).max(1.0));
            norm.running_var.update(update(norm.running_var.value_sync(), unbiased));
            (x - center) / (variance + norm.epsilon).sqrt()
        } else {
            let center = norm.running_mean.value_sync().reshape(shape);
            let variance = norm.running_var.value_sync().reshape(shape);
            (x - center) / (variance + norm.epsilon).sqrt()
        };
        x * norm.gamma.val().reshape(shape) + norm.beta.val().reshape(shape)
    }
}

/// Mean and biased variance, where `mean` takes means over what is to be normalized.
fn moments<B: Backend, const D: usize>(
    x: &Tensor<B, D>,
    mean: impl Fn(Tensor<B, D>) -> Tensor<B, D>,
) -> (Tensor<B, D>, Tensor<B, D>) {
    let center = mean(x.clone());
    let centered = x.clone() - center.clone();
    (center, mean(centered.clone() * centered))
}

/// ELU with alpha 1, whose gradient is finite everywhere: burn's multiplies a zero with exp(x).
fn elu<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    relu(x.clone()) + (x.clamp_max(0.0).exp() - 1.0)
}
