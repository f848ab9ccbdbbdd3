//! Where the events of a run go: the sinks, and stdout with `--json`.

use std::sync::Arc;

use super::args::RunArgs;
use super::{Failure, say, show};
use crate::event::Event;
use crate::service::health::Beds;
use crate::sink::{self, Place, Sink, Sinks};
use crate::web::{Room, Web, WebSink};

/// Every sink that `args` ask for; `room` is where the live page shows the run.
pub(super) fn sinks(
    args: &RunArgs,
    place: &Place<'_>,
    room: Option<Arc<Room>>,
) -> Result<Vec<Box<dyn Sink>>, Failure> {
    let files = match place.resumed {
        Some(windows) => sink::reopen_all(place.out_dir, place.labels, windows),
        None => sink::open_all(place.out_dir, place.labels),
    };
    let mut sinks = files.map_err(Failure::run)?;
    sinks.extend(args.report.sinks(place).map_err(Failure::run)?);
    sinks.extend(args.formats.sinks(place).map_err(Failure::run)?);
    sinks.extend(args.publish.sinks(place).map_err(Failure::run)?);
    sinks.extend(room.map(|room| Box::new(WebSink(room)) as Box<dyn Sink>));
    Ok(sinks)
}

/// The live page, if one is wanted; says where it is. `beds` knows how live sessions are.
pub(super) fn live_page(args: &RunArgs, beds: Option<Arc<Beds>>) -> Result<Option<Web>, Failure> {
    let web = Web::start(&args.web, || args.service.remote_access(), beds);
    let web = web.map_err(Failure::usage)?;
    web.iter().flat_map(Web::lines).for_each(|line| say(&line));
    Ok(web)
}

/// Whether somebody looks at the signals themselves.
pub(super) fn want_signals(args: &RunArgs) -> bool {
    args.report.want_signals() || args.publish.want_signals() || args.web.web.is_some()
}

/// Where events go: the sinks, and stdout with `--json`.
pub(super) struct Output {
    pub sinks: Sinks,
    pub json: bool,
    /// Why stdout took no more; the files are still written then.
    pub shown: Result<(), Failure>,
}

impl Output {
    /// Hands an event to all of them, and tells the user of a sink that failed.
    pub fn send(&mut self, event: Event) {
        if self.json && self.shown.is_ok() {
            self.shown = match sink::json_line(&event) {
                Ok(line) => show(&line),
                Err(e) => Err(Failure::run(format!("an event cannot be written as JSON: {e}"))),
            };
        }
        self.sinks.send(event);
        for failure in self.sinks.failures() {
            say(&format!("warning: {failure}"));
        }
    }
}
