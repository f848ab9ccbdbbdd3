//! A stack of bidirectional LSTM layers with PyTorch's gate order and packed weights.
//!
//! burn's own LSTM is not used: its eight small products per step and direction take most of
//! the time, where the input's share of a whole sequence is one product. The recurrence is an
//! operation of its own ([`kernels::bilstm`]).

use burn::module::Initializer;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::module::linear;

use super::{Kernels, kernels};

/// Sizes of a [`BiLstm`].
#[derive(Config, Debug)]
pub struct BiLstmConfig {
    /// Length of an input token.
    pub input: usize,
    /// Units of one direction; a token leaves twice as long.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Dropout between layers.
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// One direction of one layer; the rows of both products are the input gate, the forget gate,
/// the cell candidate and the output gate, `hidden` columns each.
#[derive(Module, Debug)]
pub struct LstmDirection<B: Backend> {
    /// Input to gates.
    pub input: Linear<B>,
    /// Last output to gates.
    pub hidden: Linear<B>,
}

/// Both directions of one layer.
#[derive(Module, Debug)]
pub struct BiLstmLayer<B: Backend> {
    /// From the first token to the last.
    pub forward: LstmDirection<B>,
    /// From the last token to the first.
    pub backward: LstmDirection<B>,
}

/// Bidirectional LSTM layers, one above the other.
#[derive(Module, Debug)]
pub struct BiLstm<B: Backend> {
    /// The layers, lowest first.
    pub layers: Vec<BiLstmLayer<B>>,
    /// Dropout between layers.
    pub dropout: Dropout,
}

impl BiLstmConfig {
    /// Length of an input token of layer `layer`.
    pub fn layer_input(&self, layer: usize) -> usize {
        if layer == 0 { self.input } else { 2 * self.hidden }
    }

    /// Layers with PyTorch's initial distribution.
    pub fn init<B: Backend>(&self, device: &B::Device) -> BiLstm<B> {
        let bound = 1.0 / (self.hidden as f64).sqrt();
        let gates = |input| {
            LinearConfig::new(input, 4 * self.hidden)
                .with_initializer(Initializer::Uniform { min: -bound, max: bound })
                .init(device)
        };
        let direction = |input| LstmDirection { input: gates(input), hidden: gates(self.hidden) };
        let layer = |index| {
            let input = self.layer_input(index);
            BiLstmLayer { forward: direction(input), backward: direction(input) }
        };
        BiLstm {
            layers: (0..self.layers).map(layer).collect(),
            dropout: DropoutConfig::new(self.dropout).init(),
        }
    }
}

impl<B: Kernels> BiLstm<B> {
    /// `x` [N, T, input] to [N, T, 2 * hidden]: the forward direction's outputs, then the
    /// backward one's.
    pub fn forward(&self, mut x: Tensor<B, 3>) -> Tensor<B, 3> {
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                x = self.dropout.forward(x);
            }
            x = layer.run(x);
        }
        x
    }
}

impl<B: Kernels> BiLstmLayer<B> {
    fn run(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        kernels::bilstm(
            [self.forward.gates(x.clone()), self.backward.gates(x)],
            [self.forward.hidden.weight.val(), self.backward.hidden.weight.val()],
        )
    }
}

impl<B: Kernels> LstmDirection<B> {
    /// The gates without their recurrent part, [N, T, 4 * hidden].
    fn gates(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let bias = match (&self.input.bias, &self.hidden.bias) {
            (Some(input), Some(hidden)) => Some(input.val() + hidden.val()),
            (bias, None) | (None, bias) => bias.as_ref().map(|bias| bias.val()),
        };
        linear(x, self.input.weight.val(), bias)
    }
}
