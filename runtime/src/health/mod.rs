//! How every bed's session is: set by the session's threads, read by `/healthz`, the metrics and
//! the watchdog. Atomics and short locks; nobody waits here for anybody's work. It holds no
//! person's data, and of what a sensor can make up no more than [`MAX_LINKS`] names.

pub mod arrivals;
pub mod disk;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::arrivals::Arrivals;
use self::disk::{RecordingSpace, Room};
pub use self::watch::TICK;
use self::watch::{RunningTime, Standing, Watch};
use crate::telemetry::{self, BedMeter, SampleAges};
use crate::text::escaped;

/// Links of one bed that are kept by name.
pub const MAX_LINKS: usize = 64;

/// Longest name of a link, characters.
const MAX_NAME: usize = 80;
/// Longest reason of a condition, characters.
const MAX_REASON: usize = 300;

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
    /// The pipeline stands still, nothing arrives, or the night is not recorded.
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
    time: Arc<RunningTime>,
    ages: Mutex<SampleAges>,
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
    arrivals: Watch,
    conditions: Conditions,
    out_dir: Option<PathBuf>,
    space: Option<RecordingSpace>,
}

/// What is wrong and not covered by the other fields: by kind, how bad it is and one sentence. A
/// kind has at most one condition; it lasts until it is cleared.
#[derive(Debug, Default)]
struct Conditions(BTreeMap<&'static str, (Status, String)>);

impl Conditions {
    fn set(&mut self, kind: &'static str, condition: Option<(Status, String)>) {
        match condition {
            Some((status, reason)) => {
                let reason = escaped(&reason).chars().take(MAX_REASON).collect();
                self.0.insert(kind, (status, reason));
            }
            None => {
                self.0.remove(kind);
            }
        }
    }
}

impl Health {
    fn new(bed: &str, out_dir: Option<PathBuf>, limits: Limits, time: Arc<RunningTime>) -> Self {
        let state = State {
            phase: Phase::Starting,
            recorder: Recorder::Off,
            links: BTreeMap::new(),
            arrivals: Watch::default(),
            conditions: Conditions::default(),
            out_dir,
            space: None,
        };
        Self {
            heartbeat: Heartbeat::default(),
            meter: BedMeter::new(bed),
            bed: shown(bed),
            limits,
            time,
            ages: Mutex::new(SampleAges::new(bed)),
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

    /// The session's files are in `out_dir` from now on.
    pub fn out_dir(&self, out_dir: PathBuf) {
        self.state().out_dir = Some(out_dir);
    }

    /// Hours that the recording can go on, by the last look at the disk.
    pub fn hours_left(&self) -> Option<f64> {
        let free = Some(self.disk_free.load(Ordering::Relaxed)).filter(|&free| free != UNKNOWN);
        Some(self.state().space?.hours_left(free?))
    }

    /// What the recording takes and has set aside.
    pub fn space(&self, space: RecordingSpace) {
        self.state().space = Some(space);
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

    /// What arrives of the bed's devices, as of now; from here on everything grows older.
    pub fn arrivals(&self, arrivals: Arrivals) {
        let now = self.time.now();
        self.state().arrivals.tell(arrivals, now);
    }

    /// Sets the bed's condition of `kind` (a fixed word, such as `disk`), or clears it with `None`.
    /// The reason is one sentence without data of a person.
    pub fn condition(&self, kind: &'static str, condition: Option<(Status, String)>) {
        self.state().conditions.set(kind, condition);
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
        let out_dir = self.state().out_dir.clone();
        let free = out_dir.as_deref().and_then(disk::free_bytes);
        self.disk_free.store(free.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// How the session is.
    pub fn report(&self) -> BedReport {
        let known = |value: &AtomicU64| {
            Some(value.load(Ordering::Relaxed)).filter(|&value| value != UNKNOWN)
        };
        let alive = self.is_alive();
        let now = self.time.now();
        let state = self.state();
        // At the end nothing is expected any more.
        let standing = match state.phase {
            Phase::Finishing => Standing::default(),
            Phase::Starting | Phase::Live => state.arrivals.standing(now),
        };
        let mut report = BedReport {
            bed: self.bed.clone(),
            status: Status::Ok,
            reasons: vec![],
            failing: 0,
            phase: state.phase,
            heartbeat_age_s: self.heartbeat.age().as_secs_f64(),
            recorder: state.recorder.clone(),
            links: state.links.len(),
            links_up: state.links.values().filter(|&&up| up).count(),
            last_epoch: known(&self.last_epoch),
            disk_free_bytes: known(&self.disk_free),
            sample_age_s: standing.age_s(),
            standing,
            recording_hours_left: None,
        };
        report.recording_hours_left =
            report.disk_free_bytes.zip(state.space).map(|(free, space)| space.hours_left(free));
        report.judge(alive, self.broke_off.load(Ordering::Relaxed), &self.limits, &state);
        report
    }

    fn publish(&self, report: &BedReport) {
        self.meter.heartbeat_age(self.heartbeat.age());
        self.meter.health(report.status as u8);
        if let Some(bytes) = report.disk_free_bytes {
            self.meter.disk_free(bytes);
        }
        let arrivals = &report.standing.arrivals;
        let ages = arrivals.devices.iter().flat_map(|device| {
            let known = |age_s: f64| (!device.has_ended).then_some(age_s);
            let channels = device.channels.iter();
            channels.map(move |c| (device.device, c.label.as_str(), known(c.age_s)))
        });
        let mut gauges = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.set(report.sample_age_s, ages);
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
    /// Why not better, a sentence each; the worst first.
    pub reasons: Vec<String>,
    /// So many of them are of [`Status::Failing`].
    #[serde(skip)]
    failing: usize,
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
    /// Time since a sample of any device got its place, seconds of the session; none where none is
    /// expected.
    pub sample_age_s: Option<f64>,
    #[serde(skip)]
    standing: Standing,
    /// Hours of recording that fit there, with what is set aside for it.
    pub recording_hours_left: Option<f64>,
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
        if state.phase == Phase::Starting && self.standing.waits() {
            let waits = "a session that was cut waits for its sensors";
            self.add(Status::Degraded, waits.to_owned());
        }
        if state.phase == Phase::Live && self.links == 0 && !self.standing.has_come() {
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
        for (status, reason) in self.standing.reasons() {
            self.add(status, reason);
        }
        for (status, reason) in state.conditions.0.values() {
            self.add(*status, reason.clone());
        }
        if let (Some(space), Some(hours)) = (state.space, self.recording_hours_left)
            && state.phase == Phase::Live
            && space.is_short(hours)
        {
            let night = disk::NIGHT_H;
            let reason =
                format!("room for {hours:.1} h more of recording, a night is {night:.0} h");
            self.add(Status::Degraded, reason);
        }
        // What is set aside is no room for other files, but nothing that fills up, either.
        let reserved = state.space.map_or(0, |space| space.reserved_bytes);
        let room = |bytes: u64| match Room::of(bytes) {
            Room::Full => Room::Full,
            _ => Room::of(bytes.saturating_add(reserved)),
        };
        match self.disk_free_bytes.map(|bytes| (room(bytes), bytes >> 20)) {
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
        if status == Status::Failing {
            self.reasons.insert(self.failing, reason);
            self.failing += 1;
        } else {
            self.reasons.push(reason);
        }
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
                let why = bed.reasons.first().or(self.reasons.first());
                let why = why.map_or_else(String::new, |why| format!("; {why}"));
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
    time: Arc<RunningTime>,
    sessions: Mutex<Vec<Arc<Health>>>,
    conditions: Mutex<Conditions>,
}

impl Beds {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            born: Instant::now(),
            time: Arc::default(),
            sessions: Mutex::default(),
            conditions: Mutex::default(),
        }
    }

    /// Sets the process' condition of `kind`, or clears it with `None`: what concerns no single
    /// bed, such as links that are refused. As [`Health::condition`].
    pub fn condition(&self, kind: &'static str, condition: Option<(Status, String)>) {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).set(kind, condition);
    }

    /// A session begins at `bed`; it is watched until what this returns is dropped.
    pub fn begin(self: &Arc<Self>, bed: &str, out_dir: Option<PathBuf>) -> Watched {
        let health = Arc::new(Health::new(bed, out_dir, self.limits, self.time.clone()));
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

    /// This process runs: to be called several times a second, or ages stand still.
    pub fn tick(&self) {
        self.time.now();
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
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        for (status, reason) in conditions.0.values() {
            report.status = report.status.max(*status);
            report.reasons.push(reason.clone());
        }
        drop(conditions);
        for health in self.all() {
            let bed = health.report();
            health.publish(&bed);
            report.status = report.status.max(bed.status);
            report.beds.push(bed);
        }
        let said = |bed: &BedReport, why: &String| format!("bed {}: {why}", bed.bed);
        let failing = report
            .beds
            .iter()
            .flat_map(|bed| bed.reasons.iter().take(bed.failing).map(move |why| said(bed, why)));
        let others = report
            .beds
            .iter()
            .flat_map(|bed| bed.reasons.iter().skip(bed.failing).map(move |why| said(bed, why)));
        let reasons: Vec<String> = failing.chain(others).collect();
        report.reasons.extend(reasons);
        telemetry::process_health(report.status as u8);
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
mod tests;
