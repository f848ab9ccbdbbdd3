//! The base network as a burn module, on the CPU or a GPU: embeddings without a bundle.

use burn::prelude::*;

use super::{Embedder, InputSizes, Windows};
use crate::network::BaseNetwork;
use crate::nn::{Base, Kernels};

/// A base network on a burn device.
pub struct BurnEmbedder<B: Kernels> {
    base: Base<B>,
    device: B::Device,
    sizes: InputSizes,
}

impl<B: Kernels> BurnEmbedder<B> {
    /// The network, which lies on `device`.
    pub fn new(network: BaseNetwork<B>, device: B::Device) -> Self {
        let BaseNetwork { config, base } = network;
        let most = |m| config.max_channels.get(m).copied().unwrap_or(usize::MAX);
        let sizes = InputSizes {
            embed_dim: config.embed_dim,
            window_patches: config.window_patches,
            patch_samples: config.patch_samples,
            modalities: config.modalities.iter().map(|m| (*m, most(m))).collect(),
        };
        BurnEmbedder { base, device, sizes }
    }
}

impl<B: Kernels> Embedder for BurnEmbedder<B> {
    fn sizes(&self) -> &InputSizes {
        &self.sizes
    }

    fn embed(
        &self,
        windows: &Windows,
        tokens: &mut [f32],
        pooled: &mut [f32],
    ) -> Result<(), String> {
        let (n, t, c) = (windows.windows, windows.patches, windows.channels);
        let samples = TensorData::new(windows.samples.clone(), [n, t, c, self.sizes.patch_samples]);
        let present = TensorData::new(windows.present.clone(), [n, t, c]);
        let samples = Tensor::<B, 4>::from_data(samples, &self.device).swap_dims(1, 2);
        let present = Tensor::<B, 3>::from_data(present, &self.device).swap_dims(1, 2);
        let encoded = self.base.forward(samples, present);
        copy(encoded.embeddings.into_data(), tokens)?;
        copy(encoded.window.into_data(), pooled)
    }
}

/// Values of a tensor, of whatever float it is on the device.
fn copy(data: TensorData, out: &mut [f32]) -> Result<(), String> {
    let values = data.convert::<f32>().into_vec::<f32>().map_err(|e| format!("{e:?}"))?;
    if values.len() != out.len() {
        return Err(format!("the network has {} values where {} are due", values.len(), out.len()));
    }
    out.copy_from_slice(&values);
    Ok(())
}
