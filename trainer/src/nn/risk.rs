//! Risk head: the modalities' tokens of a night, age and sex to one log-hazard per disease.
//!
//! A log-hazard is relative: no probability, no diagnosis. The reference's head also owns a
//! positional table and a LayerNorm that its forward pass never uses; they are left out here.

use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;

use super::stager::pool_modalities;
use super::{BiLstm, BiLstmConfig, Kernels, Pooling, PoolingConfig};

/// Age and sex.
pub const DEMOGRAPHICS: usize = 2;

/// Sizes of a [`RiskHead`].
#[derive(Config, Debug)]
pub struct RiskHeadConfig {
    /// The modality pooling.
    pub pooling: PoolingConfig,
    /// LSTM layers.
    pub layers: usize,
    /// K, the number of hazards.
    pub classes: usize,
    /// Age and sex enter.
    #[config(default = true)]
    pub demographics: bool,
}

/// Modality pooling, BiLSTM, mean, demographics, hazards.
#[derive(Module, Debug)]
pub struct RiskHead<B: Backend> {
    /// Modalities of a token to one.
    pub pooling: Pooling<B>,
    /// Over the night, E / 2 units a direction.
    pub lstm: BiLstm<B>,
    /// Age (scaled to 0..1) and sex (1 = male) to E / 4; absent in the head without them.
    pub demographics: Option<Linear<B>>,
    /// Dropout of the demographics.
    pub dropout: Dropout,
    /// To log-hazards.
    pub hazards: Linear<B>,
}

/// What a [`RiskHead`] returns.
#[derive(Debug, Clone)]
pub struct Hazards<B: Backend> {
    /// The night's embedding, [N, E].
    pub embedding: Tensor<B, 2>,
    /// Relative log-hazards, [N, K].
    pub log_hazard: Tensor<B, 2>,
}

impl RiskHeadConfig {
    /// The LSTM's sizes.
    pub fn lstm(&self) -> BiLstmConfig {
        let embed_dim = self.pooling.layer.embed_dim;
        BiLstmConfig::new(embed_dim, embed_dim / 2, self.layers)
    }

    /// Length of the embedded demographics; 0 without.
    pub fn demographics_dim(&self) -> usize {
        if self.demographics { self.pooling.layer.embed_dim / 4 } else { 0 }
    }

    /// A head with random weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> RiskHead<B> {
        let extra = self.demographics_dim();
        let inputs = self.pooling.layer.embed_dim + extra;
        RiskHead {
            pooling: self.pooling.init(device),
            lstm: self.lstm().init(device),
            demographics: self
                .demographics
                .then(|| LinearConfig::new(DEMOGRAPHICS, extra).init(device)),
            dropout: DropoutConfig::new(self.pooling.layer.dropout).init(),
            hazards: LinearConfig::new(inputs, self.classes).init(device),
        }
    }
}

impl<B: Kernels> RiskHead<B> {
    /// `tokens` [N, M, T, E], `present` [N, M, T], `demographics` [N, 2] (age scaled to 0..1,
    /// 1 = male). All nights of a batch have the same length.
    pub fn forward(
        &self,
        tokens: Tensor<B, 4>,
        present: Tensor<B, 3>,
        demographics: Tensor<B, 2>,
    ) -> Hazards<B> {
        let embedding = self.embed(tokens, present);
        Hazards { log_hazard: self.log_hazard(embedding.clone(), demographics), embedding }
    }

    /// The nights' embeddings [N, E], from `tokens` [N, M, T, E] and `present` [N, M, T].
    pub fn embed(&self, tokens: Tensor<B, 4>, present: Tensor<B, 3>) -> Tensor<B, 2> {
        embed_nights(&self.pooling, &self.lstm, tokens, present)
    }

    /// Log-hazards [N, K] from nights' embeddings [N, E] and `demographics` [N, 2].
    pub fn log_hazard(&self, embedding: Tensor<B, 2>, demographics: Tensor<B, 2>) -> Tensor<B, 2> {
        self.hazards.forward(self.features(embedding, demographics))
    }

    /// What the last layer takes, [N, E + E / 4], or [N, E] without demographics.
    pub fn features(&self, embedding: Tensor<B, 2>, demographics: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.demographics {
            Some(linear) => {
                let extra = self.dropout.forward(relu(linear.forward(demographics)));
                Tensor::cat(vec![embedding, extra], 1)
            }
            None => embedding,
        }
    }
}

/// Modality pooling, BiLSTM, mean over the night: [N, M, T, E] and [N, M, T] to [N, E].
pub(super) fn embed_nights<B: Kernels>(
    pooling: &Pooling<B>,
    lstm: &BiLstm<B>,
    tokens: Tensor<B, 4>,
    present: Tensor<B, 3>,
) -> Tensor<B, 2> {
    lstm.forward(pool_modalities(pooling, tokens, present)).mean_dim(1).squeeze_dim(1)
}
