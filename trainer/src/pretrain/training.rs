//! The loop: batches, gradients, updates, and when to log, to validate and to save. One thread;
//! windows are read by others meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::prelude::*;

use super::devices::{Comparison, Devices, Sum};
use super::state::Trained;
use super::validation::{mean, module_names, named_shares, scalar, validate};
use super::{PretrainError, Pretrainer};
use crate::data::windows::{Loader, Shape, WindowIndex};
use crate::data::{DataError, Split};
use crate::device::DeviceJob;
use crate::loss::contrastive::Contrast;
use crate::metrics::{self, Progress};
use crate::nn::TrainBackend;
use crate::optim::norm;
use crate::recipe::Recipe;
use crate::run::{BEST, LAST, RunError, RunFolder, SPLIT, StopFlag};

/// Recordings that a message names.
const NAMED: usize = 8;
/// A batch of one recording's windows would only tell parts of a night from each other.
const MIN_RECORDINGS: usize = 2;

/// A run, for any device.
#[derive(Debug)]
pub struct Pretraining {
    recipe: Recipe,
    training: Arc<WindowIndex>,
    validation: Arc<WindowIndex>,
    split: Split,
    out: PathBuf,
    resume: bool,
    stop: StopFlag,
    stop_after: Option<u64>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Steps made, those before a resumption included.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Step and loss of the best validation.
    pub best: Option<(u64, f64)>,
    /// Share of the training time that was spent waiting for data.
    pub waiting: f64,
    /// Windows a second.
    pub windows_per_s: f64,
}

impl Pretraining {
    /// Indexes the recordings of `split` in `store`, for a run in the folder `out`.
    ///
    /// # Errors
    /// [`PretrainError`] if something cannot be read, there is nothing to contrast, or `out` does
    /// not fit.
    pub fn open(
        recipe: Recipe,
        store: &Path,
        split: Split,
        out: &Path,
        resume: bool,
        stop: StopFlag,
    ) -> Result<Self, PretrainError> {
        RunFolder::check(out, resume)?;
        recipe.pretrain.check(&recipe.network).map_err(PretrainError::Refused)?;
        let shape = Shape::of(&recipe.network);
        let training = WindowIndex::open(store, &split.pretrain, shape.clone())?;
        let mut validation = WindowIndex::open(store, &split.validation, shape)?;
        refuse_little("pretrain", &training, &split.pretrain, MIN_RECORDINGS)?;
        refuse_little("validation", &validation, &split.validation, 1)?;
        validation.thin(recipe.pretrain.validation_windows);
        let (training, validation) = (Arc::new(training), Arc::new(validation));
        let out = out.to_owned();
        Ok(Self { recipe, training, validation, split, out, resume, stop, stop_after: None })
    }

    /// Stops after `steps` steps of this session; the run can be resumed.
    pub fn stop_after(mut self, steps: Option<u64>) -> Self {
        self.stop_after = steps;
        self
    }

    /// The windows that are trained on.
    pub fn training(&self) -> &WindowIndex {
        &self.training
    }

    /// The windows that are validated with.
    pub fn validation(&self) -> &WindowIndex {
        &self.validation
    }

    /// Steps of one pass.
    fn pass_steps(&self) -> u64 {
        let config = &self.recipe.pretrain;
        (config.order().batches(&self.training) / config.parts()).max(1)
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        match self.recipe.pretrain.max_steps {
            0 => self.recipe.pretrain.passes.saturating_mul(self.pass_steps()),
            steps => steps,
        }
    }
}

/// Refuses a part of the split that gives nothing to contrast.
fn refuse_little(
    part: &str,
    index: &WindowIndex,
    named: &[String],
    least: usize,
) -> Result<(), PretrainError> {
    let (recordings, windows) = (index.recordings(), index.len());
    if recordings >= least && windows >= 2 {
        return Ok(());
    }
    let given = named.len();
    Err(PretrainError::Refused(format!(
        "'{part}' of the split names {given} recording(s), {recordings} of them usable, \
         {windows} window(s) in all; pretraining needs {least} or more with two modalities and \
         two windows or more"
    )))
}

impl DeviceJob for Pretraining {
    type Output = Result<End, PretrainError>;

    fn run<B: TrainBackend>(self, device: &B::Device) -> Self::Output {
        let (last, windows) = (self.out.join(LAST), self.training.len());
        let trained = match self.resume {
            true => Trained::<B>::read(&last, &self.recipe, windows, device)?,
            false => Trained::<B>::new(&self.recipe, device),
        };
        if self.resume {
            metrics::rewind(&self.out, trained.step)?;
        }
        let folder = RunFolder::open(&self.out, self.resume)?;
        folder.write_config(&self.recipe)?;
        self.split.write(&folder.file(SPLIT))?;
        if !self.resume {
            trained.write(&last, &self.recipe, windows)?;
        }
        let devices = Devices::new(device, self.recipe.pretrain.devices);
        Session { saved: trained.step, folder, run: self, trained, devices }.go()
    }
}

