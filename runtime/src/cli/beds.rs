//! `--beds`: every device is a session of its own, with a folder in `--out` and a pipeline on a
//! thread; network, workers and links are shared. So is a device that has no place in the session of
//! the others, with a folder in theirs.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::args::RunArgs;
use super::live::{Around, settings};
use super::session_bundle;
use super::session_place::Place;
use super::setup::Setup;
use super::witness::SessionWitness;
use super::{Failure, bed, out_folder, say};
use crate::files;
use crate::health::{Beds, Phase, Status};
use crate::link::admission::{Admission, MAX_BEDS};
use crate::link::clock::HostClock;
use crate::link::hub::{self, Hub, NewBed, Opened};
use crate::link::mark;
use crate::link::transport::Endpoint;
use crate::link::types::NoBed;
use crate::service::systemd;
use crate::text::hex;
use crate::web::{Origin, Rooms, Web};

/// How long the links' thread may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Links that are gone around for a bed.
const MAX_LINKS: usize = 16;

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
    out_folder::writable(&out)?;
    let setup = session_bundle::open(args, &out, |args| Setup::open_shared(args, threads))?;
    setup.network.warm_up().map_err(Failure::bundle)?;
    if stop.load(Ordering::Relaxed) {
        say("ended before it began; nothing was recorded");
        return Ok(());
    }
    let ward = Ward {
        args: args.clone(),
        setup: Arc::new(setup),
        threads,
        parent: Parent::Folder(out.clone()),
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
    let folders = out.clone();
    let acquainted = Box::new(move |device| folders.join(hex(device)).is_dir());
    let admission = Admission::new(args.service.devices(), Some(around.service.beds()))
        .with_beds(args.links.max_beds.map_or(MAX_BEDS, NonZeroUsize::get), acquainted);
    let hub = Hub::new(clock, hub::Beds::PerDevice(new_bed), admission);
    let links = hub.spawn(endpoints, stop.clone()).map_err(Failure::usage)?;
    say(&format!("beds in {}, waiting for sensors: {}", out.display(), names.join(", ")));
    systemd::ready();
    // Nothing is ever sent: this returns when the hub and the last bed have let go.
    let _ = ended.recv();
    if !hub::join(links, END_WITHIN) {
        say("warning: a link does not close; it is left to the operating system");
    }
    match failed.count() {
        0 => Ok(()),
        beds => Err(Failure::run(format!("{beds} bed(s) failed; the log above says why"))),
    }
}

/// What every bed is made of.
pub(super) struct Ward {
    pub args: RunArgs,
    pub setup: Arc<Setup>,
    pub threads: usize,
    pub parent: Parent,
    pub clock: HostClock,
    pub beds: Arc<Beds>,
    pub rooms: Option<Arc<Rooms>>,
    pub stop: Arc<AtomicBool>,
    pub failed: Arc<FailedBeds>,
}

/// Beds that ended with an error. Their own health is gone with them, so that of the process says it
/// until the device has a bed again.
#[derive(Debug, Default)]
pub(super) struct FailedBeds {
    count: AtomicUsize,
    now: Mutex<BTreeMap<String, String>>,
}

impl FailedBeds {
    /// How many there were.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn add(&self, beds: &Beds, name: String, reason: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.change(beds, |now| drop(now.insert(name, reason.to_owned())));
    }

    fn has_bed(&self, beds: &Beds, name: &str) {
        self.change(beds, |now| drop(now.remove(name)));
    }

    fn change(&self, beds: &Beds, change: impl FnOnce(&mut BTreeMap<String, String>)) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut now);
        let reasons = now.iter().map(|(name, reason)| format!("bed {name} failed: {reason}"));
        let told = reasons.collect::<Vec<_>>().join("; ");
        beds.condition("bed-failed", (!told.is_empty()).then_some((Status::Failing, told)));
    }
}

/// Where the folders of the beds are.
pub(super) enum Parent {
    /// In this one.
    Folder(PathBuf),
    /// In that of the session of all other devices, once it has one.
    Session(Arc<OnceLock<PathBuf>>),
}

impl Ward {
    /// Opens the bed of a device and starts its thread; where that fails, health says so.
    pub fn open(&self, device: u64, running: Sender<()>) -> Result<Opened, NoBed> {
        let (parent, is_beside) = match &self.parent {
            Parent::Folder(folder) => (Some(folder), false),
            Parent::Session(folder) => (folder.get(), true),
        };
        let parent = parent.ok_or(NoBed::NotYet)?;
        let opened = self.open_in(parent, is_beside, device, running);
        let condition = opened.as_ref().err().map(|reason| {
            (Status::Failing, format!("device {} is not recorded: {reason}", hex(device)))
        });
        self.beds.condition("bed", condition);
        opened.map_err(|reason| NoBed::Refused(format!("gets no bed: {reason}")))
    }

    fn open_in(
        &self,
        parent: &Path,
        is_beside: bool,
        device: u64,
        running: Sender<()>,
    ) -> Result<Opened, String> {
        let name = hex(device);
        let place = Place::find(&folder_of(parent, &name), &self.args, Some(device));
        place.line().iter().for_each(|line| say(&format!("bed {name}: {line}")));
        let mut session = place.session(settings(&self.args), self.clock);
        let (button, marks) = mark::button(self.clock);
        session.take_marks(marks);
        let (to, from) = hub::queue();
        let likely = place.likely();
        let watched = self.beds.begin(&name, Some(likely.clone()));
        self.failed.has_bed(&self.beds, &name);
        watched.health.phase(Phase::Starting);
        let title = likely.file_name().unwrap_or_default().to_string_lossy();
        let rooms = self.rooms.as_ref();
        let shown = rooms.map(|rooms| rooms.open(&name, &title, Origin::Sensors, Some(button)));
        let room = shown.as_ref().map(|shown| shown.room.clone());
        let witness = SessionWitness::new(Some(name.clone()), watched.health.clone(), room);
        let (args, setup, threads) = (self.args.clone(), self.setup.clone(), self.threads);
        let (stop, failed, beds) = (self.stop.clone(), self.failed.clone(), self.beds.clone());
        std::thread::Builder::new()
            .name(format!("bed {name}"))
            .spawn(move || {
                let (_watched, _shown, _running) = (watched, shown, running);
                let (setup, begun) = (&setup, &|_: &std::path::Path| ());
                let run = bed::Run { args: &args, setup, threads, stop: &stop, is_beside, begun };
                let result = bed::run(&run, place, from, witness);
                if let Err(failure) = result {
                    tracing::error!("bed {name}: {}", failure.message);
                    failed.add(&beds, name, &failure.message);
                }
            })
            .map_err(|e| format!("its thread cannot start ({e})"))?;
        Ok((session, to))
    }
}

/// Where the sessions of bed `name` go: beside a link that lies under its name.
fn folder_of(parent: &Path, name: &str) -> PathBuf {
    let mut folder = parent.join(name);
    for _ in 0..MAX_LINKS {
        if files::is_link(&folder) {
            folder.as_mut_os_string().push("-");
        }
    }
    folder
}
