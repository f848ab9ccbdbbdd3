//! Sizes of the networks as a run's TOML and its checkpoints state them, and the way from a
//! checkpoint back to a network.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::ModuleMapper;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use sfm_models::{Modality, SleepStage};

use crate::nn::tokenizer::PATCH_MULTIPLE;
use crate::nn::{
    ApneaHeadConfig, Base, BaseConfig, DemographicsHeadConfig, EncoderConfig, PoolingConfig,
    RiskHeadConfig, StagerConfig, TokenizerConfig, TransformerLayerConfig,
};
use crate::run::{CheckpointReader, CheckpointWriter, RunError};

/// Part of a checkpoint: the [`NetworkConfig`].
pub const NETWORK: &str = "network.json";
/// Part of a checkpoint: the base network's weights.
pub const BASE: &str = "base.mpk";

/// Sizes of the base network; the defaults are the published ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
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
    /// Dropout of attention weights, feed-forward and residuals.
    pub dropout: f64,
    /// Sampling rate of the input, Hz.
    pub rate_hz: u32,
    /// Samples of one patch.
    pub patch_samples: usize,
    /// Patches of one window.
    pub window_patches: usize,
    /// A modality of exactly one channel skips channel pooling, as in the reference.
    pub skip_single_channel: bool,
    /// The modality axis.
    pub modalities: Vec<Modality>,
    /// Largest number of channels of each modality.
    pub max_channels: BTreeMap<Modality, usize>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            embed_dim: 128,
            heads: 8,
            pooling_heads: 8,
            layers: 6,
            feed_forward: 2048,
            dropout: 0.3,
            rate_hz: 128,
            patch_samples: 640,
            window_patches: 60,
            skip_single_channel: false,
            modalities: Modality::ALL.to_vec(),
            max_channels: Modality::ALL.into_iter().zip([10, 7, 2, 4]).collect(),
        }
    }
}

impl NetworkConfig {
    /// Checks every size.
    ///
    /// # Errors
    /// One line that names the field and its range.
    pub fn check(&self) -> Result<(), String> {
        check_layer(self.embed_dim, [self.heads, self.pooling_heads], self.layers, self.dropout)?;
        if self.feed_forward == 0 || self.feed_forward > 65_536 {
            return Err(format!("feed_forward is {}, not in 1 to 65536", self.feed_forward));
        }
        if self.patch_samples == 0
            || self.patch_samples > 1_000_000
            || !self.patch_samples.is_multiple_of(PATCH_MULTIPLE)
        {
            return Err(format!(
                "patch_samples is {}, not a multiple of {PATCH_MULTIPLE} up to 1000000",
                self.patch_samples
            ));
        }
        if !(1..=4096).contains(&self.window_patches) {
            return Err(format!("window_patches is {}, not in 1 to 4096", self.window_patches));
        }
        let names = &self.modalities;
        if names.is_empty() || (1..names.len()).any(|i| names[..i].contains(&names[i])) {
            return Err("modalities must name each modality at most once, and one at least".into());
        }
        match names.iter().find(|name| !self.max_channels.contains_key(name)) {
            Some(name) => Err(format!("max_channels lacks {name}")),
            None => Ok(()),
        }
    }

    /// The modules' sizes.
    pub fn base(&self) -> BaseConfig {
        let layer = |heads| {
            TransformerLayerConfig::new(self.embed_dim, heads)
                .with_feed_forward(self.feed_forward)
                .with_dropout(self.dropout)
        };
        let pooling = PoolingConfig::new(layer(self.pooling_heads));
        let encoder = EncoderConfig::new(
            layer(self.heads).with_norm_first(true),
            self.layers,
            pooling.clone(),
            self.window_patches,
        );
        let tokenizer = TokenizerConfig::new(self.patch_samples, self.embed_dim);
        BaseConfig::new(tokenizer, pooling, encoder, self.skip_single_channel)
    }

    /// Seconds of one patch.
    pub fn patch_s(&self) -> f64 {
        self.patch_samples as f64 / f64::from(self.rate_hz)
    }
}

/// A base network and its sizes.
#[derive(Debug)]
pub struct BaseNetwork<B: Backend> {
    /// The sizes.
    pub config: NetworkConfig,
    /// The modules.
    pub base: Base<B>,
}

impl<B: Backend> BaseNetwork<B> {
    /// A network with random weights.
    pub fn init(config: NetworkConfig, device: &B::Device) -> Self {
        let base = initialized(config.base().init(device));
        Self { config, base }
    }

    /// Adds sizes and weights to a checkpoint.
    ///
    /// # Errors
    /// burn's message.
    pub fn write(&self, checkpoint: &mut CheckpointWriter) -> Result<(), String> {
        checkpoint.json(NETWORK, &self.config)?;
        checkpoint.record::<B, _>(BASE, self.base.clone().into_record())
    }

    /// Reads the base network of the checkpoint at `path`.
    ///
    /// # Errors
    /// [`RunError`] if the file cannot be read, or holds no base network.
    pub fn read(path: &Path, device: &B::Device) -> Result<Self, RunError> {
        let mut checkpoint = CheckpointReader::open(path)?;
        let config: NetworkConfig = checkpoint.json(NETWORK)?;
        config.check().map_err(|reason| RunError::Refused {
            path: path.to_owned(),
            reason: format!("{NETWORK}: {reason}"),
        })?;
        let record = checkpoint.record::<B, _>(BASE, device)?;
        let base = config.base().init(device).load_record(record);
        Ok(Self { config, base })
    }
}

/// `module` with every weight drawn.
///
/// burn draws a weight when it is first used, and a clone made before that draws its own: an
/// untrained module and its checkpoint would be two different networks.
pub fn initialized<B: Backend, M: Module<B>>(module: M) -> M {
    struct Draw;
    impl<B: Backend> ModuleMapper<B> for Draw {}
    module.map(&mut Draw)
}