/// A run on its devices.
struct Session<B: TrainBackend> {
    run: Pretraining,
    folder: RunFolder,
    trained: Trained<B>,
    devices: Devices<B>,
    /// Step of the newest checkpoint.
    saved: u64,
}

/// What one step gave.
struct Stepped<B: TrainBackend> {
    loss: f64,
    gradient_norm: f64,
    learning_rate: f64,
    /// Of the last batch.
    contrast: Option<Contrast<B::InnerBackend>>,
}

/// Time and loss since the last line of metrics.
struct Meter {
    since: Instant,
    waited: Duration,
    steps: u64,
    loss: f64,
}

impl Meter {
    fn new(waited: Duration) -> Self {
        Self { since: Instant::now(), waited, steps: 0, loss: 0.0 }
    }
}

impl<B: TrainBackend> Session<B> {
    fn go(mut self) -> Result<End, PretrainError> {
        let config = self.run.recipe.pretrain.clone();
        let (first, steps) = (self.trained.step, self.run.steps());
        let end = self.run.stop_after.map_or(steps, |n| first.saturating_add(n).min(steps));
        let batches = (first * config.parts(), steps.saturating_mul(config.parts()));
        let (order, augment) = (config.order(), config.augment());
        let mut loader =
            Loader::start(&self.run.training, order, Some(augment), batches, config.worker_count());
        let progress = Progress::new(first, steps);
        let mut meter = Meter::new(loader.waited());
        let (mut trained_for, mut waited_for) = (Duration::ZERO, Duration::ZERO);
        while self.trained.step < end && !self.run.stop.is_set() {
            let stepped = match self.step(&mut loader) {
                Err(PretrainError::Data(error)) => {
                    self.save(LAST)?;
                    return Err(error.into());
                }
                stepped => stepped?,
            };
            let step = self.trained.step;
            meter.steps += 1;
            meter.loss += stepped.loss;
            progress.step(step);
            let (is_last, pause) = (step == end, Instant::now());
            if is_last || step.is_multiple_of(config.log_every) {
                trained_for += pause - meter.since;
                waited_for += loader.waited() - meter.waited;
                self.log(&meter, &stepped, loader.waited(), &progress)?;
                meter = Meter::new(loader.waited());
            }
            if step == steps || step.is_multiple_of(config.validate_every) {
                self.validate(&progress)?;
            }
            if step.is_multiple_of(config.save_every) {
                self.save(LAST)?;
            }
            // Neither validation nor saving counts as training.
            meter.since += pause.elapsed().min(meter.since.elapsed());
        }
        if self.saved != self.trained.step {
            self.save(LAST)?;
        }
        self.curves()?;
        let seconds = trained_for.as_secs_f64();
        let windows = (self.trained.step - first) * config.accumulate * config.batch_size as u64;
        Ok(End {
            step: self.trained.step,
            steps,
            best: self.trained.best,
            waiting: waited_for.as_secs_f64() / seconds,
            windows_per_s: windows as f64 / seconds,
        })
    }

    /// One update of the weights.
    fn step(&mut self, loader: &mut Loader) -> Result<Stepped<B>, PretrainError> {
        let config = &self.run.recipe.pretrain;
        let step = self.trained.step;
        let comparison =
            Comparison { objective: config.objective, shape: self.run.training.shape() };
        let copies = self.devices.copies(&self.trained.module);
        let (mut read, mut sum) = (Vec::new(), Sum::default());
        for round in 0..config.accumulate {
            let mut batches = Vec::with_capacity(self.devices.len());
            for place in 0..self.devices.len() as u64 {
                let batch = loader.next().unwrap_or_else(|| {
                    let store = self.folder.path();
                    Err(DataError::unreadable(store, "a thread that reads windows has died"))
                })?;
                let number = step * config.parts() + round * self.devices.len() as u64 + place;
                read.push(batch.windows.clone());
                batches.push((batch, draw(config.seed, number)));
            }
            self.devices.add(&mut sum, &self.trained.module, &copies, &batches, comparison);
        }
        let loss = mean(sum.losses.iter().copied());
        let gradients = sum.gradients();
        let scale = 1.0 / sum.losses.len().max(1) as f64;
        let gradient_norm = norm::<B, _>(&self.trained.module, &gradients)
            .map_or(0.0, |norm| f64::from(scalar(norm)) * scale);
        let rate = config.schedule.factor(step, self.run.steps(), self.run.pass_steps());
        let learning_rate = config.optimizer.learning_rate * rate;
        if !sum.losses.is_empty() {
            self.refuse_no_number(loss, gradient_norm, &read)?;
            let Trained { module, optimizer, .. } = &mut self.trained;
            let module = optimizer.step(module.clone(), gradients, scale, gradient_norm, rate);
            self.trained.module = clamped(module);
        }
        self.trained.step += 1;
        Ok(Stepped { loss, gradient_norm, learning_rate, contrast: sum.contrast })
    }

