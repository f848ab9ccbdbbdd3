//! `sfm-train synth`: a simulated cohort.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{FAILED, Failure, USAGE, say};
use crate::synth::cohort::Shares;
use crate::synth::montage::Laboratory;
use crate::synth::outcome::OUTCOMES;
use crate::synth::{SynthError, SynthSpec, generate};

/// Simulates nights of sleep, their hypnograms and what becomes of the sleepers.
#[derive(Args)]
pub struct SynthArgs {
    /// Number of nights.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    nights: u64,
    /// Seed: the same one gives the same bytes.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Folder of the cohort; nights of the same seed that are in it stay.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Length of each night.
    #[arg(long, value_name = "H", default_value_t = 8.0, value_parser = hours)]
    hours: f64,
    /// Nights made at the same time; all cores if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Number of the first night: chunks of one cohort have different ones.
    #[arg(long, value_name = "I", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    start_index: u64,
    /// Channels of the recordings.
    #[arg(long, value_enum, default_value_t = Montage::Both)]
    montage: Montage,
    /// Shares of subjects for pretraining, training, validation and test.
    #[arg(long, value_name = "P,T,V,T", default_value = "0.4,0.3,0.1,0.2", value_parser = shares)]
    split: Shares,
}

#[derive(Clone, Copy, ValueEnum)]
enum Montage {
    /// Labels and rates as in MESA.
    Mesa,
    /// Labels and rates as at Stanford, channels missing at random.
    Stanford,
    /// By turns.
    Both,
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(hours) if (0.1..=24.0).contains(&hours) => Ok(hours),
        _ => Err("give 0.1 to 24 hours".into()),
    }
}

fn shares(text: &str) -> Result<Shares, String> {
    let parts: Vec<f64> = text.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    match Shares::try_from(parts) {
        Ok(shares)
            if shares.iter().all(|s| (0.0..=1e6).contains(s))
                && shares.iter().sum::<f64>() > 0.0 =>
        {
            Ok(shares)
        }
        _ => Err("give four shares, as 0.4,0.3,0.1,0.2".into()),
    }
}

/// Makes the cohort.
pub fn run(args: SynthArgs) -> Result<(), Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let spec = SynthSpec {
        seed: args.seed,
        first: args.start_index,
        nights: args.nights,
        hours: args.hours,
        laboratory: match args.montage {
            Montage::Mesa => Some(Laboratory::Mesa),
            Montage::Stanford => Some(Laboratory::Stanford),
            Montage::Both => None,
        },
        split: args.split,
        workers: args.workers.map_or(cores, usize::from),
    };
    let bar = progress(spec.nights);
    let done = |id: &str| match &bar {
        Some(bar) => bar.inc(1),
        None => say(format_args!("night    {id}")),
    };
    let cohort = generate(&spec, &args.out, done).map_err(failure)?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    say(format_args!("nights   {} in {}", cohort.nights.len(), args.out.display()));
    for (k, outcome) in OUTCOMES.iter().enumerate() {
        let events = cohort.nights.values().filter(|t| t.events.get(k) == Some(&true)).count();
        let ceiling = cohort.ceiling_c_index.get(outcome.phecode).copied().flatten();
        let ceiling = ceiling.map_or("unknown".to_owned(), |c| format!("{c:.3}"));
        say(format_args!(
            "label    {:<7} {:<24} {events} nights with event, C-index of the truth {ceiling}",
            outcome.phecode, outcome.phenotype
        ));
    }
    Ok(())
}

fn progress(nights: u64) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} nights, {eta} left");
        let bar = ProgressBar::new(nights);
        if let Ok(style) = style { bar.with_style(style) } else { bar }
    })
}

fn failure(error: SynthError) -> Failure {
    let code = match error {
        SynthError::Folder { .. } | SynthError::Register { .. } => USAGE,
        SynthError::Write { .. } | SynthError::Threads(_) => FAILED,
    };
    (code, error.to_string())
}
