//! Embeddings of a store's recordings in the reference's layout, by any engine: 5-s tokens in one
//! folder, 5-min windows in another.
//!
//! As the final pass of `sfm-stream`: a patch with a sample missing is absent, a part-window at the
//! end is encoded at its length, a recording that lacks a modality is embedded without it. Refuses
//! recordings without a channel of the network's modalities or shorter than a patch.

mod burn;
mod runtime;

use std::path::Path;

use sfm_models::Modality;

pub use self::burn::BurnEmbedder;
pub use self::runtime::RuntimeEmbedder;
use crate::data::embeddings::{Rows, write};
use crate::data::{DataError, StoreFile, replace};

/// Windows embedded at once: 12 MB of signal in ten channels.
const BATCH_WINDOWS: usize = 8;
/// No sample of a living person is this many standard deviations from the mean; the pipeline's.
const MAX_Z: f32 = 1e6;

/// What a base network takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSizes {
    /// E, the length of an embedding.
    pub embed_dim: usize,
    /// Patches of a window.
    pub window_patches: usize,
    /// Samples of a patch.
    pub patch_samples: usize,
    /// The modalities, each with the most channels it was trained with.
    pub modalities: Vec<(Modality, usize)>,
}

/// Windows of one modality, all of the same length.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// N.
    pub windows: usize,
    /// T, patches of each window.
    pub patches: usize,
    /// C, at least 1.
    pub channels: usize,
    /// [N, T, C, patch_samples], zero where absent.
    pub samples: Vec<f32>,
    /// [N, T, C]: 1.0, or 0.0 where absent.
    pub present: Vec<f32>,
}

/// A base network on an engine.
pub trait Embedder: Send + Sync {
    /// What it takes.
    fn sizes(&self) -> &InputSizes;

    /// Embeds windows of one modality: `tokens` [N, T, E] and `pooled` [N, E]. Values of absent
    /// tokens and windows are of no meaning.
    ///
    /// # Errors
    /// One line, if the engine fails.
    fn embed(
        &self,
        windows: &Windows,
        tokens: &mut [f32],
        pooled: &mut [f32],
    ) -> Result<(), String>;
}

/// A recording's embeddings by modality, NaN where absent; modalities without signal are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// [T, E] of each modality.
    pub tokens: Vec<Rows>,
    /// [windows, E] of each.
    pub windows: Vec<Rows>,
}

/// Embeds a recording of the store. With `whole_windows` the part-window at its end is left out, as
/// in the reference.
///
/// # Errors
/// [`DataError`] if it cannot be read or used, or the engine fails.
pub fn recording(
    file: &StoreFile,
    embedder: &dyn Embedder,
    whole_windows: bool,
) -> Result<Embedded, DataError> {
    let sizes = embedder.sizes();
    let channels: Vec<(Modality, Vec<usize>)> = sizes
        .modalities
        .iter()
        .map(|&(modality, most)| (modality, file.of_modality(modality, most)))
        .filter(|(_, channels)| !channels.is_empty())
        .collect();
    if channels.is_empty() {
        let reason = "has no channel of the network's modalities; preprocess it with --map";
        return Err(DataError::refused(file.path(), reason));
    }
    let used = channels.iter().flat_map(|(_, channels)| channels);
    let lengths = used.filter_map(|&c| file.channels().get(c)).map(|c| c.samples);
    let mut patches = lengths.max().unwrap_or_default() / sizes.patch_samples;
    if whole_windows {
        patches -= patches % sizes.window_patches;
    }
    if patches == 0 {
        let unit = if whole_windows { "window" } else { "patch" };
        return Err(DataError::refused(file.path(), format!("is shorter than a {unit}")));
    }
    let mut embedded = Embedded { tokens: Vec::new(), windows: Vec::new() };
    for (modality, channels) in channels {
        let (tokens, windows) = modality_rows(file, &channels, patches, embedder)?;
        if windows.iter().any(|x| !x.is_nan()) {
            embedded.tokens.push(Rows { modality, values: tokens });
            embedded.windows.push(Rows { modality, values: windows });
        }
    }
    if embedded.tokens.is_empty() {
        let reason = "has no whole patch of signal in any modality";
        return Err(DataError::refused(file.path(), reason));
    }
    Ok(embedded)
}

