//! The parity recordings: the reference's input, its weights, and what it computed from them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::prelude::*;
use rust_hdf5::H5File;
use sfm_models::Modality;
use sfm_trainer::import::{self, ImportedBase, ImportedRisk};
use sfm_trainer::nn::Stager;

pub type Device = burn::tensor::Device<Flex>;

/// Largest absolute difference to the reference.
pub const TOLERANCE: f32 = 1e-4;

pub struct Recording {
    pub dir: PathBuf,
}

/// A row-major array.
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// `mini`, which the repository holds, and `full` where it is present.
pub fn recordings() -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let full = root.join("../shared/parity/full");
    let mut recordings = vec![mini()];
    if full.is_dir() {
        recordings.push(Recording { dir: full });
    } else {
        println!("skipped: full-size parity data, ../shared/parity/full is absent");
    }
    recordings
}

pub fn mini() -> Recording {
    Recording { dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/mini") }
}

impl Recording {
    pub fn base(&self) -> ImportedBase<Flex> {
        import::base(&self.dir.join("model_base"), &Device::default()).unwrap()
    }

    pub fn staging(&self, base: &ImportedBase<Flex>) -> Stager<Flex> {
        import::staging(&self.dir.join("model_sleep_staging"), base, &Device::default()).unwrap()
    }

    pub fn risk(&self, base: &ImportedBase<Flex>) -> ImportedRisk<Flex> {
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
    pub fn windows(&self, base: &ImportedBase<Flex>, modality: Modality) -> Tensor<Flex, 4> {
        let channels = self.channels(modality);
        let window_samples = base.window_patches * base.patch_samples;
        let windows = channels[0].len() / window_samples;
        let mut values: Vec<f32> = Vec::new();
        for window in 0..windows {
            for channel in &channels {
                values.extend(&channel[window * window_samples..(window + 1) * window_samples]);
            }
        }
        let shape = [windows, channels.len(), base.window_patches, base.patch_samples];
        Tensor::from_data(TensorData::new(values, shape), &Device::default())
    }

    /// An array of `expected.npz`.
    pub fn expected(&self, name: &str) -> Array {
        let file = std::fs::File::open(self.dir.join("expected.npz")).unwrap();
        let mut zip = zip::ZipArchive::new(file).unwrap();
        let mut bytes = Vec::new();
        zip.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
        parse_npy(&bytes)
    }
}

/// NumPy's own format, version 1, of a float32 array in C order.
fn parse_npy(bytes: &[u8]) -> Array {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..header_end]).unwrap();
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once('(').unwrap().1.split_once(')').unwrap().0;
    let shape = shape.split(',').filter_map(|size| size.trim().parse().ok()).collect::<Vec<_>>();
    let values = bytes[header_end..]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect::<Vec<_>>();
    assert_eq!(shape.iter().product::<usize>(), values.len());
    Array { shape, values }
}

/// Fails unless both have as many values and none differs by more than [`TOLERANCE`].
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    assert!(!found.is_empty(), "{what}: nothing to compare");
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // f32::max would pass over a NaN.
    let largest = differences.fold(0.0, |a: f32, b| if b > a || b.is_nan() { b } else { a });
    assert!(largest <= TOLERANCE, "{what}: largest difference {largest}");
    println!("{what}: largest difference {largest:.1e}");
}

pub fn values<const D: usize>(tensor: &Tensor<Flex, D>) -> Vec<f32> {
    tensor.to_data().to_vec().unwrap()
}
