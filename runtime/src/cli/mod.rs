//! The command line of `sfm-stream`: arguments, the commands, what the terminal shows. Every
//! refusal is one line on stderr and an exit code: 2 wrong usage or configuration, 3 input
//! unreadable, 4 bundle refused, 5 the run failed.

pub mod args;
mod batch;
mod bed;
mod beds;
mod bundle;
mod deliver;
pub mod endpoints;
mod first_minutes;
mod inspect;
mod live;
mod moved;
mod out_folder;
mod output;
pub mod progress;
mod recover;
mod replay;
mod run;
mod score;
mod session_bundle;
mod session_files;
pub mod session_id;
mod session_place;
mod setup;
pub mod summary;
pub mod tui;
mod witness;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use sfm_models::manifest::ChannelPolicy;

use self::args::{Args, Command};
use crate::montage::ChannelRules;
use crate::service::console::{self, Weight};
use crate::service::log;
use crate::text::escaped;

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
    console::catch_panics();
    let _said = Said;
    run_command()
}

/// What was said is waited for when this is dropped, also by a panic.
struct Said;

impl Drop for Said {
    fn drop(&mut self) {
        log::finish();
    }
}

fn run_command() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return not_parsed(&error),
    };
    let result = match &args.command {
        Some(Command::Inspect { file, channels, bundle, json }) => {
            inspect::run(file, channels, bundle.as_deref(), *json)
        }
        Some(Command::Bundle { action }) => bundle::run(action),
        Some(Command::Score(args)) => score::run(args),
        Some(Command::Recover(args)) => recover::run(args),
        Some(Command::Batch(batch)) => batch::run(batch),
        Some(Command::Deliver { dir, publish }) => deliver::run(dir, publish),
        None => run::run(&args.run),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => refuse(&failure),
    }
}

fn refuse(failure: &Failure) -> ExitCode {
    say(&format!("sfm-stream: {}", one_line(&failure.message)));
    ExitCode::from(failure.code)
}

/// Help and version go to stdout; what is wrong with the arguments is a refusal like any other.
fn not_parsed(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !error.use_stderr() || error.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
        // A closed pipe took the help away: nothing to tell anyone.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    let text = error.to_string();
    let reason = text.split("\n\nUsage:").next().unwrap_or_default();
    let reason = reason.split("\n\nFor more information").next().unwrap_or_default();
    let reason = one_line(reason.trim_start_matches("error:"));
    refuse(&Failure::usage(format!("{reason}; sfm-stream --help shows all arguments")))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One line on stderr. What a file or a path brought in cannot reach the terminal as control
/// characters; a stderr that is closed or not read stops nothing.
fn say(line: &str) {
    console::say(escaped(line) + "\n", Weight::Essential);
}

/// Text on stdout, behind what was said before it; waits for its reader. One that has seen enough
/// closes the pipe, which is no failure.
fn show(text: &str) -> Result<(), Failure> {
    console::flush();
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::run(format!("stdout cannot be written: {e}")))
        }
        _ => Ok(()),
    }
}

/// The same at the end of a live session, which does not wait for who does not read.
fn show_unless_stalled(text: String) {
    console::flush();
    let Some(stdout) = console::stdout() else { return };
    if !stdout.push(text, Weight::Essential) || !stdout.flush() {
        say("warning: standard output is not read; the summary is in night.json");
    }
}

/// The channel rules that the arguments ask for, for a bundle with this policy.
fn channel_rules(
    channels: &args::ChannelArgs,
    of_bundle: ChannelPolicy,
) -> Result<ChannelRules, Failure> {
    let rules = match (&channels.channel_groups, &channels.channel_rules) {
        (Some(json), _) => ChannelRules::read_channel_groups(json),
        (None, Some(toml)) => ChannelRules::read_toml(toml),
        (None, None) => ChannelRules::built_in(),
    };
    let rules = rules
        .and_then(|rules| rules.with_map(&channels.map))
        .and_then(|rules| rules.with_derivations(&channels.derive))
        .map_err(Failure::usage)?
        .with_policy(channels.policy.unwrap_or(of_bundle));
    Ok(if channels.no_derive { rules.without_derivations() } else { rules })
}
