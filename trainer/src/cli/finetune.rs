//! `sfm-train finetune staging|risk|apnea`: a head on stored embeddings.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Failure, USAGE, named, say};
use crate::config;
use crate::data::{Demographics, Split};
use crate::device::{Device, DeviceChoice};
use crate::finetune::FinetuneError;
use crate::finetune::fit::{Fit, Surroundings};
use crate::finetune::nights::Nights;
use crate::recipe::Recipe;
use crate::run::{RunFolder, SPLIT};

mod apnea;
mod risk;
mod staging;

/// Trains a head on stored embeddings.
#[derive(Args)]
pub struct FinetuneArgs {
    #[command(subcommand)]
    head: Head,
}

#[derive(Subcommand)]
enum Head {
    /// Sleep stages.
    Staging(staging::StagingArgs),
    /// Hazards of diseases.
    Risk(risk::RiskArgs),
    /// Presence and severity of sleep apnea.
    Apnea(apnea::ApneaArgs),
}

#[derive(Args)]
struct Common {
    /// The recipe.
    #[arg(long, value_name = "TOML")]
    config: Option<PathBuf>,
    /// Folder of embeddings, as `embed` writes them.
    #[arg(long, value_name = "DIR")]
    embeddings: PathBuf,
    /// Which recordings train, and which choose the best pass.
    #[arg(long, value_name = "JSON")]
    split: PathBuf,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where to train: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Go on with the run in --out.
    #[arg(long)]
    resume: bool,
    /// Overrides the recipe's seed.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Overrides the recipe's number of passes.
    #[arg(long, value_name = "N")]
    passes: Option<u64>,
}

/// Trains the head.
pub fn run(args: FinetuneArgs) -> Result<(), Failure> {
    match args.head {
        Head::Staging(args) => staging::run(args),
        Head::Risk(args) => risk::run(args),
        Head::Apnea(args) => apnea::run(args),
    }
}

impl Common {
    fn recipe(&self) -> Result<Recipe, Failure> {
        match &self.config {
            Some(path) => config::read(path).map_err(|e| (USAGE, e.to_string())),
            None => Ok(Recipe::default()),
        }
    }

    fn override_fit(&self, fit: &mut Fit) {
        fit.seed = self.seed.unwrap_or(fit.seed);
        fit.passes = self.passes.unwrap_or(fit.passes);
    }

    fn split(&self, people: Option<&Demographics>) -> Result<Split, Failure> {
        let split = Split::read(&self.split, people).map_err(|e| (e.exit_code(), e.to_string()))?;
        Ok(split.below(&self.embeddings))
    }

    fn device(&self) -> Result<Device, Failure> {
        let device = Device::choose(self.device).map_err(|e| (USAGE, e.to_string()))?;
        say(format_args!("device: {}", device.why));
        Ok(device)
    }

    /// A value of the recipe that is out of range.
    fn refuse(&self, section: &str, reason: String) -> Failure {
        let reason = format!("[{section}] {reason}");
        (USAGE, self.config.as_deref().map_or(reason.clone(), |path| named(path, &reason)))
    }

    /// Opens the run's folder with configuration and split as used.
    fn open(
        &self,
        section: &str,
        recipe: &impl Serialize,
        split: &Split,
    ) -> Result<RunFolder, Failure> {
        let run =
            RunFolder::open(&self.out, self.resume).map_err(|e| (e.exit_code(), e.to_string()))?;
        let section = std::collections::BTreeMap::from([(section, recipe)]);
        run.write_config(&section).map_err(|e| (e.exit_code(), e.to_string()))?;
        split.write(&run.file(SPLIT)).map_err(|e| (e.exit_code(), e.to_string()))?;
        Ok(run)
    }
}

/// The failure of a command that ends with `error`.
fn failure(error: FinetuneError) -> Failure {
    (error.exit_code(), error.to_string())
}

fn people(path: &Path) -> Result<Demographics, Failure> {
    Demographics::read(path).map_err(|e| (e.exit_code(), e.to_string()))
}

fn tell(part: &str, nights: &Nights) {
    for note in &nights.notes {
        eprintln!("note: {}", sfm_runtime::text::escaped(note));
    }
    say(format_args!("{part}: {} recordings", nights.len()));
}

struct Job<'a, F> {
    work: F,
    around: Surroundings<'a>,
}
