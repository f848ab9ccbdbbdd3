//! Where the events of a run go: the sinks, and stdout with `--json`.

use std::path::PathBuf;

use super::args::{Passes, RunArgs, Speed};
use super::setup::Setup;
use super::{Failure, say, show};
use crate::event::Event;
use crate::night::Sex;
use crate::sink::report::About;
use crate::sink::{self, Place, Sink, Sinks};

/// Every sink that `args` ask for.
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
    sinks.extend(args.formats.sinks(place).map_err(Failure::run)?);
    sinks.extend(args.publish.sinks(place).map_err(Failure::run)?);
    Ok(sinks)
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
        if self.json && event.is_kept() && self.shown.is_ok() {
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
