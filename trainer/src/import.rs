//! Import of the reference's checkpoint folders: `config.json` beside `best.pt` or `best.pth`.
//!
//! Every size comes from the configuration and is checked against the tensors; the feed-forward
//! width and the length of the positional tables, which no configuration states, come from the
//! tensors. Refuses whatever does not fit, with the file, the field or tensor, and both sizes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sfm_models::{Modality, SleepStage};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::network::{BaseNetwork, NetworkConfig};
use crate::nn::tokenizer::PATCH_MULTIPLE;
use crate::nn::{RiskHead, Stager};

mod weights;

/// Longest `config.json`, bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Why a checkpoint folder was refused. One line each.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder holds no weights.
    #[error("{}: holds neither best.pt nor best.pth", .0.display())]
    NoWeights(PathBuf),
    /// The configuration lacks something or asks for what this network cannot be.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The `config.json`.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The checkpoint does not fit its configuration, or is none.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl ImportError {
    /// A file could not be read, or not with any reasonable memory, as opposed to: it was read and
    /// refused.
    pub fn is_unreadable(&self) -> bool {
        matches!(
            self,
            ImportError::Read { .. }
                | ImportError::NoWeights(_)
                | ImportError::Checkpoint(
                    CheckpointError::Read { .. } | CheckpointError::Excess { .. }
                )
        )
    }
}

/// A risk head and the length it was configured for.
#[derive(Debug)]
pub struct ImportedRisk<B: Backend> {
    /// The head.
    pub head: RiskHead<B>,
    /// Longest sequence, tokens.
    pub max_seq_length: usize,
}

/// What the base's `config.json` has to say; its other keys are about training.
#[derive(Deserialize)]
struct BaseFile {
    model: String,
    embed_dim: usize,
    num_heads: usize,
    num_layers: usize,
    pooling_head: usize,
    dropout: f64,
    patch_size: usize,
    /// Length of a window, minutes.
    sampling_duration: f64,
    sampling_freq: u32,
    modality_types: Vec<String>,
    /// `BAS_CHANNELS` and the like.
    #[serde(flatten)]
    other: BTreeMap<String, serde_json::Value>,
}

/// What a head's `config.json` has to say.
#[derive(Deserialize)]
struct HeadFile {
    model: String,
    model_params: HeadParams,
    #[serde(alias = "channel_like")]
    modality_types: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct HeadParams {
    embed_dim: usize,
    num_heads: usize,
    num_layers: usize,
    num_classes: usize,
    pooling_head: usize,
    dropout: f64,
    max_seq_length: Option<usize>,
}

/// Imports the base network from `folder`.
///
/// # Errors
/// [`ImportError`], if a file cannot be read or does not fit the others.
pub fn base<B: Backend>(folder: &Path, device: &B::Device) -> Result<BaseNetwork<B>, ImportError> {
    let (path, file): (_, BaseFile) = read_config(folder)?;
    let refused = |reason| ImportError::Config { path: path.clone(), reason };
    expect_model(&file.model, &["SetTransformer"]).map_err(refused)?;
    check_sizes(file.embed_dim, [file.num_heads, file.pooling_head], file.num_layers, file.dropout)
        .map_err(refused)?;
    let window_patches = window_patches(&file).map_err(refused)?;
    let modalities = parse_modalities(&file.modality_types).map_err(refused)?;
    let max_channels = max_channels(&file, &modalities).map_err(refused)?;
    let mut checkpoint = Checkpoint::open(&weights_path(folder)?)?;
    let config = weights::base_config(&checkpoint, &file)?;
    let rows = config.encoder.max_seq_length;
    if window_patches > rows {
        return Err(refused(format!(
            "a window has {window_patches} patches, but the positional table {rows} rows"
        )));
    }
    let network = NetworkConfig {
        embed_dim: file.embed_dim,
        heads: file.num_heads,
        pooling_heads: file.pooling_head,
        layers: file.num_layers,
        feed_forward: config.pooling.layer.feed_forward,
        dropout: file.dropout,
        rate_hz: file.sampling_freq,
        patch_samples: file.patch_size,
        window_patches,
        skip_single_channel: config.skip_single_channel,
        modalities,
        max_channels,
    };
    let base = weights::base(&mut checkpoint, &config, device)?;
    checkpoint.finish()?;
    Ok(BaseNetwork { config: network, base })
}

/// Imports the staging head from `folder`; it must fit `base`.
///
/// # Errors
/// [`ImportError`], if a file cannot be read or does not fit the others.
pub fn staging<B: Backend>(
    folder: &Path,
    base: &BaseNetwork<B>,
    device: &B::Device,
) -> Result<Stager<B>, ImportError> {
    let (path, file): (_, HeadFile) = read_config(folder)?;
    let refused = |reason| ImportError::Config { path: path.clone(), reason };
    expect_model(&file.model, &["SleepEventLSTMClassifier"]).map_err(refused)?;
    check_head(&file, base).map_err(refused)?;
    if file.model_params.num_classes != SleepStage::COUNT {
        return Err(refused(format!(
            "num_classes is {}, but a staging head has the 5 classes W, N1, N2, N3, R",
            file.model_params.num_classes
        )));
    }
    let mut checkpoint = Checkpoint::open(&weights_path(folder)?)?;
    let config = weights::stager_config(&checkpoint, &file.model_params)?;
    let stager = weights::stager(&mut checkpoint, &config, device)?;
    checkpoint.finish()?;
    Ok(stager)
}

/// Imports the risk head, with or without demographics, from `folder`; it must fit `base`.
///
/// # Errors
/// [`ImportError`], if a file cannot be read or does not fit the others.
pub fn risk<B: Backend>(
    folder: &Path,
    base: &BaseNetwork<B>,
    device: &B::Device,
) -> Result<ImportedRisk<B>, ImportError> {
    const WITH_DEMOGRAPHICS: &str = "DiagnosisFinetuneFullLSTMCOXPHWithDemo";
    let (path, file): (_, HeadFile) = read_config(folder)?;
    let refused = |reason| ImportError::Config { path: path.clone(), reason };
    expect_model(&file.model, &[WITH_DEMOGRAPHICS, "DiagnosisFinetuneFullLSTMCOXPH"])
        .map_err(refused)?;
    check_head(&file, base).map_err(refused)?;
    let demographics = file.model == WITH_DEMOGRAPHICS;
    let mut checkpoint = Checkpoint::open(&weights_path(folder)?)?;
    let config = weights::risk_config(&checkpoint, &file.model_params, demographics)?;
    let max_seq_length = weights::table_length(&checkpoint, file.model_params.max_seq_length)?;
    let head = weights::risk(&mut checkpoint, &config, max_seq_length, device)?;
    checkpoint.finish()?;
    Ok(ImportedRisk { head, max_seq_length })
}

fn read_config<T: DeserializeOwned>(folder: &Path) -> Result<(PathBuf, T), ImportError> {
    let path = folder.join("config.json");
    let read = |path: &Path| -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_CONFIG_BYTES), &mut bytes)?;
        Ok(bytes)
    };
    let bytes = read(&path).map_err(|source| ImportError::Read { path: path.clone(), source })?;
    match serde_json::from_slice(&bytes) {
        Ok(config) => Ok((path, config)),
        Err(error) => Err(ImportError::Config { path, reason: error.to_string() }),
    }
}

