//! The command line of `sfm-train`: one file a command, each with its arguments and `run`. A failure
//! is an exit code and one line for the user.

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod evaluate;
mod finetune;
mod import;
mod preprocess;

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
    /// Measure a head on a part of a split.
    Evaluate(evaluate::EvaluateArgs),
    /// Train a head on stored embeddings.
    Finetune(finetune::FinetuneArgs),
    /// Make a bundle of published PyTorch checkpoints.
    Import(import::ImportArgs),
    /// Make a store of preprocessed signals of EDF recordings.
    Preprocess(preprocess::PreprocessArgs),
}

/// Parses the process's arguments, runs the command, reports a failure.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Evaluate(args) => evaluate::run(args),
        Command::Finetune(args) => finetune::run(args),
        Command::Import(args) => import::run(args),
        Command::Preprocess(args) => preprocess::run(args),
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
