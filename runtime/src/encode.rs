//! Patches to tokens to window embeddings, one modality at a time, and the log that keeps the
//! night's tokens. The split is exact: tokenizer and channel pooling depend on one patch only, so
//! a patch is computed once, ever; the encoder depends on one window only, so just that small
//! part runs again while a window fills.

use std::sync::Arc;
use std::time::Duration;

use sfm_models::manifest::{EPOCH_S, SingleChannel};
use sfm_models::{Bundle, Modality, graph};

use crate::infer::backend::{Backend, Engine};
use crate::infer::batch::BatchedSession;
use crate::infer::onnxruntime::Device;
use crate::infer::tokenizer_kernel::{TokenizerKernel, TokenizerScratch};
use crate::infer::{InferError, Input, Session};
use crate::timing::{Step, Timings};

/// Open windows are padded to a multiple of this many tokens, masked, so that an engine that
/// compiles a plan a shape needs few of them.
pub(crate) const WINDOW_STEP: usize = 12;

/// The base network on an engine: tokenizer, channel pooling, window encoder.
pub struct BaseNetwork {
    tokenizer: Tokenizer,
    pool: Arc<dyn Session>,
    encoder: Arc<dyn Session>,
    single_channel: SingleChannel,
    /// The encoder, where its runs are shared: a caller waits then, which a pool's worker must not.
    pub(crate) shared: Option<Arc<BatchedSession>>,
    /// E, the length of a token.
    pub embed_dim: usize,
    /// Patches of one window.
    pub window_patches: usize,
    /// Samples of one patch.
    pub patch_samples: usize,
    /// Patches of one 30-s epoch.
    pub epoch_patches: usize,
    timings: Arc<Timings>,
}

/// The tokenizer is a third of a night's arithmetic, in convolutions too small for the engines:
/// CPUs run our own kernel, a GPU runs the graph.
enum Tokenizer {
    Kernel(Box<TokenizerKernel>),
    Graph(Arc<dyn Session>),
}

impl BaseNetwork {
    /// Loads the base network of `bundle` on `backend`.
    ///
    /// # Errors
    /// [`InferError`] if the engine refuses a graph.
    pub fn load(
        bundle: &Bundle,
        backend: &Backend,
        timings: Arc<Timings>,
    ) -> Result<Self, InferError> {
        let manifest = bundle.manifest();
        let tokenizer = match backend.engine {
            Engine::OnnxRuntime(Device::Cuda(_)) => {
                Tokenizer::Graph(load_graph(bundle, backend, graph::TOKENIZER)?)
            }
            _ => {
                let kernel = TokenizerKernel::from_onnx(graph_bytes(bundle, graph::TOKENIZER)?)
                    .map_err(|e| InferError {
                        graph: graph::TOKENIZER.to_owned(),
                        engine: "the tokenizer kernel",
                        reason: e.to_string(),
                    })?;
                Tokenizer::Kernel(Box::new(kernel))
            }
        };
        Ok(Self {
            tokenizer,
            pool: load_graph(bundle, backend, graph::POOL)?,
            encoder: load_graph(bundle, backend, graph::ENCODER)?,
            shared: None,
            single_channel: manifest.base.single_channel,
            embed_dim: manifest.base.embed_dim,
            window_patches: manifest.base.window_patches,
            patch_samples: manifest.preprocessing.patch_samples,
            epoch_patches: manifest.preprocessing.epoch_patches(),
            timings,
        })
    }

    /// Lets callers on several threads share runs of the window encoder: a call waits up to
    /// `patience` for others.
    pub fn share_runs(&mut self, patience: Duration) {
        let batched = BatchedSession::new(self.encoder.clone(), graph::ENCODER, patience);
        let batched = Arc::new(batched);
        self.encoder = batched.clone();
        self.shared = Some(batched);
    }

    /// Start of a patch behind the start of the recording, seconds.
    pub fn onset_s(&self, patch: u64) -> f64 {
        patch as f64 * EPOCH_S as f64 / self.epoch_patches as f64
    }

    /// `patches` [n, patch_samples] to `tokens` [n, E].
    fn tokenize(
        &self,
        scratch: &mut Option<TokenizerScratch>,
        patches: &[f32],
        tokens: &mut [f32],
    ) -> Result<(), InferError> {
        self.timings.measure(Step::Tokenizer, || match &self.tokenizer {
            Tokenizer::Kernel(kernel) => {
                let scratch = scratch.get_or_insert_with(|| kernel.scratch());
                kernel.tokens_into(scratch, patches, tokens);
                Ok(())
            }
            Tokenizer::Graph(session) => {
                let shape = [patches.len() / self.patch_samples, self.patch_samples];
                session.run(&[Input::F32(&shape, patches)], &mut [tokens])
            }
        })
    }
}

/// Loads graph `name` of `bundle` on `backend`.
pub(crate) fn load_graph(
    bundle: &Bundle,
    backend: &Backend,
    name: &str,
) -> Result<Arc<dyn Session>, InferError> {
    backend.load(name, graph_bytes(bundle, name)?)
}