fn weights_path(folder: &Path) -> Result<PathBuf, ImportError> {
    ["best.pt", "best.pth"]
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| ImportError::NoWeights(folder.to_owned()))
}

fn expect_model(found: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&found) {
        return Ok(());
    }
    Err(format!("model is '{found}', but this folder must hold {}", known.join(" or ")))
}

fn check_sizes(
    embed_dim: usize,
    heads: [usize; 2],
    layers: usize,
    dropout: f64,
) -> Result<(), String> {
    if !(4..=4096).contains(&embed_dim) || !embed_dim.is_multiple_of(4) {
        return Err(format!("embed_dim is {embed_dim}, not a multiple of 4 up to 4096"));
    }
    for (field, heads) in ["num_heads", "pooling_head"].into_iter().zip(heads) {
        if heads == 0 || !embed_dim.is_multiple_of(heads) {
            return Err(format!("{field} is {heads}, which does not divide embed_dim {embed_dim}"));
        }
    }
    if !(1..=64).contains(&layers) {
        return Err(format!("num_layers is {layers}, not in 1 to 64"));
    }
    if !(0.0..1.0).contains(&dropout) {
        return Err(format!("dropout is {dropout}, not in 0 to 1"));
    }
    Ok(())
}

fn check_head<B: Backend>(file: &HeadFile, base: &BaseNetwork<B>) -> Result<(), String> {
    let params = &file.model_params;
    let heads = [params.num_heads, params.pooling_head];
    check_sizes(params.embed_dim, heads, params.num_layers, params.dropout)?;
    if params.embed_dim != base.config.embed_dim {
        return Err(format!(
            "embed_dim is {}, but the base network's is {}",
            params.embed_dim, base.config.embed_dim
        ));
    }
    if params.num_classes == 0 || params.num_classes > 1_000_000 {
        return Err(format!("num_classes is {}, not in 1 to 1000000", params.num_classes));
    }
    let Some(names) = &file.modality_types else { return Ok(()) };
    let modalities = parse_modalities(names)?;
    if modalities != base.config.modalities {
        return Err(format!(
            "modalities are {names:?}, but the base network's {:?}",
            base.config.modalities
        ));
    }
    Ok(())
}

fn window_patches(file: &BaseFile) -> Result<usize, String> {
    let samples = file.sampling_duration * 60.0 * f64::from(file.sampling_freq);
    if file.patch_size == 0
        || file.patch_size > 1_000_000
        || !file.patch_size.is_multiple_of(PATCH_MULTIPLE)
    {
        return Err(format!(
            "patch_size is {}, not a multiple of {PATCH_MULTIPLE} up to 1000000",
            file.patch_size
        ));
    }
    let patches = samples / file.patch_size as f64;
    if patches.fract() != 0.0 || !(1.0..=4096.0).contains(&patches) {
        return Err(format!(
            "a window of {} min at {} Hz is {patches} patches of {} samples, not 1 to 4096 whole ones",
            file.sampling_duration, file.sampling_freq, file.patch_size
        ));
    }
    Ok(patches as usize)
}

fn parse_modalities(names: &[String]) -> Result<Vec<Modality>, String> {
    let modalities =
        names.iter().map(|name| name.parse()).collect::<Result<Vec<Modality>, String>>()?;
    if modalities.is_empty()
        || (1..modalities.len()).any(|i| modalities[..i].contains(&modalities[i]))
    {
        return Err(format!("modality_types is {names:?}: each at most once, one at least"));
    }
    Ok(modalities)
}

fn max_channels(
    file: &BaseFile,
    modalities: &[Modality],
) -> Result<BTreeMap<Modality, usize>, String> {
    modalities
        .iter()
        .map(|&modality| {
            let key = format!("{modality}_CHANNELS");
            let channels = file.other.get(&key).and_then(serde_json::Value::as_u64);
            match channels {
                Some(channels @ 1..=1024) => Ok((modality, channels as usize)),
                _ => Err(format!("{key} is missing or not in 1 to 1024")),
            }
        })
        .collect()
}
