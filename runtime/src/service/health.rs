//! How every bed's session is: set by the session's threads, read by `/healthz`, the metrics and
//! the watchdog. Atomics and short locks; nobody waits here for anybody's work. It holds no
//! person's data, and of what a sensor can make up no more than [`MAX_LINKS`] names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::disk::{self, Room};
use crate::montage::escaped;
use crate::telemetry::BedMeter;

/// Links of one bed that are kept by name.
pub const MAX_LINKS: usize = 64;

/// Longest name of a link, characters.
const MAX_NAME: usize = 80;

/// Stands for "not known" in an atomic.
const UNKNOWN: u64 = u64::MAX;

/// When the pipeline last showed that it runs.
#[derive(Debug)]
pub struct Heartbeat {
    born: Instant,
    last_ms: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { born: Instant::now(), last_ms: AtomicU64::new(0) }
    }
}

impl Heartbeat {
    /// The pipeline runs. Costs a reading of the clock; call it at every turn of its loop.
    pub fn touch(&self) {
        self.last_ms.store(self.born.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Time since it last did, or since the start.
    pub fn age(&self) -> Duration {
        self.born
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }
}

/// What a session is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Opens files and the network; catches up with a recording after a restart.
    Starting,
    /// Takes samples.
    Live,
    /// Runs the final pass, completes the files.
    Finishing,
}

/// The recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Recorder {
    /// Not begun, or not wanted.
    Off,
    /// Written.
    On,
    /// Broken off, for this reason; staging goes on.
    Stopped(String),
}

/// How well a bed or all of them are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All works.
    Ok,
    /// All works, but somebody should look.
    Degraded,
    /// The pipeline stands still, or the night is not recorded.
    Failing,
}

/// How old a heartbeat may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// While live, before it is worth a remark.
    pub slow: Duration,
    /// While live, before the pipeline counts as stuck.
    pub stuck: Duration,
    /// The same in the other phases, whose single steps take longer.
    pub stuck_otherwise: Duration,
}

impl Default for Limits {
    /// A live turn takes milliseconds, an epoch's inference on a weak machine some seconds; the
    /// risk head over a night on such a machine minutes.
    fn default() -> Self {
        Self {
            slow: Duration::from_secs(15),
            stuck: Duration::from_secs(60),
            stuck_otherwise: Duration::from_secs(900),
        }
    }
}

/// One bed's session.
pub struct Health {
    /// Touched by the pipeline's thread.
    pub heartbeat: Heartbeat,
    /// The bed's series in `/metrics`.
    pub meter: BedMeter,
    bed: String,
    limits: Limits,
    out_dir: Option<PathBuf>,
    state: Mutex<State>,
    last_epoch: AtomicU64,
    disk_free: AtomicU64,
    broke_off: AtomicBool,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("bed", &self.bed).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    phase: Phase,
    recorder: Recorder,
    links: BTreeMap<String, bool>,
}

