//! Apnea head: the modalities' tokens of a night to whether its apnea-hypopnea index (AHI) is over
//! each clinical threshold, and to the severity class. Its lower part is the risk head's.

use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::prelude::*;

use super::risk::embed_nights;
use super::{BiLstm, BiLstmConfig, Kernels, Pooling, PoolingConfig};

/// AHI, events per hour of sleep, from which apnea counts as present: mild or worse, moderate or
/// worse (AASM).
pub const PRESENCE_AHI: [f64; 2] = [5.0, 15.0];
/// AHI from which each severity class but the first begins: mild, moderate, severe (AASM).
pub const SEVERITY_AHI: [f64; 3] = [5.0, 15.0, 30.0];
/// The severity classes.
pub const SEVERITIES: [&str; 4] = ["none", "mild", "moderate", "severe"];

/// Sizes of an [`ApneaHead`].
#[derive(Config, Debug)]
pub struct ApneaHeadConfig {
    /// The modality pooling.
    pub pooling: PoolingConfig,
    /// LSTM layers.
    pub layers: usize,
}

/// Modality pooling, BiLSTM, mean, logits.
#[derive(Module, Debug)]
pub struct ApneaHead<B: Backend> {
    /// Modalities of a token to one.
    pub pooling: Pooling<B>,
    /// Over the night, E / 2 units a direction.
    pub lstm: BiLstm<B>,
    /// Dropout of the night's embedding.
    pub dropout: Dropout,
    /// To a logit for each of [`PRESENCE_AHI`].
    pub presence: Linear<B>,
    /// To logits of the [`SEVERITIES`].
    pub severity: Linear<B>,
}

/// What an [`ApneaHead`] returns.
#[derive(Debug, Clone)]
pub struct Apnea<B: Backend> {
    /// Logits of the AHI being at least [`PRESENCE_AHI`], [N, 2].
    pub presence: Tensor<B, 2>,
    /// Logits of the [`SEVERITIES`], [N, 4].
    pub severity: Tensor<B, 2>,
}

impl ApneaHeadConfig {
    /// The LSTM's sizes.
    pub fn lstm(&self) -> BiLstmConfig {
        let embed_dim = self.pooling.layer.embed_dim;
        BiLstmConfig::new(embed_dim, embed_dim / 2, self.layers)
    }

    /// A head with random weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> ApneaHead<B> {
        let embed_dim = self.pooling.layer.embed_dim;
        ApneaHead {
            pooling: self.pooling.init(device),
            lstm: self.lstm().init(device),
            dropout: DropoutConfig::new(self.pooling.layer.dropout).init(),
            presence: LinearConfig::new(embed_dim, PRESENCE_AHI.len()).init(device),
            severity: LinearConfig::new(embed_dim, SEVERITIES.len()).init(device),
        }
    }
}

impl<B: Kernels> ApneaHead<B> {
    /// `tokens` [N, M, T, E] and `present` [N, M, T]; all nights of a batch have the same length.
    pub fn forward(&self, tokens: Tensor<B, 4>, present: Tensor<B, 3>) -> Apnea<B> {
        self.logits(self.embed(tokens, present))
    }

    /// The nights' embeddings [N, E], from `tokens` [N, M, T, E] and `present` [N, M, T].
    pub fn embed(&self, tokens: Tensor<B, 4>, present: Tensor<B, 3>) -> Tensor<B, 2> {
        embed_nights(&self.pooling, &self.lstm, tokens, present)
    }

    /// Logits from nights' embeddings [N, E].
    pub fn logits(&self, embedding: Tensor<B, 2>) -> Apnea<B> {
        let features = self.dropout.forward(embedding);
        Apnea {
            presence: self.presence.forward(features.clone()),
            severity: self.severity.forward(features),
        }
    }
}

/// The place in [`SEVERITIES`] of a night's AHI.
pub fn severity(ahi: f64) -> usize {
    SEVERITY_AHI.iter().filter(|&&threshold| ahi >= threshold).count()
}