/// Writes a recording's embeddings, the windows first: where the tokens are, all is.
///
/// # Errors
/// [`DataError::Unwritable`].
pub fn write_both(
    embedded: &Embedded,
    embed_dim: usize,
    tokens_to: &Path,
    windows_to: &Path,
) -> Result<(), DataError> {
    replace(windows_to, |part| write(part, embed_dim, &embedded.windows))?;
    replace(tokens_to, |part| write(part, embed_dim, &embedded.tokens))
}

/// Tokens [patches, E] and windows [windows, E] of one modality, NaN where absent.
fn modality_rows(
    file: &StoreFile,
    channels: &[usize],
    patches: usize,
    embedder: &dyn Embedder,
) -> Result<(Vec<f32>, Vec<f32>), DataError> {
    let InputSizes { embed_dim, window_patches, patch_samples, .. } = *embedder.sizes();
    let mut tokens = vec![f32::NAN; patches * embed_dim];
    let mut pooled = vec![f32::NAN; patches.div_ceil(window_patches) * embed_dim];
    let whole = patches / window_patches;
    let mut first = 0;
    while first < patches {
        let window = first / window_patches;
        let (windows, length) = match whole.saturating_sub(window) {
            0 => (1, patches - first),
            left => (left.min(BATCH_WINDOWS), window_patches),
        };
        let batch = gather(file, channels, first, (windows, length), patch_samples)?;
        if batch.present.contains(&1.0) {
            let tokens = &mut tokens[first * embed_dim..][..windows * length * embed_dim];
            let pooled = &mut pooled[window * embed_dim..][..windows * embed_dim];
            embedder
                .embed(&batch, tokens, pooled)
                .map_err(|reason| DataError::refused(file.path(), reason))?;
            mask(&batch, embed_dim, tokens, pooled);
        }
        first += windows * length;
    }
    Ok((tokens, pooled))
}

/// Reads `windows` windows of `length` patches from patch `first` on.
fn gather(
    file: &StoreFile,
    channels: &[usize],
    first: usize,
    (windows, length): (usize, usize),
    patch_samples: usize,
) -> Result<Windows, DataError> {
    let rows = windows * length;
    let mut batch = Windows {
        windows,
        patches: length,
        channels: channels.len(),
        samples: vec![0.0; rows * channels.len() * patch_samples],
        present: vec![0.0; rows * channels.len()],
    };
    let mut signal = vec![0.0; rows * patch_samples];
    for (slot, &channel) in channels.iter().enumerate() {
        file.read(channel, first * patch_samples, &mut signal)?;
        for (row, patch) in signal.chunks_exact(patch_samples).enumerate() {
            // NaN is no number and fails the comparison.
            if patch.iter().all(|z| z.abs() <= MAX_Z) {
                let cell = row * channels.len() + slot;
                batch.present[cell] = 1.0;
                batch.samples[cell * patch_samples..][..patch_samples].copy_from_slice(patch);
            }
        }
    }
    Ok(batch)
}

/// NaN for tokens without any channel and windows without any token.
fn mask(batch: &Windows, embed_dim: usize, tokens: &mut [f32], pooled: &mut [f32]) {
    let rows = batch.present.chunks_exact(batch.channels);
    for (token, present) in tokens.chunks_exact_mut(embed_dim).zip(rows) {
        if !present.contains(&1.0) {
            token.fill(f32::NAN);
        }
    }
    let windows = batch.present.chunks_exact(batch.patches * batch.channels);
    for (window, present) in pooled.chunks_exact_mut(embed_dim).zip(windows) {
        if !present.contains(&1.0) {
            window.fill(f32::NAN);
        }
    }
}
