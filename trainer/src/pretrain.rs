//! Contrastive pretraining of the base network. Owns what is trained and how a run goes; refuses
//! data with nothing to contrast. A step that gives no number ends the run and keeps the checkpoint
//! before it.
//!
//! Other than the reference, all modalities go through the tokenizer together, padding left out: the
//! statistics that BatchNorm trains with are then those it will run with.

use std::path::PathBuf;

use burn::module::{Module, ModuleMapper, Param};
use burn::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::DataError;
use crate::data::store::RATE_HZ;
use crate::data::windows::{Augment, Batch, Members, Order, Shape};
use crate::loss::contrastive::Objective;
use crate::network::NetworkConfig;
use crate::nn::{Base, Kernels};
use crate::optim::{OptimizerConfig, ScheduleConfig, check_range};
use crate::run::RunError;

mod devices;
mod state;
mod training;
mod validation;

pub use devices::{Comparison, Devices, Sum};
pub use training::{End, Pretraining};

/// Most devices of a run.
pub const MAX_DEVICES: usize = 64;

/// How the base network is pretrained; the defaults are the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainConfig {
    /// What is compared with what.
    pub objective: Objective,
    /// Decides weights, order and everything drawn at random.
    pub seed: u64,
    /// Passes over the windows.
    pub passes: u64,
    /// Steps after which training ends, however many passes that is; 0 = `passes` decides.
    pub max_steps: u64,
    /// Windows of a batch, compared with each other if there is one device.
    pub batch_size: usize,
    /// Devices that share each batch, each with an equal part that is compared within itself.
    pub devices: usize,
    /// Batches whose gradients make one step; each is compared within itself.
    pub accumulate: u64,
    /// Logarithm of the logits' factor at the start; learned, never below 0.
    pub temperature: f64,
    /// Share of the channels that is left out at random.
    pub channel_dropout: f64,
    /// Share of the modalities that is left out at random.
    pub modality_dropout: f64,
    /// Computes in bfloat16 on a GPU.
    pub bf16: bool,
    /// Threads that read windows; 0 = one for each core but one.
    pub workers: usize,
    /// Steps between lines of metrics.
    pub log_every: u64,
    /// Steps between validations.
    pub validate_every: u64,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Windows to validate with, evenly spread; 0 = all.
    pub validation_windows: usize,
    /// The update rule.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the steps.
    pub schedule: ScheduleConfig,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            objective: Objective::LeaveOneOut,
            seed: 42,
            passes: 2,
            max_steps: 0,
            batch_size: 128,
            devices: 1,
            accumulate: 1,
            temperature: 0.0,
            channel_dropout: 0.0,
            modality_dropout: 0.0,
            bf16: false,
            workers: 0,
            log_every: 100,
            validate_every: 5000,
            save_every: 5000,
            validation_windows: 0,
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
        }
    }
}

