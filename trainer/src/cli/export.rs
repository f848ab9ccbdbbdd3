//! `sfm-train export`: the best checkpoints of training runs to one bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use clap::Args;
use sfm_models::manifest::{BadSignals, Base, ChannelPolicy, Training};
use sfm_models::{Bundle, ReferenceQuantiles};

use super::{Failure, REFUSED, UNREADABLE, USAGE, bundle_failure, bundle_summary, named};
use crate::export::bundle::{About, BundleBuilder, base_sizes};
use crate::finetune::head::{self, HeadAbout};
use crate::network::BaseNetwork;
use crate::run::{BEST, CONFIG, RunError};

/// Each run's folder gives its best.ckpt and its configuration.
#[derive(Args)]
pub struct ExportArgs {
    /// Run of `pretrain`.
    #[arg(long, value_name = "RUN", required_unless_present = "bundle")]
    base: Option<PathBuf>,
    /// Instead of --base: a bundle, imported ones too, whose base network made the embeddings.
    #[arg(long, value_name = "FILE.sfm", conflicts_with = "base")]
    bundle: Option<PathBuf>,
    /// Run of `finetune staging`.
    #[arg(long, value_name = "RUN")]
    staging: Option<PathBuf>,
    /// Run of `finetune risk`.
    #[arg(long, value_name = "RUN")]
    risk: Option<PathBuf>,
    /// Run of `finetune apnea`.
    #[arg(long, value_name = "RUN")]
    apnea: Option<PathBuf>,
    /// The bundle to write.
    #[arg(long, value_name = "NAME.sfm")]
    out: PathBuf,
    /// Names of the hazards: label_idx,phecode,phenotype.
    #[arg(long, value_name = "CSV", requires = "risk")]
    labels: Option<PathBuf>,
    /// Held-out figures that `evaluate` wrote: its numbers go into the bundle, named by NAME and
    /// the keys that lead to them.
    #[arg(long, value_name = "NAME=JSON", value_parser = named_file)]
    metrics: Vec<(String, PathBuf)>,
    /// What the weights were trained on, as every report will say it.
    #[arg(long, value_name = "TEXT")]
    data: String,
    /// The training data are simulated: every program that uses the bundle will say so.
    #[arg(long)]
    simulated: bool,
    /// Mains, noise, clipped and implausible signals are absent for this network; without it they go
    /// in as in the reference. With --bundle: as its says, or so.
    #[arg(long)]
    mask_bad: bool,
    /// Which channels the network takes: as recorded (reference), or derivations as the AASM manual has
    /// them (aasm). [default: reference; with --bundle, as its says]
    #[arg(long, value_name = "aasm|reference")]
    channels: Option<ChannelPolicy>,
    /// Licence of the weights.
    #[arg(long, value_name = "TEXT", default_value = "unknown")]
    license: String,
    /// Short name of the model; the file's name if not given.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Commit of the trainer's sources; git is asked in the current folder if not given.
    #[arg(long, value_name = "HASH")]
    commit: Option<String>,
}

/// Reads the runs and writes the bundle.
pub fn run(args: ExportArgs) -> Result<(), Failure> {
    let device = Default::default();
    let (mut bundle, base) = begin(&args)?;
    if args.mask_bad {
        bundle.bad_signals(BadSignals::Absent);
    }
    if let Some(channels) = args.channels {
        bundle.channels(channels);
    }
    if let Some(folder) = &args.staging {
        let (about, stager) =
            head::read_stager::<Flex>(&folder.join(BEST), &device).map_err(run_failure)?;
        fits(folder, &about, &base)?;
        bundle.staging(&stager);
        add_recipe(&mut bundle, "staging", folder)?;
    }
    if let Some(folder) = &args.risk {
        add_risk(&mut bundle, folder, &args, &base)?;
    }
    if let Some(folder) = &args.apnea {
        let (about, apnea) =
            head::read_apnea::<Flex>(&folder.join(BEST), &device).map_err(run_failure)?;
        fits(folder, &about, &base)?;
        bundle.apnea(&apnea, about.config.max_seq_length);
        add_recipe(&mut bundle, "apnea", folder)?;
    }
    for (name, path) in &args.metrics {
        bundle.metrics(read_metrics(name, path)?);
    }
    let (manifest, sha256) = bundle.write(&args.out).map_err(|e| bundle_failure(&args.out, &e))?;
    bundle_summary(&args.out, &manifest, &sha256);
    Ok(())
}

