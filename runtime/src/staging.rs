//! Tokens to sleep stages. The staging head runs in parts so that no score matrix of the whole
//! night ever exists: pooling by rows, attention by blocks of query rows against all keys
//! (exact), then the recurrent part. Live, the same head looks at the last minutes only.

use std::sync::Arc;

use rayon::prelude::*;
use sfm_models::{Bundle, Modality, SleepStage, graph};

use crate::encode::{TokenLog, WINDOW_STEP, load_graph};
use crate::event::{EpochStatus, Pass, SleepEpoch};
use crate::infer::backend::Backend;
use crate::infer::{InferError, Input, Session};
use crate::modality_pool::{ModalityPool, padded};
use crate::timing::{Step, Timings};
use sfm_models::EPOCH_S;

/// Rows of one call of a row-wise graph over the night, and query rows of one attention call.
const ROWS: usize = 60;
/// Epochs the live pass looks back on: 15 min. The whole night so far would cost its square.
const LIVE_EPOCHS: usize = 30;

/// One token's logits in the order W, N1, N2, N3, R; NaN where the token is absent.
pub type Logits = [f32; SleepStage::COUNT];

/// The staging head on an engine.
pub struct Stager {
    pool: ModalityPool,
    layers: Vec<AttentionLayer>,
    rnn: Arc<dyn Session>,
    embed_dim: usize,
    max_seq_length: usize,
    live_context: usize,
    timings: Arc<Timings>,
}

struct AttentionLayer {
    key_value: Arc<dyn Session>,
    attend: Arc<dyn Session>,
}

impl Stager {
    /// Loads the staging head of `bundle`; `None` if it has none.
    ///
    /// # Errors
    /// [`InferError`] if the engine refuses a graph.
    pub fn load(
        bundle: &Bundle,
        backend: &Backend,
        timings: Arc<Timings>,
    ) -> Result<Option<Self>, InferError> {
        let Some(staging) = &bundle.manifest().staging else { return Ok(None) };
        let layers = (0..staging.layers)
            .map(|layer| {
                Ok(AttentionLayer {
                    key_value: load_graph(bundle, backend, &graph::staging_key_value(layer))?,
                    attend: load_graph(bundle, backend, &graph::staging_attend(layer))?,
                })
            })
            .collect::<Result<_, InferError>>()?;
        Ok(Some(Self {
            pool: ModalityPool::new(
                load_graph(bundle, backend, graph::STAGING_POOL)?,
                bundle.manifest().base.embed_dim,
                Step::Staging,
                timings.clone(),
            ),
            layers,
            rnn: load_graph(bundle, backend, graph::STAGING_RNN)?,
            embed_dim: bundle.manifest().base.embed_dim,
            max_seq_length: staging.max_seq_length,
            live_context: (LIVE_EPOCHS * bundle.manifest().preprocessing.epoch_patches())
                .max(bundle.manifest().base.window_patches)
                .min(staging.max_seq_length),
            timings,
        }))
    }

    /// Stages a whole night: five logits a token, NaN where the token is absent. Longer
    /// nights than the positional table go in overlapping stretches of its length; a token takes
    /// the stretch whose middle is nearest.
    ///
    /// # Errors
    /// [`InferError`] of the engine.
    pub fn night(&self, log: &TokenLog) -> Result<Vec<Logits>, InferError> {
        let mut night = Vec::with_capacity(log.len());
        for stretch in stretches(log.len(), self.max_seq_length) {
            let rows = stretch.end - stretch.start;
            let positions: Vec<i64> = (0..rows as i64).collect();
            let log_rows = log.rows(stretch.start..stretch.end);
            let x = self.pool.rows(log_rows, Some(&positions), ROWS)?;
            let present = any_present(log, stretch.start..stretch.end);
            let logits = self.logits(x, &present, rows)?;
            night.truncate(stretch.takes_from);
            night.extend_from_slice(&logits[stretch.takes_from - stretch.start..]);
        }
        Ok(night)
    }

    /// Tokens the live pass looks back on.
    pub fn live_context(&self) -> usize {
        self.live_context
    }

