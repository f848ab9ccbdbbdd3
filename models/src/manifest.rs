//! `manifest.json`: every number the runtime needs to run a bundle's graphs, and where they
//! come from. Refuses sizes that no network of this family has.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::{EPOCH_SECONDS, Modality, SleepStage, bundle, graph};

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
    /// Apnea head, if the bundle has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apnea: Option<Apnea>,
    /// What becomes of bad signals; as in the reference where the bundle does not say.
    #[serde(default, skip_serializing_if = "BadSignals::is_reference")]
    pub bad_signals: BadSignals,
    /// Which channels the network takes; as in the reference where the bundle does not say.
    #[serde(default, skip_serializing_if = "ChannelPolicy::is_reference")]
    pub channels: ChannelPolicy,
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

/// What the network is given of mains, noise, clipped and implausible signals. A signal without any
/// variance is absent in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadSignals {
    /// They go into the network like others (the reference implementation).
    #[default]
    Reference,
    /// Their 5-s pieces are absent.
    Absent,
}

impl BadSignals {
    fn is_reference(&self) -> bool {
        *self == BadSignals::Reference
    }
}

/// What becomes of electrodes, and of more channels than the network takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelPolicy {
    /// Every channel as it was recorded, the first of too many (the reference implementation, whose lists
    /// hold bare `C3` and `M1`).
    #[default]
    Reference,
    /// Derivations as the AASM manual has them: electrodes give way to those that were recorded, or are
    /// made into them; of too many channels those that the manual asks for first.
    Aasm,
}

impl ChannelPolicy {
    fn is_reference(&self) -> bool {
        *self == ChannelPolicy::Reference
    }

    /// Its name as in the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            ChannelPolicy::Reference => "reference",
            ChannelPolicy::Aasm => "aasm",
        }
    }
}

impl std::str::FromStr for ChannelPolicy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "reference" => Ok(ChannelPolicy::Reference),
            "aasm" => Ok(ChannelPolicy::Aasm),
            _ => Err("use aasm or reference"),
        }
    }
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
    /// The head uses age and sex; else the graph's `demographics` input changes nothing.
    #[serde(default = "yes")]
    pub demographics: bool,
    /// The longest sequence, in tokens; the rest of a longer night is left out.
    pub max_seq_length: usize,
    /// Age in years that maps to 0 and to 1.
    pub age_range: (f64, f64),
    /// The bundle holds `labels.csv` (`label_idx,phecode,phenotype`).
    pub has_labels: bool,
    /// The bundle holds `quantiles.json`: reference quantiles of each hazard.
    pub has_quantiles: bool,
}

/// Sizes of the apnea head: presence and severity of sleep apnea over the night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apnea {
    /// Heads of the modality pooling.
    pub pooling_heads: usize,
    /// The longest sequence, in tokens; the rest of a longer night is left out.
    pub max_seq_length: usize,
}

/// Apnea-hypopnea indices from which the head's two presences count, per hour of sleep (AASM).
pub const PRESENCE_AHI: [f64; 2] = [5.0, 15.0];

/// Apnea-hypopnea indices at which severity goes from none to mild, moderate, severe (AASM).
pub const SEVERITY_AHI: [f64; 3] = [5.0, 15.0, 30.0];

/// Where the weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// What the user is told about the weights' training data.
    pub data: String,
    /// The weights are random: results mean nothing beyond arithmetic.
    pub random_weights: bool,
    /// Trained on simulated sleep only: results say nothing about people.
    #[serde(default)]
    pub simulated: bool,
    /// Commit of the trainer's sources, where it knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
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

impl Training {
    /// Of weights that were drawn and never trained.
    pub fn random() -> Self {
        Training {
            data: "none: the weights are random, results mean nothing beyond arithmetic".into(),
            random_weights: true,
            simulated: false,
            commit: None,
        }
    }

    /// What has to be said wherever results are shown.
    pub fn caution(&self) -> Option<&'static str> {
        if self.random_weights {
            Some(
                "random weights: these figures show that the arithmetic works, they mean nothing about this person",
            )
        } else if self.simulated {
            Some(
                "trained on simulated sleep only: these figures show that the path works, they say nothing about people",
            )
        } else {
            None
        }
    }
}

fn yes() -> bool {
    true
}

impl Manifest {
    /// The graphs that a bundle with this manifest has to hold (names as in [`crate::graph`]).
    pub fn graphs(&self) -> Vec<String> {
        let mut names = vec![graph::TOKENIZER.into(), graph::POOL.into(), graph::ENCODER.into()];
        if let Some(staging) = &self.staging {
            names.push(graph::STAGING_POOL.into());
            for layer in 0..staging.layers {
                names.push(graph::staging_key_value(layer));
                names.push(graph::staging_attend(layer));
            }
            names.push(graph::STAGING_RNN.into());
        }
        if self.risk.is_some() {
            names.push(graph::RISK_POOL.into());
            names.push(graph::RISK_RNN.into());
        }
        if self.apnea.is_some() {
            names.push(graph::APNEA_POOL.into());
            names.push(graph::APNEA_RNN.into());
        }
        names
    }

