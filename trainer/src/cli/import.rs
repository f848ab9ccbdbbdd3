//! `sfm-train import`: published PyTorch checkpoints to a bundle.

use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::module::Module;
use clap::Args;
use sfm_models::manifest::Training;

use super::{Failure, REFUSED, UNREADABLE, bundle_failure, bundle_summary, named, say};
use crate::export::bundle::{About, BundleBuilder};
use crate::import::{self, ImportError};

/// Longest labels file, bytes.
const MAX_LABELS_BYTES: u64 = sfm_models::bundle::MAX_TEXT_BYTES;

/// Each folder holds `config.json` and `best.pt` or `best.pth`.
#[derive(Args)]
pub struct ImportArgs {
    /// Folder of the base network (SetTransformer).
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    /// Folder of the staging head (SleepEventLSTMClassifier).
    #[arg(long, value_name = "DIR")]
    staging: Option<PathBuf>,
    /// Folder of the risk head (DiagnosisFinetuneFullLSTMCOXPHWithDemo).
    #[arg(long, value_name = "DIR")]
    risk: Option<PathBuf>,
    /// The bundle to write.
    #[arg(long, value_name = "NAME.sfm")]
    out: PathBuf,
    /// Names of the hazards: label_idx,phecode,phenotype.
    #[arg(long, value_name = "CSV", requires = "risk")]
    labels: Option<PathBuf>,
    /// Ages in years that the risk head was given as 0 and as 1.
    #[arg(long, value_name = "MIN,MAX", default_value = "0,100", value_parser = age_range)]
    age_range: (f64, f64),
    /// The weights are random: every program that uses the bundle will say so.
    #[arg(long)]
    random_weights: bool,
    /// Licence of the weights.
    #[arg(long, value_name = "TEXT", default_value = "unknown")]
    license: String,
    /// Short name of the model; the file's name if not given.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

fn age_range(text: &str) -> Result<(f64, f64), String> {
    let parts: Vec<f64> = text.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    match parts[..] {
        [min, max] if min.is_finite() && max.is_finite() && min < max => Ok((min, max)),
        _ => Err("give two ages in years, MIN,MAX, the lower one first".into()),
    }
}

/// Imports the folders and writes the bundle.
pub fn run(args: ImportArgs) -> Result<(), Failure> {
    let device = Default::default();
    let base = import::base::<Flex>(&args.base, &device).map_err(import_failure)?;
    let stem = args.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let about = About {
        name: args.name.unwrap_or(stem),
        license: args.license,
        training: if args.random_weights {
            Training::random()
        } else {
            Training {
                data: "not stated: imported from PyTorch checkpoints".into(),
                random_weights: false,
                simulated: false,
                commit: None,
            }
        },
    };
    let mut bundle = BundleBuilder::new(&base, about);
    say(format_args!("base     {} parameters", base.base.num_params()));
    if let Some(folder) = &args.staging {
        let stager = import::staging(folder, &base, &device).map_err(import_failure)?;
        bundle.staging(&stager);
        say(format_args!("staging  {} parameters", stager.num_params()));
    }
    if let Some(folder) = &args.risk {
        let risk = import::risk(folder, &base, &device).map_err(import_failure)?;
        bundle.risk(&risk.head, risk.max_seq_length, args.age_range);
        say(format_args!("risk     {} parameters", risk.head.num_params()));
    }
    if let Some(path) = &args.labels {
        let labels = read_labels(path).map_err(|e| (UNREADABLE, named(path, &e)))?;
        bundle.labels(labels).map_err(|e| (REFUSED, named(path, &e)))?;
    }
    let (manifest, sha256) = bundle.write(&args.out).map_err(|e| bundle_failure(&args.out, &e))?;
    bundle_summary(&args.out, &manifest, &sha256);
    Ok(())
}

fn read_labels(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_LABELS_BYTES), &mut bytes)?;
    Ok(bytes)
}

fn import_failure(error: ImportError) -> Failure {
    (if error.is_unreadable() { UNREADABLE } else { REFUSED }, error.to_string())
}