    /// Stages zeros as a live session begins, once in every length up to [`Stager::live_context`]: see
    /// [`BaseNetwork::warm_up`](crate::encode::BaseNetwork::warm_up).
    ///
    /// # Errors
    /// [`InferError`] of the first run that fails.
    pub fn warm_up(self: &Arc<Self>, epoch_patches: usize) -> Result<(), InferError> {
        let mut log = TokenLog::new(self.embed_dim);
        let mut live = LiveStager::new(self.clone());
        let zeros = vec![0.0; epoch_patches * self.embed_dim];
        while log.len() < self.live_context {
            let first = log.len();
            log.grow(epoch_patches);
            log.write(first, Modality::Bas, &zeros, &vec![1.0; epoch_patches]);
            live.stage(&log, first)?;
            live.settle(&log);
        }
        Ok(())
    }

    /// Number of stretches [`Stager::night`] needs for `tokens` tokens.
    pub fn stretches(&self, tokens: usize) -> usize {
        stretches(tokens, self.max_seq_length).len()
    }

    /// Attention and recurrence over pooled rows `x` [T, E] with `present` [T]: logits of the first
    /// `rows` rows; those behind are padding.
    fn logits(
        &self,
        mut x: Vec<f32>,
        present: &[f32],
        rows: usize,
    ) -> Result<Vec<Logits>, InferError> {
        for layer in &self.layers {
            x = self.attention_layer(layer, &x, present)?;
        }
        let mut logits = vec![0.0; rows * SleepStage::COUNT];
        let input = [Input::F32(&[rows, self.embed_dim], &x[..rows * self.embed_dim])];
        self.timings.measure(Step::Staging, || self.rnn.run(&input, &mut [&mut logits]))?;
        Ok(logits
            .as_chunks()
            .0
            .iter()
            .zip(present)
            .map(|(&logits, &p)| if p > 0.0 { logits } else { [f32::NAN; SleepStage::COUNT] })
            .collect())
    }

    fn attention_layer(
        &self,
        layer: &AttentionLayer,
        x: &[f32],
        present: &[f32],
    ) -> Result<Vec<f32>, InferError> {
        let embed_dim = self.embed_dim;
        let block = ROWS * embed_dim;
        let keys = present.len();
        let (mut key, mut value) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        key.par_chunks_mut(block)
            .zip(value.par_chunks_mut(block))
            .zip(x.par_chunks(block))
            .try_for_each(|((key, value), x)| {
                let (mut k, mut v) = (vec![0.0; block], vec![0.0; block]);
                let rows = padded(x, block);
                let input = [Input::F32(&[ROWS, embed_dim], &rows)];
                self.timings.measure(Step::Staging, || {
                    layer.key_value.run(&input, &mut [&mut k, &mut v])
                })?;
                key.copy_from_slice(&k[..key.len()]);
                value.copy_from_slice(&v[..value.len()]);
                Ok(())
            })?;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(block).zip(x.par_chunks(block)).try_for_each(|(y, x)| {
            let rows = padded(x, block);
            let mut out = vec![0.0; block];
            let inputs = [
                Input::F32(&[ROWS, embed_dim], &rows),
                Input::F32(&[keys, embed_dim], &key),
                Input::F32(&[keys, embed_dim], &value),
                Input::F32(&[keys], present),
            ];
            self.timings.measure(Step::Staging, || layer.attend.run(&inputs, &mut [&mut out]))?;
            y.copy_from_slice(&out[..y.len()]);
            Ok(())
        })?;
        Ok(y)
    }
}

/// The live side of staging: pooled rows of the tokens it looks back on, and of the open window.
pub struct LiveStager {
    stager: Arc<Stager>,
    /// Token of the first row below: nothing before it is looked at any more.
    first: usize,
    /// [n, E] pooled rows and [n] presence.
    x: Vec<f32>,
    present: Vec<f32>,
    settled: usize,
}

