//! Fine-tuning of the risk head: Cox's partial likelihood of each label, over the whole training
//! set at every step.
//!
//! The gradient is exact in bounded memory: one pass without gradients gives all log-hazards, the
//! loss's derivative by them is plain arithmetic, a second pass takes it back through the network
//! batch by batch, with the same dropout. The best pass is chosen on whole validation nights.

use std::ops::Range;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::prelude::*;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sfm_models::Modality;

use super::fit::{Fit, Step, Task, Validation};
use super::followed::Followed;
use super::head::{HeadAbout, Kind, QUANTILES};
use super::nights::Nights;
use super::stretch::{self, Stretch, Subset};
use super::{FinetuneError, random, seed_of, some_of};
use crate::evaluate::classification::quantile;
use crate::evaluate::staging::values;
use crate::evaluate::survival;
use crate::loss::cox::{Cox, Ties, cox};
use crate::network::HeadConfig;
use crate::nn::{DemographicsHead, Kernels, RiskHead, TrainBackend};

/// What a risk head is trained from: the reference's four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Embeddings, age and sex.
    #[default]
    Demographics,
    /// Embeddings alone.
    NoDemographics,
    /// Age and sex alone.
    DemographicsOnly,
    /// Signals, age and sex, without pretraining.
    Supervised,
}

impl Variant {
    /// Whether age and sex enter.
    pub fn demographics(self) -> bool {
        self != Variant::NoDemographics
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Variant::Demographics => "demographics",
            Variant::NoDemographics => "no-demographics",
            Variant::DemographicsOnly => "demographics-only",
            Variant::Supervised => "supervised",
        })
    }
}

/// What the best pass has most of on the validation set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// Partial likelihood.
    #[default]
    Loss,
    /// Mean C-index of the labels.
    CIndex,
}

/// The `[risk]` section of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RiskRecipe {
    /// What goes in.
    pub variant: Variant,
    /// Events at the same time.
    pub ties: Ties,
    /// Stretches of a night in a step, spread over it; their embeddings' mean stands for the night.
    pub stretches: usize,
    /// Tokens of a stretch; nights that are not longer go in whole.
    pub stretch_tokens: usize,
    /// Nights in memory at a time.
    pub batch: usize,
    /// Steps, each over the whole training set, between two validations.
    pub steps_per_pass: u64,
    /// Probability that a night has only some of the modalities in a step.
    pub modality_dropout: f64,
    /// Ages in years that go in as 0 and as 1.
    pub age_range: (f64, f64),
    /// How the best pass is chosen.
    pub select: Select,
    /// Five-minute windows of a night that the supervised variant sees.
    pub windows: usize,
    /// The head's sizes.
    pub head: HeadConfig,
    /// How it is trained.
    pub fit: Fit,
}

impl Default for RiskRecipe {
    fn default() -> Self {
        Self {
            variant: Variant::default(),
            ties: Ties::default(),
            stretches: 4,
            stretch_tokens: 360,
            batch: 16,
            steps_per_pass: 5,
            modality_dropout: 0.0,
            age_range: (0.0, 100.0),
            select: Select::default(),
            windows: 6,
            head: HeadConfig { layers: 2, max_seq_length: 6480, ..HeadConfig::default() },
            fit: Fit::default(),
        }
    }
}

impl RiskRecipe {
    /// Checks every value, for tokens of length `embed_dim`.
    ///
    /// # Errors
    /// One line that names the key and its range.
    pub fn check(&self, embed_dim: usize) -> Result<(), String> {
        self.head.check(embed_dim)?;
        self.fit.check()?;
        for (key, value) in [
            ("stretches", self.stretches),
            ("stretch_tokens", self.stretch_tokens),
            ("batch", self.batch),
            ("steps_per_pass", self.steps_per_pass as usize),
            ("windows", self.windows),
        ] {
            if !(1..=1_000_000).contains(&value) {
                return Err(format!("{key} is {value}, not in 1 to 1000000"));
            }
        }
        if !(0.0..=1.0).contains(&self.modality_dropout) {
            return Err(format!("modality_dropout is {}, not in 0 to 1", self.modality_dropout));
        }
        let (youngest, oldest) = self.age_range;
        if !(youngest.is_finite() && oldest.is_finite() && youngest < oldest) {
            return Err("age_range must be two ages in years, the lower one first".to_owned());
        }
        Ok(())
    }

