//! `sfm-stream --serial|--udp|--tcp|--lsl`: a live session, or one for each device (`--beds`).
//! Waits for the sensors, records and stages them until they or the user end it, then runs the
//! final pass over the recording. A session that was cut goes on if it is the same one; a device that
//! has no place in the session is recorded beside it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::args::{RunArgs, Speed};
use super::beds::{Parent, Ward};
use super::session_bundle;
use super::session_place::Place;
use super::setup::Setup;
use super::witness::SessionWitness;
use super::{Failure, bed, beds, out_folder, output, say};
use crate::files::FileMode;
use crate::health::Phase;
use crate::link::admission::Admission;
use crate::link::clock::HostClock;
use crate::link::event::SessionEvent;
use crate::link::hub::{self, Beds, FromLinks, Hub, NewBed, Started};
use crate::link::live::Witness;
use crate::link::mark;
use crate::link::transport::Endpoint;
use crate::link::types::Settings;
use crate::service::{Service, bind, log, stop as signals, systemd};
use crate::web::{Origin, Web};

/// How long the links' thread may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Runs live sessions.
pub(super) fn run(args: &RunArgs, threads: usize, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let endpoints = args.links.endpoints().map_err(Failure::usage)?;
    log::init(args.service.log).map_err(Failure::usage)?;
    args.service.file_mode.unwrap_or(FileMode::PRIVATE).apply();
    check_access(args, &endpoints)?;
    // Pipelines wait for samples, so they run beside the workers and not on them.
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Failure::run(format!("the worker threads cannot start: {e}")))?;
    signals::on_signal(stop.clone()).map_err(Failure::run)?;
    let clock = HostClock::start(match args.speed.unwrap_or(Speed::Times(1.0)) {
        Speed::Times(speed) => speed,
        Speed::Max => {
            return Err(Failure::usage(
                "sensors set the speed of a live session; --speed takes a number, for simulated ones",
            ));
        }
    });
    let service = Service::start(&args.service).map_err(Failure::usage)?;
    let web = output::live_page(args, Some(service.beds()))?;
    let around = Around { service: &service, web: web.as_ref() };
    let result = if args.links.beds {
        beds::run(args, threads, endpoints, clock, &around, stop)
    } else {
        one(args, threads, endpoints, clock, &around, stop)
    };
    systemd::stopping();
    result
}

/// What is around all sessions of the process.
pub(super) struct Around<'a> {
    /// Watches over them.
    pub service: &'a Service,
    /// Shows them.
    pub web: Option<&'a Web>,
}

/// One session with all devices.
fn one(
    args: &RunArgs,
    threads: usize,
    endpoints: Vec<Endpoint>,
    clock: HostClock,
    around: &Around<'_>,
    stop: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    let out = args.out.clone().unwrap_or_else(default_out);
    out_folder::writable(&out)?;
    let place = Place::find(&out, args, None);
    place.line().iter().for_each(|line| say(line));
    let setup = session_bundle::open(args, &out, |args| Setup::open(args, threads))?;
    setup.network.warm_up().map_err(Failure::bundle)?;
    if stop.load(Ordering::Relaxed) {
        say("ended before it began; nothing was recorded");
        return Ok(());
    }
    let setup = Arc::new(setup);
    let mut session = place.session(settings(args), clock);
    let (button, marks) = mark::button(clock);
    session.take_marks(marks);
    let (to, from) = hub::queue();
    let folder = Arc::new(OnceLock::new());
    let ward = Ward {
        args: beside(args),
        setup: setup.clone(),
        threads,
        parent: Parent::Session(folder.clone()),
        clock,
        beds: around.service.beds(),
        rooms: around.web.map(Web::rooms),
        stop: stop.clone(),
        failed: Arc::default(),
    };
    let failed = ward.failed.clone();
    // Held by each session beside this one, and by the links as long as there may be another.
    let (running, ended) = std::sync::mpsc::channel::<()>();
    let new_bed: NewBed = Box::new(move |device| ward.open(device, running.clone()));
    let names: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let links_of_session = endpoints.clone();
    let admission = Admission::new(args.service.devices(), Some(around.service.beds()));
    let hub = Hub::new(clock, Beds::One(Box::new(session), to, new_bed), admission);
    let links = hub.spawn(endpoints, stop.clone()).map_err(Failure::usage)?;
    say(&format!("waiting for sensors: {}", names.join(", ")));
    systemd::ready();
    let likely = place.likely();
    let watched = around.service.begin("1", Some(&likely));
    watched.health.phase(Phase::Starting);
    let title = likely.file_name().unwrap_or_default().to_string_lossy();
    let rooms = around.web.map(Web::rooms);
    let shown = rooms.map(|rooms| rooms.open("1", &title, Origin::Sensors, Some(button)));
    let room = shown.as_ref().map(|shown| shown.room.clone());
    let witness =
        SessionWitness::new(None, watched.health.clone(), room).with_links(&links_of_session);
    let begun = |out: &std::path::Path| drop(folder.set(out.to_owned()));
    let run = bed::Run { args, setup: &setup, threads, stop, is_beside: false, begun: &begun };
    let result = bed::run(&run, place, from, witness);
    if result.is_ok() {
        // Nothing is ever sent: this returns when the last session beside it is over.
        let _ = ended.recv();
    }
    // For the links' sake.
    stop.store(true, Ordering::Relaxed);
    if !hub::join(links, END_WITHIN) {
        say("warning: a link does not close; it is left to the operating system");
    }
    if !result? {
        say("ended before any sensor was ready; nothing was recorded");
    }
    match failed.count() {
        0 => Ok(()),
        beside => Err(Failure::run(format!("{beside} recording(s) beside it failed; see above"))),
    }
}

/// The arguments of a session beside one that shows itself already.
fn beside(args: &RunArgs) -> RunArgs {
    let mut args = args.clone();
    (args.json, args.tui.tui, args.publish.lsl_outlet) = (false, false, None);
    args.links.devices = Some(1);
    args
}

/// Ports that other machines can reach are opened only where the user said so.
fn check_access(args: &RunArgs, endpoints: &[Endpoint]) -> Result<(), Failure> {
    let access = args.service.remote_access().map_err(Failure::usage)?;
    for endpoint in endpoints {
        if let Endpoint::Udp(address) | Endpoint::TcpListen(address) = endpoint {
            bind::allowed(*address, &access).map_err(Failure::usage)?;
            if let Some(warning) = bind::sensor_warning(*address, &args.service.devices()) {
                say(&format!("warning: {warning}"));
            }
        }
    }
    Ok(())
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

/// Waits for the start of a session and tells `witness` what happens meanwhile; `None` if it ended
/// before that.
pub(super) fn wait(
    from: &Receiver<FromLinks>,
    witness: &mut SessionWitness,
) -> Option<Box<Started>> {
    loop {
        match from.recv() {
            Ok(FromLinks::Started(started)) => return Some(started),
            Ok(FromLinks::Log(line)) if !matches!(line.event, SessionEvent::Ended { .. }) => {
                witness.keep(*line);
            }
            Ok(FromLinks::Totals(totals)) => witness.totals(*totals),
            Err(_) => return None,
            Ok(FromLinks::Log(_) | FromLinks::Block(_)) => {}
        }
    }
}

/// `session-<start>.sfm-out` in the current folder.
fn default_out() -> PathBuf {
    let now = jiff::ZonedDateTime::now();
    PathBuf::from(format!("session-{}.sfm-out", now.strftime("%Y%m%d-%H%M%S")))
}
