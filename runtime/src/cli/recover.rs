//! `sfm-stream recover DIR`: completes a live session that was cut: its recording is closed, what
//! was not staged yet is staged, the final pass runs. Where files are lost or damaged it does what
//! the recording allows, and says what is not known.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::args::{RecoverArgs, RunArgs};
use super::bed;
use super::session_bundle::{is_of, of_session};
use super::session_files::{completed, reopen};
use super::session_place::{lock, start_of};
use super::setup::{Setup, threads};
use super::witness::SessionWitness;
use super::{Failure, say};
use crate::files::FileMode;
use crate::link::saved::SavedSession;
use crate::recorder::{Recorder, recording_in};
use crate::service::{Service, ServiceArgs, log, stop as signals};
use crate::session_folder;

/// Where a `session.json` that cannot be read is kept.
const DAMAGED: &str = "session.damaged.json";

/// Recovers a session.
pub(super) fn run(args: &RecoverArgs) -> Result<(), Failure> {
    let dir = args.dir.as_path();
    args.publish.check().map_err(Failure::usage)?;
    let given = RunArgs {
        bundle: args.bundle.clone(),
        report: args.report.clone(),
        formats: args.formats.clone(),
        publish: args.publish.clone(),
        ..RunArgs::default()
    };
    log::init(None).map_err(Failure::usage)?;
    // What is added belongs to those that the session belongs to.
    let mode = recording_in(dir).and_then(|recording| FileMode::of(&recording));
    mode.unwrap_or(FileMode::PRIVATE).apply();
    let mut saved = session(dir)?;
    let mut args = completed(&given, &saved);
    args.bundle = args.bundle.or_else(|| of_session(&saved, dir));
    let threads = threads(&args)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Failure::run(format!("the worker threads cannot start: {e}")))?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::on_signal(stop.clone()).map_err(Failure::run)?;
    let setup = Arc::new(Setup::open(&args, threads)?);
    let is_other = !saved.bundle_sha256.is_empty() && !is_of(&saved, &setup.bundle);
    let staged_again = is_other.then(|| match given.bundle {
        Some(_) => "--bundle is another bundle than it began with".to_owned(),
        None => "the bundle it began with is gone; this is the built-in one".to_owned(),
    });
    if is_other {
        saved.bundle.clone_from(&args.bundle);
    }
    let lock = lock(dir).map_err(|reason| Failure::run(format!("{}: {reason}", dir.display())))?;
    let busy = || Failure::run(format!("{}: another program is at work on it", dir.display()));
    let files = reopen(&setup, dir, saved, lock.ok_or_else(busy)?, staged_again)?;
    let recorded_s = Recorder::inspect(dir).map_or(0.0, |recorded| recorded.end_s);
    let windows = files.settled.len();
    say(&format!("{}: {recorded_s:.1} s recorded, {windows} windows staged", dir.display()));
    let service = Service::start(&ServiceArgs::default()).map_err(Failure::usage)?;
    let watched = service.begin("1", Some(dir));
    let witness = SessionWitness::new(None, watched.health.clone(), None);
    bed::recover(&args, &setup, dir, files, witness, &stop)
}

/// The session of a folder; where its file is lost or damaged, what the recording tells of it.
fn session(dir: &Path) -> Result<SavedSession, Failure> {
    let path = dir.join(session_folder::SESSION);
    let reason = match SavedSession::read(dir) {
        Ok(saved) if saved.ended => {
            return Err(Failure::input(format!(
                "{}: holds a session that is over; choose another folder",
                dir.display()
            )));
        }
        Ok(saved) => return Ok(saved),
        Err(reason) if recording_in(dir).is_some() => reason,
        Err(_) if path.exists() => {
            return Err(Failure::input(format!("{}: holds no recording", dir.display())));
        }
        Err(_) => {
            return Err(Failure::input(format!(
                "{}: holds no {}; give the folder of a live session",
                dir.display(),
                session_folder::SESSION
            )));
        }
    };
    let recorded = Recorder::inspect(dir).map_err(Failure::input)?;
    let start = start_of(&recorded)?;
    say(&format!(
        "warning: {reason}; age, sex and arguments of the session are not known: no hazards, channels by the built-in rules, the bundle of --bundle or the built-in one"
    ));
    if path.exists() {
        let kept = std::fs::rename(&path, dir.join(DAMAGED));
        kept.map_err(|e| Failure::run(format!("{}: cannot be moved ({e})", path.display())))?;
    }
    Ok(SavedSession::salvaged(start.to_string(), &recorded.signals))
}
