//! Fine-tuning of the apnea head on the apnea-hypopnea index (AHI) of the night: binary
//! cross-entropy of each threshold, and cross-entropy of the severity class.

use burn::optim::GradientsParams;
use burn::prelude::*;
use burn::tensor::activation::{log_sigmoid, log_softmax};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use sfm_models::Modality;

use super::fit::{Fit, Step, Task, Validation};
use super::head::{HeadAbout, Kind};
use super::nights::Nights;
use super::stretch::{self, Stretch, Subset};
use super::{FinetuneError, random, some_of};
use crate::data::Demographics;
use crate::evaluate::classification::{Confusion, auroc};
use crate::evaluate::staging::values;
use crate::network::HeadConfig;
use crate::nn::apnea::{PRESENCE_AHI, SEVERITIES, severity};
use crate::nn::{Apnea, ApneaHead, Kernels, TrainBackend};

/// The `[apnea]` section of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApneaRecipe {
    /// Stretches of a night in a step, spread over it; their embeddings' mean stands for the night.
    pub stretches: usize,
    /// Tokens of a stretch; nights that are not longer go in whole.
    pub stretch_tokens: usize,
    /// Nights of a step.
    pub batch: usize,
    /// How often each night is drawn in a pass.
    pub repeats: usize,
    /// Probability that a night has only some of the modalities in a step.
    pub modality_dropout: f64,
    /// The head's sizes.
    pub head: HeadConfig,
    /// How it is trained.
    pub fit: Fit,
}

impl Default for ApneaRecipe {
    fn default() -> Self {
        Self {
            stretches: 4,
            stretch_tokens: 360,
            batch: 16,
            repeats: 4,
            modality_dropout: 0.0,
            head: HeadConfig { layers: 2, max_seq_length: 6480, ..HeadConfig::default() },
            fit: Fit::default(),
        }
    }
}

impl ApneaRecipe {
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
            ("repeats", self.repeats),
        ] {
            if !(1..=1_000_000).contains(&value) {
                return Err(format!("{key} is {value}, not in 1 to 1000000"));
            }
        }
        if !(0.0..=1.0).contains(&self.modality_dropout) {
            return Err(format!("modality_dropout is {}, not in 0 to 1", self.modality_dropout));
        }
        Ok(())
    }

    /// What the head is.
    pub fn about(&self, embed_dim: usize, recordings: usize) -> HeadAbout {
        HeadAbout {
            kind: Kind::Apnea,
            embed_dim,
            modalities: Modality::ALL.to_vec(),
            config: self.head.clone(),
            classes: SEVERITIES.len(),
            demographics: false,
            age_range: (0.0, 100.0),
            labels: SEVERITIES.map(str::to_owned).to_vec(),
            learned: vec![true; SEVERITIES.len()],
            variant: None,
            recordings,
            signals: None,
        }
    }
}

/// Nights whose AHI is known.
#[derive(Debug)]
pub struct Breathers {
    /// The nights.
    pub nights: Nights,
    /// Events per hour of sleep, in the same order.
    pub ahi: Vec<f64>,
}

impl Breathers {
    /// Keeps the nights whose AHI `people` has; the others are left out with a note.
    ///
    /// # Errors
    /// [`FinetuneError::TooFew`] if none is left.
    pub fn find(mut nights: Nights, people: &Demographics) -> Result<Self, FinetuneError> {
        let ahi = |id: &str| people.person(id).and_then(|person| person.ahi);
        let mut lacking = Vec::new();
        nights.retain(
            |recording| {
                let known = ahi(&recording.id).is_some();
                if !known {
                    lacking.push(recording.id.clone());
                }
                known
            },
            "no recording of this part of the split has an AHI; look at --demographics",
        )?;
        if !lacking.is_empty() {
            let ids = some_of(lacking.iter().map(String::as_str));
            nights.notes.push(format!("left out {} without AHI: {ids}", lacking.len()));
        }
        let ahi = nights.recordings().iter().filter_map(|recording| ahi(&recording.id)).collect();
        Ok(Self { nights, ahi })
    }
}

/// The apnea [`Task`].
pub struct ApneaTask<'a, B: TrainBackend> {
    /// Trained on.
    pub train: &'a Breathers,
    /// Measured on after every pass.
    pub validation: &'a Breathers,
    /// A checked recipe.
    pub recipe: &'a ApneaRecipe,
    /// Where to.
    pub device: B::Device,
}

impl<B: TrainBackend> ApneaTask<'_, B> {
    fn draws(&self, step: u64) -> Vec<usize> {
        let nights = self.train.ahi.len();
        let (pass, place) = (step / self.steps_per_pass(), step % self.steps_per_pass());
        let mut order: Vec<usize> = (0..nights * self.recipe.repeats).map(|i| i % nights).collect();
        order.shuffle(&mut random(self.recipe.fit.seed, b"order   ", pass));
        let size = self.recipe.batch;
        order.into_iter().skip(place as usize * size).take(size).collect()
    }
}

