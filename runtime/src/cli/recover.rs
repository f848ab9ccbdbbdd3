//! `sfm-stream recover DIR`: completes a live session that was cut: its recording is closed, what
//! was not staged yet is staged, the final pass runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::args::{RecoverArgs, RunArgs};
use super::bed;
use super::session_files::{Place, reopen};
use super::setup::{Setup, threads};
use super::witness::SessionWitness;
use super::{Failure, say};
use crate::link::saved;
use crate::service::{Service, ServiceArgs, log, stop as signals};

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
    let place = Place::open(dir).map_err(Failure::input)?;
    let args = place.completed(&given);
    let Place::Cut(saved) = place else {
        return Err(Failure::input(format!(
            "{}: holds no {}; give the folder of a live session",
            dir.display(),
            saved::FILE_NAME
        )));
    };
    let threads = threads(&args)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Failure::run(format!("the worker threads cannot start: {e}")))?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::on_signal(stop.clone()).map_err(Failure::run)?;
    let setup = Setup::open(&args, threads)?;
    let (files, recorded) = reopen(&setup, dir, *saved)?;
    say(&format!(
        "{}: {:.1} s recorded, {} windows staged",
        dir.display(),
        recorded.end_s,
        files.settled.len()
    ));
    let service = Service::start(&ServiceArgs::default()).map_err(Failure::usage)?;
    let watched = service.begin("1", Some(dir));
    let witness = SessionWitness::new(None, watched.health.clone(), None);
    bed::recover(&args, &setup, dir, files, witness, &stop)
}
