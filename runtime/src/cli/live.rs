//! `sfm-stream --serial|--udp|--tcp|--lsl`: a live session, or one for each device (`--beds`).
//! Waits for the sensors, records and stages them until they or the user end it, then runs the
//! final pass over the recording. A folder whose session was cut is gone on with.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::args::{Passes, RunArgs, Speed};
use super::output::Output;
use super::setup::{Setup, Study, failed, stage_changes};
use super::summary::{self, StageChanges};
use super::{Failure, say, show};
use crate::edf::DateTime;
use crate::event::{Event, Pass};
use crate::journal::{Journal, JournalNetwork, JournalWindow};
use crate::link::clock::HostClock;
use crate::link::hub::{self, Beds, FromLinks, Hub, Started, Totals};
use crate::link::live::{LiveSource, Witness};
use crate::link::log::{LogLine, SessionLog};
use crate::link::saved::{self, SavedSession};
use crate::link::session::{Resumed, Session, SessionChannel, Settings};
use crate::link::transport::Endpoint;
use crate::pipeline::{
    LiveSession, Load, Options, PassOutcome, Surroundings, final_pass, live_session,
};
use crate::recorder::{self, AnnotationLog, Recorder, RecorderThread};
use crate::signal::{SignalInfo, StreamInfo};
use crate::sink::{self, Sinks, WhenFull};
use crate::source::{self, Recording, Source, edf::EdfSource};

/// How long the links' thread and the recorder may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Runs live sessions.
pub(super) fn run(args: &RunArgs, threads: usize, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let endpoints = args.links.endpoints().map_err(Failure::usage)?;
    // Pipelines wait for samples, so they run beside the workers and not on them.
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Failure::run(format!("the worker threads cannot start: {e}")))?;
    crate::service::stop::on_signal(stop.clone()).map_err(Failure::run)?;
    let clock = HostClock::start(match args.speed.unwrap_or(Speed::Times(1.0)) {
        Speed::Times(speed) => speed,
        Speed::Max => {
            return Err(Failure::usage(
                "sensors set the speed of a live session; --speed takes a number, for simulated ones",
            ));
        }
    });
    if args.links.beds {
        return super::beds::run(args, threads, endpoints, clock, stop);
    }
    let out = args.out.clone().unwrap_or_else(default_out);
    let place = Place::open(&out).map_err(Failure::input)?;
    let args = place.completed(args);
    let setup = Arc::new(Setup::open(&args, threads)?);
    let bed = Bed { name: None, args, setup, out, stop: stop.clone() };
    let (to, from) = hub::queue();
    let session = bed.session(&place, clock)?;
    let names: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let links = spawn(Hub::new(clock, Beds::One(Box::new(session), to)), endpoints, stop)?;
    say(&format!("waiting for sensors: {}", names.join(", ")));
    let result = bed.run(from, place);
    stop.store(true, Ordering::Relaxed);
    if !hub::join(links, END_WITHIN) {
        say("warning: a link does not close; it is left to the operating system");
    }
    result
}

/// Starts the links' thread.
pub(super) fn spawn(
    hub: Hub,
    endpoints: Vec<Endpoint>,
    stop: &Arc<AtomicBool>,
) -> Result<std::thread::JoinHandle<()>, Failure> {
    hub.spawn(endpoints, stop.clone()).map_err(Failure::usage)
}

/// What a session waits for, by the arguments.
pub(super) fn settings(args: &RunArgs) -> Settings {
    let defaults = Settings::default();
    Settings {
        devices: if args.links.beds { 1 } else { args.links.expected_devices() },
        wait_s: args.links.wait.unwrap_or(defaults.wait_s),
        ..defaults
    }
}

/// The folder of a session, as it was found.
pub(super) enum Place {
    /// Nothing of a session.
    Empty,
    /// A session that was cut.
    Cut(Box<SavedSession>),
}

impl Place {
    /// Looks at the folder.
    ///
    /// # Errors
    /// One sentence: it holds a session that is over, or one that cannot be read.
    pub fn open(out: &Path) -> Result<Self, String> {
        if !out.join(saved::FILE_NAME).exists() {
            return Ok(Place::Empty);
        }
        let saved = SavedSession::read(out)?;
        if saved.ended {
            return Err(format!(
                "{}: holds a session that is over; choose another folder with --out",
                out.display()
            ));
        }
        Ok(Place::Cut(Box::new(saved)))
    }

