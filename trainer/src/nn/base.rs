//! The base network: tokenizer, channel pooling, window encoder. One network embeds every
//! modality. The first two look at one patch only, the encoder at one window only.

use burn::prelude::*;

use super::{
    Encoded, Encoder, EncoderConfig, Kernels, Pooling, PoolingConfig, Tokenizer, TokenizerConfig,
};

/// Sizes of a [`Base`].
#[derive(Config, Debug)]
pub struct BaseConfig {
    /// Patches to tokens.
    pub tokenizer: TokenizerConfig,
    /// Channels of a modality to one token.
    pub pooling: PoolingConfig,
    /// Tokens of a window in context.
    pub encoder: EncoderConfig,
    /// A modality of exactly one channel skips channel pooling, as in the reference.
    pub skip_single_channel: bool,
}

/// Tokenizer, channel pooling, window encoder.
#[derive(Module, Debug)]
pub struct Base<B: Backend> {
    /// Patches to tokens.
    pub tokenizer: Tokenizer<B>,
    /// Channels of a modality to one token.
    pub pooling: Pooling<B>,
    /// Tokens of a window in context.
    pub encoder: Encoder<B>,
    /// A modality of exactly one channel skips channel pooling.
    pub skip_single_channel: bool,
}

impl BaseConfig {
    /// A base network with random weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Base<B> {
        Base {
            tokenizer: self.tokenizer.init(device),
            pooling: self.pooling.init(device),
            encoder: self.encoder.init(device),
            skip_single_channel: self.skip_single_channel,
        }
    }
}

impl<B: Kernels> Base<B> {
    /// Windows of one modality: `patches` [N, C, T, patch_samples], `present` [N, C, T].
    pub fn forward(&self, patches: Tensor<B, 4>, present: Tensor<B, 3>) -> Encoded<B> {
        let [n, channels, tokens, patch_samples] = patches.dims();
        let x = self.tokenizer.forward(patches.reshape([n * channels * tokens, patch_samples]));
        self.of_patches(x, present)
    }

    /// Windows of one modality whose patches have been through the tokenizer: `tokens`
    /// [N * C * T, E], `present` [N, C, T].
    pub fn of_patches(&self, tokens: Tensor<B, 2>, present: Tensor<B, 3>) -> Encoded<B> {
        let ([n, channels, count], [_, embed_dim]) = (present.dims(), tokens.dims());
        let x = tokens.reshape([n, channels, count, embed_dim]).swap_dims(1, 2);
        let x = x.reshape([n * count, channels, embed_dim]);
        let members = present.clone().swap_dims(1, 2).reshape([n * count, channels]);
        let x = self.pool_channels(x, members).reshape([n, count, embed_dim]);
        self.encoder.forward(x, present.max_dim(1).squeeze_dim(1))
    }

    /// `tokens` [N, C, E] and `present` [N, C] to one token of the modality, [N, E].
    pub fn pool_channels(&self, tokens: Tensor<B, 3>, present: Tensor<B, 2>) -> Tensor<B, 2> {
        let [_, channels, _] = tokens.dims();
        if channels == 1 && self.skip_single_channel {
            return tokens.squeeze_dim(1);
        }
        self.pooling.forward(tokens, present)
    }
}
