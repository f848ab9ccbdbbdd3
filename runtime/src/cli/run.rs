//! A run: of a file, or of a live session. Starts what both need: worker threads and the watch for
//! signals.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::args::RunArgs;
use super::setup::threads;
use super::{Failure, live, out_folder, replay, session_id};

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    out_folder::protect(args);
    let args = args.with_config().map_err(Failure::usage)?;
    out_folder::protect(&args);
    args.tui.check(args.json, args.links.beds).map_err(Failure::usage)?;
    args.publish.check().map_err(Failure::usage)?;
    session_id::check(&args).map_err(Failure::usage)?;
    let threads = threads(&args)?;
    let stop = Arc::new(AtomicBool::new(false));
    match (&args.replay, args.links.is_live()) {
        (Some(_), true) => Err(Failure::usage(
            "--replay and links to sensors exclude each other; give one of them",
        )),
        (Some(file), false) => {
            with_workers(threads, &stop, || replay::run(&args, file, threads, &stop))
        }
        (None, true) => live::run(&args, threads, &stop),
        (None, false) => Err(Failure::usage(
            "no recording given; use --replay FILE, or --serial, --udp, --tcp or --lsl for sensors (sfm-stream --help shows all)",
        )),
    }
}

/// Calls `run` with that many worker threads; the first SIGINT or SIGTERM sets `stop`.
pub(super) fn with_workers(
    threads: usize,
    stop: &Arc<AtomicBool>,
    run: impl FnOnce() -> Result<(), Failure> + Send,
) -> Result<(), Failure> {
    let workers = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Failure::run(format!("the worker threads cannot start: {e}")))?;
    crate::service::stop::on_signal(stop.clone()).map_err(Failure::run)?;
    workers.install(run)
}
