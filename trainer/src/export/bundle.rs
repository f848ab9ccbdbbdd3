//! A bundle from burn modules: graphs, manifest, labels.

use std::path::Path;

use burn::prelude::*;
use sfm_models::SleepStage;
use sfm_models::bundle::{BundleError, BundleWriter, LABELS, Label};
use sfm_models::manifest::{
    Base as BaseSizes, FORMAT_VERSION, Manifest, Preprocessing, Risk, SingleChannel, Staging,
    Training,
};

use super::{base_graphs, risk_graphs, staging_graphs};
use crate::import::ImportedRisk;
use crate::network::{BaseNetwork, NetworkConfig};
use crate::nn::{Pooling, Stager};

/// Order of the reference's low-pass.
const LOWPASS_ORDER: usize = 4;

/// What a bundle says about itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Short name shown to the user.
    pub name: String,
    /// Licence of the weights.
    pub license: String,
    /// The weights are random.
    pub random_weights: bool,
    /// Age in years that maps to 0 and to 1.
    pub age_range: (f64, f64),
}

/// Collects graphs and manifest of a bundle, to be written with [`BundleBuilder::write`].
#[derive(Debug)]
pub struct BundleBuilder {
    writer: BundleWriter,
    manifest: Manifest,
    age_range: (f64, f64),
}

impl BundleBuilder {
    /// A bundle with the base network only.
    pub fn new<B: Backend>(network: &BaseNetwork<B>, about: About) -> Self {
        let data = if about.random_weights {
            "none: the weights are random, results mean nothing beyond arithmetic"
        } else {
            "not stated: imported from PyTorch checkpoints"
        };
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            name: about.name,
            exporter: concat!("sfm-train ", env!("CARGO_PKG_VERSION")).into(),
            license: about.license,
            preprocessing: Preprocessing {
                rate_hz: network.config.rate_hz,
                patch_samples: network.config.patch_samples,
                lowpass_hz: f64::from(network.config.rate_hz) / 2.0,
                lowpass_order: LOWPASS_ORDER,
            },
            base: base_sizes(&network.config),
            staging: None,
            risk: None,
            apnea: None,
            training: Training {
                data: data.into(),
                random_weights: about.random_weights,
                simulated: false,
                commit: None,
            },
            metrics: Default::default(),
            files: Default::default(),
        };
        let mut builder =
            BundleBuilder { writer: BundleWriter::new(), manifest, age_range: about.age_range };
        builder.add(base_graphs(&network.base));
        builder
    }

    /// Adds the staging head, whose classes are [`SleepStage::ALL`].
    pub fn staging<B: Backend>(&mut self, stager: &Stager<B>) {
        self.manifest.staging = Some(Staging {
            classes: SleepStage::ALL.to_vec(),
            layers: stager.layers.len(),
            heads: stager.layers.first().map_or(1, |layer| layer.heads),
            pooling_heads: pooling_heads(&stager.pooling),
            max_seq_length: stager.position.length(),
        });
        self.add(staging_graphs(stager));
    }

    /// Adds the risk head.
    pub fn risk<B: Backend>(&mut self, imported: &ImportedRisk<B>) {
        let [_, classes] = imported.head.hazards.weight.dims();
        self.manifest.risk = Some(Risk {
            classes,
            pooling_heads: pooling_heads(&imported.head.pooling),
            demographics: imported.head.demographics.is_some(),
            max_seq_length: imported.max_seq_length,
            age_range: self.age_range,
            has_labels: false,
            has_quantiles: false,
        });
        self.add(risk_graphs(&imported.head));
    }

    /// Adds the hazards' names, a CSV `label_idx,phecode,phenotype`.
    ///
    /// # Errors
    /// [`BundleError::Labels`] without a risk head, or if the table is not of its size.
    pub fn labels(&mut self, csv: Vec<u8>) -> Result<(), BundleError> {
        let risk = self.manifest.risk.as_mut().ok_or_else(|| {
            BundleError::Labels("there is no risk head whose hazards they could name".into())
        })?;
        Label::parse_csv(&csv, risk.classes)?;
        risk.has_labels = true;
        self.writer.file(LABELS, csv);
        Ok(())
    }

    /// Checks the bundle as its reader would, writes it to `path` and returns its manifest
    /// and SHA-256.
    ///
    /// # Errors
    /// Any [`BundleError`] but `Read`.
    pub fn write(self, path: &Path) -> Result<(Manifest, String), BundleError> {
        let sha256 = self.writer.write(path, self.manifest.clone())?;
        Ok((self.manifest, sha256))
    }

    /// The bundle's bytes.
    ///
    /// # Errors
    /// As [`BundleBuilder::write`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        self.writer.to_bytes(self.manifest.clone())
    }

    fn add(&mut self, graphs: Vec<super::NamedGraph>) {
        for (name, onnx) in graphs {
            self.writer.graph(&name, onnx);
        }
    }
}

fn base_sizes(config: &NetworkConfig) -> BaseSizes {
    BaseSizes {
        embed_dim: config.embed_dim,
        heads: config.heads,
        pooling_heads: config.pooling_heads,
        layers: config.layers,
        feed_forward: config.feed_forward,
        window_patches: config.window_patches,
        single_channel: if config.skip_single_channel {
            SingleChannel::Skip
        } else {
            SingleChannel::Pool
        },
        modalities: config.modalities.clone(),
        max_channels: config.max_channels.clone(),
    }
}

fn pooling_heads<B: Backend>(pooling: &Pooling<B>) -> usize {
    pooling.layer.heads
}
