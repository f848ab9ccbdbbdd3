//! One modality's window on its way through the base network, and the event that it becomes.

use sfm_models::Modality;

use super::Network;
use crate::encode::{BaseNetwork, WindowEncoder, WindowOutput};
use crate::event::{Pass, WindowEmbedding};
use crate::infer::InferError;
use crate::intake::{Intake, ModalityIntake, Normalization, PatchBatch};
use crate::staging::{EpochSignal, evidence};

/// One modality's window on its way through the base network.
pub(super) struct Lane {
    pub(super) modality: Modality,
    pub(super) encoder: WindowEncoder,
    pub(super) batch: PatchBatch,
}

impl Lane {
    /// An empty one for every modality of the intake.
    pub(super) fn of(network: &Network, intake: &Intake) -> Vec<Self> {
        let lane = |m: &ModalityIntake| Lane {
            modality: m.modality,
            encoder: WindowEncoder::new(network.base.clone(), m.channels()),
            batch: PatchBatch::default(),
        };
        intake.modalities.iter().map(lane).collect()
    }

    pub(super) fn take(
        &mut self,
        source: &mut ModalityIntake,
        first: u64,
        rows: usize,
        normalization: &Normalization,
    ) -> Result<(), InferError> {
        source.gather(first, rows, normalization, &mut self.batch);
        self.push()
    }

    /// Takes what was gathered through tokenizer and pooling.
    pub(super) fn push(&mut self) -> Result<(), InferError> {
        self.encoder.push(&self.batch.patches, &self.batch.present)
    }
}

/// What the network had of an epoch's signal, to be judged: the mean over its patches and the
/// modalities, each with the shares of its channels, times the part of the epoch that the recording
/// covers; and the evidence. How sound the signal is stays open.
pub(super) fn signal<'a>(
    modalities: impl Iterator<Item = (Modality, &'a [f32])>,
    part: f32,
) -> EpochSignal {
    let of_modalities: Vec<(Modality, f32)> = modalities
        .map(|(m, shares)| (m, shares.iter().sum::<f32>() / shares.len().max(1) as f32))
        .collect();
    let sum = of_modalities.iter().map(|(_, share)| share).sum::<f32>();
    let mean = sum / of_modalities.len().max(1) as f32;
    let evidence = evidence(of_modalities.into_iter());
    EpochSignal { present: mean * part, evidence, sound: 1.0 }
}

pub(super) fn empty_window(
    pass: Pass,
    first: usize,
    rows: usize,
    base: &BaseNetwork,
) -> WindowEmbedding {
    WindowEmbedding {
        pass,
        window: (first / base.window_patches) as u32,
        first_patch: first as u32,
        patches: rows as u32,
        embed_dim: base.embed_dim,
        tokens: Default::default(),
        pooled: Default::default(),
    }
}

pub(super) fn put_embeddings(
    window: &mut WindowEmbedding,
    modality: Modality,
    output: WindowOutput<'_>,
) {
    if output.present.iter().all(|&p| p == 0.0) {
        return;
    }
    let mut tokens = output.embeddings.to_vec();
    for (token, &p) in tokens.chunks_mut(window.embed_dim).zip(output.present) {
        if p == 0.0 {
            token.fill(f32::NAN);
        }
    }
    window.tokens[modality.index()] = Some(tokens);
    window.pooled[modality.index()] = Some(output.window.to_vec());
}