    /// The arguments, completed from the session's own.
    pub fn completed(&self, args: &RunArgs) -> RunArgs {
        let mut args = args.clone();
        if let Place::Cut(saved) = self {
            args.bundle = args.bundle.or_else(|| saved.bundle.clone());
            (args.age, args.sex) = (args.age.or(saved.age), args.sex.or(saved.sex));
            if args.channels.map.is_empty() {
                args.channels.map.clone_from(&saved.map);
            }
            args.channels.channel_groups =
                args.channels.channel_groups.or_else(|| saved.channel_groups.clone());
            args.channels.channel_rules =
                args.channels.channel_rules.or_else(|| saved.channel_rules.clone());
        }
        args
    }
}

/// One session from its first to its last sample.
pub(super) struct Bed {
    /// What its lines on the terminal begin with, where there are several.
    pub name: Option<String>,
    pub args: RunArgs,
    pub setup: Arc<Setup>,
    pub out: PathBuf,
    pub stop: Arc<AtomicBool>,
}

/// The files of a session, open.
struct Files {
    info: StreamInfo,
    recorder: Recorder,
    annotations: AnnotationLog,
    /// The recording before a cut.
    recorded: Option<EdfSource>,
    journal: Journal,
    /// Windows that were settled before a cut.
    settled: Vec<JournalWindow>,
    saved: SavedSession,
}

impl Bed {
    /// The links' side of the session: a new one, or the rest of one that was cut.
    pub fn session(&self, place: &Place, clock: HostClock) -> Result<Session, Failure> {
        let Place::Cut(saved) = place else {
            return Ok(hub::session(settings(&self.args), clock, None));
        };
        self.check_bundle(saved)?;
        let recorded = recorder::recorded(&self.out).map_err(Failure::input)?;
        let channels = saved.session_channels().map_err(Failure::input)?;
        if channels.len() != recorded.signals.len() {
            return Err(Failure::input(format!(
                "{}: its recording has other channels than {}; move the folder away",
                self.out.display(),
                saved::FILE_NAME
            )));
        }
        let channels = channels
            .into_iter()
            .zip(&recorded.signals)
            .zip(&recorded.ends)
            .map(|((channel, signal), end)| {
                (SessionChannel { signal: signal.clone(), ..channel }, *end)
            })
            .collect();
        let now_ms = jiff::Timestamp::now().as_millisecond();
        // A wall clock that was set back must not make the session overwrite itself.
        let recorded_s = recorded.duration_s();
        let elapsed_s = ((now_ms - saved.start_utc_ms) as f64 / 1e3 * clock.speed()).max(recorded_s);
        Ok(hub::session(settings(&self.args), clock, Some(&Resumed { channels, elapsed_s })))
    }

    /// Runs the session to its end.
    pub fn run(&self, from: Receiver<FromLinks>, place: Place) -> Result<(), Failure> {
        let mut waiting = Vec::new();
        let files = match place {
            Place::Cut(saved) => self.reopen(*saved)?,
            Place::Empty => {
                let Some(started) = self.wait(&from, &mut waiting) else {
                    return Err(Failure::run(
                        "stopped before any sensor was ready; nothing was recorded",
                    ));
                };
                self.create(&started)?
            }
        };
        self.live(files, from, waiting)
    }

    /// Waits for the start; `None` if there is none. What happens until then is kept for the log.
    fn wait(&self, from: &Receiver<FromLinks>, lines: &mut Vec<LogLine>) -> Option<Started> {
        loop {
            match from.recv() {
                Ok(FromLinks::Started(started)) => return Some(*started),
                Ok(FromLinks::Log(line)) => {
                    self.tell(&line);
                    lines.push(*line);
                }
                Ok(FromLinks::Ended) | Err(_) => return None,
                Ok(FromLinks::Block(_) | FromLinks::Totals(_)) => {}
            }
        }
    }

