//! `sfm-train evaluate staging|risk|apnea`: figures of a head on a part of a split.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Failure, REFUSED, UNREADABLE, USAGE, named};
use crate::data::{Demographics, Split};
use crate::evaluate::report::Report;
use crate::finetune::FinetuneError;
use crate::finetune::head::HeadAbout;
use crate::finetune::nights::Nights;
use crate::run::{RunError, SPLIT};

mod apnea;
mod live;
mod risk;
mod staging;

/// Measures a head.
#[derive(Args)]
pub struct EvaluateArgs {
    #[command(subcommand)]
    head: Head,
}

#[derive(Subcommand)]
enum Head {
    /// Sleep stages: by stage, by recording, by subset of modalities, live against final.
    Staging(staging::StagingArgs),
    /// Hazards: C-index, AUROC and calibration by label.
    Risk(risk::RiskArgs),
    /// Presence and severity of sleep apnea.
    Apnea(apnea::ApneaArgs),
}

#[derive(Args)]
struct Common {
    /// Folder of the run whose best head is measured.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Folder of embeddings.
    #[arg(long, value_name = "DIR")]
    embeddings: Option<PathBuf>,
    /// The split [default: the run's].
    #[arg(long, value_name = "JSON")]
    split: Option<PathBuf>,
    /// Part of the split.
    #[arg(long, value_name = "NAME", default_value = "test")]
    part: String,
    /// Where results go [default: evaluate-<part> in the run's folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Measures the head.
pub fn run(args: EvaluateArgs) -> Result<(), Failure> {
    match args.head {
        Head::Staging(args) => staging::run(&args),
        Head::Risk(args) => risk::run(&args),
        Head::Apnea(args) => apnea::run(&args),
    }
}

impl Common {
    fn run(&self) -> Result<&Path, Failure> {
        self.run.as_deref().ok_or_else(|| (USAGE, "give --run, the folder of a run".to_owned()))
    }

    fn embeddings(&self) -> Result<&Path, Failure> {
        let missing = || (USAGE, "give --embeddings, the folder that embed wrote".to_owned());
        self.embeddings.as_deref().ok_or_else(missing)
    }

    /// The recordings of the part.
    fn recordings(&self, people: Option<&Demographics>) -> Result<Vec<String>, Failure> {
        let path = match (&self.split, &self.run) {
            (Some(split), _) => split.clone(),
            (None, Some(run)) => run.join(SPLIT),
            (None, None) => return Err((USAGE, "give --split".to_owned())),
        };
        let split = Split::read(&path, people).map_err(|e| (e.exit_code(), e.to_string()))?;
        let split = split.below(self.embeddings.as_deref().unwrap_or(Path::new("")));
        let part = split.parts().find(|(name, _)| *name == self.part);
        match part {
            Some((_, recordings)) if !recordings.is_empty() => Ok(recordings.to_vec()),
            _ => {
                let reason = format!("has no recordings in part '{}'", self.part);
                Err((UNREADABLE, named(&path, &reason)))
            }
        }
    }

    fn report(&self) -> Result<Report, Failure> {
        let folder = match (&self.out, &self.run) {
            (Some(out), _) => out.clone(),
            (None, Some(run)) => run.join(format!("evaluate-{}", self.part)),
            (None, None) => return Err((USAGE, "give --out".to_owned())),
        };
        Report::open(&folder).map_err(run_failure)
    }
}

fn run_failure(error: RunError) -> Failure {
    (error.exit_code(), error.to_string())
}

fn failure(error: FinetuneError) -> Failure {
    (error.exit_code(), error.to_string())
}

fn tell(nights: &Nights) {
    for note in &nights.notes {
        eprintln!("note: {}", sfm_runtime::text::escaped(note));
    }
}

fn read_people(path: &Path) -> Result<Demographics, Failure> {
    Demographics::read(path).map_err(|e| (e.exit_code(), e.to_string()))
}

fn fits(about: &HeadAbout, nights: &Nights) -> Result<(), Failure> {
    if about.embed_dim == nights.embed_dim() {
        return Ok(());
    }
    let reason = format!(
        "the head takes tokens of {} values, but the embeddings have {}; embed with its network",
        about.embed_dim,
        nights.embed_dim()
    );
    Err((REFUSED, reason))
}