    /// The files that a bundle with this manifest has to hold, besides the manifest.
    pub fn required_files(&self) -> Vec<String> {
        let mut names: Vec<String> = self.graphs().iter().map(|g| graph::file_name(g)).collect();
        if let Some(risk) = &self.risk {
            names.extend(risk.has_labels.then(|| bundle::LABELS.to_owned()));
            names.extend(risk.has_quantiles.then(|| bundle::QUANTILES.to_owned()));
        }
        names
    }

    /// Checks every size against what the runtime can work with.
    ///
    /// # Errors
    /// One line that names the field and its range.
    pub fn check(&self) -> Result<(), String> {
        self.preprocessing.check()?;
        self.base.check()?;
        let epoch = self.preprocessing.epoch_patches();
        if !self.base.window_patches.is_multiple_of(epoch) {
            return Err(format!(
                "base.window_patches is {}, not a multiple of the {epoch} patches of an epoch",
                self.base.window_patches
            ));
        }
        if let Some(staging) = &self.staging {
            staging.check(&self.base)?;
        }
        if let Some(risk) = &self.risk {
            risk.check(self.base.embed_dim)?;
        }
        if let Some(apnea) = &self.apnea {
            heads_divide("apnea.pooling_heads", apnea.pooling_heads, self.base.embed_dim)?;
            between("apnea.max_seq_length", apnea.max_seq_length, 1..=1_000_000)?;
        }
        Ok(())
    }
}

impl Preprocessing {
    /// Patches of one 30-s scoring epoch.
    pub fn epoch_patches(&self) -> usize {
        EPOCH_SECONDS * self.rate_hz as usize / self.patch_samples
    }

    fn check(&self) -> Result<(), String> {
        between("preprocessing.rate_hz", self.rate_hz as usize, 1..=100_000)?;
        between("preprocessing.patch_samples", self.patch_samples, 1..=1_000_000)?;
        if !(EPOCH_SECONDS * self.rate_hz as usize).is_multiple_of(self.patch_samples) {
            return Err(format!(
                "preprocessing.patch_samples is {}, which does not divide an epoch of {EPOCH_SECONDS} s",
                self.patch_samples
            ));
        }
        between("preprocessing.lowpass_order", self.lowpass_order, 1..=16)?;
        let nyquist_hz = f64::from(self.rate_hz) / 2.0;
        if !(self.lowpass_hz > 0.0 && self.lowpass_hz <= nyquist_hz) {
            return Err(format!(
                "preprocessing.lowpass_hz is {}, not in 0 to {nyquist_hz}",
                self.lowpass_hz
            ));
        }
        Ok(())
    }
}

impl Base {
    fn check(&self) -> Result<(), String> {
        between("base.embed_dim", self.embed_dim, 1..=4096)?;
        heads_divide("base.heads", self.heads, self.embed_dim)?;
        heads_divide("base.pooling_heads", self.pooling_heads, self.embed_dim)?;
        between("base.layers", self.layers, 0..=64)?;
        between("base.feed_forward", self.feed_forward, 1..=65_536)?;
        between("base.window_patches", self.window_patches, 1..=4096)?;
        let distinct: BTreeSet<Modality> = self.modalities.iter().copied().collect();
        if distinct.is_empty() || distinct.len() != self.modalities.len() {
            return Err(
                "base.modalities must name each modality at most once, and one at least".into()
            );
        }
        self.max_channels.iter().try_for_each(|(modality, channels)| {
            between(&format!("base.max_channels.{modality}"), *channels, 1..=1024)
        })
    }
}

impl Staging {
    fn check(&self, base: &Base) -> Result<(), String> {
        if self.classes != SleepStage::ALL {
            return Err("staging.classes must be W, N1, N2, N3, R in this order".into());
        }
        between("staging.layers", self.layers, 0..=64)?;
        heads_divide("staging.heads", self.heads, base.embed_dim)?;
        heads_divide("staging.pooling_heads", self.pooling_heads, base.embed_dim)?;
        // The live pass stages at least one whole window.
        between("staging.max_seq_length", self.max_seq_length, base.window_patches..=1_000_000)
    }
}

impl Risk {
    fn check(&self, embed_dim: usize) -> Result<(), String> {
        between("risk.classes", self.classes, 1..=1_000_000)?;
        heads_divide("risk.pooling_heads", self.pooling_heads, embed_dim)?;
        between("risk.max_seq_length", self.max_seq_length, 1..=1_000_000)?;
        let (youngest, oldest) = self.age_range;
        if !(youngest.is_finite() && oldest.is_finite() && youngest < oldest) {
            return Err(format!("risk.age_range is {youngest} to {oldest}, not MIN < MAX"));
        }
        Ok(())
    }
}

fn between(field: &str, value: usize, range: RangeInclusive<usize>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{field} is {value}, not in {} to {}", range.start(), range.end()))
}

fn heads_divide(field: &str, heads: usize, embed_dim: usize) -> Result<(), String> {
    between(field, heads, 1..=embed_dim)?;
    if embed_dim.is_multiple_of(heads) {
        return Ok(());
    }
    Err(format!("{field} is {heads}, which does not divide the embedding size {embed_dim}"))
}
