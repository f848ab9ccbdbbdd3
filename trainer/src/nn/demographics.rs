//! Age and sex alone to log-hazards: what any embedding has to be better than.

use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;

use super::risk::DEMOGRAPHICS;

/// Sizes of a [`DemographicsHead`].
#[derive(Config, Debug)]
pub struct DemographicsHeadConfig {
    /// Units between.
    pub hidden: usize,
    /// K, the number of hazards.
    pub classes: usize,
    /// Dropout.
    #[config(default = 0.3)]
    pub dropout: f64,
}

/// The risk head without its night.
#[derive(Module, Debug)]
pub struct DemographicsHead<B: Backend> {
    /// Age (scaled to 0..1) and sex (1 = male) to units.
    pub demographics: Linear<B>,
    /// Dropout of the units.
    pub dropout: Dropout,
    /// To log-hazards.
    pub hazards: Linear<B>,
}

impl DemographicsHeadConfig {
    /// A head with random weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> DemographicsHead<B> {
        DemographicsHead {
            demographics: LinearConfig::new(DEMOGRAPHICS, self.hidden).init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            hazards: LinearConfig::new(self.hidden, self.classes).init(device),
        }
    }
}

impl<B: Backend> DemographicsHead<B> {
    /// `demographics` [N, 2] to log-hazards [N, K].
    pub fn forward(&self, demographics: Tensor<B, 2>) -> Tensor<B, 2> {
        self.hazards.forward(self.features(demographics))
    }

    /// What the last layer takes, [N, hidden].
    pub fn features(&self, demographics: Tensor<B, 2>) -> Tensor<B, 2> {
        self.dropout.forward(relu(self.demographics.forward(demographics)))
    }
}