impl PretrainConfig {
    /// Checks every number, also those of `network`.
    ///
    /// # Errors
    /// One line that names the field and its range.
    pub fn check(&self, network: &NetworkConfig) -> Result<(), String> {
        let at_least = |field: &str, value: u64, least: u64| match value >= least {
            true => Ok(()),
            false => Err(format!("{field} is {value}, not {least} or more")),
        };
        network.check().map_err(|reason| format!("[network] {reason}"))?;
        if network.rate_hz != RATE_HZ {
            let rate_hz = network.rate_hz;
            return Err(format!("[network] rate_hz is {rate_hz}, but stores have {RATE_HZ} Hz"));
        }
        if network.modalities.len() < 2 {
            return Err("[network] modalities names one; contrast needs two or more".into());
        }
        let checks = || {
            if !(2..=65_536).contains(&self.batch_size) {
                return Err(format!("batch_size is {}, not in 2 to 65536", self.batch_size));
            }
            if !(1..=MAX_DEVICES).contains(&self.devices) {
                return Err(format!("devices is {}, not in 1 to {MAX_DEVICES}", self.devices));
            }
            let (windows, devices) = (self.batch_size, self.devices);
            if windows % devices != 0 || windows / devices < 2 {
                return Err(format!(
                    "batch_size is {windows}, which {devices} devices cannot share in equal parts \
                     of two windows or more"
                ));
            }
            if self.workers > 256 {
                return Err(format!("workers is {}, not in 0 to 256", self.workers));
            }
            at_least("passes", self.passes, 1)?;
            at_least("accumulate", self.accumulate, 1)?;
            at_least("log_every", self.log_every, 1)?;
            at_least("validate_every", self.validate_every, 1)?;
            at_least("save_every", self.save_every, 1)?;
            check_range("temperature", self.temperature, 0.0, 10.0)?;
            check_range("channel_dropout", self.channel_dropout, 0.0, 1.0)?;
            check_range("modality_dropout", self.modality_dropout, 0.0, 1.0)
        };
        checks().map_err(|reason| format!("[pretrain] {reason}"))?;
        self.optimizer.check().map_err(|reason| format!("[pretrain.optimizer] {reason}"))?;
        self.schedule.check().map_err(|reason| format!("[pretrain.schedule] {reason}"))
    }

    /// How windows make a device's parts of batches.
    fn order(&self) -> Order {
        Order { batch_size: self.batch_size / self.devices.max(1), seed: self.seed }
    }

    /// Parts whose gradients make one step.
    fn parts(&self) -> u64 {
        self.accumulate * self.devices as u64
    }

    /// What is left out at random.
    fn augment(&self) -> Augment {
        let Self { channel_dropout, modality_dropout, .. } = *self;
        Augment { channel_dropout, modality_dropout }
    }

    /// Threads that read windows.
    fn worker_count(&self) -> usize {
        match self.workers {
            0 => {
                std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1)).max(1)
            }
            workers => workers,
        }
    }

    /// This configuration with what a resumed run may change as in `other`.
    fn resumed_as(&self, other: &Self) -> Self {
        Self {
            passes: other.passes,
            max_steps: other.max_steps,
            workers: other.workers,
            log_every: other.log_every,
            validate_every: other.validate_every,
            save_every: other.save_every,
            validation_windows: other.validation_windows,
            ..self.clone()
        }
    }
}

/// Why a run ended early. One line.
#[derive(Debug, thiserror::Error)]
pub enum PretrainError {
    /// A recording cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The run's folder refuses.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The data or the configuration does not fit.
    #[error("{0}")]
    Refused(String),
    /// Loss or gradient is no number.
    #[error("step {step}: the {what} is not a number; the batch is of {recordings}; {} is that of step {saved}; lower learning_rate or look at these recordings", checkpoint.display())]
    NotANumber {
        /// The step, from 1.
        step: u64,
        /// `loss` or `gradient`.
        what: &'static str,
        /// The recordings of its batches.
        recordings: String,
        /// The last good checkpoint.
        checkpoint: PathBuf,
        /// Its step.
        saved: u64,
    },
}

impl PretrainError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            PretrainError::Data(error) => error.exit_code(),
            PretrainError::Run(error) => error.exit_code(),
            PretrainError::Refused(_) => crate::cli::USAGE,
            PretrainError::NotANumber { .. } => crate::cli::FAILED,
        }
    }
}

/// What pretraining trains.
#[derive(Module, Debug)]
pub struct Pretrainer<B: Backend> {
    /// The base network.
    pub base: Base<B>,
    /// Logarithm of the logits' factor, `[1]`.
    pub temperature: Param<Tensor<B, 1>>,
}

/// Embeddings of a batch's windows by modality.
#[derive(Debug, Clone)]
pub struct Embedded<B: Backend> {
    /// [M, N, E]; zeros where absent.
    pub embeddings: Tensor<B, 3>,
    /// [M, N]: 1 where the window has the modality.
    pub present: Tensor<B, 2>,
}