impl LiveStager {
    /// Nothing seen yet.
    pub fn new(stager: Arc<Stager>) -> Self {
        Self { stager, first: 0, x: Vec::new(), present: Vec::new(), settled: 0 }
    }

    /// Stages the log's tokens from `first` on with the last [`Stager::live_context`] tokens
    /// of the log as context; tokens behind the last settled one are pooled anew. Returns logits as
    /// [`Stager::night`] does.
    ///
    /// # Errors
    /// [`InferError`] of the engine.
    pub fn stage(&mut self, log: &TokenLog, first: usize) -> Result<Vec<Logits>, InferError> {
        let embed_dim = self.stager.embed_dim;
        let len = log.len();
        self.x.truncate((self.settled - self.first) * embed_dim);
        self.present.truncate(self.settled - self.first);
        let positions: Vec<i64> = (self.settled..len)
            .map(|token| live_position(token, self.stager.max_seq_length))
            .collect();
        let open = log.rows(self.settled..len);
        self.x.extend(self.stager.pool.rows(open, Some(&positions), WINDOW_STEP)?);
        self.present.extend(any_present(log, self.settled..len));

        let context = self.stager.live_context;
        let from = len.saturating_sub(context);
        // Padded to one length: masked in the attention, left out of the recurrence.
        let mut x = self.x[(from - self.first) * embed_dim..].to_vec();
        let mut present = self.present[from - self.first..].to_vec();
        x.resize(context * embed_dim, 0.0);
        present.resize(context, 0.0);
        let logits = self.stager.logits(x, &present, len - from)?;
        Ok(logits[first - from..].to_vec())
    }

    /// The log's tokens so far will not change any more.
    pub fn settle(&mut self, log: &TokenLog) {
        self.settled = log.len();
        let passed = self.settled.saturating_sub(self.stager.live_context + self.first);
        let passed = passed.min(self.present.len());
        self.x.drain(..passed * self.stager.embed_dim);
        self.present.drain(..passed);
        self.first += passed;
    }

    /// Takes over a log of windows of `window` tokens that another stager has settled, as if they
    /// had been staged here: of the past only what later stages look back on is pooled.
    ///
    /// # Errors
    /// [`InferError`] of the engine.
    pub fn take_over(&mut self, log: &TokenLog, window: usize) -> Result<(), InferError> {
        let len = log.len();
        let from = len.saturating_sub(self.stager.live_context);
        let from = from - from % window.max(1);
        (self.first, self.x) = (from, Vec::new());
        // In the same blocks as while the windows were open, so that not a bit differs.
        for start in (from..len).step_by(window.max(1)) {
            let rows = start..len.min(start + window);
            let positions: Vec<i64> = rows
                .clone()
                .map(|token| live_position(token, self.stager.max_seq_length))
                .collect();
            self.x.extend(self.stager.pool.rows(log.rows(rows), Some(&positions), WINDOW_STEP)?);
        }
        self.present = any_present(log, from..len);
        self.settled = len;
        Ok(())
    }
}

/// The row of the positional table for a live token: its index, and in nights longer than the
/// table the second half again and again.
fn live_position(token: usize, table: usize) -> i64 {
    let half = table / 2;
    if token < table { token as i64 } else { (half + (token - half) % (table - half)) as i64 }
}

/// Whether any modality is present, 1.0 or 0.0 a token.
fn any_present(log: &TokenLog, range: std::ops::Range<usize>) -> Vec<f32> {
    range
        .map(|row| {
            let cells = &log.present()[row * Modality::COUNT..][..Modality::COUNT];
            f32::from(u8::from(cells.iter().any(|&p| p > 0.0)))
        })
        .collect()
}

/// Part of a night that is staged at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// First token.
    pub start: usize,
    /// Behind the last token.
    pub end: usize,
    /// First token whose stage is taken from this stretch rather than the one before.
    pub takes_from: usize,
}

