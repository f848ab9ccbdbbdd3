//! A bundle from burn modules: graphs, manifest, labels.

use std::path::Path;

use burn::prelude::*;
use sfm_models::bundle::{BundleError, BundleWriter, LABELS, Label, QUANTILES, recipe_name};
use sfm_models::manifest::{
    Apnea, BadSignals, Base as BaseSizes, ChannelPolicy, FORMAT_VERSION, Manifest, Preprocessing,
    Risk, SingleChannel, Staging, Training,
};
use sfm_models::{Bundle, ReferenceQuantiles, SleepStage, graph};

use super::{apnea_graphs, base_graphs, risk_graphs, staging_graphs};
use crate::network::{BaseNetwork, NetworkConfig};
use crate::nn::{ApneaHead, Pooling, RiskHead, Stager};

/// Order of the reference's low-pass.
const LOWPASS_ORDER: usize = 4;

/// What a bundle says about itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Short name shown to the user.
    pub name: String,
    /// Licence of the weights.
    pub license: String,
    /// What the weights were trained on.
    pub training: Training,
}

/// Collects graphs and manifest of a bundle, to be written with [`BundleBuilder::write`].
#[derive(Debug)]
pub struct BundleBuilder {
    writer: BundleWriter,
    manifest: Manifest,
}

impl BundleBuilder {
    /// A bundle with the base network only.
    pub fn new<B: Backend>(network: &BaseNetwork<B>, about: About) -> Self {
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
            bad_signals: BadSignals::default(),
            channels: ChannelPolicy::default(),
            training: about.training,
            metrics: Default::default(),
            files: Default::default(),
        };
        let mut builder = BundleBuilder { writer: BundleWriter::new(), manifest };
        builder.add(base_graphs(&network.base));
        builder
    }

    /// A bundle with the base network of another one, graph by graph, and its recipe if it has one.
    /// Weights that were simulated or random there are so here.
    ///
    /// # Errors
    /// [`BundleError::Layout`] if a graph is missing.
    pub fn on(bundle: &Bundle, about: About) -> Result<Self, BundleError> {
        let from = bundle.manifest();
        let training = Training {
            random_weights: about.training.random_weights || from.training.random_weights,
            simulated: about.training.simulated || from.training.simulated,
            ..about.training
        };
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            name: about.name,
            exporter: concat!("sfm-train ", env!("CARGO_PKG_VERSION")).into(),
            license: about.license,
            preprocessing: from.preprocessing.clone(),
            base: from.base.clone(),
            staging: None,
            risk: None,
            apnea: None,
            bad_signals: from.bad_signals,
            channels: from.channels,
            training,
            metrics: Default::default(),
            files: Default::default(),
        };
        let mut builder = BundleBuilder { writer: BundleWriter::new(), manifest };
        for name in [graph::TOKENIZER, graph::POOL, graph::ENCODER] {
            let onnx = bundle
                .graph(name)
                .ok_or_else(|| BundleError::Layout(format!("it has no graph {name}")))?;
            builder.writer.graph(name, onnx.to_vec());
        }
        if let Some(recipe) = bundle.file(&recipe_name("base")) {
            builder.recipe("base", recipe.to_vec());
        }
        Ok(builder)
    }

    /// Says what becomes of bad signals, instead of the reference's way or the other bundle's.
    pub fn bad_signals(&mut self, bad_signals: BadSignals) {
        self.manifest.bad_signals = bad_signals;
    }

    /// Says which channels the network takes, instead of the reference's or the other bundle's.
    pub fn channels(&mut self, channels: ChannelPolicy) {
        self.manifest.channels = channels;
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

    /// Adds a risk head that sees `max_seq_length` tokens of a night; `age_range` are the ages in
    /// years that it takes as 0 and as 1.
    pub fn risk<B: Backend>(
        &mut self,
        head: &RiskHead<B>,
        max_seq_length: usize,
        age_range: (f64, f64),
    ) {
        let [_, classes] = head.hazards.weight.dims();
        self.manifest.risk = Some(Risk {
            classes,
            pooling_heads: pooling_heads(&head.pooling),
            demographics: head.demographics.is_some(),
            max_seq_length,
            age_range,
            has_labels: false,
            has_quantiles: false,
        });
        self.add(risk_graphs(head));
    }

    /// Adds an apnea head that sees `max_seq_length` tokens of a night.
    pub fn apnea<B: Backend>(&mut self, head: &ApneaHead<B>, max_seq_length: usize) {
        self.manifest.apnea =
            Some(Apnea { pooling_heads: pooling_heads(&head.pooling), max_seq_length });
        self.add(apnea_graphs(head));
    }

    /// Adds where the hazards of a reference cohort lie.
    ///
    /// # Errors
    /// [`BundleError::Quantiles`] without a risk head, or if they are not of its size.
    pub fn quantiles(&mut self, quantiles: &ReferenceQuantiles) -> Result<(), BundleError> {
        let risk = self.manifest.risk.as_mut().ok_or_else(|| {
            BundleError::Quantiles("there is no risk head whose hazards they could be".into())
        })?;
        quantiles.check(risk.classes).map_err(BundleError::Quantiles)?;
        let json =
            serde_json::to_vec(quantiles).map_err(|e| BundleError::Quantiles(e.to_string()))?;
        risk.has_quantiles = true;
        self.writer.file(QUANTILES, json);
        Ok(())
    }

    /// Adds held-out figures by name.
    pub fn metrics(&mut self, metrics: impl IntoIterator<Item = (String, f64)>) {
        self.manifest.metrics.extend(metrics);
    }

    /// Adds the configuration of the run that made `part` (`base`, `staging`, ...).
    pub fn recipe(&mut self, part: &str, toml: Vec<u8>) {
        self.writer.file(&recipe_name(part), toml);
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

/// The sizes of a base network as a manifest has them.
pub fn base_sizes(config: &NetworkConfig) -> BaseSizes {
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
