//! One transformer encoder layer with PyTorch's semantics (ReLU; post-norm or pre-norm).
//!
//! burn's own layer is not used: it drops attention scores before the softmax where PyTorch
//! drops attention weights after it, and it projects query, key and value in three products.

use burn::module::Initializer;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::prelude::*;

use super::Kernels;
use super::kernels::{Activation, attention, dense, layer_norm};

/// Added to the score of an absent key; far below any real score, and finite, so that a row
/// with no key at all stays finite.
pub const ABSENT_SCORE: f64 = 1e9;

/// Sizes of a [`TransformerLayer`].
#[derive(Config, Debug)]
pub struct TransformerLayerConfig {
    /// E, the length of a token.
    pub embed_dim: usize,
    /// Attention heads; divides `embed_dim`.
    pub heads: usize,
    /// Width of the feed-forward.
    #[config(default = 2048)]
    pub feed_forward: usize,
    /// Dropout of attention weights, feed-forward and residuals.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// Normalize before attention and feed-forward instead of after.
    #[config(default = false)]
    pub norm_first: bool,
}

/// Multi-head self-attention and a feed-forward, each with residual and LayerNorm.
#[derive(Module, Debug)]
pub struct TransformerLayer<B: Backend> {
    /// E to query, key and value (3 E).
    pub in_proj: Linear<B>,
    /// The heads' concatenation to E.
    pub out_proj: Linear<B>,
    /// Feed-forward, first half.
    pub linear1: Linear<B>,
    /// Feed-forward, second half.
    pub linear2: Linear<B>,
    /// LayerNorm of the attention.
    pub norm1: LayerNorm<B>,
    /// LayerNorm of the feed-forward.
    pub norm2: LayerNorm<B>,
    /// Dropout of attention weights, feed-forward and residuals.
    pub dropout: Dropout,
    /// Attention heads.
    pub heads: usize,
    /// Pre-norm.
    pub norm_first: bool,
}

impl TransformerLayerConfig {
    /// A layer with PyTorch's initial distribution.
    pub fn init<B: Backend>(&self, device: &B::Device) -> TransformerLayer<B> {
        let embed_dim = self.embed_dim;
        let mut in_proj = LinearConfig::new(embed_dim, 3 * embed_dim)
            .with_initializer(Initializer::XavierUniform { gain: 1.0 })
            .init(device);
        in_proj.bias = Some(Initializer::Zeros.init([3 * embed_dim], device));
        let mut out_proj = LinearConfig::new(embed_dim, embed_dim).init(device);
        out_proj.bias = Some(Initializer::Zeros.init([embed_dim], device));
        TransformerLayer {
            in_proj,
            out_proj,
            linear1: LinearConfig::new(embed_dim, self.feed_forward).init(device),
            linear2: LinearConfig::new(self.feed_forward, embed_dim).init(device),
            norm1: LayerNormConfig::new(embed_dim).init(device),
            norm2: LayerNormConfig::new(embed_dim).init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            heads: self.heads,
            norm_first: self.norm_first,
        }
    }
}

impl<B: Kernels> TransformerLayer<B> {
    /// `x` [N, T, E] and `present` [N, T] to [N, T, E]; absent tokens are never attended to.
    pub fn forward(&self, x: Tensor<B, 3>, present: Tensor<B, 2>) -> Tensor<B, 3> {
        if self.norm_first {
            let x = x.clone() + self.attend(layer_norm(x, &self.norm1), present);
            x.clone() + self.feed_forward(layer_norm(x, &self.norm2))
        } else {
            let x = layer_norm(x.clone() + self.attend(x, present), &self.norm1);
            layer_norm(x.clone() + self.feed_forward(x), &self.norm2)
        }
    }

    fn attend(&self, x: Tensor<B, 3>, present: Tensor<B, 2>) -> Tensor<B, 3> {
        let projected = dense(x, &self.in_proj, Activation::None, None);
        let context = attention(projected, present, self.heads, &self.dropout);
        dense(context, &self.out_proj, Activation::None, Some(&self.dropout))
    }

    fn feed_forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let inner = dense(x, &self.linear1, Activation::Relu, Some(&self.dropout));
        dense(inner, &self.linear2, Activation::None, Some(&self.dropout))
    }
}