/// A bundle with the base network alone, and its sizes.
fn begin(args: &ExportArgs) -> Result<(BundleBuilder, Base), Failure> {
    let stem = args.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let about = About {
        name: args.name.clone().unwrap_or(stem),
        license: args.license.clone(),
        training: Training {
            data: args.data.clone(),
            random_weights: false,
            simulated: args.simulated,
            commit: args.commit.clone().or_else(commit),
        },
    };
    match (&args.base, &args.bundle) {
        (Some(run), _) => {
            let device = Default::default();
            let base = BaseNetwork::<Flex>::read(&run.join(BEST), &device).map_err(run_failure)?;
            let mut bundle = BundleBuilder::new(&base, about);
            add_recipe(&mut bundle, "base", run)?;
            Ok((bundle, base_sizes(&base.config)))
        }
        (None, Some(path)) => {
            let from = Bundle::open(path).map_err(|e| bundle_failure(path, &e))?;
            let bundle = BundleBuilder::on(&from, about).map_err(|e| bundle_failure(path, &e))?;
            Ok((bundle, from.manifest().base.clone()))
        }
        (None, None) => Err((USAGE, "give --base RUN or --bundle FILE.sfm".to_owned())),
    }
}

fn add_risk(
    bundle: &mut BundleBuilder,
    folder: &Path,
    args: &ExportArgs,
    base: &Base,
) -> Result<(), Failure> {
    let path = folder.join(BEST);
    let (about, risk) = head::read_risk::<Flex>(&path, &Default::default()).map_err(run_failure)?;
    fits(folder, &about, base)?;
    bundle.risk(&risk, about.config.max_seq_length, about.age_range);
    let quantiles = ReferenceQuantiles {
        cohort: format!("training cohort: {}", args.data),
        recordings: about.recordings,
        hazards: head::read_reference(&path).map_err(run_failure)?,
    };
    bundle.quantiles(&quantiles).map_err(|e| (REFUSED, named(&path, &e)))?;
    if let Some(path) = &args.labels {
        let labels = std::fs::read(path).map_err(|e| (UNREADABLE, named(path, &e)))?;
        bundle.labels(labels).map_err(|e| (REFUSED, named(path, &e)))?;
    }
    add_recipe(bundle, "risk", folder)
}

/// A head learned on embeddings of one length and order of modalities.
fn fits(folder: &Path, head: &HeadAbout, base: &Base) -> Result<(), Failure> {
    if head.embed_dim == base.embed_dim && head.modalities == base.modalities {
        return Ok(());
    }
    let message = format!(
        "the head takes embeddings of {} for {:?}, but the base network gives {} for {:?}",
        head.embed_dim, head.modalities, base.embed_dim, base.modalities
    );
    Err((REFUSED, named(folder, &message)))
}

/// The run's configuration; not its split, which names people.
fn add_recipe(bundle: &mut BundleBuilder, part: &str, folder: &Path) -> Result<(), Failure> {
    let path = folder.join(CONFIG);
    let toml = std::fs::read(&path).map_err(|e| (UNREADABLE, named(&path, &e)))?;
    bundle.recipe(part, toml);
    Ok(())
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("give NAME=JSON, such as staging=figures/metrics.json".into()),
    }
}

/// The numbers of a JSON file, named by the keys that lead to them.
fn read_metrics(name: &str, path: &Path) -> Result<BTreeMap<String, f64>, Failure> {
    let text = std::fs::read(path).map_err(|e| (UNREADABLE, named(path, &e)))?;
    let mut value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| (USAGE, named(path, &e)))?;
    if let Some(fields) = value.as_object_mut() {
        // What the head is, not how it does.
        fields.remove("head");
    }
    let mut metrics = BTreeMap::new();
    collect(name, &value, &mut metrics);
    Ok(metrics)
}

fn collect(name: &str, value: &serde_json::Value, metrics: &mut BTreeMap<String, f64>) {
    match value {
        serde_json::Value::Number(number) => {
            metrics.extend(number.as_f64().map(|number| (name.to_owned(), number)));
        }
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                collect(&format!("{name}.{key}"), value, metrics);
            }
        }
        _ => {}
    }
}

/// The commit that is checked out in the current folder, if git knows one.
fn commit() -> Option<String> {
    let git = std::process::Command::new("git")
        .args(["describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(git.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn run_failure(error: RunError) -> Failure {
    (error.exit_code(), error.to_string())
}
