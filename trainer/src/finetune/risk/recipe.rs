//! The `[risk]` section of a recipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sfm_models::Modality;

use crate::finetune::fit::Fit;
use crate::finetune::followed::Followed;
use crate::finetune::head::{HeadAbout, Kind};
use crate::loss::cox::Ties;
use crate::network::HeadConfig;

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
    /// Stretches that tell a night's hazard in a step, drawn apart from those that are learned from,
    /// without dropout; 0 = the same ones do both.
    pub measured: usize,
    /// Fits the last layer to whole nights before training, and again after it: see
    /// [`readout`](super::readout).
    pub readout: bool,
    /// Tokens of a stretch; nights that are not longer go in whole.
    pub stretch_tokens: usize,
    /// Run of `finetune apnea` or `finetune risk` whose pooling and LSTM are the first weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin_with: Option<PathBuf>,
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
            measured: 0,
            readout: false,
            stretch_tokens: 360,
            begin_with: None,
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
            ("measured", self.measured.max(1)),
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
