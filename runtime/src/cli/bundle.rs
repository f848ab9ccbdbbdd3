//! `sfm-stream bundle info|verify`, and the bundle a run uses.

use std::fmt::Write;
use std::path::Path;

use sfm_models::manifest::{BadSignals, ChannelPolicy};
use sfm_models::{Bundle, BundleError, Modality};

use super::args::BundleAction;
use super::{Failure, show};
use crate::infer::backend::{Backend, BackendChoice};
use crate::pipeline::Network;
use crate::text::escaped;

/// The bundle inside the binary, for a first run without any download.
const BUILT_IN: &[u8] = include_bytes!("../../../models/bundles/default.sfm");

/// Opens `file`, or the built-in bundle, its tables included.
pub(super) fn open(file: Option<&Path>) -> Result<Bundle, Failure> {
    match file {
        Some(path) => Bundle::open(path)
            .and_then(with_tables)
            .map_err(|e| Failure::bundle(format!("{} {e}", path.display()))),
        None => Bundle::from_bytes(BUILT_IN.to_vec())
            .map_err(|e| Failure::bundle(format!("the built-in bundle {e}; rebuild the program"))),
    }
}

fn with_tables(bundle: Bundle) -> Result<Bundle, BundleError> {
    bundle.labels()?;
    bundle.quantiles()?;
    Ok(bundle)
}

pub(super) fn run(action: &BundleAction) -> Result<(), Failure> {
    match action {
        BundleAction::Info { file } => show(&info(&open(file.as_deref())?)),
        BundleAction::Verify { file } => verify(file),
    }
}

/// What the manifest says; its texts are untrusted.
fn info(bundle: &Bundle) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<14} {}", escaped(&value));
    };
    let manifest = bundle.manifest();
    let base = &manifest.base;
    line("name:", manifest.name.clone());
    line("sha256:", bundle.sha256());
    line("made by:", manifest.exporter.clone());
    line("license:", manifest.license.clone());
    line("training data:", manifest.training.data.clone());
    if let Some(commit) = &manifest.training.commit {
        line("commit:", commit.clone());
    }
    if let Some(caution) = manifest.training.caution() {
        line("warning:", caution.to_owned());
    }
    let of_base = format!(
        "embedding {}, {} layer(s), {} heads, windows of {} patches of {} samples at {} Hz",
        base.embed_dim,
        base.layers,
        base.heads,
        base.window_patches,
        manifest.preprocessing.patch_samples,
        manifest.preprocessing.rate_hz
    );
    line("base:", of_base);
    let channels: Vec<String> = Modality::ALL
        .iter()
        .filter_map(|m| Some(format!("{m} {}", base.max_channels.get(m)?)))
        .collect();
    line("channels:", format!("at most {}", channels.join(", ")));
    let bad_signals = match manifest.bad_signals {
        BadSignals::Reference => "go in as in the reference; what has no variance is absent",
        BadSignals::Absent => "absent: flat, mains, noise, clipped, implausible",
    };
    line("bad signals:", bad_signals.to_owned());
    let policy = match manifest.channels {
        ChannelPolicy::Reference => "reference: every channel as it was recorded",
        ChannelPolicy::Aasm => "aasm: derivations before electrodes, derived where there are none",
    };
    line("electrodes:", policy.to_owned());
    let staging = manifest.staging.as_ref().map_or_else(none, |staging| {
        format!("{} layer(s), up to {} tokens at once", staging.layers, staging.max_seq_length)
    });
    line("staging head:", staging);
    let risk = manifest.risk.as_ref().map_or_else(none, |risk| {
        format!(
            "{} relative log-hazards{}{}, first {} tokens of a night",
            risk.classes,
            if risk.has_labels { " with names" } else { "" },
            if risk.has_quantiles { ", with quantiles of a reference cohort" } else { "" },
            risk.max_seq_length
        )
    });
    line("risk head:", risk);
    let apnea = manifest.apnea.as_ref().map_or_else(none, |apnea| {
        format!("presence and severity, first {} tokens of a night", apnea.max_seq_length)
    });
    line("apnea head:", apnea);
    for (name, value) in &manifest.metrics {
        line("metric:", format!("{name} = {value}"));
    }
    for (name, entry) in &manifest.files {
        line("file:", format!("{name}, {} bytes, sha256 {}", entry.bytes, entry.sha256));
    }
    text
}

fn none() -> String {
    "none".to_owned()
}

/// Opening checks sizes and checksums; running shows that the engine takes every graph.
fn verify(file: &Path) -> Result<(), Failure> {
    let bundle = open(Some(file))?;
    let backend = Backend::choose(BackendChoice::Tract, 1).map_err(Failure::run)?;
    Network::load(&bundle, &backend)
        .and_then(|network| network.try_out())
        .map_err(|e| Failure::bundle(format!("{}: {e}", file.display())))?;
    let files = bundle.manifest().files.len();
    let name = escaped(&file.display().to_string());
    show(&format!("{name}: {files} files, checksums right, all graphs run in tract\n"))
}