    /// What the head is.
    pub fn about(&self, embed_dim: usize, labels: &[String], train: &Followed) -> HeadAbout {
        HeadAbout {
            kind: Kind::Risk,
            embed_dim,
            modalities: Modality::ALL.to_vec(),
            config: self.head.clone(),
            classes: labels.len(),
            demographics: self.variant.demographics(),
            age_range: self.age_range,
            labels: labels.to_vec(),
            learned: train.with_events(),
            variant: Some(self.variant),
            recordings: train.len(),
            signals: None,
        }
    }
}

/// What a night is to a network that gives its hazards.
pub trait Inputs {
    /// A night, or what is drawn of it.
    type Night;

    /// What a training step sees of a night.
    ///
    /// # Errors
    /// [`FinetuneError`] if it can no longer be read.
    fn draw(
        &self,
        night: usize,
        recipe: &RiskRecipe,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self::Night, FinetuneError>;

    /// What evaluation sees of it.
    ///
    /// # Errors
    /// [`FinetuneError`] if it can no longer be read.
    fn whole(&self, night: usize, kept: Subset) -> Result<Self::Night, FinetuneError>;

    /// Its path.
    fn name(&self, night: usize) -> &str;
}

impl Inputs for Nights {
    type Night = Vec<Stretch>;

