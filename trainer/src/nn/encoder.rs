//! Window encoder: the tokens of one window in context, and one embedding for the window.

use burn::nn::{LayerNorm, LayerNormConfig};
use burn::prelude::*;

use super::kernels::layer_norm;
use super::{
    Kernels, Pooling, PoolingConfig, PositionalTable, PositionalTableConfig, TransformerLayer,
    TransformerLayerConfig,
};

/// Sizes of an [`Encoder`].
#[derive(Config, Debug)]
pub struct EncoderConfig {
    /// The pre-norm layers.
    pub layer: TransformerLayerConfig,
    /// How many of them.
    pub layers: usize,
    /// The window pooling.
    pub pooling: PoolingConfig,
    /// Rows of the positional table.
    pub max_seq_length: usize,
}

/// Positions, LayerNorm, pre-norm transformer layers, window pooling.
#[derive(Module, Debug)]
pub struct Encoder<B: Backend> {
    /// Positions inside the window.
    pub position: PositionalTable<B>,
    /// Before the first layer; there is none after the last.
    pub norm: LayerNorm<B>,
    /// Pre-norm layers.
    pub layers: Vec<TransformerLayer<B>>,
    /// The window's tokens to one.
    pub pooling: Pooling<B>,
}

/// What an [`Encoder`] returns.
#[derive(Debug, Clone)]
pub struct Encoded<B: Backend> {
    /// The tokens in context, [N, T, E].
    pub embeddings: Tensor<B, 3>,
    /// The windows' embeddings, [N, E].
    pub window: Tensor<B, 2>,
}

impl EncoderConfig {
    /// An encoder with random weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Encoder<B> {
        let embed_dim = self.layer.embed_dim;
        Encoder {
            position: PositionalTableConfig::new(self.max_seq_length, embed_dim).init(device),
            norm: LayerNormConfig::new(embed_dim).init(device),
            layers: (0..self.layers).map(|_| self.layer.init(device)).collect(),
            pooling: self.pooling.init(device),
        }
    }
}

impl<B: Kernels> Encoder<B> {
    /// `tokens` [N, T, E] and `present` [N, T]; absent tokens are never attended to.
    pub fn forward(&self, tokens: Tensor<B, 3>, present: Tensor<B, 2>) -> Encoded<B> {
        let mut x = layer_norm(self.position.forward(tokens), &self.norm);
        for layer in &self.layers {
            x = layer.forward(x, present.clone());
        }
        Encoded { window: self.pooling.forward(x.clone(), present), embeddings: x }
    }
}
