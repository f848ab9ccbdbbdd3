//! The parity recordings: the reference's input, its weights, and what it computed from them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::backend::Flex;
use burn::prelude::*;
use rust_hdf5::H5File;
use sfm_models::Modality;
use sfm_tests::reference::{self, Array, Reference};
use sfm_trainer::import::{self, ImportedRisk};
use sfm_trainer::network::BaseNetwork;
use sfm_trainer::nn::Stager;

pub type Device = burn::tensor::Device<Flex>;

/// Largest absolute difference to the reference.
pub const TOLERANCE: f32 = 1e-4;

pub struct Recording {
    pub dir: PathBuf,
}

/// `mini`, which the repository holds, and `full` where it is present.
pub fn recordings() -> Vec<Recording> {
    reference::all().into_iter().map(|r| Recording { dir: r.dir }).collect()
}

pub fn mini() -> Recording {
    Recording { dir: reference::mini().dir }
}

impl Recording {
    pub fn base(&self) -> BaseNetwork<Flex> {
        import::base(&self.dir.join("model_base"), &Device::default()).unwrap()
    }

    pub fn staging(&self, base: &BaseNetwork<Flex>) -> Stager<Flex> {
        import::staging(&self.dir.join("model_sleep_staging"), base, &Device::default()).unwrap()
    }

    pub fn risk(&self, base: &BaseNetwork<Flex>) -> ImportedRisk<Flex> {
        import::risk(&self.dir.join("model_diagnosis"), base, &Device::default()).unwrap()
    }

    /// The channels of one modality at the network's rate.
    pub fn channels(&self, modality: Modality) -> Vec<Vec<f32>> {
        #[derive(serde::Deserialize)]
        struct About {
            modalities: BTreeMap<Modality, Vec<String>>,
        }
        let about = std::fs::read(self.dir.join("about.json")).unwrap();
        let about: About = serde_json::from_slice(&about).unwrap();
        let file = H5File::open(self.dir.join("psg.hdf5")).unwrap();
        about.modalities[&modality]
            .iter()
            .map(|name| file.dataset(name).unwrap().read_numeric_as::<f32>().unwrap())
            .collect()
    }

    /// The whole windows of one modality: [windows, channels, patches, patch_samples].
    pub fn windows(&self, base: &BaseNetwork<Flex>, modality: Modality) -> Tensor<Flex, 4> {
        let channels = self.channels(modality);
        let window_samples = base.config.window_patches * base.config.patch_samples;
        let windows = channels[0].len() / window_samples;
        let mut values: Vec<f32> = Vec::new();
        for window in 0..windows {
            for channel in &channels {
                values.extend(&channel[window * window_samples..(window + 1) * window_samples]);
            }
        }
        let shape =
            [windows, channels.len(), base.config.window_patches, base.config.patch_samples];
        Tensor::from_data(TensorData::new(values, shape), &Device::default())
    }

    /// An array of `expected.npz`.
    pub fn expected(&self, name: &str) -> Array {
        Reference { dir: self.dir.clone() }.expected(name)
    }
}

/// Fails unless both have as many values and none differs by more than [`TOLERANCE`].
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    reference::assert_close(what, found, expected, TOLERANCE);
}

pub fn values<const D: usize>(tensor: &Tensor<Flex, D>) -> Vec<f32> {
    tensor.to_data().to_vec().unwrap()
}