    fn draw(
        &self,
        night: usize,
        recipe: &RiskRecipe,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Stretch>, FinetuneError> {
        let night = self.night(night)?;
        let stretches = (recipe.stretches, recipe.stretch_tokens);
        Ok(stretch::spread(&night, stretches, recipe.modality_dropout, rng))
    }

    fn whole(&self, night: usize, kept: Subset) -> Result<Vec<Stretch>, FinetuneError> {
        Ok(vec![Stretch::whole(self.night(night)?, kept)])
    }

    fn name(&self, night: usize) -> &str {
        &self.recordings()[night].path
    }
}

/// A network from nights `N`, age and sex to log-hazards.
pub trait LogHazard<B: Backend, N> {
    /// Log-hazards [N, K] of `nights`, with `demographics` [N, 2].
    fn log_hazard(
        &self,
        nights: &[N],
        demographics: Tensor<B, 2>,
        device: &B::Device,
    ) -> Tensor<B, 2>;
}

impl<B: Kernels> LogHazard<B, Vec<Stretch>> for RiskHead<B> {
    fn log_hazard(
        &self,
        nights: &[Vec<Stretch>],
        demographics: Tensor<B, 2>,
        device: &B::Device,
    ) -> Tensor<B, 2> {
        let embedding =
            stretch::embed(nights, device, |tokens, present| self.embed(tokens, present));
        RiskHead::log_hazard(self, embedding, demographics)
    }
}

impl<B: Kernels> LogHazard<B, Vec<Stretch>> for DemographicsHead<B> {
    fn log_hazard(
        &self,
        _: &[Vec<Stretch>],
        demographics: Tensor<B, 2>,
        _: &B::Device,
    ) -> Tensor<B, 2> {
        self.forward(demographics)
    }
}

/// Nights whose outcomes are known.
#[derive(Debug)]
pub struct Cohort<I> {
    /// The nights.
    pub nights: I,
    /// Outcomes and demographics, in the same order.
    pub followed: Followed,
}

/// The risk [`Task`].
pub struct Risk<'a, B: TrainBackend, I, H> {
    /// Trained on.
    pub train: &'a Cohort<I>,
    /// Measured on after every pass.
    pub validation: &'a Cohort<I>,
    /// A checked recipe.
    pub recipe: &'a RiskRecipe,
    /// Where to.
    pub device: B::Device,
    /// The network.
    pub head: std::marker::PhantomData<H>,
}

impl<B, I, H> Risk<'_, B, I, H>
where
    B: TrainBackend,
    I: Inputs,
    H: burn::module::AutodiffModule<B> + LogHazard<B, I::Night>,
{
    /// Log-hazards of a batch of the training set as step `step` draws it. The same for the same
    /// step, dropout included.
    fn batch(
        &self,
        head: &H,
        rows: Range<usize>,
        step: u64,
    ) -> Result<Tensor<B, 2>, FinetuneError> {
        let seed = self.recipe.fit.seed;
        let first = step.wrapping_mul(1 << 32).wrapping_add(rows.start as u64);
        B::seed(&self.device, seed_of(seed, first));
        let mut rng = random(seed, b"stretch ", first);
        let nights = rows
            .clone()
            .map(|night| self.train.nights.draw(night, self.recipe, &mut rng))
            .collect::<Result<Vec<_>, _>>()?;
        let demographics = demographics(&self.train.followed, rows, &self.device);
        Ok(head.log_hazard(&nights, demographics, &self.device))
    }
}

impl<B, I, H> Task<B> for Risk<'_, B, I, H>
where
    B: TrainBackend,
    I: Inputs,
    H: burn::module::AutodiffModule<B> + LogHazard<B, I::Night>,
    H::InnerModule: LogHazard<B::InnerBackend, I::Night>,
{
    type Head = H;

    fn steps_per_pass(&self) -> u64 {
        self.recipe.steps_per_pass
    }

    fn step(&self, head: &H, step: u64) -> Result<Step, FinetuneError> {
        let followed = &self.train.followed;
        let batches = batches(followed.len(), self.recipe.batch);
        let mut log_hazards = Vec::new();
        for rows in &batches {
            log_hazards.extend(wide(self.batch(head, rows.clone(), step)?));
        }
        let Cox { loss, gradient, .. } = cox(&log_hazards, &followed.rows(), self.recipe.ties);
        let mut accumulator = GradientsAccumulator::new();
        let labels = log_hazards.len() / followed.len().max(1);
        for rows in &batches {
            let own = &gradient[rows.start * labels..rows.end * labels];
            let own: Vec<f32> = own.iter().map(|&derivative| derivative as f32).collect();
            let shape = [rows.len(), labels];
            let own: Tensor<B, 2> = Tensor::from_data(TensorData::new(own, shape), &self.device);
            let log_hazard = self.batch(head, rows.clone(), step)?;
            let gradients = (log_hazard * own).sum().backward();
            accumulator.accumulate(head, GradientsParams::from_grads(gradients, head));
        }
        Ok(Step { loss, gradients: accumulator.grads() })
    }

    fn names(&self, _: u64) -> String {
        some_of((0..self.train.followed.len()).map(|night| self.train.nights.name(night)))
    }

    fn validate(&self, head: &H::InnerModule) -> Result<Validation, FinetuneError> {
        let device = &self.device;
        let log_hazards =
            whole_log_hazards::<B::InnerBackend, _, _>(head, self.validation, Subset::ALL, device)?;
        let rows = self.validation.followed.rows();
        let loss = cox(&log_hazards, &rows, self.recipe.ties).loss;
        let c_index = mean(survival::c_indices(&log_hazards, &rows));
        let figure = match self.recipe.select {
            Select::Loss => -loss,
            Select::CIndex => c_index,
        };
        Ok(Validation { figure, metrics: vec![("loss", loss), ("c_index", c_index)] })
    }
}

/// Log-hazards [N, K] of whole nights, of the modalities `kept`.
///
/// # Errors
/// [`FinetuneError`] if a recording can no longer be read.
pub fn whole_log_hazards<B, I, H>(
    head: &H,
    cohort: &Cohort<I>,
    kept: Subset,
    device: &B::Device,
) -> Result<Vec<f64>, FinetuneError>
where
    B: Backend,
    I: Inputs,
    H: LogHazard<B, I::Night>,
{
    let mut log_hazards = Vec::new();
    for night in 0..cohort.followed.len() {
        let input = [cohort.nights.whole(night, kept)?];
        let demographics = demographics(&cohort.followed, night..night + 1, device);
        log_hazards.extend(wide(head.log_hazard(&input, demographics, device)));
    }
    Ok(log_hazards)
}

/// K rows of [`QUANTILES`] of the log-hazards [N, K].
pub fn reference(log_hazards: &[f64], labels: usize) -> Vec<Vec<f64>> {
    (0..labels)
        .map(|label| {
            let mut column: Vec<f64> =
                log_hazards.iter().skip(label).step_by(labels).copied().collect();
            column.sort_by(f64::total_cmp);
            let at = |q: usize| quantile(&column, q as f64 / (QUANTILES - 1) as f64);
            (0..QUANTILES).filter_map(at).collect()
        })
        .collect()
}

fn demographics<B: Backend>(
    followed: &Followed,
    rows: Range<usize>,
    device: &B::Device,
) -> Tensor<B, 2> {
    let shape = [rows.len(), 2];
    let values = followed.demographics[rows].concat();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn batches(rows: usize, batch: usize) -> Vec<Range<usize>> {
    (0..rows).step_by(batch).map(|start| start..(start + batch).min(rows)).collect()
}

fn wide<B: Backend>(log_hazard: Tensor<B, 2>) -> Vec<f64> {
    values(log_hazard).into_iter().map(f64::from).collect()
}

fn mean(values: Vec<Option<f64>>) -> f64 {
    let known: Vec<f64> = values.into_iter().flatten().collect();
    known.iter().sum::<f64>() / known.len() as f64
}
