//! Attention pooling: a post-norm transformer layer over a set, then the mean of what is
//! present. Pools the channels of a modality, the modalities of a token, the tokens of a window.

use burn::prelude::*;

use super::{Kernels, TransformerLayer, TransformerLayerConfig};

/// Sizes of a [`Pooling`].
#[derive(Config, Debug)]
pub struct PoolingConfig {
    /// The transformer layer; `norm_first` is false in the reference.
    pub layer: TransformerLayerConfig,
}

/// A set of tokens to one token.
#[derive(Module, Debug)]
pub struct Pooling<B: Backend> {
    /// The layer that the members of the set attend to each other in.
    pub layer: TransformerLayer<B>,
}

impl PoolingConfig {
    /// A pooling with random weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Pooling<B> {
        Pooling { layer: self.layer.init(device) }
    }
}

impl<B: Kernels> Pooling<B> {
    /// `tokens` [N, C, E] and `present` [N, C] to [N, E]; an empty set gives zeros.
    pub fn forward(&self, tokens: Tensor<B, 3>, present: Tensor<B, 2>) -> Tensor<B, 2> {
        let pooled = self.layer.forward(tokens, present.clone());
        let sum = (pooled * present.clone().unsqueeze_dim(2)).sum_dim(1).squeeze_dim(1);
        sum / present.sum_dim(1).clamp_min(1.0)
    }
}
