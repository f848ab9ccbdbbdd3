//! The risk head on a base network that was never pretrained, both learned from signals at once:
//! the comparison that shows what pretraining is worth.
//!
//! A night is a few five-minute windows, drawn from equal shares of it in training and their first
//! ones in evaluation, so that memory does not depend on the nights' length.

use std::path::{Path, PathBuf};

use burn::nn::Linear;
use burn::prelude::*;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use sfm_models::Modality;

use super::FinetuneError;
use super::nights::Nights;
use super::risk::{Inputs, LogHazard, RiskRecipe};
use super::stretch::Subset;
use crate::data::{DataError, StoreFile};
use crate::network::NetworkConfig;
use crate::nn::{Base, Kernels, RiskHead};

/// A base network with the risk head on it.
#[derive(Module, Debug)]
pub struct Supervised<B: Backend> {
    /// Patches to tokens.
    pub base: Base<B>,
    /// Tokens to hazards.
    pub risk: RiskHead<B>,
}

/// Signals of the recordings of one part of a split.
#[derive(Debug)]
pub struct Signals {
    store: PathBuf,
    network: NetworkConfig,
    windows: usize,
    paths: Vec<String>,
}

/// Windows of one night, by modality: those it lacks are not there.
#[derive(Debug, Clone)]
pub struct Windows {
    count: usize,
    /// Patches of a window.
    patches: usize,
    modalities: Vec<Signal>,
}

/// Windows of one modality.
#[derive(Debug, Clone)]
struct Signal {
    modality: Modality,
    channels: usize,
    /// [windows, channels, patches, samples], zeros where missing.
    samples: Vec<f32>,
    /// [windows, channels, patches].
    present: Vec<f32>,
}

impl Signals {
    /// The signals in `store` of the recordings `nights`, of which `windows` windows are seen.
    ///
    /// # Errors
    /// [`DataError`] for the first recording that is not in the store, or damaged.
    pub fn of(
        store: &Path,
        nights: &Nights,
        network: &NetworkConfig,
        windows: usize,
    ) -> Result<Self, FinetuneError> {
        let paths: Vec<String> = nights.recordings().iter().map(|r| r.path.clone()).collect();
        for path in &paths {
            StoreFile::open(store.join(path))?;
        }
        Ok(Self { store: store.to_owned(), network: network.clone(), windows, paths })
    }

    fn windows(
        &self,
        night: usize,
        kept: Subset,
        mut place: impl FnMut(std::ops::Range<usize>) -> usize,
    ) -> Result<Windows, FinetuneError> {
        let file = StoreFile::open(self.store.join(&self.paths[night]))?;
        let NetworkConfig { patch_samples, window_patches, .. } = self.network;
        let length = patch_samples * window_patches;
        let all = (file.samples() / length).max(1);
        let count = self.windows.min(all);
        let starts: Vec<usize> = (0..count)
            .map(|share| place(share * all / count..(share + 1) * all / count) * length)
            .collect();
        let mut modalities = Vec::new();
        for &modality in self.network.modalities.iter().filter(|m| kept.has(m.index())) {
            let most = self.network.max_channels.get(&modality).copied().unwrap_or(0);
            let channels = file.of_modality(modality, most);
            if channels.is_empty() {
                continue;
            }
            let mut samples = vec![0.0; count * channels.len() * length];
            let mut out = samples.chunks_exact_mut(length);
            for &start in &starts {
                for &channel in &channels {
                    if let Some(out) = out.next() {
                        file.read(channel, start, out)?;
                    }
                }
            }
            let present = mask(&mut samples, patch_samples);
            modalities.push(Signal { modality, channels: channels.len(), samples, present });
        }
        if modalities.is_empty() {
            let path = self.store.join(&self.paths[night]);
            return Err(DataError::refused(&path, "has no channel that the network takes").into());
        }
        Ok(Windows { count, patches: window_patches, modalities })
    }
}

/// Which patches are whole; the others become zeros.
fn mask(samples: &mut [f32], patch_samples: usize) -> Vec<f32> {
    let patches = samples.chunks_exact_mut(patch_samples);
    patches
        .map(|patch| {
            if patch.iter().all(|x| x.is_finite()) {
                return 1.0;
            }
            patch.fill(0.0);
            0.0
        })
        .collect()
}

impl Inputs for Signals {
    type Night = Windows;

    fn draw(
        &self,
        night: usize,
        recipe: &RiskRecipe,
        rng: &mut ChaCha8Rng,
    ) -> Result<Windows, FinetuneError> {
        // The same words as for embeddings: with some probability some of the modalities.
        let kept = if rng.random_bool(recipe.modality_dropout) {
            let every = Subset::every();
            every[rng.random_range(0..every.len())]
        } else {
            Subset::ALL
        };
        let windows = self.windows(night, kept, |share| rng.random_range(share));
        match windows {
            // The night may have none of what was drawn.
            Err(_) if kept != Subset::ALL => self.whole(night, Subset::ALL),
            windows => windows,
        }
    }

    fn whole(&self, night: usize, kept: Subset) -> Result<Windows, FinetuneError> {
        self.windows(night, kept, |share| share.start)
    }

    fn name(&self, night: usize) -> &str {
        &self.paths[night]
    }
}

impl<B: Kernels> LogHazard<B, Windows> for Supervised<B> {
    fn features(
        &self,
        nights: &[Windows],
        demographics: Tensor<B, 2>,
        device: &B::Device,
    ) -> Tensor<B, 2> {
        self.risk.features(self.embed(nights, device), demographics)
    }

    fn last(&self) -> &Linear<B> {
        &self.risk.hazards
    }

    fn last_mut(&mut self) -> &mut Linear<B> {
        &mut self.risk.hazards
    }
}

impl<B: Kernels> Supervised<B> {
    /// The nights' embeddings [N, E], each the mean of its windows'. All go through the tokenizer
    /// together: BatchNorm over one night would take away what tells it from others.
    fn embed(&self, nights: &[Windows], device: &B::Device) -> Tensor<B, 2> {
        let signals = || nights.iter().flat_map(|night| &night.modalities);
        let samples: Vec<f32> = signals().flat_map(|s| s.samples.iter().copied()).collect();
        let patches: usize = signals().map(|signal| signal.present.len()).sum();
        let shape = [patches, samples.len() / patches.max(1)];
        let patches = Tensor::from_data(TensorData::new(samples, shape), device);
        let all = self.base.tokenizer.forward(patches);
        let mut first = 0;
        let mut embeddings = Vec::with_capacity(nights.len());
        for night in nights {
            let (mut tokens, mut present) = (Vec::new(), Vec::new());
            for signal in &night.modalities {
                let shape = [night.count, signal.channels, night.patches];
                let there: Tensor<B, 3> =
                    Tensor::from_data(TensorData::new(signal.present.clone(), shape), device);
                let own = all.clone().narrow(0, first, signal.present.len());
                first += signal.present.len();
                let encoded = self.base.of_patches(own, there.clone());
                tokens.push(encoded.embeddings.unsqueeze_dim::<4>(1));
                present.push(there.max_dim(1));
            }
            let windows = self.risk.embed(Tensor::cat(tokens, 1), Tensor::cat(present, 1));
            embeddings.push(windows.mean_dim(0));
        }
        Tensor::cat(embeddings, 0)
    }
}

impl Windows {
    /// The modalities that are there.
    pub fn modalities(&self) -> impl Iterator<Item = Modality> + '_ {
        self.modalities.iter().map(|signal| signal.modality)
    }
}
