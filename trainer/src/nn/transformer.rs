//! One transformer encoder layer with PyTorch's semantics (ReLU; post-norm or pre-norm).
//!
//! burn's own layer is not used: it drops attention scores before the softmax where PyTorch
//! drops attention weights after it, and it projects query, key and value in three products.

use burn::module::Initializer;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::{relu, softmax};

use super::Kernels;

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
            let x = x.clone() + self.attend(self.norm1.forward(x), present);
            x.clone() + self.feed_forward(self.norm2.forward(x))
        } else {
            let x = self.norm1.forward(x.clone() + self.attend(x, present));
            self.norm2.forward(x.clone() + self.feed_forward(x))
        }
    }

    fn attend(&self, x: Tensor<B, 3>, present: Tensor<B, 2>) -> Tensor<B, 3> {
        let [n, t, e] = x.dims();
        let head_dim = e / self.heads;
        let split = |rows: Tensor<B, 3>| rows.reshape([n, t, self.heads, head_dim]).swap_dims(1, 2);
        let projected = self.in_proj.forward(x);
        let query = split(projected.clone().narrow(2, 0, e)) / (head_dim as f64).sqrt();
        let key = split(projected.clone().narrow(2, e, e));
        let value = split(projected.narrow(2, 2 * e, e));
        let bias = ((present - 1.0) * ABSENT_SCORE).reshape([n, 1, 1, t]);
        let weights = softmax(query.matmul(key.transpose()) + bias, 3);
        let context = self.dropout.forward(weights).matmul(value);
        let context = context.swap_dims(1, 2).reshape([n, t, e]);
        self.dropout.forward(self.out_proj.forward(context))
    }

    fn feed_forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let inner = self.dropout.forward(relu(self.linear1.forward(x)));
        self.dropout.forward(self.linear2.forward(inner))
    }
}
