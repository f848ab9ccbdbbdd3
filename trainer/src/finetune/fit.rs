//! The training loop of every head: steps, a validation after every pass, the best head by its
//! figure, early stop, checkpoints after every pass and at SIGINT or SIGTERM. A resumed run takes
//! the same steps as one that was never stopped.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsParams, Optimizer};
use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::FinetuneError;
use super::head::{ABOUT, HeadAbout, WEIGHTS};
use crate::chart::{self, Panel, Series};
use crate::cli::say;
use crate::nn::TrainBackend;
use crate::run::{
    BEST, CURVES, CheckpointReader, CheckpointWriter, LAST, METRICS_TSV, RunError, RunFolder,
    StopFlag,
};

/// Part of `last.ckpt`: the optimizer's state.
const OPTIMIZER: &str = "optimizer.mpk";
/// Part of `last.ckpt`: the [`State`].
const STATE: &str = "state.json";

/// How a head is trained: AdamW, the rate warmed up and then lowered to nothing by a half cosine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fit {
    /// Everything random follows from it.
    pub seed: u64,
    /// Most passes over the training set.
    pub passes: u64,
    /// Passes without a better figure before training ends early.
    pub patience: u64,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Steps to the highest rate.
    pub warmup_steps: u64,
}

impl Default for Fit {
    fn default() -> Self {
        Self {
            seed: 42,
            passes: 20,
            patience: 6,
            learning_rate: 1e-3,
            weight_decay: 0.01,
            warmup_steps: 20,
        }
    }
}

