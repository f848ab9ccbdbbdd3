//! A stack of bidirectional LSTM layers with PyTorch's gate order and packed weights.
//!
//! burn's own LSTM is not used: its eight small products per step and direction take most of
//! the time, where the input's share of a whole sequence is one product.

use burn::module::Initializer;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::{sigmoid, tanh};

use super::Kernels;

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
            x = Tensor::cat(
                vec![layer.forward.run(x.clone(), false), layer.backward.run(x, true)],
                2,
            );
        }
        x
    }
}

impl<B: Kernels> LstmDirection<B> {
    fn run(&self, x: Tensor<B, 3>, backward: bool) -> Tensor<B, 3> {
        let [n, tokens, _] = x.dims();
        let from_input = self.input.forward(x);
        let [_, _, gates] = from_input.dims();
        let units = gates / 4;
        let mut output: Tensor<B, 2> = Tensor::zeros([n, units], &from_input.device());
        let mut cell = output.clone();
        let mut outputs = Vec::with_capacity(tokens);
        for step in 0..tokens {
            let token = if backward { tokens - 1 - step } else { step };
            let sum =
                from_input.clone().narrow(1, token, 1).squeeze_dim(1) + self.hidden.forward(output);
            let gate = |index: usize| sum.clone().narrow(1, index * units, units);
            cell = sigmoid(gate(1)) * cell + sigmoid(gate(0)) * tanh(gate(2));
            output = sigmoid(gate(3)) * tanh(cell.clone());
            outputs.push(output.clone().unsqueeze_dim(1));
        }
        if backward {
            outputs.reverse();
        }
        Tensor::cat(outputs, 1)
    }
}