/// The overlapping stretches, none longer than `longest`, that a night of `tokens` is staged in.
pub fn stretches(tokens: usize, longest: usize) -> Vec<Stretch> {
    if tokens == 0 {
        return Vec::new();
    }
    if tokens <= longest {
        return vec![Stretch { start: 0, end: tokens, takes_from: 0 }];
    }
    let step = (longest / 2).max(1);
    let mut all: Vec<Stretch> = Vec::new();
    let mut start = 0;
    loop {
        let end = (start + longest).min(tokens);
        let start_here = end - longest;
        let takes_from = match all.last() {
            // Half way between the two middles.
            Some(last) => (last.start + start_here + longest) / 2,
            None => 0,
        };
        all.push(Stretch { start: start_here, end, takes_from });
        if end == tokens {
            return all;
        }
        start += step;
    }
}

/// Stable softmax of one token's logits.
fn softmax(logits: &Logits) -> [f32; SleepStage::COUNT] {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let p = logits.map(|logit| (logit - largest).exp());
    let sum: f32 = p.iter().sum();
    p.map(|v| v / sum)
}

/// The evidence of an epoch is the present part of its pieces, three quarters of it that of EEG and
/// EOG where they are mapped. With less than this the stage of a simulated night's epoch was the
/// whole night's in fewer than eight of ten cases (`benches/evidence.rs`, table in README).
pub const LEAST_EVIDENCE: f32 = 0.35;
/// Part of the evidence that is EEG and EOG.
const BRAIN_EVIDENCE: f32 = 0.75;

/// The evidence of an epoch whose modalities with channels have these parts present.
pub(crate) fn evidence(modalities: impl Iterator<Item = (Modality, f32)>) -> f32 {
    let (mut brain, mut others, mut count) = (None, 0.0, 0.0);
    for (modality, present) in modalities {
        match modality {
            Modality::Bas => brain = Some(present),
            _ => (others, count) = (others + present, count + 1.0),
        }
    }
    match brain {
        Some(brain) if count > 0.0 => {
            BRAIN_EVIDENCE * brain + (1.0 - BRAIN_EVIDENCE) * others / count
        }
        Some(brain) => brain,
        None => others / f32::max(count, 1.0),
    }
}

/// What the signals of an epoch are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochSignal {
    /// Part that is present, 0 to 1.
    pub present: f32,
    /// How much of what stages are told by is present, 0 to 1: see [`LEAST_EVIDENCE`].
    pub evidence: f32,
    /// Part of the present signal that is sound, 0 to 1.
    pub sound: f32,
}

impl EpochSignal {
    /// All there and nothing wrong.
    pub const WHOLE: EpochSignal = EpochSignal { present: 1.0, evidence: 1.0, sound: 1.0 };
}

/// Scores epoch `epoch` of `epoch_patches` tokens from the logits of those there are (NaN where
/// absent): `?` if fewer than half are present, or `signal` has too little evidence.
pub fn score_epoch(
    pass: Pass,
    epoch: u32,
    (tokens, epoch_patches): (&[Logits], usize),
    signal: EpochSignal,
    status: EpochStatus,
) -> SleepEpoch {
    let present: Vec<_> = tokens.iter().filter(|l| !l[0].is_nan()).map(softmax).collect();
    let mut probabilities = [f32::NAN; SleepStage::COUNT];
    if !present.is_empty() {
        for (class, p) in probabilities.iter_mut().enumerate() {
            *p = present.iter().map(|t| t[class]).sum::<f32>() / present.len() as f32;
        }
    }
    let best = SleepStage::ALL.into_iter().reduce(|best, stage| {
        if probabilities[stage.index()] > probabilities[best.index()] { stage } else { best }
    });
    let is_enough = 2 * present.len() >= epoch_patches && signal.evidence >= LEAST_EVIDENCE;
    let stage = best.filter(|_| is_enough);
    scored_epoch(pass, epoch, (stage, probabilities), signal, status)
}

