//! `evaluate staging`: by stage, by recording, by subset of modalities.

use std::path::PathBuf;

use burn::backend::Flex;
use clap::Args;
use serde::Serialize;

use super::{Common, failure, fits, live, run_failure, tell};
use crate::cli::stages::StagesArgs;
use crate::cli::{Failure, say};
use crate::evaluate::stages::{self, Recording, StageFigures};
use crate::evaluate::staging::{epochs_of, night_logits};
use crate::finetune::head::{HeadAbout, read_stager};
use crate::finetune::staging::Scored;
use crate::finetune::stretch::Subset;
use crate::run::BEST;

/// Arguments of `evaluate staging`.
#[derive(Args)]
pub struct StagingArgs {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) stages: StagesArgs,
    /// Only with all modalities, not with each of the 15 subsets.
    #[arg(long)]
    no_subsets: bool,
    /// A bundle, staged live and after the night by the runtime.
    #[arg(long, value_name = "FILE.sfm", requires = "edf")]
    bundle: Option<PathBuf>,
    /// Folder of output folders of `sfm-stream --pass both`, instead of --bundle: <cohort>/<id>.sfm-out
    /// or <id>.sfm-out.
    #[arg(long, value_name = "DIR", conflicts_with = "bundle")]
    live: Option<PathBuf>,
    /// Folder of recordings for --bundle: <cohort>/<id>.edf.
    #[arg(long, value_name = "DIR", requires = "bundle")]
    edf: Option<PathBuf>,
}

/// Measures a staging head.
pub fn run(args: &StagingArgs) -> Result<(), Failure> {
    if let (Some(bundle), Some(edf)) = (&args.bundle, &args.edf) {
        return live::of_bundle(args, bundle, edf);
    }
    if let Some(folders) = &args.live {
        return live::of_outputs(args, folders);
    }
    #[derive(Serialize)]
    struct Metrics<'a> {
        part: &'a str,
        head: &'a HeadAbout,
        all: &'a StageFigures,
        by_subset: &'a [(String, StageFigures)],
    }
    let common = &args.common;
    let device = Default::default();
    let (about, stager) =
        read_stager::<Flex>(&common.run()?.join(BEST), &device).map_err(run_failure)?;
    let paths = common.recordings(None)?;
    let scored =
        Scored::read(common.embeddings()?, &args.stages.folder(), &paths).map_err(failure)?;
    tell(&scored.nights);
    fits(&about, &scored.nights)?;
    let report = common.report()?;
    let with = |kept: Subset| -> Result<Vec<Recording>, Failure> {
        let nights = scored.nights.recordings().iter().zip(&scored.stages).enumerate();
        nights
            .map(|(index, (recording, stages))| {
                let night = scored.nights.night(index).map_err(|e| failure(e.into()))?;
                let longest = about.config.max_seq_length;
                let logits = night_logits(&stager, &night, kept, longest, &device);
                Ok(Recording::new(&recording.id, epochs_of(stages, &logits)))
            })
            .collect()
    };
    let recordings = with(Subset::ALL)?;
    let all = stages::figures(&recordings);
    stages::write(&report, "", &recordings, &all).map_err(run_failure)?;
    say_stages("all modalities", &all);
    let mut by_subset = Vec::new();
    if !args.no_subsets {
        for kept in Subset::every() {
            let figures = stages::figures(&with(kept)?);
            say_stages(&kept.name(), &figures);
            by_subset.push((kept.name(), figures));
        }
        stages::write_subsets(&report, &by_subset).map_err(run_failure)?;
    }
    let metrics = Metrics { part: &common.part, head: &about, all: &all, by_subset: &by_subset };
    report.metrics(&metrics).map_err(run_failure)?;
    say(format_args!("written {}", report.file("metrics.json").display()));
    Ok(())
}

/// A line of figures.
pub fn say_stages(name: &str, figures: &StageFigures) {
    say(format_args!(
        "{name}: macro-F1 {:.4}, accuracy {:.4}, kappa {:.4}, {} epochs, {} without a stage",
        figures.macro_f1, figures.accuracy, figures.kappa, figures.epochs, figures.unstaged
    ));
}
