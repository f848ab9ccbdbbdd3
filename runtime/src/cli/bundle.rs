//! `sfm-stream bundle info|verify`, and the bundle a run uses.

use std::path::Path;

use sfm_models::{Bundle, Modality};

use super::Failure;
use super::args::BundleAction;
use crate::infer::backend::{Backend, BackendChoice};
use crate::pipeline::Network;

/// The bundle inside the binary, for a first run without any download.
const BUILT_IN: &[u8] = include_bytes!("../../../models/bundles/example.sfm");

/// Opens `file`, or the built-in bundle.
pub(super) fn open(file: Option<&Path>) -> Result<Bundle, Failure> {
    match file {
        Some(path) => {
            Bundle::open(path).map_err(|e| Failure::bundle(format!("{} {e}", path.display())))
        }
        None => Bundle::from_bytes(BUILT_IN.to_vec())
            .map_err(|e| Failure::bundle(format!("the built-in bundle {e}; rebuild the program"))),
    }
}

pub(super) fn run(action: &BundleAction) -> Result<(), Failure> {
    match action {
        BundleAction::Info { file } => {
            print_info(&open(file.as_deref())?);
            Ok(())
        }
        BundleAction::Verify { file } => verify(file),
    }
}

fn print_info(bundle: &Bundle) {
    let manifest = bundle.manifest();
    let base = &manifest.base;
    println!("name:          {}", manifest.name);
    println!("sha256:        {}", bundle.sha256());
    println!("made by:       {}", manifest.exporter);
    println!("license:       {}", manifest.license);
    println!("training data: {}", manifest.training.data);
    if manifest.training.random_weights {
        println!("warning:       random weights: results show arithmetic, nothing of a person");
    }
    println!(
        "base:          embedding {}, {} layers, {} heads, windows of {} patches of {} samples at {} Hz",
        base.embed_dim,
        base.layers,
        base.heads,
        base.window_patches,
        manifest.preprocessing.patch_samples,
        manifest.preprocessing.rate_hz
    );
    let channels: Vec<String> = Modality::ALL
        .iter()
        .filter_map(|m| Some(format!("{m} {}", base.max_channels.get(m)?)))
        .collect();
    println!("channels:      at most {}", channels.join(", "));
    match &manifest.staging {
        Some(staging) => println!(
            "staging head:  {} layer(s), up to {} tokens at once",
            staging.layers, staging.max_seq_length
        ),
        None => println!("staging head:  none"),
    }
    match &manifest.risk {
        Some(risk) => println!(
            "risk head:     {} relative log-hazards{}, first {} tokens of a night",
            risk.classes,
            if risk.has_labels { " with names" } else { "" },
            risk.max_seq_length
        ),
        None => println!("risk head:     none"),
    }
    for (name, value) in &manifest.metrics {
        println!("metric:        {name} = {value}");
    }
    for (name, entry) in &manifest.files {
        println!("file:          {name}, {} bytes, sha256 {}", entry.bytes, entry.sha256);
    }
}

/// Opening checks sizes and checksums; loading shows that the engine takes every graph.
fn verify(file: &Path) -> Result<(), Failure> {
    let bundle = open(Some(file))?;
    bundle.labels().map_err(|e| Failure::bundle(format!("{} {e}", file.display())))?;
    let backend = Backend::choose(BackendChoice::Tract, 1).map_err(Failure::run)?;
    Network::load(&bundle, &backend)
        .map_err(|e| Failure::bundle(format!("{}: {e}", file.display())))?;
    let files = bundle.manifest().files.len();
    println!("{}: {files} files, checksums right, all graphs load in tract", file.display());
    Ok(())
}
