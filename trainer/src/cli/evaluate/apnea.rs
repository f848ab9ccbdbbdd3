//! `evaluate apnea`: presence and severity.

use std::path::PathBuf;

use burn::backend::Flex;
use clap::Args;
use serde::Serialize;

use super::{Common, failure, fits, read_people, run_failure, tell};
use crate::cli::{Failure, say};
use crate::evaluate::apnea;
use crate::finetune::apnea::{Breathers, Scores, whole};
use crate::finetune::head::{HeadAbout, read_apnea};
use crate::finetune::nights::{Nights, Tokens};
use crate::finetune::stretch::Subset;
use crate::run::BEST;

/// Arguments of `evaluate apnea`.
#[derive(Args)]
pub struct ApneaArgs {
    #[command(flatten)]
    common: Common,
    /// The AHI of each recording.
    #[arg(long, value_name = "CSV")]
    demographics: PathBuf,
}

/// Measures an apnea head.
pub fn run(args: &ApneaArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Metrics<'a> {
        part: &'a str,
        head: &'a HeadAbout,
        #[serde(flatten)]
        figures: &'a apnea::ApneaFigures,
    }
    let common = &args.common;
    let device = Default::default();
    let people = read_people(&args.demographics)?;
    let paths = common.recordings(Some(&people))?;
    let (about, head) =
        read_apnea::<Flex>(&common.run()?.join(BEST), &device).map_err(run_failure)?;
    let tokens = Tokens::Recorded(about.config.max_seq_length);
    let nights = Nights::read(common.embeddings()?, &paths, tokens).map_err(failure)?;
    fits(&about, &nights)?;
    let cohort = Breathers::find(nights, &people).map_err(failure)?;
    tell(&cohort.nights);
    let scores = (0..cohort.ahi.len())
        .map(|night| {
            whole(&head, &cohort.nights, night, Subset::ALL, &device).map(|a| Scores::of(&a))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(failure)?;
    let figures = apnea::figures(&scores, &cohort.ahi);
    let report = common.report()?;
    let ids: Vec<&str> = cohort.nights.recordings().iter().map(|r| r.id.as_str()).collect();
    apnea::write(&report, &ids, &scores, &cohort.ahi, &figures).map_err(run_failure)?;
    for f in &figures.presence {
        say(format_args!(
            "AHI >= {}: AUROC {}, accuracy {:.3}, F1 {:.3}, {} of {}",
            f.ahi,
            f.auroc.map_or("-".to_owned(), |auroc| format!("{auroc:.3}")),
            f.accuracy,
            f.f1,
            f.positive,
            figures.recordings
        ));
    }
    say(format_args!(
        "severity: accuracy {:.3}, kappa {:.3}, macro-F1 {:.3}",
        figures.severity_accuracy, figures.severity_kappa, figures.severity_macro_f1
    ));
    let metrics = Metrics { part: &common.part, head: &about, figures: &figures };
    report.metrics(&metrics).map_err(run_failure)?;
    say(format_args!("written {}", report.file("metrics.json").display()));
    Ok(())
}
