//! `--beds`: every device is a session of its own, with a folder in `--out` and a pipeline on a
//! thread; network, workers and links are shared. A device whose session was cut goes on with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::args::RunArgs;
use super::live::Around;
use super::session_files::Place;
use super::setup::Setup;
use super::witness::SessionWitness;
use super::{Failure, bed, say};
use crate::link::clock::HostClock;
use crate::link::hub::{self, Hub, NewBed};
use crate::link::log::hex;
use crate::link::mark;
use crate::link::transport::Endpoint;
use crate::service::health::{Beds, Phase};
use crate::service::systemd;
use crate::web::{Origin, Rooms, Web};

/// How long the links' thread may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Runs a session for each device that comes, until the user ends it.
pub(super) fn run(
    args: &RunArgs,
    threads: usize,
    endpoints: Vec<Endpoint>,
    clock: HostClock,
    around: &Around<'_>,
    stop: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("beds.sfm-out"));
    let setup = Setup::open_shared(args, threads)?;
    setup.network.warm_up().map_err(Failure::bundle)?;
    let ward = Ward {
        args: args.clone(),
        setup: Arc::new(setup),
        out: out.clone(),
        clock,
        beds: around.service.beds(),
        rooms: around.web.map(Web::rooms),
        stop: stop.clone(),
        failed: Arc::default(),
    };
    let failed = ward.failed.clone();
    // A bed's thread holds a sender as long as it runs.
    let (running, ended) = std::sync::mpsc::channel::<()>();
    let names: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let new_bed: NewBed = Box::new(move |device| ward.open(device, running.clone()));
    let hub = Hub::new(clock, hub::Beds::PerDevice(new_bed), args.service.devices());
    let links = hub.spawn(endpoints, stop.clone()).map_err(Failure::usage)?;
    say(&format!("beds in {}, waiting for sensors: {}", out.display(), names.join(", ")));
    systemd::ready();
    // Nothing is ever sent: this returns when the hub and the last bed have let go.
    let _ = ended.recv();
    if !hub::join(links, END_WITHIN) {
        say("warning: a link does not close; it is left to the operating system");
    }
    match failed.load(Ordering::Relaxed) {
        0 => Ok(()),
        beds => Err(Failure::run(format!("{beds} bed(s) failed; the log above says why"))),
    }
}

/// What every bed is made of.
struct Ward {
    args: RunArgs,
    setup: Arc<Setup>,
    out: PathBuf,
    clock: HostClock,
    beds: Arc<Beds>,
    rooms: Option<Arc<Rooms>>,
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
}

impl Ward {
    /// Opens the bed of a device and starts its thread.
    fn open(
        &self,
        device: u64,
        running: Sender<()>,
    ) -> Result<(crate::link::session::Session, std::sync::mpsc::SyncSender<hub::FromLinks>), String>
    {
        let name = hex(device);
        let (out, place) = Place::find(&self.out.join(&name))?;
        let args = place.completed(&self.args);
        let (mut session, files) = place
            .session(&args, &self.setup, &out, self.clock)
            .map_err(|failure| failure.message)?;
        let (button, marks) = mark::button(self.clock);
        session.take_marks(marks);
        let (to, from) = hub::queue();
        let watched = self.beds.begin(&name, Some(out.clone()));
        watched.health.phase(Phase::Starting);
        let title = out.file_name().unwrap_or_default().to_string_lossy();
        let rooms = self.rooms.as_ref();
        let shown = rooms.map(|rooms| rooms.open(&name, &title, Origin::Sensors, Some(button)));
        let room = shown.as_ref().map(|shown| shown.room.clone());
        let witness = SessionWitness::new(Some(name.clone()), watched.health.clone(), room);
        let (setup, stop, failed) = (self.setup.clone(), self.stop.clone(), self.failed.clone());
        std::thread::Builder::new()
            .name(format!("bed {name}"))
            .spawn(move || {
                let (_watched, _shown, _running) = (watched, shown, running);
                let result = bed::run(&args, &setup, &out, files, from, witness, &stop);
                if let Err(failure) = result {
                    failed.fetch_add(1, Ordering::Relaxed);
                    tracing::error!("bed {name}: {}", failure.message);
                }
            })
            .map_err(|e| format!("its thread cannot start ({e})"))?;
        Ok((session, to))
    }
}
