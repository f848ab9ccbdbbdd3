//! Where the events of a run go: the sinks, and stdout with `--json`.

use std::path::PathBuf;
use std::sync::Arc;

use super::args::{Passes, RunArgs, Speed};
use super::setup::Setup;
use super::{Failure, say, show};
use crate::event::Event;
use crate::night::Sex;
use crate::service::health::Beds;
use crate::sink::report::About;
use crate::sink::{self, Place, Sink, Sinks, WhenFull};
use crate::web::{Room, Web, WebSink};

/// The sink that brings a run to the live page.
pub(super) fn page_sink(room: &Arc<Room>) -> Box<dyn Sink> {
    Box::new(WebSink(room.clone()))
}

/// Every sink that `args` ask for but the live page's.
pub(super) fn sinks(
    args: &RunArgs,
    setup: &Setup,
    place: &Place<'_>,
) -> Result<Vec<Box<dyn Sink>>, Failure> {
    let files = match place.resumed {
        Some(windows) => sink::reopen_all(place.out_dir, place.labels, windows),
        None => sink::open_all(place.out_dir, place.labels),
    };
    let mut sinks = files.map_err(Failure::run)?;
    sinks.extend(args.report.sinks(place, about(args, setup)).map_err(Failure::run)?);
    let left_over = args.formats.left_over(place).filter(|_| place.resumed.is_none());
    left_over.iter().for_each(|warning| say(&format!("warning: {warning}")));
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

/// What the report tells besides events.
fn about(args: &RunArgs, setup: &Setup) -> About {
    let quantiles = setup.bundle.quantiles().ok().flatten();
    About {
        cohort: quantiles.map(|quantiles| (quantiles.cohort, quantiles.recordings)),
        labels: setup.labels.clone(),
        settings: settings(args),
    }
}

/// The arguments that change results, as they were given.
fn settings(args: &RunArgs) -> Vec<(&'static str, String)> {
    let pass = args.pass.map(|pass| match pass {
        Passes::Both => "both".to_owned(),
        Passes::Live => "live".to_owned(),
        Passes::Final => "final".to_owned(),
    });
    let speed = args.speed.map(|speed| match speed {
        Speed::Max => "max".to_owned(),
        Speed::Times(times) => times.to_string(),
    });
    let sex = args.sex.map(|sex| if sex == Sex::F { "f" } else { "m" }.to_owned());
    let channels = &args.channels;
    let file = |path: &PathBuf| path.display().to_string();
    let single = [
        ("pass", pass),
        ("speed", speed),
        ("backend", args.backend.map(|backend| format!("{backend:?}").to_lowercase())),
        ("age", args.age.map(|age| age.to_string())),
        ("sex", sex),
        ("channel-groups", channels.channel_groups.as_ref().map(file)),
        ("channel-rules", channels.channel_rules.as_ref().map(file)),
        ("threads", args.threads.map(|threads| threads.to_string())),
    ];
    let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
    single.chain(channels.map.iter().map(|map| ("map", map.clone()))).collect()
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
        if self.json && event.is_kept() && self.shown.is_ok() {
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

    /// Waits until everything is written. Returns the failures that were kept, and whether stdout and
    /// the files got all there is.
    pub fn finish(mut self) -> (Vec<String>, Result<(), Failure>) {
        for failure in self.sinks.finish() {
            tell(&mut self.kept, failure);
        }
        let written = self.shown.and_then(|()| whole(&self.sinks));
        (self.kept.unwrap_or_default(), written)
    }
}

/// Whether the files got all there is.
pub(super) fn whole(sinks: &Sinks) -> Result<(), Failure> {
    let what = "files of the output are missing or not whole, as the warnings say";
    if sinks.is_whole() { Ok(()) } else { Err(Failure::run(what.to_owned())) }
}

fn tell(kept: &mut Option<Vec<String>>, failure: String) {
    match kept {
        Some(kept) => kept.push(failure),
        None => say(&format!("warning: {failure}")),
    }
}
