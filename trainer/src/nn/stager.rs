//! Staging head: the modalities' tokens of a night to five logits per token.

use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::prelude::*;

use super::kernels::layer_norm;
use super::{
    BiLstm, BiLstmConfig, Kernels, Pooling, PoolingConfig, PositionalTable, PositionalTableConfig,
    TransformerLayer, TransformerLayerConfig,
};

/// Sizes of a [`Stager`].
#[derive(Config, Debug)]
pub struct StagerConfig {
    /// The modality pooling.
    pub pooling: PoolingConfig,
    /// The pre-norm layers.
    pub layer: TransformerLayerConfig,
    /// How many of them, and LSTM layers as well.
    pub layers: usize,
    /// Stages.
    pub classes: usize,
    /// Rows of the positional table: the longest stretch, in tokens.
    pub max_seq_length: usize,
}

/// Modality pooling, positions, LayerNorm, pre-norm layers, BiLSTM, classifier.
#[derive(Module, Debug)]
pub struct Stager<B: Backend> {
    /// Modalities of a token to one.
    pub pooling: Pooling<B>,
    /// Positions in the night.
    pub position: PositionalTable<B>,
    /// Before the first layer.
    pub norm: LayerNorm<B>,
    /// Pre-norm layers over the night.
    pub layers: Vec<TransformerLayer<B>>,
    /// Over the night, E / 2 units a direction.
    pub lstm: BiLstm<B>,
    /// E to logits.
    pub classifier: Linear<B>,
}

impl StagerConfig {
    /// The LSTM's sizes.
    pub fn lstm(&self) -> BiLstmConfig {
        let embed_dim = self.layer.embed_dim;
        BiLstmConfig::new(embed_dim, embed_dim / 2, self.layers).with_dropout(self.layer.dropout)
    }

    /// A head with random weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Stager<B> {
        let embed_dim = self.layer.embed_dim;
        Stager {
            pooling: self.pooling.init(device),
            position: PositionalTableConfig::new(self.max_seq_length, embed_dim).init(device),
            norm: LayerNormConfig::new(embed_dim).init(device),
            layers: (0..self.layers).map(|_| self.layer.init(device)).collect(),
            lstm: self.lstm().init(device),
            classifier: LinearConfig::new(embed_dim, self.classes).init(device),
        }
    }
}

impl<B: Kernels> Stager<B> {
    /// `tokens` [N, M, T, E] (M modalities) and `present` [N, M, T] to logits [N, T, classes].
    ///
    /// A token with no modality present is never attended to.
    pub fn forward(&self, tokens: Tensor<B, 4>, present: Tensor<B, 3>) -> Tensor<B, 3> {
        self.forward_from(tokens, present, 0)
    }

    /// [`Stager::forward`] for tokens whose positions begin at `first`, as live ones do.
    pub fn forward_from(
        &self,
        tokens: Tensor<B, 4>,
        present: Tensor<B, 3>,
        first: usize,
    ) -> Tensor<B, 3> {
        let x = pool_modalities(&self.pooling, tokens, present.clone());
        let any = present.max_dim(1).squeeze_dim(1);
        let mut x = layer_norm(self.position.forward_from(x, first), &self.norm);
        for layer in &self.layers {
            x = layer.forward(x, any.clone());
        }
        self.classifier.forward(self.lstm.forward(x))
    }
}

/// `tokens` [N, M, T, E] and `present` [N, M, T] to one token per time, [N, T, E].
pub(super) fn pool_modalities<B: Kernels>(
    pooling: &Pooling<B>,
    tokens: Tensor<B, 4>,
    present: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let [n, modalities, t, e] = tokens.dims();
    let rows = tokens.swap_dims(1, 2).reshape([n * t, modalities, e]);
    let members = present.swap_dims(1, 2).reshape([n * t, modalities]);
    pooling.forward(rows, members).reshape([n, t, e])
}
