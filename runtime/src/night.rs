//! The night as a whole: one embedding and a relative log-hazard per phenotype, and an estimate
//! of sleep apnea. A log-hazard orders people of the training cohort; it is no probability and no
//! diagnosis.

use std::sync::Arc;

use sfm_models::manifest::Risk;
use sfm_models::{Bundle, Modality, ReferenceQuantiles, graph};

use crate::encode::{TokenLog, load_graph};
use crate::event::{ApneaEstimate, OvernightRisk};
use crate::infer::backend::Backend;
use crate::infer::{InferError, Input, Session};
use crate::modality_pool::ModalityPool;
use crate::timing::{Step, Timings};

/// Rows of one call of the pooling.
const ROWS: usize = 60;

/// Sex as the reference codes it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Sex {
    /// Female, 0.
    F,
    /// Male, 1.
    M,
}

impl Sex {
    /// `f` or `m`.
    pub fn as_str(self) -> &'static str {
        match self {
            Sex::F => "f",
            Sex::M => "m",
        }
    }
}

/// What the hazards need to know of the person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demographics {
    /// Age in years.
    pub age_years: f64,
    /// Sex.
    pub sex: Sex,
}

/// The risk head on an engine.
pub struct RiskHead {
    pool: ModalityPool,
    rnn: Arc<dyn Session>,
    embed_dim: usize,
    risk: Risk,
    reference: Option<ReferenceQuantiles>,
    timings: Arc<Timings>,
}

impl RiskHead {
    /// Loads the risk head of `bundle`; `None` if it has none.
    ///
    /// # Errors
    /// [`InferError`] if the engine refuses a graph.
    pub fn load(
        bundle: &Bundle,
        backend: &Backend,
        timings: Arc<Timings>,
    ) -> Result<Option<Self>, InferError> {
        let Some(risk) = &bundle.manifest().risk else { return Ok(None) };
        Ok(Some(Self {
            pool: ModalityPool::new(
                load_graph(bundle, backend, graph::RISK_POOL)?,
                bundle.manifest().base.embed_dim,
                Step::Risk,
                timings.clone(),
            ),
            rnn: load_graph(bundle, backend, graph::RISK_RNN)?,
            embed_dim: bundle.manifest().base.embed_dim,
            risk: risk.clone(),
            // Whoever opens a bundle checks its texts first: one that does not fit is no reference.
            reference: bundle.quantiles().unwrap_or_default(),
            timings,
        }))
    }

    /// Hazards need age and sex; the night's embedding does not.
    pub fn needs_demographics(&self) -> bool {
        self.risk.demographics
    }

    /// The night's risk from its tokens, of which the first `max_seq_length` present ones go in;
    /// `None` if there is not one. Hazards are left empty without `demographics`.
    ///
    /// # Errors
    /// [`InferError`] of the engine.
    pub fn night(
        &self,
        log: &TokenLog,
        demographics: Option<Demographics>,
    ) -> Result<Option<OvernightRisk>, InferError> {
        let (tokens, present, all) = recorded(log, self.risk.max_seq_length);
        let rows = present.len() / Modality::COUNT;
        if rows == 0 {
            return Ok(None);
        }
        let x = self.pool.rows((&tokens, &present), None, ROWS)?;
        let [age, sex] = demographics.map_or([0.0; 2], |d| self.scaled(d));
        let mut embedding = vec![0.0; self.embed_dim];
        let mut log_hazards = vec![0.0; self.risk.classes];
        let inputs = [Input::F32(&[rows, self.embed_dim], &x), Input::F32(&[1, 2], &[age, sex])];
        self.timings.measure(Step::Risk, || {
            self.rnn.run(&inputs, &mut [&mut embedding, &mut log_hazards])
        })?;
        if self.needs_demographics() && demographics.is_none() {
            log_hazards.clear();
        }
        Ok(Some(OvernightRisk {
            percentiles: self.percentiles(&log_hazards),
            embedding,
            log_hazards,
            tokens: rows as u32,
            tokens_left_out: (all - rows) as u32,
        }))
    }

