//! Where the events of a run go: the sinks, and stdout with `--json`.

use std::sync::Arc;

use super::args::RunArgs;
use super::{Failure, say, show};
use crate::event::Event;
use crate::service::health::Beds;
use crate::sink::{self, Place, Sink, Sinks, WhenFull};
use crate::web::{Room, Web, WebSink};

/// The sink that brings a run to the live page.
pub(super) fn page_sink(room: &Arc<Room>) -> Box<dyn Sink> {
    Box::new(WebSink(room.clone()))
}

/// Every sink that `args` ask for but the live page's.
pub(super) fn sinks(args: &RunArgs, place: &Place<'_>) -> Result<Vec<Box<dyn Sink>>, Failure> {
    let files = match place.resumed {
        Some(windows) => sink::reopen_all(place.out_dir, place.labels, windows),
        None => sink::open_all(place.out_dir, place.labels),
    };
    let mut sinks = files.map_err(Failure::run)?;
    sinks.extend(args.report.sinks(place).map_err(Failure::run)?);
    sinks.extend(args.formats.sinks(place).map_err(Failure::run)?);
    args.publish.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
    sinks.extend(args.publish.sinks(place).map_err(Failure::run)?);
    sinks.extend(args.tui.sinks(place, args.replay.is_some()).map_err(Failure::run)?);
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
    args.report.want_signals()
        || args.publish.want_signals()
        || args.web.web.is_some()
        || args.tui.tui
}

/// Where events go: the sinks, and stdout with `--json`.
pub(super) struct Output {
    pub sinks: Sinks,
    json: bool,
    /// Why stdout took no more; the files are still written then.
    pub shown: Result<(), Failure>,
    /// Sinks that failed, where the user is not told at once.
    kept: Option<Vec<String>>,
}

impl Output {
    /// Starts the thread of `sinks`. One that fails is told on stderr, or kept until the end.
    pub fn start(
        sinks: Vec<Box<dyn Sink>>,
        when_full: WhenFull,
        json: bool,
        keep_failures: bool,
    ) -> Result<Self, Failure> {
        let sinks = Sinks::start(sinks, when_full).map_err(Failure::run)?;
        Ok(Self { sinks, json, shown: Ok(()), kept: keep_failures.then(Vec::new) })
    }

    /// Hands an event to all of them.
    pub fn send(&mut self, event: Event) {
        if self.json && self.shown.is_ok() {
            self.shown = match sink::json_line(&event) {
                Ok(line) => show(&line),
                Err(e) => Err(Failure::run(format!("an event cannot be written as JSON: {e}"))),
            };
        }
        self.sinks.send(event);
        for failure in self.sinks.failures() {
            tell(&mut self.kept, failure);
        }
    }

    /// Waits until everything is written. Returns the failures that were kept, and what became of
    /// stdout.
    pub fn finish(mut self) -> (Vec<String>, Result<(), Failure>) {
        for failure in self.sinks.finish() {
            tell(&mut self.kept, failure);
        }
        (self.kept.unwrap_or_default(), self.shown)
    }
}

fn tell(kept: &mut Option<Vec<String>>, failure: String) {
    match kept {
        Some(kept) => kept.push(failure),
        None => say(&format!("warning: {failure}")),
    }
}