    fn create(&self, started: &Started) -> Result<Files, Failure> {
        let (out, args) = (&self.out, &self.args);
        std::fs::create_dir_all(out)
            .map_err(|e| Failure::run(format!("{}: cannot be made a folder ({e})", out.display())))?;
        let signals: Vec<SignalInfo> = started.channels.iter().map(|c| c.signal.clone()).collect();
        let start = local(&started.start);
        let mut saved = SavedSession::new(
            (started.start.timestamp().as_millisecond(), start.to_string()),
            &started.channels,
        );
        saved.bundle = args.bundle.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        saved.bundle_sha256 = self.setup.bundle.sha256();
        (saved.age, saved.sex) = (args.age, args.sex);
        saved.map.clone_from(&args.channels.map);
        saved.channel_groups.clone_from(&args.channels.channel_groups);
        saved.channel_rules.clone_from(&args.channels.channel_rules);
        let recorder = Recorder::create(out, &signals, start).map_err(Failure::run)?;
        let annotations = AnnotationLog::create(out, start).map_err(Failure::run)?;
        let journal = Journal::create(out, self.journal_network()).map_err(Failure::run)?;
        // Last: a folder with this file has all the others.
        saved.write(out).map_err(Failure::run)?;
        let info = live_info(recorder::format_name(&signals), start.to_string(), signals);
        let (recorded, settled) = (None, Vec::new());
        Ok(Files { info, recorder, annotations, recorded, journal, settled, saved })
    }

    fn reopen(&self, saved: SavedSession) -> Result<Files, Failure> {
        self.check_bundle(&saved)?;
        let (recorder, found) = Recorder::reopen(&self.out).map_err(Failure::input)?;
        let (journal, settled) =
            Journal::reopen(&self.out, self.journal_network()).map_err(Failure::input)?;
        let recorded = EdfSource::open(&found.path).ok();
        let start = found.start.map_or_else(|| saved.start.clone(), |start| start.to_string());
        let annotations = found.start.map_or_else(
            || Err(format!("{}: has no start", found.path.display())),
            |start| AnnotationLog::reopen(&self.out, start).map_err(|e| e.to_string()),
        );
        let annotations = annotations.map_err(Failure::input)?;
        let info = live_info(recorder::format_name(&found.signals), start, found.signals);
        Ok(Files { info, recorder, annotations, recorded, journal, settled, saved })
    }

    fn check_bundle(&self, saved: &SavedSession) -> Result<(), Failure> {
        if saved.bundle_sha256 == self.setup.bundle.sha256() {
            return Ok(());
        }
        Err(Failure::bundle(format!(
            "{}: its session began with another bundle; give that one with --bundle",
            self.out.display()
        )))
    }

    fn journal_network(&self) -> JournalNetwork {
        let manifest = self.setup.bundle.manifest();
        JournalNetwork {
            bundle_sha256: self.setup.bundle.sha256(),
            embed_dim: manifest.base.embed_dim as u32,
            window_patches: manifest.base.window_patches as u32,
        }
    }

    /// Records and stages until the source ends, then completes the files.
    fn live(
        &self,
        files: Files,
        from: Receiver<FromLinks>,
        waiting: Vec<LogLine>,
    ) -> Result<(), Failure> {
        let Files { info, recorder, annotations, mut recorded, mut journal, settled, mut saved } = files;
        let mut study = self.setup.study(&info, "this session")?;
        study.explain();
        if let Some(recorded) = &mut recorded {
            recorded.select(&study.used());
        }
        let resumed = recorded.is_some();
        let recorder = self.start_recorder(recorder, annotations)?;
        let sinks = if resumed { sink::reopen_all } else { sink::open_all };
        let mut sinks = sinks(&self.out, &self.setup.labels).map_err(Failure::run)?;
        sinks.push(Box::new(recorder.annotations().sink()));
        let sinks = Sinks::start(sinks, WhenFull::Drop).map_err(Failure::run)?;
        let output = Mutex::new(Output { sinks, json: self.args.json, shown: Ok(()) });

        let totals = Arc::new(Mutex::new(Totals::default()));
        let mut log = SessionLine::open(self, totals.clone());
        waiting.into_iter().for_each(|line| log.write(&line));
        let mut source = LiveSource::new(info, from, recorder, recorded, log);
        let outcome = self.stage(&mut study, &mut source, settled, &mut journal, &output);
        // However the pass ended, what was recorded is closed.
        let (recorder, mut log) = source.finish();
        let closed = recorder.finish(END_WITHIN);
        log.totals_into(&mut saved);
        let outcome = outcome?;
        let ended = match &closed {
            Ok(written) => format!("recorded {} in {}", written, self.out.display()),
            Err(reason) => format!("warning: {reason}"),
        };
        self.say(&ended);
        saved.write(&self.out).map_err(Failure::run)?;
        let result = self.conclude(study, outcome, output, closed.is_ok());
        saved.ended = result.is_ok();
        saved.write(&self.out).map_err(Failure::run)?;
        result
    }
}