    /// Empty hazards have no percentiles.
    fn percentiles(&self, log_hazards: &[f32]) -> Option<Vec<f32>> {
        let reference = self.reference.as_ref().filter(|_| !log_hazards.is_empty())?;
        let hazards = log_hazards.iter().enumerate();
        Some(hazards.map(|(index, &value)| reference.percentile(index, value)).collect())
    }

    fn scaled(&self, demographics: Demographics) -> [f32; 2] {
        let (youngest, oldest) = self.risk.age_range;
        let age = (demographics.age_years - youngest) / (oldest - youngest);
        [age as f32, if demographics.sex == Sex::M { 1.0 } else { 0.0 }]
    }
}

/// The apnea head on an engine.
pub struct ApneaHead {
    pool: ModalityPool,
    rnn: Arc<dyn Session>,
    embed_dim: usize,
    max_seq_length: usize,
    timings: Arc<Timings>,
}

impl ApneaHead {
    /// Loads the apnea head of `bundle`; `None` if it has none.
    ///
    /// # Errors
    /// [`InferError`] if the engine refuses a graph.
    pub fn load(
        bundle: &Bundle,
        backend: &Backend,
        timings: Arc<Timings>,
    ) -> Result<Option<Self>, InferError> {
        let Some(apnea) = &bundle.manifest().apnea else { return Ok(None) };
        let embed_dim = bundle.manifest().base.embed_dim;
        let pool = load_graph(bundle, backend, graph::APNEA_POOL)?;
        Ok(Some(Self {
            pool: ModalityPool::new(pool, embed_dim, Step::Apnea, timings.clone()),
            rnn: load_graph(bundle, backend, graph::APNEA_RNN)?,
            embed_dim,
            max_seq_length: apnea.max_seq_length,
            timings,
        }))
    }

    /// The night's apnea from its tokens, of which the first `max_seq_length` present ones go in;
    /// `None` if there is not one.
    ///
    /// # Errors
    /// [`InferError`] of the engine.
    pub fn night(&self, log: &TokenLog) -> Result<Option<ApneaEstimate>, InferError> {
        let (tokens, present, _) = recorded(log, self.max_seq_length);
        let rows = present.len() / Modality::COUNT;
        if rows == 0 {
            return Ok(None);
        }
        let x = self.pool.rows((&tokens, &present), None, ROWS)?;
        let (mut presence, mut severity) = ([0.0; 2], [0.0; 4]);
        let inputs = [Input::F32(&[rows, self.embed_dim], &x)];
        self.timings
            .measure(Step::Apnea, || self.rnn.run(&inputs, &mut [&mut presence, &mut severity]))?;
        let [ahi_5, ahi_15] = presence.map(|logit: f32| 1.0 / (1.0 + (-logit).exp()));
        let greatest = severity.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let weights = severity.map(|logit: f32| (logit - greatest).exp());
        let sum: f32 = weights.iter().sum();
        let severity = weights.map(|weight| weight / sum);
        Ok(Some(ApneaEstimate { ahi_5, ahi_15, severity, tokens: rows as u32 }))
    }
}

/// Tokens and presence of the first `limit` positions with anything present, and how many such
/// positions there are. The others are left out of the recurrence: it runs over what was recorded,
/// as the reference's packed sequences do.
fn recorded(log: &TokenLog, limit: usize) -> (Vec<f32>, Vec<f32>, usize) {
    let present = |row: usize| log.rows(row..row + 1).1.iter().any(|&p| p > 0.0);
    let positions = (0..log.len()).filter(|&row| present(row));
    let all = positions.clone().count();
    let (mut tokens, mut cells) = (Vec::new(), Vec::new());
    for position in positions.take(limit) {
        let (token, cell) = log.rows(position..position + 1);
        tokens.extend_from_slice(token);
        cells.extend_from_slice(cell);
    }
    (tokens, cells, all)
}
