//! Fine-tuning of the risk head: Cox's partial likelihood of each label, over the whole training
//! set at every step.
//!
//! The gradient is exact in bounded memory: one pass without gradients gives all log-hazards, the
//! loss's derivative by them is plain arithmetic, a second pass takes it back through the network
//! batch by batch, with the same dropout. With `measured` the first pass draws stretches of its own:
//! what a few minutes show of a night is in part chance, and chance that is in the hazard as well as
//! in what is learned from teaches the head to trust the night too little. The best pass is chosen on
//! whole validation nights.

use std::ops::Range;

use burn::module::Param;
use burn::nn::Linear;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::prelude::*;
use rand_chacha::ChaCha8Rng;

use super::fit::{Step, Task, Validation};
use super::followed::Followed;
use super::head::QUANTILES;
use super::nights::Nights;
use super::stretch::{self, Stretch, Subset};
use super::{FinetuneError, random, seed_of, some_of};
use crate::cli::say;
use crate::evaluate::classification::quantile;
use crate::evaluate::staging::values;
use crate::evaluate::survival;
use crate::loss::cox::{Cox, Ties, cox};
use crate::nn::{DemographicsHead, Kernels, RiskHead, TrainBackend};

pub mod readout;
mod recipe;

use readout::{Features, Fitting, Layer};
pub use recipe::{RiskRecipe, Select, Variant};

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

    /// What tells its hazard in a training step whose recipe has `measured` stretches.
    ///
    /// # Errors
    /// [`FinetuneError`] if it can no longer be read.
    fn measured(
        &self,
        night: usize,
        recipe: &RiskRecipe,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self::Night, FinetuneError> {
        self.draw(night, recipe, rng)
    }

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

    fn measured(
        &self,
        night: usize,
        recipe: &RiskRecipe,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Stretch>, FinetuneError> {
        let night = self.night(night)?;
        Ok(stretch::spread(&night, (recipe.measured, recipe.stretch_tokens), 0.0, rng))
    }

    fn whole(&self, night: usize, kept: Subset) -> Result<Vec<Stretch>, FinetuneError> {
        Ok(vec![Stretch::whole(self.night(night)?, kept)])
    }

    fn name(&self, night: usize) -> &str {
        &self.recordings()[night].path
    }
}

/// A network from nights `N`, age and sex to log-hazards, by a last layer on features.
pub trait LogHazard<B: Backend, N> {
    /// Features [N, F] of `nights`, with `demographics` [N, 2].
    fn features(
        &self,
        nights: &[N],
        demographics: Tensor<B, 2>,
        device: &B::Device,
    ) -> Tensor<B, 2>;

    /// The last layer, F to K.
    fn last(&self) -> &Linear<B>;

    /// The last layer, to be replaced.
    fn last_mut(&mut self) -> &mut Linear<B>;

    /// Log-hazards [N, K] of `nights`, with `demographics` [N, 2].
    fn log_hazard(
        &self,
        nights: &[N],
        demographics: Tensor<B, 2>,
        device: &B::Device,
    ) -> Tensor<B, 2> {
        self.last().forward(self.features(nights, demographics, device))
    }
}

impl<B: Kernels> LogHazard<B, Vec<Stretch>> for RiskHead<B> {
    fn features(
        &self,
        nights: &[Vec<Stretch>],
        demographics: Tensor<B, 2>,
        device: &B::Device,
    ) -> Tensor<B, 2> {
        let embedding =
            stretch::embed(nights, device, |tokens, present| self.embed(tokens, present));
        RiskHead::features(self, embedding, demographics)
    }

    fn last(&self) -> &Linear<B> {
        &self.hazards
    }

    fn last_mut(&mut self) -> &mut Linear<B> {
        &mut self.hazards
    }
}

impl<B: Kernels> LogHazard<B, Vec<Stretch>> for DemographicsHead<B> {
    fn features(
        &self,
        _: &[Vec<Stretch>],
        demographics: Tensor<B, 2>,
        _: &B::Device,
    ) -> Tensor<B, 2> {
        DemographicsHead::features(self, demographics)
    }

    fn last(&self) -> &Linear<B> {
        &self.hazards
    }

    fn last_mut(&mut self) -> &mut Linear<B> {
        &mut self.hazards
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

impl<B, I, H> Risk<'_, B, I, H>
where
    B: TrainBackend,
    I: Inputs,
    H: burn::module::AutodiffModule<B>,
    H::InnerModule: LogHazard<B::InnerBackend, I::Night>,
{
    /// Log-hazards of a batch of the training set from other stretches, for their values alone.
    fn measure(
        &self,
        head: &H::InnerModule,
        rows: Range<usize>,
        step: u64,
    ) -> Result<Vec<f64>, FinetuneError> {
        let first = step.wrapping_mul(1 << 32).wrapping_add(rows.start as u64);
        let mut rng = random(self.recipe.fit.seed, b"measured", first);
        let nights = rows
            .clone()
            .map(|night| self.train.nights.measured(night, self.recipe, &mut rng))
            .collect::<Result<Vec<_>, _>>()?;
        let demographics =
            demographics::<B::InnerBackend>(&self.train.followed, rows, &self.device);
        Ok(wide(head.log_hazard(&nights, demographics, &self.device)))
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
            log_hazards.extend(match self.recipe.measured {
                0 => wide(self.batch(head, rows.clone(), step)?),
                _ => self.measure(&head.valid(), rows.clone(), step)?,
            });
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

/// Features of whole nights.
///
/// # Errors
/// [`FinetuneError`] if a recording can no longer be read.
fn whole_features<B, I, H>(
    head: &H,
    cohort: &Cohort<I>,
    device: &B::Device,
) -> Result<Features, FinetuneError>
where
    B: Backend,
    I: Inputs,
    H: LogHazard<B, I::Night>,
{
    let mut features = Features { width: 0, values: Vec::new() };
    for night in 0..cohort.followed.len() {
        let input = [cohort.nights.whole(night, Subset::ALL)?];
        let demographics = demographics(&cohort.followed, night..night + 1, device);
        let row = wide(head.features(&input, demographics, device));
        features.width = row.len();
        features.values.extend(row);
    }
    Ok(features)
}

/// A last layer for `head` by [`Fitting`] on whole nights, of the penalties with the least loss on
/// the validation nights; and that loss.
///
/// # Errors
/// [`FinetuneError`] if a recording can no longer be read.
pub fn fitted_layer<B, I, H>(
    head: &H,
    (train, validation): (&Cohort<I>, &Cohort<I>),
    ties: Ties,
    device: &B::Device,
) -> Result<(Layer, f64), FinetuneError>
where
    B: Backend,
    I: Inputs,
    H: LogHazard<B, I::Night>,
{
    let features = whole_features::<B, I, H>(head, train, device)?;
    let unseen = whole_features::<B, I, H>(head, validation, device)?;
    let (rows, unseen_rows) = (train.followed.rows(), validation.followed.rows());
    let fitting = Fitting::new(&features, &rows, ties);
    let loss = |layer: &Layer| cox(&layer.log_hazards(&unseen), &unseen_rows, ties).loss;
    let least = |layers: Vec<(Layer, f64)>| {
        let judged = layers.into_iter().map(|(layer, ridge)| {
            let loss = loss(&layer);
            (layer, ridge, loss)
        });
        judged.reduce(|best, other| if other.2 < best.2 { other } else { best })
    };
    let shared = readout::RIDGES.map(|ridge| (fitting.shared(ridge), ridge)).to_vec();
    // There is always a first penalty.
    let Some((shared, ridge, shared_loss)) = least(shared) else {
        return Ok((fitting.shared(readout::RIDGES[0]), f64::NAN));
    };
    let mut own: Vec<_> =
        readout::RIDGES.iter().map(|&ridge| (fitting.own(&shared, ridge), ridge)).collect();
    own.insert(0, (shared, f64::INFINITY));
    let Some((layer, own_ridge, loss)) = least(own) else {
        return Ok((fitting.shared(ridge), shared_loss));
    };
    let c_index = mean(survival::c_indices(&layer.log_hazards(&unseen), &unseen_rows));
    say(format_args!(
        "last layer on whole nights: penalties {ridge} and {own_ridge}; validation loss {loss:.4}, \
         c_index {c_index:.4}"
    ));
    Ok((layer, loss))
}

/// Puts a fitted layer in the place of `head`'s last.
pub fn put_last<B: Backend, N, H: LogHazard<B, N>>(
    head: &mut H,
    layer: &Layer,
    device: &B::Device,
) {
    let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let labels = layer.bias.len();
    let shape = [layer.weights.len() / labels.max(1), labels];
    let weight = Tensor::from_data(TensorData::new(narrow(&layer.weights), shape), device);
    let bias = Tensor::from_data(TensorData::new(narrow(&layer.bias), [labels]), device);
    *head.last_mut() =
        Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) };
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
