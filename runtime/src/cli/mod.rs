//! The command line of `sfm-stream`: arguments, the commands, what the terminal shows. Every
//! refusal is one line on stderr and an exit code: 2 wrong usage or configuration, 3 input
//! unreadable, 4 bundle refused, 5 the run failed.

pub mod args;
mod bundle;
mod inspect;
pub mod progress;
mod replay;
pub mod summary;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Args, Command};
use crate::montage::ChannelRules;

/// Why a command ends early.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Wrong usage or configuration.
    fn usage(message: impl std::fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// The input cannot be read or used.
    fn input(message: impl std::fmt::Display) -> Self {
        Self { code: 3, message: message.to_string() }
    }

    /// The bundle is refused.
    fn bundle(message: impl std::fmt::Display) -> Self {
        Self { code: 4, message: message.to_string() }
    }

    /// The run failed.
    fn run(message: impl std::fmt::Display) -> Self {
        Self { code: 5, message: message.to_string() }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        Some(Command::Inspect { file, channels }) => inspect::run(file, channels),
        Some(Command::Bundle { action }) => bundle::run(action),
        None => replay::run(&args.run),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            eprintln!("sfm-stream: {}", message.split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::from(code)
        }
    }
}

/// The channel rules that the arguments ask for.
fn channel_rules(channels: &args::ChannelArgs) -> Result<ChannelRules, Failure> {
    let rules = match (&channels.channel_groups, &channels.channel_rules) {
        (Some(json), _) => ChannelRules::read_channel_groups(json),
        (None, Some(toml)) => ChannelRules::read_toml(toml),
        (None, None) => ChannelRules::built_in(),
    };
    rules.and_then(|rules| rules.with_map(&channels.map)).map_err(Failure::usage)
}
