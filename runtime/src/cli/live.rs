//! `sfm-stream --serial|--udp|--tcp|--lsl`: a live session, or one for each device (`--beds`).
//! Waits for the sensors, records and stages them until they or the user end it, then runs the
//! final pass over the recording. A folder whose session was cut is gone on with.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::args::{RunArgs, Speed};
use super::session_files::Place;
use super::setup::Setup;
use super::witness::SessionWitness;
use super::{Failure, bed, beds, output, say};
use crate::link::clock::HostClock;
use crate::link::hub::{self, Beds, FromLinks, Hub, Started};
use crate::link::log::{LogLine, SessionEvent};
use crate::link::mark;
use crate::link::session::Settings;
use crate::link::transport::Endpoint;
use crate::service::health::Phase;
use crate::service::{Service, bind, log, stop as signals, systemd};
use crate::web::{Origin, Web};

/// How long the links' thread may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Runs live sessions.
pub(super) fn run(args: &RunArgs, threads: usize, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let endpoints = args.links.endpoints().map_err(Failure::usage)?;
    log::init(args.service.log).map_err(Failure::usage)?;
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
    let wanted = args.out.clone().unwrap_or_else(default_out);
    let (out, place) = Place::find(&wanted).map_err(Failure::input)?;
    if out != wanted {
        let (wanted, out) = (wanted.display(), out.display());
        say(&format!("{wanted} holds another night; this one goes to {out}"));
    }
    let args = place.completed(args);
    let setup = Setup::open(&args, threads)?;
    setup.network.warm_up().map_err(Failure::bundle)?;
    let (mut session, files) = place.session(&args, &setup, &out, clock)?;
    let (button, marks) = mark::button(clock);
    session.take_marks(marks);
    let (to, from) = hub::queue();
    let names: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let devices = args.service.devices();
    let hub = Hub::new(clock, Beds::One(Box::new(session), to), devices);
    let links = hub.spawn(endpoints, stop.clone()).map_err(Failure::usage)?;
    say(&format!("waiting for sensors: {}", names.join(", ")));
    systemd::ready();
    let watched = around.service.begin("1", Some(&out));
    watched.health.phase(Phase::Starting);
    let title = out.file_name().unwrap_or_default().to_string_lossy();
    let rooms = around.web.map(Web::rooms);
    let shown = rooms.map(|rooms| rooms.open("1", &title, Origin::Sensors, Some(button)));
    let room = shown.as_ref().map(|shown| shown.room.clone());
    let witness = SessionWitness::new(None, watched.health.clone(), room);
    let result = bed::run(&args, &setup, &out, files, from, witness, stop);
    // Read before it is set for the links' sake.
    stop.store(true, Ordering::Relaxed);
    if !hub::join(links, END_WITHIN) {
        say("warning: a link does not close; it is left to the operating system");
    }
    if !result? {
        say("ended before any sensor was ready; nothing was recorded");
    }
    Ok(())
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

/// Waits for the start of a session and opens its files; `None` if it ended before that.
pub(super) fn wait(
    from: &Receiver<FromLinks>,
    mut tell: impl FnMut(LogLine),
) -> Option<Box<Started>> {
    loop {
        match from.recv() {
            Ok(FromLinks::Started(started)) => return Some(started),
            Ok(FromLinks::Log(line)) if !matches!(line.event, SessionEvent::Ended { .. }) => {
                tell(*line);
            }
            Err(_) => return None,
            Ok(FromLinks::Log(_) | FromLinks::Block(_) | FromLinks::Totals(_)) => {}
        }
    }
}

/// `session-<start>.sfm-out` in the current folder.
fn default_out() -> PathBuf {
    let now = jiff::ZonedDateTime::now();
    PathBuf::from(format!("session-{}.sfm-out", now.strftime("%Y%m%d-%H%M%S")))
}
