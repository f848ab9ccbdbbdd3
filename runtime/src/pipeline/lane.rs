//! One modality's window on its way through the base network, and the event that it becomes.

use sfm_models::Modality;

use super::Network;
use crate::encode::{BaseNetwork, WindowEncoder, WindowOutput};
use crate::event::{Pass, WindowEmbedding};
use crate::infer::InferError;
use crate::intake::{Intake, ModalityIntake, Normalization};

/// One modality's window on its way through the base network.
pub(super) struct Lane {
    pub(super) modality: Modality,
    pub(super) encoder: WindowEncoder,
    pub(super) patches: Vec<f32>,
    pub(super) present: Vec<f32>,
}

impl Lane {
    /// An empty one for every modality of the intake.
    pub(super) fn of(network: &Network, intake: &Intake) -> Vec<Self> {
        let lane = |m: &ModalityIntake| Lane {
            modality: m.modality,
            encoder: WindowEncoder::new(network.base.clone(), m.channels()),
            patches: Vec::new(),
            present: Vec::new(),
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
        source.gather(first, rows, normalization, &mut self.patches, &mut self.present);
        self.encoder.push(&self.patches, &self.present)
    }
}

/// Part of an epoch's signal that is present: the mean over its patches and the modalities, each
/// with the presence of its channels, times the part of the epoch that the recording covers.
pub(super) fn quality<'a>(modalities: impl Iterator<Item = &'a [f32]>, part: f32) -> f32 {
    let of_modalities: Vec<f32> = modalities
        .map(|present| present.iter().sum::<f32>() / present.len().max(1) as f32)
        .collect();
    let mean = of_modalities.iter().sum::<f32>() / of_modalities.len().max(1) as f32;
    mean * part
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