fn graph_bytes<'a>(bundle: &'a Bundle, name: &str) -> Result<&'a [u8], InferError> {
    bundle.graph(name).ok_or_else(|| InferError {
        graph: name.to_owned(),
        engine: "the bundle",
        reason: "the graph is missing".to_owned(),
    })
}

/// What the encoder makes of a window so far.
#[derive(Debug, Clone, Copy)]
pub struct WindowOutput<'a> {
    /// [filled, E]: the contextual 5-s embeddings.
    pub embeddings: &'a [f32],
    /// `[filled]`: 1.0, or 0.0 where the patch is absent.
    pub present: &'a [f32],
    /// `[E]`: the window's embedding.
    pub window: &'a [f32],
}

/// One window of one modality as it fills.
pub struct WindowEncoder {
    network: Arc<BaseNetwork>,
    channels: usize,
    scratch: Option<TokenizerScratch>,
    /// [block, C, E]: tokens of single channels on their way into the pooling.
    channel_tokens: Vec<f32>,
    channel_present: Vec<f32>,
    /// [window_patches, E] and [window_patches]: the window's pooled tokens; zero where absent
    /// or not yet there.
    tokens: Vec<f32>,
    present: Vec<f32>,
    filled: usize,
    embeddings: Vec<f32>,
    window: Vec<f32>,
}

impl WindowEncoder {
    /// An empty window for a modality of `channels` channels.
    pub fn new(network: Arc<BaseNetwork>, channels: usize) -> Self {
        let (patches, embed_dim) = (network.window_patches, network.embed_dim);
        Self {
            network,
            channels,
            scratch: None,
            channel_tokens: Vec::new(),
            channel_present: Vec::new(),
            tokens: vec![0.0; patches * embed_dim],
            present: vec![0.0; patches],
            filled: 0,
            embeddings: vec![0.0; patches * embed_dim],
            window: vec![0.0; embed_dim],
        }
    }

    /// Starts the next window.
    pub fn begin(&mut self) {
        self.tokens.fill(0.0);
        self.present.fill(0.0);
        self.filled = 0;
    }

    /// Tokens in the window so far.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Appends n patches: `patches` [n, C, patch_samples], normalized; `present` [n, C], 1.0 or
    /// 0.0. Patches beyond the window's end are left out.
    ///
    /// # Errors
    /// [`InferError`] of the engine.
    pub fn push(&mut self, patches: &[f32], present: &[f32]) -> Result<(), InferError> {
        let (channels, embed_dim) = (self.channels, self.network.embed_dim);
        let rows = (present.len() / channels).min(self.network.window_patches - self.filled);
        // A whole window goes as one block; anything else in epochs, the last one padded.
        let whole = rows == self.network.window_patches;
        let block = if whole { rows } else { self.network.epoch_patches };
        self.channel_tokens.resize(block * channels * embed_dim, 0.0);
        self.channel_present.resize(block * channels, 0.0);
        for first in (0..rows).step_by(block) {
            let here = block.min(rows - first);
            self.push_block(
                &patches[first * channels * self.network.patch_samples..]
                    [..here * channels * self.network.patch_samples],
                &present[first * channels..][..here * channels],
                here,
            )?;
        }
        Ok(())
    }

    fn push_block(
        &mut self,
        patches: &[f32],
        present: &[f32],
        rows: usize,
    ) -> Result<(), InferError> {
        let (channels, embed_dim) = (self.channels, self.network.embed_dim);
        let block = self.channel_present.len() / channels;
        if present.iter().all(|&p| p == 0.0) {
            // `begin` left zeros; a hole of hours costs nothing.
            self.filled += rows;
            return Ok(());
        }
        let (known, padding) = self.channel_tokens.split_at_mut(rows * channels * embed_dim);
        self.network.tokenize(&mut self.scratch, patches, known)?;
        padding.fill(0.0);
        self.channel_present[..present.len()].copy_from_slice(present);
        self.channel_present[present.len()..].fill(0.0);
        if channels == 1 && self.network.single_channel == SingleChannel::Skip {
            self.tokens[self.filled * embed_dim..][..rows * embed_dim].copy_from_slice(known);
        } else {
            // The padded rows of the output need a place too.
            self.embeddings.resize(self.embeddings.len().max(block * embed_dim), 0.0);
            let pooled = &mut self.embeddings[..block * embed_dim];
            let inputs = [
                Input::F32(&[block, channels, embed_dim], &self.channel_tokens),
                Input::F32(&[block, channels], &self.channel_present),
            ];
            let network = &self.network;
            network.timings.measure(Step::Pool, || network.pool.run(&inputs, &mut [pooled]))?;
            self.tokens[self.filled * embed_dim..][..rows * embed_dim]
                .copy_from_slice(&self.embeddings[..rows * embed_dim]);
        }
        for row in 0..rows {
            let any = present[row * channels..][..channels].iter().any(|&p| p > 0.0);
            self.present[self.filled + row] = f32::from(u8::from(any));
        }
        self.filled += rows;
        Ok(())
    }