/// Sizes of a head on the embeddings; the defaults are the published staging head's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadConfig {
    /// Heads of the attention layers (staging only).
    pub heads: usize,
    /// Heads of the modality pooling.
    pub pooling_heads: usize,
    /// Attention layers (staging) and LSTM layers.
    pub layers: usize,
    /// Width of the feed-forward.
    pub feed_forward: usize,
    /// Dropout.
    pub dropout: f64,
    /// The longest sequence, in tokens.
    pub max_seq_length: usize,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self {
            heads: 4,
            pooling_heads: 4,
            layers: 1,
            feed_forward: 2048,
            dropout: 0.3,
            max_seq_length: 8196,
        }
    }
}

impl HeadConfig {
    /// Checks every size for tokens of length `embed_dim`.
    ///
    /// # Errors
    /// One line that names the field and its range.
    pub fn check(&self, embed_dim: usize) -> Result<(), String> {
        check_layer(embed_dim, [self.heads, self.pooling_heads], self.layers, self.dropout)?;
        if self.feed_forward == 0 || self.feed_forward > 65_536 {
            return Err(format!("feed_forward is {}, not in 1 to 65536", self.feed_forward));
        }
        if !(1..=1_000_000).contains(&self.max_seq_length) {
            return Err(format!("max_seq_length is {}, not in 1 to 1000000", self.max_seq_length));
        }
        Ok(())
    }

    /// The modality pooling's sizes.
    pub fn pooling(&self, embed_dim: usize) -> PoolingConfig {
        PoolingConfig::new(self.layer(embed_dim, self.pooling_heads))
    }

    /// A staging head's sizes.
    pub fn stager(&self, embed_dim: usize) -> StagerConfig {
        StagerConfig::new(
            self.pooling(embed_dim),
            self.layer(embed_dim, self.heads).with_norm_first(true),
            self.layers,
            SleepStage::COUNT,
            self.max_seq_length,
        )
    }

    /// A risk head's sizes, for `classes` hazards.
    pub fn risk(&self, embed_dim: usize, classes: usize, demographics: bool) -> RiskHeadConfig {
        RiskHeadConfig::new(self.pooling(embed_dim), self.layers, classes)
            .with_demographics(demographics)
    }

    /// Sizes of the head that knows age and sex only.
    pub fn demographics(&self, embed_dim: usize, classes: usize) -> DemographicsHeadConfig {
        DemographicsHeadConfig::new(embed_dim / 4, classes).with_dropout(self.dropout)
    }

    /// An apnea head's sizes.
    pub fn apnea(&self, embed_dim: usize) -> ApneaHeadConfig {
        ApneaHeadConfig::new(self.pooling(embed_dim), self.layers)
    }

    fn layer(&self, embed_dim: usize, heads: usize) -> TransformerLayerConfig {
        TransformerLayerConfig::new(embed_dim, heads)
            .with_feed_forward(self.feed_forward)
            .with_dropout(self.dropout)
    }
}

/// Checks what every stack of transformer layers has.
///
/// # Errors
/// One line that names the field and its range.
pub fn check_layer(
    embed_dim: usize,
    heads: [usize; 2],
    layers: usize,
    dropout: f64,
) -> Result<(), String> {
    if !(4..=4096).contains(&embed_dim) || !embed_dim.is_multiple_of(4) {
        return Err(format!("embed_dim is {embed_dim}, not a multiple of 4 up to 4096"));
    }
    for (field, heads) in ["heads", "pooling_heads"].into_iter().zip(heads) {
        if heads == 0 || !embed_dim.is_multiple_of(heads) {
            return Err(format!("{field} is {heads}, which does not divide embed_dim {embed_dim}"));
        }
    }
    if !(1..=64).contains(&layers) {
        return Err(format!("layers is {layers}, not in 1 to 64"));
    }
    if !(0.0..1.0).contains(&dropout) {
        return Err(format!("dropout is {dropout}, not in 0 to 1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    fn small() -> NetworkConfig {
        NetworkConfig {
            embed_dim: 8,
            heads: 2,
            pooling_heads: 2,
            layers: 1,
            feed_forward: 16,
            ..Default::default()
        }
    }

    #[test]
    fn a_network_comes_back_from_its_checkpoint() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("last.ckpt");
        let device = Default::default();
        let network = BaseNetwork::<Flex>::init(small(), &device);
        let mut checkpoint = CheckpointWriter::new();
        network.write(&mut checkpoint).expect("serializes");
        checkpoint.write(&path).expect("writes");

        let read = BaseNetwork::<Flex>::read(&path, &device).expect("reads");
        assert_eq!(read.config, network.config);
        let weights = |n: &BaseNetwork<Flex>| n.base.tokenizer.linear.weight.to_data();
        assert_eq!(weights(&read), weights(&network));
    }

    #[test]
    fn a_cut_checkpoint_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("last.ckpt");
        std::fs::write(&path, b"PK\x03\x04 cut").expect("writes");
        let error = BaseNetwork::<Flex>::read(&path, &Default::default()).expect_err("refused");
        assert!(matches!(error, RunError::Refused { .. }), "{error}");
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let refusal = |change: fn(&mut NetworkConfig)| {
            let mut config = small();
            change(&mut config);
            config.check().expect_err("is refused")
        };
        assert!(refusal(|c| c.heads = 3).starts_with("heads is 3"));
        assert!(refusal(|c| c.patch_samples = 100).starts_with("patch_samples is 100"));
        assert!(refusal(|c| c.modalities.clear()).starts_with("modalities"));
    }
}
