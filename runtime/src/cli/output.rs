//! Where the events of a run go: the sinks, and stdout with `--json`.

use std::path::PathBuf;
use std::sync::Arc;

use super::args::{Passes, RunArgs, Speed};
use super::setup::Setup;
use super::{Failure, say, show};
use crate::event::Event;
use crate::health::Beds;
use crate::night::Sex;
use crate::service::console::{self, Weight};
use crate::session_folder::SessionFolder;
use crate::sink::report::About;
use crate::sink::{self, Opened, Place, Sink, SinkError, Sinks, WhenFull};
use crate::text::json_text;
use crate::web::{Room, Web, WebSink};

/// The sink that brings a run to the live page.
pub(super) fn page_sink(room: &Arc<Room>) -> Box<dyn Sink> {
    Box::new(WebSink(room.clone()))
}

/// The sinks of a run.
///
/// # Errors
/// One of them cannot be opened.
pub(super) fn sinks(
    args: &RunArgs,
    setup: &Setup,
    place: &Place<'_>,
) -> Result<Vec<Box<dyn Sink>>, Failure> {
    if let Err(e) = std::fs::create_dir_all(place.out_dir) {
        let out = place.out_dir.display();
        let reason = format!("{out}: cannot be made a folder ({e}); choose another with --out");
        return Err(Failure::run(reason));
    }
    each(args, setup, place).into_iter().collect::<Result<_, _>>().map_err(Failure::run)
}

/// The sinks that can be opened, and why the others cannot.
pub(super) struct OpenSinks {
    pub sinks: Vec<Box<dyn Sink>>,
    pub refused: Vec<String>,
}

/// The sinks of a live session. No file beside a recording is worth the recording.
pub(super) fn sinks_that_open(args: &RunArgs, setup: &Setup, place: &Place<'_>) -> OpenSinks {
    let mut open = OpenSinks { sinks: Vec::new(), refused: Vec::new() };
    for opened in each(args, setup, place) {
        match opened {
            Ok(sink) => open.sinks.push(sink),
            Err(reason) => open.refused.push(reason.to_string()),
        }
    }
    open
}

fn each(args: &RunArgs, setup: &Setup, place: &Place<'_>) -> Vec<Opened> {
    let mut sinks = match place.resumed {
        Some(windows) => sink::reopen_each(place.out_dir, place.labels, windows),
        None => sink::open_each(place.out_dir, place.labels),
    };
    sinks.extend(parted(args.report.sinks(place, about(args, setup))));
    let left_over = args.formats.left_over(place).filter(|_| place.resumed.is_none());
    left_over.iter().for_each(|warning| say(&format!("warning: {warning}")));
    sinks.extend(args.formats.each(place));
    args.publish.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
    sinks.extend(parted(args.publish.sinks(place)));
    sinks.extend(parted(args.tui.sinks(place, args.replay.is_some())));
    sinks
}

fn parted(sinks: Result<Vec<Box<dyn Sink>>, SinkError>) -> Vec<Opened> {
    match sinks {
        Ok(sinks) => sinks.into_iter().map(Ok).collect(),
        Err(reason) => vec![Err(reason)],
    }
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
        ("keep-bad", args.keep_bad.then(|| "true".to_owned())),
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

/// How events go to stdout.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Json {
    /// Not at all.
    No,
    /// A file that is replayed waits for who reads it.
    Waits,
    /// Sensors do not wait.
    Queued,
    /// What follows comes from a file again: it waits, but not for who does not read.
    Patient,
}

/// Where events go: the sinks, and stdout with `--json`.
pub(super) struct Output {
    pub sinks: Sinks,
    json: Json,
    /// Why stdout took no more; the files are still written then.
    shown: Result<(), Failure>,
    /// Sinks that failed, where the user is not told at once.
    kept: Option<Vec<String>>,
    /// Moves of the session's folder that the sinks follow.
    moves: u64,
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
        let json = match when_full {
            _ if !json => Json::No,
            WhenFull::Wait => Json::Waits,
            WhenFull::Drop => Json::Queued,
        };
        let kept = keep_failures.then(Vec::new);
        Ok(Self { sinks, json, shown: Ok(()), kept, moves: 0 })
    }

    /// Goes on where the session does.
    pub fn follow(&mut self, folder: &SessionFolder) {
        if let Some(out_dir) = folder.moved(&mut self.moves) {
            self.sinks.move_to(out_dir);
        }
    }

    /// Hands an event to all of them.
    pub fn send(&mut self, event: Event) {
        if self.json != Json::No && event.is_kept() && self.shown.is_ok() {
            self.shown = match json_text(&event) {
                Ok(line) => self.print(line),
                Err(e) => Err(Failure::run(format!("an event cannot be written as JSON: {e}"))),
            };
        }
        self.sinks.send(event);
        for failure in self.sinks.failures() {
            tell(&mut self.kept, failure);
        }
    }

    fn print(&mut self, line: String) -> Result<(), Failure> {
        if matches!(self.json, Json::No | Json::Waits) {
            return show(&line);
        }
        let Some(stdout) = console::stdout() else { return show(&line) };
        // What finds no room is counted there.
        match self.json {
            Json::Patient => stdout.push_patiently(line),
            _ => stdout.push(line, Weight::Ordinary),
        };
        Ok(())
    }

    /// From now on no event is dropped: what follows comes from a file, which can wait.
    pub fn wait_when_full(&mut self) {
        self.sinks.wait_when_full();
        if self.json == Json::Queued {
            self.json = Json::Patient;
        }
    }

    /// Waits until stdout has everything, as long as it is read, and returns whether it has.
    pub fn shown(&mut self) -> Result<(), Failure> {
        std::mem::replace(&mut self.shown, Ok(()))?;
        if !matches!(self.json, Json::Queued | Json::Patient) {
            return Ok(());
        }
        let Some(stdout) = console::stdout() else { return Ok(()) };
        let is_whole = stdout.flush() && stdout.dropped() == 0;
        if let Some(reason) = stdout.failure() {
            return Err(Failure::run(format!("stdout cannot be written: {reason}")));
        }
        let lost = "standard output was not read and lacks events; events.jsonl has them";
        if is_whole { Ok(()) } else { Err(Failure::run(lost)) }
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
