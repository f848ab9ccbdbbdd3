//! Fine-tuning of the staging head: class-weighted cross-entropy over the scored tokens of random
//! stretches; the best pass by macro-F1 of whole validation nights, staged as the runtime does it.
//!
//! A token that was not scored, or has no signal, has no loss: `Unknown` is never Wake.

use std::collections::BTreeMap;
use std::path::Path;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::prelude::*;
use burn::tensor::activation::log_softmax;
use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use sfm_models::{Modality, SleepStage};

use super::fit::{Fit, Step, Task, Validation};
use super::head::{HeadAbout, Kind};
use super::nights::{Nights, Tokens};
use super::stretch::{Stretch, Subset, tensors};
use super::{FinetuneError, random, some_of};
use crate::data::labels::StageFolder;
use crate::evaluate::classification::Confusion;
use crate::evaluate::staging::{epochs_of, night_logits};
use crate::network::HeadConfig;
use crate::nn::{Stager, TrainBackend};

/// Shortest stretch that is drawn: one 30-s epoch.
const SHORTEST: usize = 6;

/// How classes are weighed in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// By name.
    Named(NamedWeights),
    /// Wake, N1, N2, N3, REM.
    Given([f64; SleepStage::COUNT]),
}

/// [`ClassWeights`] by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedWeights {
    /// All the same.
    Equal,
    /// The inverse of the square root of each stage's share, with mean 1 over the tokens.
    Balanced,
}

/// The `[staging]` section of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StagingRecipe {
    /// Tokens that are staged at once, in training as at the bedside; -1 is the whole night, up to
    /// the head's `max_seq_length`.
    pub context: i64,
    /// Share of the steps with shorter stretches that begin anywhere in the positional table: what
    /// the live pass sees.
    pub short: f64,
    /// Stretches of each night in a pass.
    pub stretches: usize,
    /// Stretches in memory at a time.
    pub batch: usize,
    /// Batches of an optimizer step.
    pub accumulate: usize,
    /// Weights of the classes: `"equal"`, `"balanced"`, or five numbers.
    pub class_weights: ClassWeights,
    /// Probability that a stretch has only some of the modalities.
    pub modality_dropout: f64,
    /// The head's sizes.
    pub head: HeadConfig,
    /// How it is trained.
    pub fit: Fit,
}

impl Default for StagingRecipe {
    fn default() -> Self {
        Self {
            context: -1,
            short: 0.0,
            stretches: 1,
            batch: 1,
            accumulate: 16,
            // The reference's.
            class_weights: ClassWeights::Given([1.0, 4.0, 2.0, 4.0, 3.0]),
            modality_dropout: 0.0,
            head: HeadConfig::default(),
            fit: Fit::default(),
        }
    }
}

