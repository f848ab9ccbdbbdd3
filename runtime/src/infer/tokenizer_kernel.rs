//! The tokenizer graph computed by SIMD code of our own: engines run its small convolutions at
//! a third of the speed of the processor's matrix products.
//!
//! Patches are the lanes: activations lie as [channel, position, lane], a weight is broadcast
//! to all lanes, and no step mixes lanes, so a patch's token does not depend on its neighbors.
//! Reads the weights from the bundle's ONNX graph and refuses one of any other structure.
//! Immutable and shared by threads; each thread brings its own [`TokenizerScratch`].

mod simd;
mod weights;

use pulp::Arch;

pub use weights::{KernelError, TokenizerWeights};

/// Runs the tokenizer on the best instruction set of this machine.
#[derive(Debug, Clone)]
pub struct TokenizerKernel {
    arch: Arch,
    weights: TokenizerWeights,
    layers: Vec<simd::Layer>,
}

/// Activations of one batch of lanes; one per thread.
#[derive(Debug, Clone, Default)]
pub struct TokenizerScratch {
    front: Vec<f32>,
    back: Vec<f32>,
}

impl TokenizerKernel {
    /// Reads the weights of a bundle's `tokenizer.onnx`.
    ///
    /// # Errors
    /// [`KernelError`] if the bytes are no ONNX graph, or not of the tokenizer's structure.
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, KernelError> {
        Ok(Self::new(TokenizerWeights::from_onnx(bytes)?))
    }

    /// A kernel with these weights.
    pub fn new(weights: TokenizerWeights) -> Self {
        Self::on(Arch::new(), weights)
    }

    fn on(arch: Arch, weights: TokenizerWeights) -> Self {
        let layers = weights.convolutions.iter().map(simd::Layer::new).collect();
        Self { arch, weights, layers }
    }

    /// Samples of one patch.
    pub fn patch_samples(&self) -> usize {
        self.weights.patch_samples
    }

    /// E, the length of one token.
    pub fn embed_dim(&self) -> usize {
        self.weights.linear_bias.len()
    }

    /// Floating-point operations of the convolutions and the linear layer for one patch.
    pub fn flop_per_patch(&self) -> u64 {
        let convolutions = self.weights.convolutions.iter().map(|c| c.weight.len() * c.length);
        2 * (convolutions.sum::<usize>() + self.weights.linear_weight.len()) as u64
    }

    /// The instruction set in use, for the user.
    pub fn instruction_set(&self) -> String {
        format!("{:?}", self.arch)
    }

    /// Work space for one thread.
    pub fn scratch(&self) -> TokenizerScratch {
        TokenizerScratch::default()
    }

    /// Computes `tokens` [N, [`embed_dim`](Self::embed_dim)] from z-scored `patches`
    /// [N, [`patch_samples`](Self::patch_samples)], both row-major. Any N; multiples of 16 are
    /// fastest. Where the slices disagree on N, the smaller one counts.
    pub fn tokens_into(&self, scratch: &mut TokenizerScratch, patches: &[f32], tokens: &mut [f32]) {
        self.arch.dispatch(simd::Run { kernel: self, scratch, patches, tokens });
    }
}

#[cfg(test)]
mod tests;