    fn refuse_no_number(
        &self,
        loss: f64,
        gradient_norm: f64,
        read: &[Vec<usize>],
    ) -> Result<(), PretrainError> {
        let what = match (loss.is_finite(), gradient_norm.is_finite()) {
            (true, true) => return Ok(()),
            (false, _) => "loss",
            (true, false) => "gradient",
        };
        let windows = read.iter().flatten();
        let mut names: Vec<&str> =
            windows.filter_map(|&window| self.run.training.name(window)).collect();
        names.sort_unstable();
        names.dedup();
        let mut recordings = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        if names.len() > NAMED {
            recordings += &format!(" and {} more", names.len() - NAMED);
        }
        Err(PretrainError::NotANumber {
            step: self.trained.step + 1,
            what,
            recordings,
            checkpoint: self.folder.file(LAST),
            saved: self.saved,
        })
    }

    fn log(
        &mut self,
        meter: &Meter,
        stepped: &Stepped<B>,
        waited: Duration,
        progress: &Progress,
    ) -> Result<(), RunError> {
        let config = &self.run.recipe.pretrain;
        let seconds = meter.since.elapsed().as_secs_f64();
        let windows = meter.steps * config.accumulate * config.batch_size as u64;
        let retrieval = stepped.contrast.as_ref().map(Contrast::retrieval).unwrap_or_default();
        let shares = named_shares(config.objective, &module_names(&self.run.training), &retrieval);
        let loss = meter.loss / meter.steps as f64;
        let accuracy = mean(shares.iter().map(|(_, share)| *share));
        let windows_per_s = windows as f64 / seconds;
        let waiting = (waited - meter.waited).as_secs_f64() / seconds;
        let mut logged = vec![
            ("loss", loss),
            ("accuracy", accuracy),
            ("learning_rate", stepped.learning_rate),
            ("temperature", f64::from(self.trained.temperature())),
            ("gradient_norm", stepped.gradient_norm),
            ("windows_per_s", windows_per_s),
            ("waiting", waiting),
        ];
        logged.extend(shares.iter().map(|(name, share)| (name.as_str(), *share)));
        self.folder.log(self.trained.step, "train", &logged)?;
        let text = format!(
            "loss {loss:.4}  accuracy {:.1} %  {windows_per_s:.1} windows/s  waiting {:.1} %",
            100.0 * accuracy,
            100.0 * waiting,
        );
        progress.note(self.trained.step, &text);
        Ok(())
    }

    fn validate(&mut self, progress: &Progress) -> Result<(), PretrainError> {
        let step = self.trained.step;
        let module: Pretrainer<B::InnerBackend> =
            burn::module::AutodiffModule::valid(&self.trained.module);
        let config = &self.run.recipe.pretrain;
        let found = validate(&module, &self.run.validation, config, self.devices.first())?;
        let mut logged = vec![("loss", found.loss), ("accuracy", found.accuracy)];
        logged.extend(found.shares.iter().map(|(name, share)| (name.as_str(), *share)));
        self.folder.log(step, "validation", &logged)?;
        let is_best = self.trained.best.is_none_or(|(_, loss)| found.loss < loss);
        progress.line(&format!(
            "step {step}: validation loss {:.4}, accuracy {:.1} %{}",
            found.loss,
            100.0 * found.accuracy,
            if is_best { ", the best so far" } else { "" },
        ));
        if is_best {
            self.trained.best = Some((step, found.loss));
            self.save(BEST)?;
        }
        Ok(())
    }

    fn save(&mut self, name: &str) -> Result<(), RunError> {
        let path = self.folder.file(name);
        self.trained.write(&path, &self.run.recipe, self.run.training.len())?;
        if name == LAST {
            self.saved = self.trained.step;
        }
        Ok(())
    }

    fn curves(&self) -> Result<(), RunError> {
        let panels = [
            ("loss", "Contrastive loss", "nats"),
            ("accuracy", "Windows found by another modality, within a batch", "share"),
            ("learning_rate", "Learning rate", ""),
        ];
        metrics::curves(self.folder.path(), &panels)
    }
}

/// Keeps the temperature from falling below 0, as the reference does.
fn clamped<B: TrainBackend>(mut module: Pretrainer<B>) -> Pretrainer<B> {
    module.temperature = module
        .temperature
        .map(|value| Tensor::from_inner(value.inner().clamp_min(0.0)).require_grad());
    module
}

/// A seed of its own for each batch.
fn draw(seed: u64, batch: u64) -> u64 {
    seed ^ (batch + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