impl<B: Backend> Pretrainer<B> {
    /// Random weights, drawn now: burn would draw each at its first use, in between other draws.
    pub fn new(network: &NetworkConfig, temperature: f64, device: &B::Device) -> Self {
        struct Draw;
        impl<B: Backend> ModuleMapper<B> for Draw {}
        let base = network.base().init::<B>(device).map(&mut Draw);
        Self { base, temperature: Self::temperature(temperature, device) }
    }

    /// The parameter for a value.
    pub fn temperature(value: f64, device: &B::Device) -> Param<Tensor<B, 1>> {
        Param::from_tensor(Tensor::full([1], value, device))
    }
}

impl<B: Kernels> Pretrainer<B> {
    /// Embeds a batch; `None` if no window of it has any signal.
    pub fn forward(&self, batch: &Batch, shape: &Shape, device: &B::Device) -> Option<Embedded<B>> {
        let count = batch.patches.len() / shape.patch_samples;
        let there: Vec<&Members> = batch.modalities.iter().filter(|m| !m.rows.is_empty()).collect();
        if count == 0 || there.is_empty() {
            return None;
        }
        let patches = TensorData::new(batch.patches.clone(), [count, shape.patch_samples]);
        let tokens = self.base.tokenizer.forward(Tensor::from_data(patches, device));
        let [_, embed_dim] = tokens.dims();
        let (pooled, present): (Vec<_>, Vec<_>) = there
            .iter()
            .map(|members| {
                let sets = [members.rows.len() * shape.window_patches, members.channels];
                let members = Set::<B>::new(members, sets, device);
                let tokens = tokens.clone().select(0, members.index);
                let tokens = tokens.reshape([sets[0], sets[1], embed_dim]);
                let any = members.present.clone().max_dim(1);
                (self.base.pool_channels(tokens, members.present), any)
            })
            .unzip();
        let rows: usize = there.iter().map(|members| members.rows.len()).sum();
        let pooled = Tensor::cat(pooled, 0).reshape([rows, shape.window_patches, embed_dim]);
        let present = Tensor::cat(present, 0).reshape([rows, shape.window_patches]);
        let windows = self.base.encoder.forward(pooled, present).window;
        Some(scatter(windows, batch, device))
    }
}

/// A modality's channels as sets of tokens.
struct Set<B: Backend> {
    /// [K * T * C]: the tokens.
    index: Tensor<B, 1, Int>,
    /// [K * T, C].
    present: Tensor<B, 2>,
}

impl<B: Backend> Set<B> {
    fn new(members: &Members, sets: [usize; 2], device: &B::Device) -> Self {
        let index = TensorData::new(members.patches.clone(), [members.patches.len()]);
        let present = TensorData::new(members.present.clone(), sets);
        Self {
            index: Tensor::from_data(index, device),
            present: Tensor::from_data(present, device),
        }
    }
}

/// Embeddings of the windows that are there, one modality after the other, to [M, N, E].
fn scatter<B: Backend>(windows: Tensor<B, 2>, batch: &Batch, device: &B::Device) -> Embedded<B> {
    let [_, embed_dim] = windows.dims();
    let (modalities, count) = (batch.modalities.len(), batch.windows.len());
    let mut index = vec![0_i64; modalities * count];
    let mut present = vec![0_f32; modalities * count];
    let rows = batch.modalities.iter().enumerate();
    let places = rows.flat_map(|(m, members)| members.rows.iter().map(move |n| m * count + n));
    for (row, place) in places.enumerate() {
        index[place] = row as i64;
        present[place] = 1.0;
    }
    let index = TensorData::new(index, [modalities * count]);
    let present = TensorData::new(present, [modalities, count]);
    let present = Tensor::<B, 2>::from_data(present, device);
    let embeddings = windows.select(0, Tensor::from_data(index, device));
    let embeddings = embeddings.reshape([modalities, count, embed_dim]);
    Embedded { embeddings: embeddings * present.clone().unsqueeze_dim(2), present }
}
