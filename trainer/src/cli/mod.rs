//! The command line of `sfm-train`: one file a command, each with its arguments and `run`. A failure
//! is an exit code and one line for the user.

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sfm_models::{BundleError, Manifest};

mod embed;
mod evaluate;
mod export;
mod finetune;
mod import;
mod preprocess;
mod pretrain;
mod split;
mod stages;
mod synth;
mod verify;

/// Wrong usage or configuration.
pub const USAGE: u8 = 2;
/// An input cannot be read.
pub const UNREADABLE: u8 = 3;
/// A checkpoint or bundle was refused.
pub const REFUSED: u8 = 4;
/// The run failed.
pub const FAILED: u8 = 5;

/// Exit code and the line that says what, where and what to do.
pub type Failure = (u8, String);

/// Trains SleepFM networks and makes model bundles for sfm-stream.
#[derive(Parser)]
#[command(name = "sfm-train", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare a bundle's graphs on every engine with burn.
    Verify(verify::VerifyArgs),
    /// Make embeddings of a store's recordings.
    Embed(embed::EmbedArgs),
    /// Make a bundle of training runs.
    Export(export::ExportArgs),
    /// Measure a head on a part of a split.
    Evaluate(evaluate::EvaluateArgs),
    /// Train a head on stored embeddings.
    Finetune(finetune::FinetuneArgs),
    /// Make a bundle of published PyTorch checkpoints.
    Import(import::ImportArgs),
    /// Make a simulated cohort: recordings, hypnograms, outcomes.
    Synth(synth::SynthArgs),
    /// Make a store of preprocessed signals of EDF recordings.
    Preprocess(preprocess::PreprocessArgs),
    /// Deal recordings into parts by subject.
    Split(split::SplitArgs),
    /// Pretrain the base network on a store, without labels.
    Pretrain(pretrain::PretrainArgs),
}

/// Parses the process's arguments, runs the command, reports a failure.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Embed(args) => embed::run(args),
        Command::Export(args) => export::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Finetune(args) => finetune::run(args),
        Command::Import(args) => import::run(args),
        Command::Synth(args) => synth::run(args),
        Command::Preprocess(args) => preprocess::run(args),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Split(args) => split::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("sfm-train: {message}");
            ExitCode::from(code)
        }
    }
}

/// One line on stdout; a reader that has seen enough closes the pipe, which is no failure.
pub fn say(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The message with the file in front.
pub fn named(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// What a bundle that was just written holds.
pub fn bundle_summary(path: &Path, manifest: &Manifest, sha256: &str) {
    let base = &manifest.base;
    say(format_args!(
        "sizes    embedding {}, {} heads, {} layers, feed-forward {}, window {} x {} samples at {} Hz",
        base.embed_dim,
        base.heads,
        base.layers,
        base.feed_forward,
        base.window_patches,
        manifest.preprocessing.patch_samples,
        manifest.preprocessing.rate_hz,
    ));
    match &manifest.staging {
        Some(head) => say(format_args!("stages   up to {} tokens at once", head.max_seq_length)),
        None => say(format_args!("stages   none: the bundle has no staging head")),
    }
    match &manifest.risk {
        Some(head) => say(format_args!(
            "hazards  {}, from the first {} tokens, {}",
            head.classes,
            head.max_seq_length,
            if head.has_labels { "with names" } else { "without names" },
        )),
        None => say(format_args!("hazards  none: the bundle has no risk head")),
    }
    if manifest.apnea.is_some() {
        say(format_args!("apnea    presence and severity"));
    }
    if let Some(caution) = manifest.training.caution() {
        say(format_args!("caution  {caution}"));
    }
    say(format_args!("graphs   {}", manifest.graphs().len()));
    say(format_args!("sha256   {sha256}"));
    say(format_args!("written  {}", path.display()));
}

/// A bundle could not be written.
pub fn bundle_failure(path: &Path, error: &BundleError) -> Failure {
    let code = match error {
        BundleError::Write(_) => FAILED,
        BundleError::Read(_) => UNREADABLE,
        _ => REFUSED,
    };
    (code, named(path, error))
}
