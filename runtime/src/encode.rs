//! Patches to tokens to window embeddings, one modality at a time, and the log that keeps the
//! night's tokens. The split is exact: tokenizer and channel pooling depend on one patch only, so
//! a patch is computed once, ever; the encoder depends on one window only, so just that small
//! part runs again while a window fills.

mod token_log;

use std::sync::Arc;
use std::time::Duration;

use sfm_models::manifest::SingleChannel;
use sfm_models::{Bundle, Manifest, graph};

pub use self::token_log::TokenLog;

use crate::infer::backend::Backend;
use crate::infer::batch::{BatchedSession, SIZES};
use crate::infer::tokenizer_kernel::{TokenizerKernel, TokenizerScratch};
use crate::infer::{InferError, Input, Session, graph_check};
use crate::timing::{Step, Timings};
use sfm_models::EPOCH_SECONDS;

/// Open windows are padded to a multiple of this many tokens, masked, so that an engine that
/// compiles a plan a shape needs few of them.
pub(crate) const WINDOW_STEP: usize = 12;

/// The base network on an engine: tokenizer, channel pooling, window encoder.
pub struct BaseNetwork {
    /// Our own, on the CPU, whatever the engine: a third of a night's arithmetic, in convolutions too
    /// small for engines and GPUs.
    tokenizer: TokenizerKernel,
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
        let onnx = graph_bytes(bundle, graph::TOKENIZER)?;
        graph_check::check(graph::TOKENIZER, onnx)?;
        let tokenizer = TokenizerKernel::from_onnx(onnx)
            .map_err(|e| InferError::refused(graph::TOKENIZER, "the tokenizer kernel", e))?;
        check_sizes(&tokenizer, manifest)?;
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

    /// Runs channel pooling and encoder once in every shape that a live session asks for, with up to
    /// `channels` of them in a modality, so that no plan is compiled while a stage is waited for.
    ///
    /// # Errors
    /// [`InferError`] of the first run that fails.
    pub fn warm_up(&self, channels: usize) -> Result<(), InferError> {
        let (rows, embed_dim) = (self.epoch_patches, self.embed_dim);
        let few = match self.single_channel {
            SingleChannel::Skip => 2,
            SingleChannel::Pool => 1,
        };
        for channels in few..=channels {
            let tokens = vec![0.0; rows * channels * embed_dim];
            let present = vec![1.0; rows * channels];
            let inputs = [
                Input::F32(&[rows, channels, embed_dim], &tokens),
                Input::F32(&[rows, channels], &present),
            ];
            self.pool.run(&inputs, &mut [&mut vec![0.0; rows * embed_dim]])?;
        }
        let (encoder, sizes): (&dyn Session, &[usize]) = match &self.shared {
            Some(shared) => (shared.graph(), &SIZES),
            None => (&*self.encoder, &[1]),
        };
        for padded in (WINDOW_STEP..=self.window_patches).step_by(WINDOW_STEP) {
            for &size in sizes {
                let (tokens, present) =
                    (vec![0.0; size * padded * embed_dim], vec![1.0; size * padded]);
                let inputs = [
                    Input::F32(&[size, padded, embed_dim], &tokens),
                    Input::F32(&[size, padded], &present),
                ];
                let (mut embeddings, mut window) = (tokens.clone(), vec![0.0; size * embed_dim]);
                encoder.run(&inputs, &mut [&mut embeddings, &mut window])?;
            }
        }
        Ok(())
    }

    /// Start of a patch behind the start of the recording, seconds.
    pub fn onset_s(&self, patch: u64) -> f64 {
        patch as f64 * EPOCH_SECONDS as f64 / self.epoch_patches as f64
    }

    /// Patches in `seconds`.
    pub fn patches_in(&self, seconds: f64) -> usize {
        (seconds * self.epoch_patches as f64 / EPOCH_SECONDS as f64) as usize
    }

    /// `patches` [n, patch_samples] to `tokens` [n, E].
    fn tokenize(&self, scratch: &mut TokenizerScratch, patches: &[f32], tokens: &mut [f32]) {
        self.timings.measure(Step::Tokenizer, || {
            self.tokenizer.tokens_into(scratch, patches, tokens);
        });
    }
}

/// The tokenizer takes the patches and makes the tokens that the manifest says.
fn check_sizes(tokenizer: &TokenizerKernel, manifest: &Manifest) -> Result<(), InferError> {
    let found = (tokenizer.patch_samples(), tokenizer.embed_dim());
    let due = (manifest.preprocessing.patch_samples, manifest.base.embed_dim);
    if found == due {
        return Ok(());
    }
    let reason = format!(
        "it makes {} values of {} samples, but the manifest says {} of {}",
        found.1, found.0, due.1, due.0
    );
    Err(InferError::refused(graph::TOKENIZER, "the tokenizer kernel", reason))
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
    let missing = || InferError::refused(name, "the bundle", "the graph is missing");
    bundle.graph(name).ok_or_else(missing)
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
    scratch: TokenizerScratch,
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
        let scratch = network.tokenizer.scratch();
        Self {
            network,
            channels,
            scratch,
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
        self.network.tokenize(&mut self.scratch, patches, known);
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