impl Health {
    fn new(bed: &str, out_dir: Option<PathBuf>, limits: Limits) -> Self {
        let state =
            State { phase: Phase::Starting, recorder: Recorder::Off, links: BTreeMap::new() };
        Self {
            heartbeat: Heartbeat::default(),
            meter: BedMeter::new(bed),
            bed: shown(bed),
            limits,
            out_dir,
            state: Mutex::new(state),
            last_epoch: AtomicU64::new(UNKNOWN),
            disk_free: AtomicU64::new(UNKNOWN),
            broke_off: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the session is at from now on; counts as a heartbeat.
    pub fn phase(&self, phase: Phase) {
        self.state().phase = phase;
        self.heartbeat.touch();
    }

    /// How the recording is from now on.
    pub fn recorder(&self, recorder: Recorder) {
        self.meter.recorder(recorder == Recorder::On);
        self.state().recorder = match recorder {
            Recorder::Stopped(reason) => Recorder::Stopped(shown(&reason)),
            other => other,
        };
    }

    /// Link `name` (a port, a device) is up or not. Names beyond [`MAX_LINKS`] are left out.
    pub fn link(&self, name: &str, up: bool) {
        let mut state = self.state();
        let name = shown(name);
        if state.links.len() < MAX_LINKS || state.links.contains_key(&name) {
            state.links.insert(name, up);
        }
    }

    /// Link `name` is not part of the session any more.
    pub fn forget_link(&self, name: &str) {
        self.state().links.remove(&shown(name));
    }

    /// The newest epoch that has a stage.
    pub fn epoch(&self, index: u64) {
        self.last_epoch.store(index, Ordering::Relaxed);
    }

    /// Whether the pipeline runs, as far as its heart shows.
    fn is_alive(&self) -> bool {
        let limit = match self.state().phase {
            Phase::Live => self.limits.stuck,
            Phase::Starting | Phase::Finishing => self.limits.stuck_otherwise,
        };
        !self.broke_off.load(Ordering::Relaxed) && self.heartbeat.age() < limit
    }

    fn measure_disk(&self) {
        let free = self.out_dir.as_deref().and_then(disk::free_bytes);
        self.disk_free.store(free.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// How the session is.
    pub fn report(&self) -> BedReport {
        let known = |value: &AtomicU64| {
            Some(value.load(Ordering::Relaxed)).filter(|&value| value != UNKNOWN)
        };
        let alive = self.is_alive();
        let state = self.state();
        let mut report = BedReport {
            bed: self.bed.clone(),
            status: Status::Ok,
            reasons: vec![],
            phase: state.phase,
            heartbeat_age_s: self.heartbeat.age().as_secs_f64(),
            recorder: state.recorder.clone(),
            links: state.links.len(),
            links_up: state.links.values().filter(|&&up| up).count(),
            last_epoch: known(&self.last_epoch),
            disk_free_bytes: known(&self.disk_free),
        };
        report.judge(alive, self.broke_off.load(Ordering::Relaxed), &self.limits, &state);
        report
    }

    fn publish(&self, report: &BedReport) {
        self.meter.heartbeat_age(self.heartbeat.age());
        self.meter.health(report.status as u8);
        if let Some(bytes) = report.disk_free_bytes {
            self.meter.disk_free(bytes);
        }
    }
}

/// A name of a file, a port or an error, as JSON, log and `systemctl status` may show it.
fn shown(text: &str) -> String {
    escaped(text).chars().take(MAX_NAME).collect()
}

/// One bed in `/healthz`.
#[derive(Debug, Clone, Serialize)]
pub struct BedReport {
    /// The bed's label.
    pub bed: String,
    /// How well it is.
    pub status: Status,
    /// Why not better, a sentence each.
    pub reasons: Vec<String>,
    /// What the session is at.
    pub phase: Phase,
    /// Time since the pipeline last showed that it runs, seconds.
    pub heartbeat_age_s: f64,
    /// The recording.
    pub recorder: Recorder,
    /// Links that the session has had.
    pub links: usize,
    /// Those that are up.
    pub links_up: usize,
    /// The newest epoch that has a stage.
    pub last_epoch: Option<u64>,
    /// Room left behind the output folder.
    pub disk_free_bytes: Option<u64>,
}

impl BedReport {
    fn judge(&mut self, alive: bool, broke_off: bool, limits: &Limits, state: &State) {
        let age = self.heartbeat_age_s;
        if broke_off {
            self.add(Status::Failing, "the session broke off".to_owned());
        } else if !alive {
            self.add(Status::Failing, format!("the pipeline has stood still for {age:.0} s"));
        } else if state.phase == Phase::Live && age >= limits.slow.as_secs_f64() {
            self.add(Status::Degraded, format!("the pipeline last ran {age:.0} s ago"));
        }
        match &state.recorder {
            Recorder::Stopped(reason) => {
                self.add(Status::Failing, format!("the recording stopped: {reason}"));
            }
            Recorder::Off if state.phase == Phase::Live => {
                self.add(Status::Degraded, "nothing is recorded".to_owned());
            }
            Recorder::Off | Recorder::On => (),
        }
        if state.phase == Phase::Live && self.links == 0 {
            self.add(Status::Degraded, "no sensor has come yet".to_owned());
        }
        let down: Vec<&str> =
            state.links.iter().filter(|(_, up)| !**up).map(|(name, _)| name.as_str()).collect();
        if state.phase == Phase::Live && !down.is_empty() {
            let (count, all) = (down.len(), self.links);
            let names = down[..count.min(4)].join(", ");
            let more = if count > 4 { ", ..." } else { "" };
            self.add(Status::Degraded, format!("{count} of {all} links down: {names}{more}"));
        }
        match self.disk_free_bytes.map(|bytes| (Room::of(bytes), bytes >> 20)) {
            Some((Room::Full, mb)) => {
                self.add(Status::Failing, format!("the disk is full: {mb} MiB left"))
            }
            Some((Room::Low, mb)) => {
                self.add(Status::Degraded, format!("the disk fills up: {mb} MiB left"))
            }
            Some((Room::Enough, _)) | None => (),
        }
    }

    fn add(&mut self, status: Status, reason: String) {
        self.status = self.status.max(status);
        self.reasons.push(reason);
    }
}

/// `/healthz`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How well the worst bed is; `ok` without any.
    pub status: Status,
    /// Why not better, each behind its bed's label.
    pub reasons: Vec<String>,
    /// The program's version.
    pub version: &'static str,
    /// Time since the start of the process' service, seconds.
    pub uptime_s: f64,
    /// Every session.
    pub beds: Vec<BedReport>,
}

impl Report {
    /// One line for `systemctl status`.
    pub fn line(&self) -> String {
        match self.beds.as_slice() {
            [] => "no session".to_owned(),
            [bed] => {
                let epoch = bed.last_epoch.map_or_else(String::new, |e| format!(", epoch {e}"));
                let why = bed.reasons.first().map_or_else(String::new, |why| format!("; {why}"));
                format!("{} of {} links up{epoch}{why}", bed.links_up, bed.links)
            }
            beds => {
                let well = beds.iter().filter(|bed| bed.status == Status::Ok).count();
                let why = self.reasons.first().map_or_else(String::new, |why| format!("; {why}"));
                format!("{} beds, {well} ok{why}", beds.len())
            }
        }
    }
}

/// All beds of this process.
pub struct Beds {
    limits: Limits,
    born: Instant,
    sessions: Mutex<Vec<Arc<Health>>>,
}

impl Beds {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, born: Instant::now(), sessions: Mutex::default() }
    }

    /// A session begins at `bed`; it is watched until what this returns is dropped.
    pub fn begin(self: &Arc<Self>, bed: &str, out_dir: Option<PathBuf>) -> Watched {
        let health = Arc::new(Health::new(bed, out_dir, self.limits));
        self.sessions().push(health.clone());
        Watched { health, beds: self.clone() }
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Arc<Health>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Health>> {
        self.sessions().clone()
    }

    /// Whether no pipeline is stuck.
    pub fn are_alive(&self) -> bool {
        self.all().iter().all(|health| health.is_alive())
    }

    /// Looks up how much room every output folder has; may take its time.
    pub fn measure_disks(&self) {
        self.all().iter().for_each(|health| health.measure_disk());
    }

    /// How all are; the metrics that follow from it are set.
    pub fn report(&self) -> Report {
        let mut report = Report {
            status: Status::Ok,
            reasons: vec![],
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.born.elapsed().as_secs_f64(),
            beds: vec![],
        };
        for health in self.all() {
            let bed = health.report();
            health.publish(&bed);
            report.status = report.status.max(bed.status);
            report.reasons.extend(bed.reasons.iter().map(|why| format!("bed {}: {why}", bed.bed)));
            report.beds.push(bed);
        }
        report
    }
}

/// A session that is watched. If its thread panics, the bed stays in the report as failing and
/// the watchdog goes off.
pub struct Watched {
    /// What the session's threads set.
    pub health: Arc<Health>,
    beds: Arc<Beds>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.health.broke_off.store(true, Ordering::Relaxed);
        } else {
            self.beds.sessions().retain(|health| !Arc::ptr_eq(health, &self.health));
        }
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
