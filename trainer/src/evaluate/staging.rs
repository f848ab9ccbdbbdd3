//! Staging of whole nights from stored embeddings, as the runtime's final pass does it.

use std::sync::Arc;

use burn::prelude::*;
use sfm_models::SleepStage;
use sfm_runtime::event::{EpochStatus, Pass};
use sfm_runtime::staging::{EpochSignal, Logits, score_epoch, stretches};

use crate::data::Night;
use crate::finetune::stretch::{Stretch, Subset, tensors};
use crate::nn::{Kernels, Stager};

/// Tokens of a 30-s epoch.
pub const EPOCH_TOKENS: usize = 6;
/// Stretches of a night in memory at a time.
const BATCH: usize = 8;

/// Logits of every token of a night from the modalities `kept`, NaN where none is present, in
/// overlapping stretches of at most `longest` tokens.
pub fn night_logits<B: Kernels>(
    stager: &Stager<B>,
    night: &Arc<Night>,
    kept: Subset,
    longest: usize,
    device: &B::Device,
) -> Vec<Logits> {
    let parts = stretches(night.tokens, longest);
    let mut logits: Vec<Logits> = Vec::with_capacity(night.tokens);
    for batch in parts.chunks(BATCH) {
        let stretches: Vec<Stretch> = batch
            .iter()
            .map(|part| Stretch { night: night.clone(), tokens: part.start..part.end, kept })
            .collect();
        let (tokens, present) = tensors::<B>(&stretches, device);
        let values = values(stager.forward(tokens, present));
        let rows: Vec<Logits> = values.as_chunks().0.to_vec();
        let each = rows.len() / batch.len();
        for ((part, stretch), rows) in batch.iter().zip(&stretches).zip(rows.chunks(each.max(1))) {
            logits.truncate(part.takes_from);
            let taken = rows.iter().enumerate().skip(part.takes_from - part.start);
            logits.extend(taken.map(|(token, row)| {
                if stretch.recorded(token) { *row } else { [f32::NAN; SleepStage::COUNT] }
            }));
        }
    }
    logits
}

/// A tensor's values in order, as float32.
pub(crate) fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap_or_default()
}

/// True and predicted stage of every 30-s epoch.
pub fn epochs_of(
    stages: &[Option<SleepStage>],
    logits: &[Logits],
) -> Vec<(Option<SleepStage>, Option<SleepStage>)> {
    let truth = stages.chunks(EPOCH_TOKENS).map(epoch_stage);
    let scored = logits.chunks(EPOCH_TOKENS).map(|tokens| {
        let status = EpochStatus::Final;
        score_epoch(Pass::Final, 0, (tokens, EPOCH_TOKENS), EpochSignal::WHOLE, status).stage
    });
    truth.zip(scored).collect()
}

/// The stage that most of an epoch's tokens have, the first of equals; `None` if fewer than half
/// of an epoch are scored.
pub fn epoch_stage(tokens: &[Option<SleepStage>]) -> Option<SleepStage> {
    let scored = tokens.iter().flatten().count();
    let count = |stage| tokens.iter().filter(|&&s| s == Some(stage)).count();
    let most = tokens
        .iter()
        .flatten()
        .copied()
        .reduce(|best, stage| if count(stage) > count(best) { stage } else { best });
    most.filter(|_| 2 * scored >= EPOCH_TOKENS)
}
