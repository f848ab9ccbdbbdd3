//! What is seen of a live session besides its stages: its log, lines for people, health and
//! metrics. Runs on the source's thread.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Failure;
use crate::link::hub::{DeviceTotals, Totals};
use crate::link::ledger::SampleLedger;
use crate::link::live::Witness;
use crate::link::log::{LogLine, SessionEvent, SessionLog, hex};
use crate::link::saved::SavedSession;
use crate::pipeline::Load;
use crate::recorder;
use crate::service::health::{Health, Recorder};
use crate::telemetry::{Befell, ClockFit, DeviceMeter};
use crate::web::Room;

/// Counts, one a second, of which one is saved.
const SAVE_EVERY: u32 = 60;
/// Lines kept until there is a log to write them to.
const MAX_KEPT: usize = 1000;

/// The witness of one session.
pub(super) struct SessionWitness {
    /// Begins its lines, where there are several sessions.
    name: Option<String>,
    health: Arc<Health>,
    /// Where the live page shows the session.
    room: Option<Arc<Room>>,
    load: Arc<Load>,
    log: Option<SessionLog>,
    kept: Vec<LogLine>,
    devices: Vec<Device>,
    totals: Totals,
    /// Seconds of the session at the last line.
    session_s: f64,
    turns: u64,
    counted: Counted,
    recording: PathBuf,
    /// The session as it began, and its folder.
    saved: Option<(PathBuf, SavedSession)>,
    unsaved: u32,
    /// Why the recorder stopped, from its thread.
    stopped: Arc<Mutex<Option<String>>>,
}

/// What the bed's meter was told so far.
#[derive(Default)]
struct Counted {
    overflow: u64,
    skipped: u64,
    recorded: u64,
}

struct Device {
    meter: DeviceMeter,
    last: DeviceTotals,
}

impl SessionWitness {
    /// A witness that tells `health` and, where there is a live page, `room`.
    pub fn new(name: Option<String>, health: Arc<Health>, room: Option<Arc<Room>>) -> Self {
        Self {
            name,
            health,
            room,
            load: Arc::new(Load::default()),
            log: None,
            kept: Vec::new(),
            devices: Vec::new(),
            totals: Totals::default(),
            session_s: 0.0,
            turns: 0,
            counted: Counted::default(),
            recording: PathBuf::new(),
            saved: None,
            unsaved: 0,
            stopped: Arc::default(),
        }
    }

    /// How the pipeline keeps up, which this tells on.
    pub fn load(&self) -> Arc<Load> {
        self.load.clone()
    }

    /// What the service knows of the session.
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// Where the live page shows the session.
    pub fn room(&self) -> Option<Arc<Room>> {
        self.room.clone()
    }