    /// Runs the encoder over the tokens so far. An empty or wholly absent window gives zeros.
    ///
    /// # Errors
    /// [`InferError`] of the engine.
    pub fn encode(&mut self) -> Result<WindowOutput<'_>, InferError> {
        let embed_dim = self.network.embed_dim;
        let present = &self.present[..self.filled];
        if present.iter().all(|&p| p == 0.0) {
            self.embeddings.fill(0.0);
            self.window.fill(0.0);
        } else {
            let padded = self.filled.next_multiple_of(WINDOW_STEP).min(self.network.window_patches);
            let inputs = [
                Input::F32(&[1, padded, embed_dim], &self.tokens[..padded * embed_dim]),
                Input::F32(&[1, padded], &self.present[..padded]),
            ];
            let mut outputs =
                [&mut self.embeddings[..padded * embed_dim], self.window.as_mut_slice()];
            let network = &self.network;
            network
                .timings
                .measure(Step::Encoder, || network.encoder.run(&inputs, &mut outputs))?;
        }
        Ok(self.latest())
    }

    /// What [`WindowEncoder::encode`] returned last; valid until patches are pushed.
    pub fn latest(&self) -> WindowOutput<'_> {
        WindowOutput {
            embeddings: &self.embeddings[..self.filled * self.network.embed_dim],
            present: &self.present[..self.filled],
            window: &self.window,
        }
    }
}

/// The night's contextual 5-s embeddings, as the heads take them.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLog {
    embed_dim: usize,
    tokens: Vec<f32>,
    present: Vec<f32>,
}

impl TokenLog {
    /// An empty log of embeddings of length `embed_dim`.
    pub fn new(embed_dim: usize) -> Self {
        Self { embed_dim, tokens: Vec::new(), present: Vec::new() }
    }

    /// Number of 5-s positions.
    pub fn len(&self) -> usize {
        self.present.len() / Modality::COUNT
    }

    /// No position yet.
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// E.
    pub fn embed_dim(&self) -> usize {
        self.embed_dim
    }

    /// Values of one position: M x E.
    pub fn width(&self) -> usize {
        Modality::COUNT * self.embed_dim
    }

    /// Tokens [n, M, E] and presence [n, M] of a range of positions.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> (&[f32], &[f32]) {
        let (width, cells) = (self.width(), Modality::COUNT);
        (
            &self.tokens[rows.start * width..rows.end * width],
            &self.present[rows.start * cells..rows.end * cells],
        )
    }

    /// [len, M, E]: zero where absent.
    pub fn tokens(&self) -> &[f32] {
        &self.tokens
    }

    /// [len, M]: 1.0 or 0.0.
    pub fn present(&self) -> &[f32] {
        &self.present
    }

    /// Drops everything behind position `len`: an open window is written anew as it fills.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len * Modality::COUNT * self.embed_dim);
        self.present.truncate(len * Modality::COUNT);
    }

    /// Gives back the memory of what was dropped.
    pub fn shrink(&mut self) {
        self.tokens.shrink_to_fit();
        self.present.shrink_to_fit();
    }

    /// Appends `rows` positions with everything absent.
    pub fn grow(&mut self, rows: usize) {
        let len = self.len() + rows;
        self.tokens.resize(len * Modality::COUNT * self.embed_dim, 0.0);
        self.present.resize(len * Modality::COUNT, 0.0);
    }

    /// Writes one modality's `embeddings` [n, E] and `present` `[n]` from position `first` on;
    /// the positions must be there already.
    pub fn write(&mut self, first: usize, modality: Modality, embeddings: &[f32], present: &[f32]) {
        for (row, &is_present) in present.iter().enumerate() {
            let cell = (first + row) * Modality::COUNT + modality.index();
            self.present[cell] = is_present;
            let token = &mut self.tokens[cell * self.embed_dim..][..self.embed_dim];
            if is_present > 0.0 {
                token.copy_from_slice(&embeddings[row * self.embed_dim..][..self.embed_dim]);
            } else {
                token.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_tokens_are_zero_whatever_the_encoder_said() {
        let mut log = TokenLog::new(2);
        log.grow(3);
        log.write(1, Modality::Ekg, &[1.0, 2.0, 3.0, 4.0], &[0.0, 1.0]);
        assert_eq!(log.len(), 3);
        let ekg = |row: usize| {
            let cell = row * Modality::COUNT + Modality::Ekg.index();
            (log.present()[cell], log.tokens()[cell * 2..][..2].to_vec())
        };
        assert_eq!(ekg(0), (0.0, vec![0.0, 0.0]));
        assert_eq!(ekg(1), (0.0, vec![0.0, 0.0]));
        assert_eq!(ekg(2), (1.0, vec![3.0, 4.0]));
    }
}