impl Fit {
    /// Checks every value.
    ///
    /// # Errors
    /// One line that names the key and its range.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=1_000_000).contains(&self.passes) {
            return Err(format!("passes is {}, not in 1 to 1000000", self.passes));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            return Err(format!("learning_rate is {}, not over 0 to 1", self.learning_rate));
        }
        if !(0.0..=1.0).contains(&self.weight_decay) {
            return Err(format!("weight_decay is {}, not in 0 to 1", self.weight_decay));
        }
        Ok(())
    }

    /// The learning rate of a step of `steps`.
    fn rate(&self, step: u64, steps: u64) -> f64 {
        let warm = ((step + 1) as f64 / (self.warmup_steps + 1) as f64).min(1.0);
        let done = step as f64 / steps.max(1) as f64;
        self.learning_rate * warm * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

/// A head's training set, its loss, and how it is measured.
pub trait Task<B: TrainBackend> {
    /// What is trained.
    type Head: AutodiffModule<B>;

    /// Optimizer steps between two validations.
    fn steps_per_pass(&self) -> u64;

    /// Loss and gradients of step `step`, which alone decides what is drawn for it.
    ///
    /// # Errors
    /// [`FinetuneError`] if a recording can no longer be read.
    fn step(&self, head: &Self::Head, step: u64) -> Result<Step, FinetuneError>;

    /// Names of the recordings of a step, for a message.
    fn names(&self, step: u64) -> String;

    /// Measures a head on the validation set.
    ///
    /// # Errors
    /// [`FinetuneError`] if a recording can no longer be read.
    fn validate(
        &self,
        head: &<Self::Head as AutodiffModule<B>>::InnerModule,
    ) -> Result<Validation, FinetuneError>;
}

/// What a step yields.
pub struct Step {
    /// The loss.
    pub loss: f64,
    /// Its gradients.
    pub gradients: GradientsParams,
}

/// What a validation yields.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// What the best head has most of.
    pub figure: f64,
    /// All metrics by name, for the log; one that cannot be told is NaN.
    pub metrics: Vec<(&'static str, f64)>,
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct State {
    /// Steps done.
    step: u64,
    /// Pass and figure of the best head.
    best: Option<(u64, f64)>,
}

/// What a run needs besides its task.
pub struct Surroundings<'a> {
    /// How to train.
    pub fit: &'a Fit,
    /// What is trained.
    pub about: &'a HeadAbout,
    /// Where it is written.
    pub run: &'a mut RunFolder,
    /// Go on with what is there.
    pub resume: bool,
    /// Set to stop.
    pub stop: &'a StopFlag,
}

/// Trains `head`; `best.ckpt` then holds the best one, which is returned.
///
/// # Errors
/// [`FinetuneError`]; the last good checkpoint is kept.
pub fn fit<B: TrainBackend, T: Task<B>>(
    task: &T,
    mut head: T::Head,
    around: &mut Surroundings<'_>,
    device: &B::Device,
) -> Result<<T::Head as AutodiffModule<B>>::InnerModule, FinetuneError> {
    let fit = around.fit;
    let mut optimizer = AdamWConfig::new()
        .with_weight_decay(fit.weight_decay as f32)
        .with_epsilon(1e-8)
        .init::<B, T::Head>();
    let mut state = State::default();
    if around.resume {
        let (mut last, kept) = open_last(around)?;
        head = head.load_record(last.record::<B, _>(WEIGHTS, device)?);
        optimizer = optimizer.load_record(last.record::<B, _>(OPTIMIZER, device)?);
        state = kept;
        say(format_args!("resumed at step {}", state.step));
    }
    let per_pass = task.steps_per_pass().max(1);
    let steps = fit.passes * per_pass;
    let save = |head: &T::Head, optimizer: &_, state: &State, run: &RunFolder| {
        let mut last = CheckpointWriter::new();
        let optimizer: &burn::optim::adaptor::OptimizerAdaptor<burn::optim::AdamW, T::Head, B> =
            optimizer;
        last.json(ABOUT, around.about)
            .and_then(|()| last.record::<B, _>(WEIGHTS, head.clone().into_record()))
            .and_then(|()| last.record::<B, _>(OPTIMIZER, optimizer.to_record()))
            .and_then(|()| last.json(STATE, state))
            .map_err(|reason| FinetuneError::Record { path: run.file(LAST), reason })?;
        last.write(&run.file(LAST)).map_err(FinetuneError::from)
    };
    let mut begun = Instant::now();
    let mut losses = Vec::new();
    while state.step < steps && !stale(&state, per_pass, fit.patience) {
        let step = state.step;
        B::seed(device, super::seed_of(fit.seed, step));
        let Step { loss, gradients } = task.step(&head, step)?;
        let not_finite = |what| FinetuneError::NotFinite { what, step, batch: task.names(step) };
        if !loss.is_finite() {
            return Err(not_finite("loss"));
        }
        head = optimizer.step(fit.rate(step, steps), head, gradients);
        losses.push(loss);
        state.step += 1;
        let ends_pass = state.step % per_pass == 0;
        let stops = around.stop.is_set();
        if (ends_pass || stops) && !is_finite::<B, T::Head>(&head) {
            return Err(not_finite("gradient"));
        }
        around.run.log(state.step, "train", &[("loss", loss)])?;
        if ends_pass {
            let validation = task.validate(&head.valid())?;
            around.run.log(state.step, "validation", &validation.metrics)?;
            let pass = state.step / per_pass;
            if state.best.is_none_or(|(_, best)| validation.figure > best) {
                state.best = Some((pass, validation.figure));
                write_best::<B, T>(&head, around)?;
            }
            tell(pass, &mut losses, &validation, state.best, begun);
            begun = Instant::now();
        }
        if ends_pass || stops {
            save(&head, &optimizer, &state, around.run)?;
        }
        if stops && state.step < steps {
            let out = around.run.path().to_owned();
            return Err(FinetuneError::Interrupted { step: state.step, out });
        }
    }
    curves(around.run)?;
    let path = around.run.file(BEST);
    let record = CheckpointReader::open(&path)?.record::<B, _>(WEIGHTS, device)?;
    Ok(head.load_record(record).valid())
}

/// Whether the best pass is `patience` passes ago.
fn stale(state: &State, per_pass: u64, patience: u64) -> bool {
    state.best.is_some_and(|(pass, _)| state.step >= (pass + patience.max(1)) * per_pass)
}

fn open_last(around: &Surroundings<'_>) -> Result<(CheckpointReader, State), FinetuneError> {
    let path = around.run.file(LAST);
    let (about, mut last) = HeadAbout::read(&path, around.about.kind)?;
    if about != *around.about {
        let reason = "it is of another head than the configuration and the data ask for; resume \
                      with what the run was begun with";
        return Err(RunError::Refused { path, reason: reason.to_owned() }.into());
    }
    let state = last.json(STATE)?;
    Ok((last, state))
}

fn write_best<B: TrainBackend, T: Task<B>>(
    head: &T::Head,
    around: &Surroundings<'_>,
) -> Result<(), FinetuneError> {
    let path = around.run.file(BEST);
    let mut best = CheckpointWriter::new();
    best.json(ABOUT, around.about)
        .and_then(|()| best.record::<B, _>(WEIGHTS, head.clone().into_record()))
        .map_err(|reason| FinetuneError::Record { path: path.clone(), reason })?;
    Ok(best.write(&path)?)
}

fn tell(
    pass: u64,
    losses: &mut Vec<f64>,
    validation: &Validation,
    best: Option<(u64, f64)>,
    begun: Instant,
) {
    let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    losses.clear();
    let metrics: Vec<String> =
        validation.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    let best = best.map_or(0, |(pass, _)| pass);
    say(format_args!(
        "pass {pass}: loss {mean:.4}; validation {}; best pass {best}; {:.1} s",
        metrics.join(", "),
        begun.elapsed().as_secs_f64()
    ));
}

/// Draws `curves.svg` from `metrics.tsv`, a panel a metric: also what was logged before a resume.
fn curves(run: &RunFolder) -> Result<(), RunError> {
    let path = run.file(METRICS_TSV);
    let text = std::fs::read_to_string(&path)
        .map_err(|source| RunError::Read { path: path.clone(), source })?;
    let mut panels: BTreeMap<&str, BTreeMap<&str, BTreeMap<u64, f64>>> = BTreeMap::new();
    for line in text.lines() {
        let mut columns = line.split('\t');
        let step = columns.next().and_then(|step| step.parse().ok());
        let (split, metric) = (columns.next(), columns.next());
        let value = columns.next().and_then(|value| value.parse().ok());
        if let (Some(step), Some(split), Some(metric), Some(value)) = (step, split, metric, value) {
            panels.entry(metric).or_default().entry(split).or_default().insert(step, value);
        }
    }
    let series = |(split, points): (&str, BTreeMap<u64, f64>)| Series {
        name: split.to_owned(),
        points: points.into_iter().map(|(step, value)| (step as f64, value)).collect(),
    };
    let panels: Vec<Panel> = panels
        .into_iter()
        .map(|(metric, splits)| Panel {
            title: metric.to_owned(),
            x_label: "step".to_owned(),
            y_label: String::new(),
            series: splits.into_iter().map(series).collect(),
        })
        .collect();
    chart::lines(&run.file(CURVES), &panels)
}

/// Whether every weight is a number.
pub fn is_finite<B: Backend, M: Module<B>>(module: &M) -> bool {
    struct Finite(bool);
    impl<B: Backend> ModuleVisitor<B> for Finite {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            // A sum is finite only if every term is.
            let sum = param.val().abs().sum().into_scalar().elem::<f64>();
            self.0 &= sum.is_finite();
        }
    }
    let mut finite = Finite(true);
    module.visit(&mut finite);
    finite.0
}

/// Writes a further part beside the best head.
///
/// # Errors
/// [`FinetuneError`] if the checkpoint cannot be read or written.
pub fn add_to_best<B: Backend, M: Module<B>>(
    path: &Path,
    head: &M,
    about: &HeadAbout,
    (name, part): (&str, &impl Serialize),
) -> Result<(), FinetuneError> {
    let mut best = CheckpointWriter::new();
    best.json(ABOUT, about)
        .and_then(|()| best.record::<B, _>(WEIGHTS, head.clone().into_record()))
        .and_then(|()| best.json(name, part))
        .map_err(|reason| FinetuneError::Record { path: path.to_owned(), reason })?;
    Ok(best.write(path)?)
}