    /// Takes the recorder's report.
    pub fn recorder_stopped(&self) -> impl FnOnce(String) + Send + 'static {
        let (health, stopped) = (self.health.clone(), self.stopped.clone());
        move |reason| {
            tracing::error!("recording stopped: {reason}; staging goes on");
            health.recorder(Recorder::Stopped(reason.clone()));
            *stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        }
    }

    /// Keeps a line from before the session has a folder.
    pub fn keep(&mut self, line: LogLine) {
        self.tell(&line);
        if self.kept.len() < MAX_KEPT {
            self.kept.push(line);
        }
    }

    /// The session has a folder and records.
    pub fn begin(
        &mut self,
        out: &Path,
        recording: &Path,
        saved: &SavedSession,
    ) -> Result<(), Failure> {
        self.saved = Some((out.to_owned(), saved.clone()));
        self.recording = recording.to_owned();
        self.counted.recorded = self.recorded_bytes();
        self.log = Some(SessionLog::open(out).map_err(Failure::run)?);
        self.health.recorder(Recorder::On);
        if let Some(room) = &self.room {
            room.restore_marks(recorder::marks(out));
        }
        for line in std::mem::take(&mut self.kept) {
            self.write(&line);
        }
        Ok(())
    }

    /// The session with its last counts.
    pub fn conclude(&mut self, saved: SavedSession) -> SavedSession {
        self.look();
        self.health.recorder(Recorder::Off);
        saved.plus(&self.totals)
    }

    /// The counts so far, for a session that is cut.
    fn save(&mut self) {
        self.unsaved += 1;
        if self.unsaved < SAVE_EVERY {
            return;
        }
        self.unsaved = 0;
        let Some((out, saved)) = &self.saved else { return };
        if let Err(reason) = saved.clone().plus(&self.totals).write(out) {
            tracing::warn!("{reason}");
        }
    }

    /// A line for people.
    pub fn say(&self, text: &str) {
        match &self.name {
            Some(name) => super::say(&format!("bed {name}: {text}")),
            None => super::say(text),
        }
    }

    fn tell(&self, line: &LogLine) {
        let event = &line.event;
        self.note_link(event);
        if let Some(room) = &self.room {
            room.line(line);
        }
        let name = self.name.as_deref().map(|name| format!("bed {name}: ")).unwrap_or_default();
        if event.is_trouble() {
            tracing::warn!("{name}{event}");
        } else if matches!(event, SessionEvent::Ledger { .. } | SessionEvent::Status { .. }) {
            tracing::debug!("{name}{event}");
        } else {
            tracing::info!("{name}{event}");
        }
    }

    /// Of a bed that is one device's it is not told whose a new link is: the device stands for it.
    fn note_link(&self, event: &SessionEvent) {
        if self.name.is_some() {
            return;
        }
        match event {
            SessionEvent::LinkUp { link } => self.health.link(link, true),
            SessionEvent::LinkDown { link, .. } => self.health.link(link, false),
            SessionEvent::CutOff { link, .. } => self.health.forget_link(link),
            _ => {}
        }
    }

    fn write(&mut self, line: &LogLine) {
        let failure = self.log.as_mut().and_then(|log| log.write(line));
        if let Some(failure) = failure {
            tracing::error!("{failure}; the session goes on without its log");
        }
    }

    /// What the pipeline and the recorder say of themselves.
    fn look(&mut self) {
        let turns = self.load.turns();
        if turns != self.turns {
            self.turns = turns;
            self.health.heartbeat.touch();
        }
        let meter = &self.health.meter;
        meter.ring_fill(f64::from(self.load.fill()));
        for latency in self.load.take_latencies() {
            meter.epoch_delay(latency);
        }
        let (overflow, skipped) = (self.load.overflow(), self.load.skipped());
        meter.ring_overflow(overflow.saturating_sub(self.counted.overflow));
        meter.skipped(skipped.saturating_sub(self.counted.skipped));
        let is_behind = skipped > self.counted.skipped;
        let recorded = self.recorded_bytes();
        meter.recorded(recorded.saturating_sub(self.counted.recorded));
        self.counted = Counted { overflow, skipped, recorded };
        if let Some(epoch) = self.load.epochs().checked_sub(1) {
            self.health.epoch(epoch);
        }
        if is_behind {
            self.note(SessionEvent::Overload { epochs_skipped: skipped });
        }
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reason) = stopped {
            self.note(SessionEvent::Recorder { recording: false, reason });
        }
    }

    fn recorded_bytes(&self) -> u64 {
        std::fs::metadata(&self.recording).map_or(0, |metadata| metadata.len())
    }

    /// A line of our own, at the time of the last one.
    fn note(&mut self, event: SessionEvent) {
        let utc = format!("{:.3}", jiff::Timestamp::now());
        self.line(LogLine { session_s: self.session_s, utc, event });
    }

    fn count(&mut self, now: DeviceTotals) {
        let index = self.devices.iter().position(|d| d.last.device == now.device);
        let index = index.unwrap_or_else(|| {
            let bed = self.name.as_deref().unwrap_or("1");
            let samples = SampleLedger::default();
            let last = DeviceTotals { samples, is_up: true, ..now };
            self.devices.push(Device { meter: DeviceMeter::new(bed, now.device), last });
            self.devices.len() - 1
        });
        if self.name.is_some() {
            self.health.link(&hex(now.device), now.is_up);
        }
        if let Some(device) = self.devices.get_mut(index) {
            device.count(now);
        }
    }
}

impl Device {
    fn count(&mut self, now: DeviceTotals) {
        let (old, new) = (self.last.samples, now.samples);
        let meter = &self.meter;
        let more = |of: fn(&SampleLedger) -> u64| of(&new).saturating_sub(of(&old));
        meter.received(more(|l| l.received));
        meter.placed(more(|l| l.placed));
        meter.befell(Befell::Lost, more(|l| l.lost));
        meter.befell(Befell::Late, more(|l| l.late));
        meter.befell(Befell::Duplicate, more(|l| l.duplicate));
        meter.befell(Befell::Reordered, more(|l| l.reordered));
        meter.befell(Befell::Resent, more(|l| l.resent));
        meter.link(now.is_up);
        if now.is_up && !self.last.is_up {
            meter.reconnected();
        }
        if let (Some(drift_ppm), Some(offset_s)) = (now.fast_ppm, now.offset_s) {
            let round_trip = Duration::try_from_secs_f64(now.round_trip_s.unwrap_or_default());
            meter.clock(ClockFit {
                offset_s,
                drift_ppm,
                round_trip: round_trip.unwrap_or_default(),
            });
            meter.rate(1.0 + drift_ppm * 1e-6, 1.0);
        }
        self.last = now;
    }
}

impl Witness for SessionWitness {
    fn line(&mut self, line: LogLine) {
        self.session_s = line.session_s;
        self.tell(&line);
        self.write(&line);
    }

    fn totals(&mut self, totals: Totals) {
        for device in totals.devices.iter().copied() {
            self.count(device);
        }
        if let Some(room) = &self.room {
            room.totals(&totals);
        }
        self.totals = totals;
        self.look();
        self.save();
    }
}