/// An epoch of a known stage and known probabilities.
pub(crate) fn scored_epoch(
    pass: Pass,
    epoch: u32,
    (stage, probabilities): (Option<SleepStage>, [f32; SleepStage::COUNT]),
    signal: EpochSignal,
    status: EpochStatus,
) -> SleepEpoch {
    // f32::max passes over NaN.
    let largest = probabilities.iter().copied().fold(0.0, f32::max);
    SleepEpoch {
        pass,
        epoch,
        onset_s: f64::from(epoch) * EPOCH_S,
        stage,
        probabilities,
        quality: signal.present,
        confidence: largest * signal.present * signal.sound,
        status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_every_token_once_and_fit_the_table() {
        for (tokens, longest) in [(1, 10), (10, 10), (11, 10), (25, 10), (17_280, 8_196), (101, 7)]
        {
            let all = stretches(tokens, longest);
            assert_eq!(all[0].takes_from, 0);
            assert_eq!(all.last().map(|s| s.end), Some(tokens));
            for (stretch, next) in all.iter().zip(&all[1..]) {
                assert!(stretch.takes_from < next.takes_from, "{all:?}");
                assert!(next.takes_from < stretch.end && next.takes_from >= next.start, "{all:?}");
            }
            assert!(all.iter().all(|s| s.end - s.start <= longest));
        }
    }

    #[test]
    fn live_positions_stay_in_the_table() {
        assert_eq!(live_position(99, 100), 99);
        assert_eq!(live_position(100, 100), 50);
        assert!((0..1000).all(|t| (0..100).contains(&live_position(t, 100))));
    }

    #[test]
    fn the_evidence_is_mostly_the_brains() {
        let of = |parts: &[(Modality, f32)]| evidence(parts.iter().copied());
        let (bas, ekg, emg) = (Modality::Bas, Modality::Ekg, Modality::Emg);
        for part in [0.0, 0.25, 1.0] {
            assert_eq!(of(&[(bas, part), (ekg, part), (emg, part)]), part);
            assert_eq!(of(&[(bas, part)]), part);
            assert_eq!(of(&[(ekg, part), (emg, part)]), part);
        }
        assert!(of(&[(bas, 1.0), (ekg, 0.0)]) >= LEAST_EVIDENCE, "it stands alone");
        assert!(of(&[(bas, 0.0), (ekg, 1.0), (emg, 1.0)]) < LEAST_EVIDENCE);
        assert!(of(&[(bas, 2.0 / 6.0), (ekg, 1.0)]) >= LEAST_EVIDENCE);
        assert_eq!(of(&[]), 0.0);
    }

    #[test]
    fn an_epoch_with_too_little_signal_has_no_stage() {
        let nan = [f32::NAN; 5];
        let n2 = [0.1_f32, 0.1, 0.6, 0.1, 0.1].map(f32::ln);
        let of = |tokens: &[Logits]| {
            score_epoch(Pass::Final, 3, (tokens, 6), EpochSignal::WHOLE, EpochStatus::Final)
        };
        assert_eq!(of(&[nan, nan, nan, nan, n2, n2]).stage, None);
        let scored = of(&[nan, nan, nan, n2, n2, n2]);
        assert_eq!(scored.stage, Some(SleepStage::N2));
        assert_eq!(scored.onset_s, 90.0);
        assert!((scored.probabilities[2] - 0.6).abs() < 1e-6);
        assert_eq!(scored.confidence, scored.probabilities[2]);
        let thin = EpochSignal { evidence: 0.34, ..EpochSignal::WHOLE };
        let thin = score_epoch(Pass::Final, 3, (&[n2; 6], 6), thin, EpochStatus::Final);
        assert_eq!(thin.stage, None);
        assert!((thin.probabilities[2] - 0.6).abs() < 1e-6, "they are told all the same");
        let poor = EpochSignal { present: 0.5, evidence: 0.35, sound: 0.8 };
        let poor = score_epoch(Pass::Final, 3, (&[n2; 6], 6), poor, EpochStatus::Final);
        assert_eq!((poor.stage, poor.quality), (Some(SleepStage::N2), 0.5));
        assert!((poor.confidence - 0.6 * 0.4).abs() < 1e-6);
        assert_eq!(of(&[nan; 6]).confidence, 0.0);
        assert!(of(&[nan; 6]).probabilities.iter().all(|p| p.is_nan()));
    }
}
