//! `manifest.json`: every number the runtime needs to run a bundle's graphs, and where they
//! come from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Modality;

/// The version of the bundle layout that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// A bundle's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// Short name shown to the user.
    pub name: String,
    /// Program and version that wrote the bundle, e.g. `sfm-train 0.1.0`.
    pub exporter: String,
    /// Licence of the weights; `unknown` where the importer was not told.
    pub license: String,
    /// What the signals go through before the tokenizer.
    pub preprocessing: Preprocessing,
    /// Tokenizer, channel pooling and window encoder.
    pub base: Base,
    /// Staging head, if the bundle has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<Staging>,
    /// Risk head, if the bundle has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// What the weights were trained on.
    pub training: Training,
    /// Held-out figures by name, as measured by the trainer; empty for imported weights.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Every other file of the bundle.
    pub files: BTreeMap<String, FileEntry>,
}

/// Preprocessing of one channel: low-pass, resampling, z-score, patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Sampling rate of the network's input, Hz.
    pub rate_hz: u32,
    /// Samples of one patch.
    pub patch_samples: usize,
    /// Cut-off of the zero-phase low-pass, Hz; applied to channels faster than `rate_hz`.
    pub lowpass_hz: f64,
    /// Order of the Butterworth low-pass (before the backward pass doubles it).
    pub lowpass_order: usize,
}

/// Sizes of the base network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// E, the length of a token.
    pub embed_dim: usize,
    /// Heads of the window encoder.
    pub heads: usize,
    /// Heads of the pooling layers.
    pub pooling_heads: usize,
    /// Layers of the window encoder.
    pub layers: usize,
    /// Width of the feed-forward of every transformer layer.
    pub feed_forward: usize,
    /// Patches of one window.
    pub window_patches: usize,
    /// What happens to a modality that has exactly one channel.
    pub single_channel: SingleChannel,
    /// The modality axis.
    pub modalities: Vec<Modality>,
    /// Largest number of channels of each modality the network was trained with.
    pub max_channels: BTreeMap<Modality, usize>,
}

/// Treatment of a modality that has exactly one channel: a property of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SingleChannel {
    /// The channel's token is the modality's token (the reference implementation).
    Skip,
    /// It goes through channel pooling like any number of channels.
    Pool,
}

/// Sizes of the staging head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staging {
    /// Class names in the order of the logits: `W`, `N1`, `N2`, `N3`, `R`.
    pub classes: Vec<crate::SleepStage>,
    /// Attention layers.
    pub layers: usize,
    /// Heads of the attention layers.
    pub heads: usize,
    /// Heads of the modality pooling.
    pub pooling_heads: usize,
    /// Rows of the positional table: the longest stretch, in tokens.
    pub max_seq_length: usize,
}

/// Sizes of the risk head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Risk {
    /// K, the number of hazards.
    pub classes: usize,
    /// Heads of the modality pooling.
    pub pooling_heads: usize,
    /// The longest sequence, in tokens; the rest of a longer night is left out.
    pub max_seq_length: usize,
    /// Age in years that maps to 0 and to 1.
    pub age_range: (f64, f64),
    /// The bundle holds `labels.csv` (`label_idx,phecode,phenotype`).
    pub has_labels: bool,
    /// The bundle holds `quantiles.json`: reference quantiles of each hazard.
    pub has_quantiles: bool,
}

/// Where the weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// What the user is told about the weights' training data.
    pub data: String,
    /// The weights are random: results mean nothing beyond arithmetic.
    pub random_weights: bool,
}

/// One file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}
