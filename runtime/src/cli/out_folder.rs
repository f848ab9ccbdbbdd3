//! Checks of the output folder before a run writes to it: no other run uses it, no input of this run
//! would be replaced, and files can be created in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::Failure;
use super::args::RunArgs;
use crate::batch::marker;
use crate::files;
use crate::session_folder;
use crate::sink;

/// A run's claim to its folder: holds the session's lock, where there is one, until it is dropped.
pub(super) struct Claim {
    _session: Option<File>,
}

/// Protects the files that the arguments name from being replaced by this run.
pub(super) fn protect(args: &RunArgs) {
    let (channels, service, publish) = (&args.channels, &args.service, &args.publish);
    let named = [
        &args.replay,
        &args.bundle,
        &args.config,
        &channels.channel_groups,
        &channels.channel_rules,
        &service.token_file,
        &publish.mqtt_login,
        &publish.nats_login,
        &publish.ca_file,
    ];
    named.into_iter().flatten().for_each(|path| files::protect(path));
}

/// Claims `out` for a replay.
///
/// # Errors
/// Wrong usage: a session or a batch is at work in it, or an input has the name of an output.
pub(super) fn claim(out: &Path) -> Result<Claim, Failure> {
    if held(&out.join(marker::LOCK)).is_err() {
        return Err(refuse(out, "a batch is at work in it"));
    }
    if let Some(input) = input_in_the_way(out) {
        let reason = format!("{} is an input of this run and would be replaced", input.display());
        return Err(refuse(out, &reason));
    }
    unless_session(out)
}

/// Claims `out` unless a live session is at work in it; one that is over or was cut is no obstacle.
///
/// # Errors
/// Wrong usage.
pub(super) fn unless_session(out: &Path) -> Result<Claim, Failure> {
    match held(&out.join(session_folder::LOCK)) {
        Ok(lock) => Ok(Claim { _session: lock }),
        Err(()) => Err(refuse(out, "a live session is at work in it")),
    }
}

/// Refuses a folder in which no files can be created, before sensors are waited for.
///
/// # Errors
/// The run fails.
pub(super) fn writable(out: &Path) -> Result<(), Failure> {
    files::probe(out).map_err(|e| {
        let out = out.display();
        Failure::run(format!("{out}: cannot be written ({e}); choose another folder with --out"))
    })
}

/// Takes the lock if the file exists; `Err` if another process holds it.
fn held(lock: &Path) -> Result<Option<File>, ()> {
    if !lock.exists() {
        return Ok(None);
    }
    // A lock that cannot be opened, or a file system without locks, is no reason to refuse.
    let Ok(file) = files::open(OpenOptions::new().write(true), lock) else { return Ok(None) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(()),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// An input under a name that every run writes or removes.
fn input_in_the_way(out: &Path) -> Option<PathBuf> {
    let mut names = sink::OUTPUT.iter().map(|name| out.join(name));
    names.find(|path| files::is_input(path))
}

fn refuse(out: &Path, reason: &str) -> Failure {
    Failure::usage(format!("{}: {reason}; choose another folder with --out", out.display()))
}