impl StagingRecipe {
    /// Checks every value, for tokens of length `embed_dim`.
    ///
    /// # Errors
    /// One line that names the key and its range.
    pub fn check(&self, embed_dim: usize) -> Result<(), String> {
        self.head.check(embed_dim)?;
        self.fit.check()?;
        let longest = self.head.max_seq_length as i64;
        if self.context != -1 && !(SHORTEST as i64..=longest).contains(&self.context) {
            return Err(format!(
                "context is {}, neither -1 nor in {SHORTEST} to max_seq_length, {longest}",
                self.context
            ));
        }
        for (key, value) in [("short", self.short), ("modality_dropout", self.modality_dropout)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{key} is {value}, not in 0 to 1"));
            }
        }
        for (key, value) in
            [("stretches", self.stretches), ("batch", self.batch), ("accumulate", self.accumulate)]
        {
            if !(1..=100_000).contains(&value) {
                return Err(format!("{key} is {value}, not in 1 to 100000"));
            }
        }
        match self.class_weights {
            ClassWeights::Given(weights) if !weights.iter().all(|w| (0.0..=1e6).contains(w)) => {
                Err("class_weights must not be negative".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The head's sizes with the context as its longest stretch: the runtime then stages in the
    /// stretches that were trained on.
    pub fn head(&self) -> HeadConfig {
        let max_seq_length = usize::try_from(self.context).unwrap_or(self.head.max_seq_length);
        HeadConfig { max_seq_length, ..self.head.clone() }
    }

    /// What the head is.
    pub fn about(&self, embed_dim: usize, recordings: usize) -> HeadAbout {
        HeadAbout {
            kind: Kind::Staging,
            embed_dim,
            modalities: Modality::ALL.to_vec(),
            config: self.head(),
            classes: SleepStage::COUNT,
            demographics: false,
            age_range: (0.0, 100.0),
            labels: SleepStage::ALL.iter().map(|stage| stage.as_str().to_owned()).collect(),
            learned: vec![true; SleepStage::COUNT],
            variant: None,
            recordings,
            signals: None,
        }
    }
}

/// Nights with their scored stages.
#[derive(Debug)]
pub struct Scored {
    /// The nights.
    pub nights: Nights,
    /// One a token of each night; `None` is masked.
    pub stages: Vec<Vec<Option<SleepStage>>>,
}

impl Scored {
    /// Reads embeddings below `embeddings` and their scorings in `stages`. Nights without stages are
    /// left out with a note.
    ///
    /// # Errors
    /// [`FinetuneError`] for a scoring that is refused, and if no night is left.
    pub fn read(
        embeddings: &Path,
        stages: &StageFolder,
        paths: &[String],
    ) -> Result<Self, FinetuneError> {
        let mut nights = Nights::read(embeddings, paths, Tokens::All)?;
        let mut notes = Vec::new();
        let mut files = BTreeMap::new();
        for recording in nights.recordings() {
            match stages.find(&recording.path)? {
                Some(file) => drop(files.insert(recording.path.clone(), file)),
                None => notes.push(format!("left out: {} has no stages", recording.path)),
            }
        }
        nights.retain(
            |recording| files.contains_key(&recording.path),
            "no recording of this part of the split has a file of stages; look at --stages",
        )?;
        let mut all = Vec::with_capacity(nights.len());
        for recording in nights.recordings() {
            let Some(file) = files.get(&recording.path) else { continue };
            let hypnogram = stages.read(file, recording.tokens)?;
            notes.extend(hypnogram.warnings);
            all.push(hypnogram.stages);
        }
        if all.iter().flatten().all(Option::is_none) {
            let reason = "no token of this part of the split has a stage: all are Unknown";
            return Err(FinetuneError::too_few(&stages.path, reason));
        }
        nights.notes.extend(notes);
        Ok(Self { nights, stages: all })
    }
}

/// What is drawn for a stretch.
struct Draw {
    night: usize,
    start: usize,
    length: usize,
    /// Row of the positional table that it begins at.
    position: usize,
}

/// The staging [`Task`].
pub struct Staging<'a, B: TrainBackend> {
    train: &'a Scored,
    validation: &'a Scored,
    recipe: &'a StagingRecipe,
    weights: [f64; SleepStage::COUNT],
    device: B::Device,
}

impl<'a, B: TrainBackend> Staging<'a, B> {
    /// A task of checked recipe.
    pub fn new(
        train: &'a Scored,
        validation: &'a Scored,
        recipe: &'a StagingRecipe,
        device: &B::Device,
    ) -> Self {
        let weights = class_weights(recipe.class_weights, &train.stages);
        Self { train, validation, recipe, weights, device: device.clone() }
    }

    /// A head with random weights.
    pub fn init(&self) -> Stager<B> {
        B::seed(&self.device, super::seed_of(self.recipe.fit.seed, u64::MAX));
        self.recipe.head().stager(self.train.nights.embed_dim()).init(&self.device)
    }

    /// The stretches of a step. All of a step have one length where the nights are long enough.
    fn draws(&self, step: u64) -> Vec<Draw> {
        let nights = self.train.nights.recordings();
        let seed = self.recipe.fit.seed;
        let (pass, place) = (step / self.steps_per_pass(), step % self.steps_per_pass());
        let mut order: Vec<usize> =
            (0..nights.len() * self.recipe.stretches).map(|i| i % nights.len()).collect();
        order.shuffle(&mut random(seed, b"order   ", pass));
        let mut rng = random(seed, b"stretch ", step);
        let longest = self.recipe.head().max_seq_length;
        let (mut length, mut position) = (longest, 0);
        if rng.random_bool(self.recipe.short) {
            length = rng.random_range(SHORTEST..=longest);
            position = rng.random_range(0..=longest - length);
        }
        let size = self.recipe.batch * self.recipe.accumulate;
        let of_step = order.iter().skip(place as usize * size).take(size);
        of_step
            .map(|&night| {
                let length = length.min(nights[night].tokens);
                let start = rng.random_range(0..=nights[night].tokens - length);
                Draw { night, start, length, position }
            })
            .collect()
    }

    fn stretches(&self, draws: &[Draw], step: u64) -> Result<Vec<Stretch>, FinetuneError> {
        let mut rng = random(self.recipe.fit.seed, b"modality", step);
        let drop = self.recipe.modality_dropout;
        draws
            .iter()
            .map(|draw| {
                let night = self.train.nights.night(draw.night)?;
                let kept = Subset::draw(&night, drop, &mut rng);
                Ok(Stretch { night, tokens: draw.start..draw.start + draw.length, kept })
            })
            .collect()
    }

    /// Weight of each class at each token, 0 but for the scored one: [N, T, classes]; and the
    /// number of tokens that count.
    fn targets(&self, draws: &[Draw], stretches: &[Stretch]) -> (Vec<f32>, usize) {
        let mut targets = Vec::new();
        let mut scored = 0;
        for (draw, stretch) in draws.iter().zip(stretches) {
            let stages = &self.train.stages[draw.night][draw.start..][..draw.length];
            for (token, stage) in stages.iter().enumerate() {
                let mut row = [0.0; SleepStage::COUNT];
                if let Some(stage) = stage.filter(|_| stretch.recorded(token)) {
                    row[stage.index()] = self.weights[stage.index()] as f32;
                    scored += 1;
                }
                targets.extend(row);
            }
        }
        (targets, scored)
    }
}

/// Consecutive draws that fit in one batch: the same length, at most `batch`.
fn batches(draws: &[Draw], batch: usize) -> Vec<std::ops::Range<usize>> {
    let mut batches: Vec<std::ops::Range<usize>> = Vec::new();
    for index in 0..draws.len() {
        match batches.last_mut() {
            Some(last) if last.len() < batch && draws[last.start].length == draws[index].length => {
                last.end = index + 1;
            }
            _ => batches.push(index..index + 1),
        }
    }
    batches
}

impl<B: TrainBackend> Task<B> for Staging<'_, B> {
    type Head = Stager<B>;

    fn steps_per_pass(&self) -> u64 {
        let stretches = self.train.nights.len() * self.recipe.stretches;
        stretches.div_ceil(self.recipe.batch * self.recipe.accumulate) as u64
    }

    fn step(&self, head: &Stager<B>, step: u64) -> Result<Step, FinetuneError> {
        let draws = self.draws(step);
        let stretches = self.stretches(&draws, step)?;
        let (targets, scored) = self.targets(&draws, &stretches);
        let mut accumulator = GradientsAccumulator::new();
        let mut sum = 0.0;
        let mut rest = targets.as_slice();
        for batch in batches(&draws, self.recipe.batch) {
            let length = draws[batch.start].length;
            let shape = [batch.len(), length, SleepStage::COUNT];
            let (own, after) = rest.split_at(shape.iter().product());
            rest = after;
            let (tokens, present) = tensors::<B>(&stretches[batch.clone()], &self.device);
            let target: Tensor<B, 3> =
                Tensor::from_data(TensorData::new(own.to_vec(), shape), &self.device);
            let logits = head.forward_from(tokens, present, draws[batch.start].position);
            let loss = (log_softmax(logits, 2) * target).sum() / -(scored.max(1) as f64);
            sum += loss.clone().into_scalar().elem::<f64>();
            accumulator.accumulate(head, GradientsParams::from_grads(loss.backward(), head));
        }
        Ok(Step { loss: sum, gradients: accumulator.grads() })
    }

    fn names(&self, step: u64) -> String {
        let nights = self.train.nights.recordings();
        some_of(self.draws(step).iter().map(|draw| nights[draw.night].path.as_str()))
    }

    fn validate(&self, head: &Stager<B::InnerBackend>) -> Result<Validation, FinetuneError> {
        let longest = self.recipe.head().max_seq_length;
        let mut confusion = Confusion::new(SleepStage::COUNT);
        let (mut loss, mut tokens) = (0.0, 0_usize);
        for (index, stages) in self.validation.stages.iter().enumerate() {
            let night = self.validation.nights.night(index)?;
            let logits = night_logits(head, &night, Subset::ALL, longest, &self.device);
            for (logits, stage) in logits.iter().zip(stages) {
                if let Some(stage) = stage.filter(|_| !logits[0].is_nan()) {
                    loss -= self.weights[stage.index()] * log_probability(logits, stage);
                    tokens += 1;
                }
            }
            for (truth, scored) in epochs_of(stages, &logits) {
                if let (Some(truth), Some(scored)) = (truth, scored) {
                    confusion.add(truth.index(), scored.index());
                }
            }
        }
        let figure = confusion.macro_f1();
        let metrics = vec![
            ("loss", loss / tokens.max(1) as f64),
            ("macro_f1", figure),
            ("accuracy", confusion.accuracy()),
            ("kappa", confusion.kappa()),
        ];
        Ok(Validation { figure, metrics })
    }
}

fn log_probability(logits: &[f32; SleepStage::COUNT], stage: SleepStage) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    f64::from(logits[stage.index()] - largest) - sum.ln()
}

fn class_weights(
    wanted: ClassWeights,
    nights: &[Vec<Option<SleepStage>>],
) -> [f64; SleepStage::COUNT] {
    let named = match wanted {
        ClassWeights::Given(weights) => return weights,
        ClassWeights::Named(named) => named,
    };
    if named == NamedWeights::Equal {
        return [1.0; SleepStage::COUNT];
    }
    let mut counts = [0.0_f64; SleepStage::COUNT];
    for stage in nights.iter().flatten().flatten() {
        counts[stage.index()] += 1.0;
    }
    let total: f64 = counts.iter().sum();
    // A stage that never occurs needs no weight.
    let roots = counts.map(|count| if count > 0.0 { (total / count).sqrt() } else { 0.0 });
    let mean = counts.iter().zip(roots).map(|(count, root)| count * root).sum::<f64>() / total;
    roots.map(|root| root / mean)
}
