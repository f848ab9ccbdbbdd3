//! `sfm-stream deliver DIR`: what a server did not get during a run, it gets now.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Failure, say};
use crate::publish::PublishArgs;
use crate::service::{log, stop as signals};

/// Delivers what waits in `dir`, until nothing does or the user ends it.
pub(super) fn run(dir: &Path, publish: &PublishArgs) -> Result<(), Failure> {
    publish.check().map_err(Failure::usage)?;
    if publish.mqtt.is_none() && publish.nats.is_none() {
        return Err(Failure::usage("no server given; use --mqtt URL or --nats URL".to_owned()));
    }
    if !dir.is_dir() {
        let dir = dir.display();
        return Err(Failure::input(format!("{dir}: is no folder; give that of a run")));
    }
    log::init(None).map_err(Failure::usage)?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::on_signal(stop.clone()).map_err(Failure::run)?;
    publish.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
    let delivered = publish.deliver(dir, &stop).map_err(Failure::run)?;
    say(&format!("{}: {delivered} messages delivered", dir.display()));
    Ok(())
}
