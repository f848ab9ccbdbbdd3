//! Checkpoints of pretraining: the base network as every command reads it, beside it what a run
//! needs to go on as if it had not stopped.

use std::path::Path;

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{PretrainConfig, PretrainError, Pretrainer};
use crate::network::{BASE, BaseNetwork, NETWORK, NetworkConfig};
use crate::nn::TrainBackend;
use crate::optim::Optimizer;
use crate::recipe::Recipe;
use crate::run::{CheckpointReader, CheckpointWriter, RunError};

/// Part of a checkpoint.
const STATE: &str = "pretrain.json";

/// Where a run is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Steps made; what is read and drawn next follows from it.
    pub step: u64,
    /// Windows that are trained on.
    pub windows: usize,
    /// Logarithm of the logits' factor.
    temperature: f32,
    /// Step and loss of the best validation.
    pub best: Option<(u64, f64)>,
    /// How the run was begun.
    config: PretrainConfig,
}

/// What training changes.
#[derive(Debug)]
pub struct Trained<B: TrainBackend> {
    /// The network and the temperature.
    pub module: Pretrainer<B>,
    /// Its optimizer.
    pub optimizer: Optimizer<B>,
    /// Steps made.
    pub step: u64,
    /// Step and loss of the best validation.
    pub best: Option<(u64, f64)>,
}

impl<B: TrainBackend> Trained<B> {
    /// At the first step.
    pub fn new(recipe: &Recipe, device: &B::Device) -> Self {
        let Recipe { network, pretrain, .. } = recipe;
        B::seed(device, pretrain.seed);
        Self {
            module: Pretrainer::new(network, pretrain.temperature, device),
            optimizer: Optimizer::new(pretrain.optimizer.clone()),
            step: 0,
            best: None,
        }
    }

    /// The temperature's value.
    pub fn temperature(&self) -> f32 {
        let value = self.module.temperature.val().inner().into_data().convert::<f32>();
        value.as_slice().ok().and_then(|values: &[f32]| values.first().copied()).unwrap_or(f32::NAN)
    }

    /// Writes a checkpoint to `path`.
    pub fn write(&self, path: &Path, recipe: &Recipe, windows: usize) -> Result<(), RunError> {
        let mut checkpoint = CheckpointWriter::new();
        let state = State {
            step: self.step,
            windows,
            temperature: self.temperature(),
            best: self.best,
            config: recipe.pretrain.clone(),
        };
        let base = self.module.base.clone();
        let network = BaseNetwork { config: recipe.network.clone(), base };
        network
            .write(&mut checkpoint)
            .and_then(|()| self.optimizer.write(&mut checkpoint))
            .and_then(|()| checkpoint.json(STATE, &state))
            .map_err(|reason| RunError::Write {
                path: path.to_owned(),
                source: std::io::Error::other(reason),
            })?;
        checkpoint.write(path)
    }

    /// Reads the checkpoint at `path` for going on with `recipe` on `windows` windows.
    pub fn read(
        path: &Path,
        recipe: &Recipe,
        windows: usize,
        device: &B::Device,
    ) -> Result<Self, PretrainError> {
        let mut checkpoint = CheckpointReader::open(path)?;
        let network: NetworkConfig = checkpoint.json(NETWORK)?;
        let state: State = checkpoint.json(STATE)?;
        let refuse =
            |reason: &str| Err(PretrainError::Refused(format!("{}: {reason}", path.display())));
        if network != recipe.network {
            return refuse("was begun with another [network]; resume with the same one");
        }
        if state.config.resumed_as(&recipe.pretrain) != recipe.pretrain {
            return refuse(
                "was begun with another [pretrain]; only passes, max_steps, workers, \
                 validation_windows and the *_every may change",
            );
        }
        if state.windows != windows {
            return refuse(&format!(
                "was begun with {} windows, --store and --split have {windows}; give the same",
                state.windows
            ));
        }
        let base = network.base().init::<B>(device);
        let base = base.load_record(checkpoint.record::<B, _>(BASE, device)?);
        let temperature = Pretrainer::temperature(f64::from(state.temperature), device);
        let optimizer =
            Optimizer::read(recipe.pretrain.optimizer.clone(), &mut checkpoint, device)?;
        let module = Pretrainer { base, temperature };
        Ok(Self { module, optimizer, step: state.step, best: state.best })
    }
}