impl<B: TrainBackend> Task<B> for ApneaTask<'_, B> {
    type Head = ApneaHead<B>;

    fn steps_per_pass(&self) -> u64 {
        (self.train.ahi.len() * self.recipe.repeats).div_ceil(self.recipe.batch) as u64
    }

    fn step(&self, head: &ApneaHead<B>, step: u64) -> Result<Step, FinetuneError> {
        let draws = self.draws(step);
        let mut rng = random(self.recipe.fit.seed, b"stretch ", step);
        let sizes = (self.recipe.stretches, self.recipe.stretch_tokens);
        let nights = draws
            .iter()
            .map(|&night| {
                let night = self.train.nights.night(night)?;
                Ok(stretch::spread(&night, sizes, self.recipe.modality_dropout, &mut rng))
            })
            .collect::<Result<Vec<Vec<Stretch>>, FinetuneError>>()?;
        let ahi: Vec<f64> = draws.iter().map(|&night| self.train.ahi[night]).collect();
        let embedding =
            stretch::embed(&nights, &self.device, |tokens, present| head.embed(tokens, present));
        let loss = loss(&head.logits(embedding), &ahi, &self.device);
        let value = loss.clone().into_scalar().elem::<f64>();
        let gradients = GradientsParams::from_grads(loss.backward(), head);
        Ok(Step { loss: value, gradients })
    }

    fn names(&self, step: u64) -> String {
        let nights = self.train.nights.recordings();
        some_of(self.draws(step).into_iter().map(|night| nights[night].path.as_str()))
    }

    fn validate(&self, head: &ApneaHead<B::InnerBackend>) -> Result<Validation, FinetuneError> {
        let ahi = &self.validation.ahi;
        let mut total = 0.0;
        let mut scores = Vec::new();
        for (night, &ahi) in ahi.iter().enumerate() {
            let apnea = whole(head, &self.validation.nights, night, Subset::ALL, &self.device)?;
            total += loss(&apnea, &[ahi], &self.device).into_scalar().elem::<f64>();
            scores.push(Scores::of(&apnea));
        }
        let loss = total / ahi.len().max(1) as f64;
        let mut confusion = Confusion::new(SEVERITIES.len());
        for (scores, &ahi) in scores.iter().zip(ahi) {
            confusion.add(severity(ahi), scores.severity());
        }
        let area = |k: usize| {
            let logits: Vec<f64> = scores.iter().map(|s| s.presence[k]).collect();
            let positive: Vec<bool> = ahi.iter().map(|&ahi| ahi >= PRESENCE_AHI[k]).collect();
            auroc(&logits, &positive).unwrap_or(f64::NAN)
        };
        let metrics = vec![
            ("loss", loss),
            ("auroc_5", area(0)),
            ("auroc_15", area(1)),
            ("severity_accuracy", confusion.accuracy()),
        ];
        Ok(Validation { figure: -loss, metrics })
    }
}

/// An apnea head's output for one night, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Logits of the AHI being at least [`PRESENCE_AHI`].
    pub presence: Vec<f64>,
    /// Logits of the [`SEVERITIES`].
    pub severities: Vec<f64>,
}

impl Scores {
    /// Of one night.
    pub fn of<B: Backend>(apnea: &Apnea<B>) -> Self {
        let wide = |x: Tensor<B, 2>| values(x).into_iter().map(f64::from).collect();
        Self { presence: wide(apnea.presence.clone()), severities: wide(apnea.severity.clone()) }
    }

    /// The most likely of the [`SEVERITIES`].
    pub fn severity(&self) -> usize {
        let best = self.severities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(class, _)| class)
    }
}

/// A whole night's output.
///
/// # Errors
/// [`FinetuneError`] if the recording can no longer be read.
pub fn whole<B: Kernels>(
    head: &ApneaHead<B>,
    nights: &Nights,
    night: usize,
    kept: Subset,
    device: &B::Device,
) -> Result<Apnea<B>, FinetuneError> {
    let stretch = Stretch::whole(nights.night(night)?, kept);
    let (tokens, present) = stretch::tensors::<B>(&[stretch], device);
    Ok(head.forward(tokens, present))
}

/// Mean over the nights of the two tasks' losses.
fn loss<B: Backend>(apnea: &Apnea<B>, ahi: &[f64], device: &B::Device) -> Tensor<B, 1> {
    let n = ahi.len();
    let presence: Vec<f32> = ahi
        .iter()
        .flat_map(|&ahi| PRESENCE_AHI.map(|threshold| f32::from(u8::from(ahi >= threshold))))
        .collect();
    let severities: Vec<f32> = ahi
        .iter()
        .flat_map(|&ahi| {
            (0..SEVERITIES.len()).map(move |c| f32::from(u8::from(c == severity(ahi))))
        })
        .collect();
    let target = |values: Vec<f32>, width: usize| -> Tensor<B, 2> {
        Tensor::from_data(TensorData::new(values, [n, width]), device)
    };
    let there = target(presence, PRESENCE_AHI.len());
    let logits = apnea.presence.clone();
    let binary =
        log_sigmoid(logits.clone()) * there.clone() + log_sigmoid(-logits) * (-there + 1.0);
    let classes = log_softmax(apnea.severity.clone(), 1) * target(severities, SEVERITIES.len());
    (binary.sum() / PRESENCE_AHI.len() as f64 + classes.sum()) / -(n.max(1) as f64)
}
