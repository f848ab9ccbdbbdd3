//! A bundle's base network through runtime's own encoder: what `sfm-stream` computes, to the bit.

use std::sync::Arc;

use rayon::prelude::*;
use sfm_models::Bundle;
use sfm_runtime::encode::{BaseNetwork, WindowEncoder};
use sfm_runtime::infer::InferError;
use sfm_runtime::infer::backend::Backend;

use super::{Embedder, InputSizes, Windows};

/// A bundle's base network on tract or ONNX Runtime; windows run on the current rayon pool.
pub struct RuntimeEmbedder {
    network: Arc<BaseNetwork>,
    sizes: InputSizes,
}

impl RuntimeEmbedder {
    /// Loads the base network of `bundle` on `backend`.
    ///
    /// # Errors
    /// [`InferError`] if the engine refuses a graph.
    pub fn load(bundle: &Bundle, backend: &Backend) -> Result<Self, InferError> {
        let network = Arc::new(BaseNetwork::load(bundle, backend, Arc::default())?);
        let base = &bundle.manifest().base;
        let most = |m| base.max_channels.get(m).copied().unwrap_or(usize::MAX);
        let sizes = InputSizes {
            embed_dim: network.embed_dim,
            window_patches: network.window_patches,
            patch_samples: network.patch_samples,
            modalities: base.modalities.iter().map(|m| (*m, most(m))).collect(),
        };
        Ok(RuntimeEmbedder { network, sizes })
    }
}

impl Embedder for RuntimeEmbedder {
    fn sizes(&self) -> &InputSizes {
        &self.sizes
    }

    fn embed(
        &self,
        windows: &Windows,
        tokens: &mut [f32],
        pooled: &mut [f32],
    ) -> Result<(), String> {
        let (rows, embed_dim) = (windows.patches * windows.channels, self.sizes.embed_dim);
        let encoder = || WindowEncoder::new(self.network.clone(), windows.channels);
        windows
            .samples
            .par_chunks_exact(rows * self.sizes.patch_samples)
            .zip(windows.present.par_chunks_exact(rows))
            .zip(tokens.par_chunks_exact_mut(windows.patches * embed_dim))
            .zip(pooled.par_chunks_exact_mut(embed_dim))
            .try_for_each_init(encoder, |encoder, (((samples, present), tokens), pooled)| {
                encoder.begin();
                encoder.push(samples, present)?;
                let output = encoder.encode()?;
                tokens.copy_from_slice(output.embeddings);
                pooled.copy_from_slice(output.window);
                Ok(())
            })
            .map_err(|e: InferError| e.to_string())
    }
}
