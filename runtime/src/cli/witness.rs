//! What is seen of a live session besides its stages: its log, lines for people, health and
//! metrics. Runs on the source's thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::health::arrivals::Arrivals;
use crate::health::disk::RecordingSpace;
use crate::health::{Health, Recorder, Status};
use crate::link::event::SessionEvent;
use crate::link::ledger::SampleLedger;
use crate::link::live::Witness;
use crate::link::log::{LogLine, SessionLog};
use crate::link::saved::SavedSession;
use crate::link::transport::Endpoint;
use crate::link::types::{DeviceTotals, Totals};
use crate::pipeline::Load;
use crate::recorder::{self, RecorderEvent, Unrecorded};
use crate::session_folder::SessionFolder;
use crate::telemetry::{Befell, ClockFit, DeviceMeter};
use crate::text::hex;
use crate::web::Room;

/// Counts, one a second, of which one is saved.
const SAVE_EVERY: u32 = 60;
/// Lines kept until there is a log to write them to.
const MAX_KEPT: usize = 1000;
/// Devices and channels that health names as not recorded.
const MAX_NOT_RECORDED: usize = 64;
/// A device that is not recorded and was not refused again for this long has gone.
const NOT_RECORDED_FOR: Duration = Duration::from_secs(180);
/// Outages that `session.json` names one by one; further ones are added to the last.
const MAX_UNRECORDED: usize = 1000;

/// The witness of one session.
pub(super) struct SessionWitness {
    /// Begins its lines, where there are several sessions.
    name: Option<String>,
    health: Arc<Health>,
    /// Where the live page shows the session.
    room: Option<Arc<Room>>,
    /// Links that this program opens. Of those that sensors open only the devices are of interest: each
    /// connection has another name, and a stranger's is no link of the session.
    dialed: Vec<Dialed>,
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
    folder: Option<SessionFolder>,
    /// Moves of it that are followed.
    moves: u64,
    /// What the recorder's thread reports.
    reported: Arc<Mutex<Reported>>,
    /// Nothing is staged: the pipeline's heart is this one's.
    only_recorded: bool,
    /// Devices and channels that are not recorded, and why.
    not_recorded: BTreeMap<String, NotRecorded>,
}

/// A link that this program opens itself, again and again.
struct Dialed {
    name: String,
    /// It was there once: from then on the device behind it stands for it.
    was_up: bool,
}

/// What the recorder's thread reports until it is taken here.
#[derive(Default)]
struct Reported {
    events: Vec<SessionEvent>,
    unrecorded: Vec<Unrecorded>,
    /// The room was looked at, and is too little, which is reported once.
    told_room: bool,
}

impl Reported {
    fn note(&mut self, event: SessionEvent) {
        if self.events.len() < MAX_KEPT {
            self.events.push(event);
        }
    }
}

/// What of a device is not recorded, for its bed's health.
struct NotRecorded {
    status: Status,
    text: String,
    /// It is no longer true then, unless it is said again; `None` for what stays as it is.
    until: Option<Instant>,
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
            dialed: Vec::new(),
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
            folder: None,
            moves: 0,
            reported: Arc::default(),
            only_recorded: false,
            not_recorded: BTreeMap::new(),
        }
    }

    /// Nothing is staged, for this reason.
    pub fn only_recorded(&mut self, reason: String) {
        self.only_recorded = true;
        let condition = (Status::Degraded, format!("recorded, not staged: {reason}"));
        self.health.condition("staging", Some(condition));
        self.note(SessionEvent::NotStaged { reason });
    }

    /// The session's links are `endpoints`.
    pub fn with_links(mut self, endpoints: &[Endpoint]) -> Self {
        let is_dialed = |e: &&Endpoint| !matches!(e, Endpoint::Udp(_) | Endpoint::TcpListen(_));
        let dialed = |e: &Endpoint| Dialed { name: e.to_string(), was_up: false };
        self.dialed = endpoints.iter().filter(is_dialed).map(dialed).collect();
        self
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

    /// Takes what the recorder's thread reports. The lines for people come from here at once, those of
    /// the session's log with the next counts.
    pub fn recorder_observer(&self) -> impl FnMut(RecorderEvent) + Send + 'static {
        let (health, reported) = (self.health.clone(), self.reported.clone());
        health.recorder(Recorder::On);
        move |event| {
            let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                RecorderEvent::Waiting { reason } => {
                    health.recorder(Recorder::Stopped(reason.clone()));
                    let reason = format!("{reason}; samples wait in memory, staging goes on");
                    reported.note(SessionEvent::Recorder { recording: false, reason });
                }
                RecorderEvent::Losing { reason } => {
                    health.recorder(Recorder::Stopped(reason.clone()));
                    let reason = format!("{reason}; samples are lost, staging goes on");
                    reported.note(SessionEvent::Recorder { recording: false, reason });
                }
                RecorderEvent::Lost(lost) => {
                    let Unrecorded { from_s, to_s, samples, reason } = lost.clone();
                    reported.unrecorded.push(lost);
                    reported.note(SessionEvent::Unrecorded { from_s, to_s, samples, reason });
                }
                RecorderEvent::Resumed { after } => {
                    health.recorder(Recorder::On);
                    let reason = format!("after {:.0} s", after.as_secs_f64());
                    reported.note(SessionEvent::Recorder { recording: true, reason });
                }
                RecorderEvent::Displaced { reason } => {
                    health.condition("folder", Some((Status::Failing, reason.clone())));
                    reported.note(SessionEvent::Moved { folder: None, reason });
                }
                RecorderEvent::Moved { folder, reason } => {
                    health.out_dir(folder.clone());
                    let folder = folder.display().to_string();
                    let condition = format!("the session goes on in {folder}: {reason}");
                    health.condition("folder", Some((Status::Degraded, condition)));
                    reported.note(SessionEvent::Moved { folder: Some(folder), reason });
                }
                RecorderEvent::Space(space) => note_room(&health, &mut reported, space),
                RecorderEvent::Unreserved { reason } => tracing::info!("{reason}"),
            }
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
    pub fn begin(&mut self, folder: &SessionFolder, recording: &Path, saved: &SavedSession) {
        let out = folder.path();
        let out = out.as_path();
        self.folder = Some(folder.clone());
        self.saved = Some((out.to_owned(), saved.clone()));
        self.recording = recording.to_owned();
        self.counted.recorded = self.recorded_bytes();
        let opened = SessionLog::open(out);
        let refused = opened.as_ref().err().map(|reason| {
            tracing::error!("{reason}; recording goes on without");
            (Status::Degraded, format!("not written, recording goes on: {reason}"))
        });
        self.health.condition("log", refused);
        self.log = opened.ok();
        if let Some(room) = &self.room {
            room.restore_marks(recorder::marks(out));
        }
        for line in std::mem::take(&mut self.kept) {
            self.write(&line);
        }
    }

    /// The session with its last counts.
    pub fn conclude(&mut self, saved: SavedSession) -> SavedSession {
        self.look();
        self.health.recorder(Recorder::Off);
        let mut saved = saved.plus(&self.totals);
        if let Some((_, with_outages)) = &self.saved {
            saved.unrecorded.clone_from(&with_outages.unrecorded);
        }
        saved
    }

    /// Goes on where the session does.
    fn follow(&mut self) {
        let moved = self.folder.as_ref().and_then(|folder| folder.moved(&mut self.moves));
        let Some(out) = moved else { return };
        if let Some(log) = &mut self.log
            && let Err(reason) = log.move_to(&out)
        {
            tracing::error!("{reason}; the session's log goes on where nobody finds it");
        }
        if let Some(name) = self.recording.file_name() {
            self.recording = out.join(name);
        }
        if let Some((place, saved)) = &mut self.saved {
            *place = out;
            if let Err(reason) = saved.clone().plus(&self.totals).write(place) {
                tracing::error!("{reason}");
            }
        }
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

    fn tell(&mut self, line: &LogLine) {
        let event = &line.event;
        self.note_link(event);
        self.note_recorded(event);
        if let Some(room) = &self.room {
            room.line(line);
        }
        let name = self.name.as_deref().map(|name| format!("bed {name}: ")).unwrap_or_default();
        let (kind, essential) = (format!("{name}{}", event.kind()), event.is_essential());
        let kind = kind.as_str();
        if event.is_loss() {
            tracing::error!(kind, essential, "{name}{event}");
        } else if event.is_trouble() {
            tracing::warn!(kind, essential, "{name}{event}");
        } else if matches!(event, SessionEvent::Ledger { .. } | SessionEvent::Status { .. }) {
            tracing::debug!(kind, essential, "{name}{event}");
        } else {
            tracing::info!(kind, essential, "{name}{event}");
        }
    }

    /// Devices stand for their links; a link that this program opens stands for itself until it is there.
    fn note_link(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::LinkUp { link } => {
                for dialed in self.dialed.iter_mut().filter(|dialed| dialed.leads_to(link)) {
                    dialed.was_up = true;
                    self.health.forget_link(&dialed.name);
                }
            }
            SessionEvent::LinkDown { link, .. }
                if self.dialed.iter().any(|dialed| dialed.name == *link && !dialed.was_up) =>
            {
                self.health.link(link, false);
            }
            SessionEvent::OwnRecording { link, .. } | SessionEvent::LinkClosed { link, .. } => {
                self.health.forget_link(link);
            }
            _ => {}
        }
    }

    /// A sensor that sends and is not recorded is an alarm for as long as it lasts.
    fn note_recorded(&mut self, event: &SessionEvent) {
        let text = event.to_string();
        match event {
            SessionEvent::NotRecorded { device, .. } => {
                let until = Some(Instant::now() + NOT_RECORDED_FOR);
                let told = NotRecorded { status: Status::Failing, text, until };
                self.not_recorded.insert(device.clone(), told);
            }
            SessionEvent::LeftOut { device, channel, .. } => {
                let key = format!("{device} {channel}");
                let told = NotRecorded { status: Status::Degraded, text, until: None };
                self.not_recorded.insert(key, told);
            }
            SessionEvent::Device { device, .. } | SessionEvent::OwnRecording { device, .. } => {
                if self.not_recorded.remove(device).is_none() {
                    return;
                }
            }
            _ => return,
        }
        while self.not_recorded.len() > MAX_NOT_RECORDED {
            self.not_recorded.pop_last();
        }
        self.tell_not_recorded();
    }

    fn tell_not_recorded(&self) {
        let worst = self.not_recorded.values().map(|told| told.status).max();
        let reasons: Vec<&str> = self.not_recorded.values().map(|t| t.text.as_str()).collect();
        let condition = worst.map(|status| (status, reasons.join("; ")));
        self.health.condition("not-recorded", condition);
    }

    /// A device that has long been gone is no alarm any more.
    fn forget_not_recorded(&mut self) {
        let (before, now) = (self.not_recorded.len(), Instant::now());
        self.not_recorded.retain(|_, told| told.until.is_none_or(|until| now < until));
        if self.not_recorded.len() != before {
            self.tell_not_recorded();
        }
    }

    fn note_device(&self, now: &DeviceTotals, arrivals: &Arrivals) {
        let known = arrivals.devices.iter().find(|known| known.device == now.device);
        let Some(known) = known.filter(|known| known.has_come) else { return };
        if now.is_up || !known.has_ended {
            self.health.link(&hex(now.device), now.is_up);
        } else {
            self.health.forget_link(&hex(now.device));
        }
    }

    /// Devices that are not part of the session any more.
    fn forget_devices(&mut self, totals: &Totals) {
        let health = &self.health;
        self.devices.retain(|known| {
            let stays = totals.devices.iter().any(|device| device.device == known.last.device);
            if !stays {
                health.forget_link(&hex(known.last.device));
            }
            stays
        });
    }

    fn write(&mut self, line: &LogLine) {
        let failure = self.log.as_mut().and_then(|log| log.write(line));
        if let Some(failure) = failure {
            tracing::error!("{failure}; until it can, the session goes on without its log");
        }
    }

    /// What the pipeline and the recorder say of themselves.
    fn look(&mut self) {
        self.follow();
        let turns = self.load.turns();
        if turns != self.turns || self.only_recorded {
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
        let reported = {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut reported.events), std::mem::take(&mut reported.unrecorded))
        };
        let (events, unrecorded) = reported;
        events.into_iter().for_each(|event| self.note(event));
        if let (false, Some((_, saved))) = (unrecorded.is_empty(), &mut self.saved) {
            unrecorded.into_iter().for_each(|lost| add_outage(&mut saved.unrecorded, lost));
            // Not with the next counts: a cut must not make it unknown.
            self.unsaved = SAVE_EVERY;
        }
    }

    fn recorded_bytes(&self) -> u64 {
        std::fs::metadata(&self.recording).map_or(0, |metadata| metadata.len())
    }

    /// A line of our own, at the time of the last one.
    pub fn note(&mut self, event: SessionEvent) {
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
        if let Some(device) = self.devices.get_mut(index) {
            device.count(now);
        }
    }
}

impl Dialed {
    /// Whether `link` is it, or a stream that it found.
    fn leads_to(&self, link: &str) -> bool {
        let rest = link.strip_prefix(self.name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" #"))
    }
}

/// Tells how long the recording can go on; where that is too little, in a line as well.
fn note_room(health: &Health, reported: &mut Reported, space: RecordingSpace) {
    health.space(space);
    if let Some(hours) = health.hours_left().filter(|&hours| space.is_short(hours))
        && !std::mem::replace(&mut reported.told_room, true)
    {
        reported.note(SessionEvent::Room { hours });
    }
}

fn add_outage(all: &mut Vec<Unrecorded>, lost: Unrecorded) {
    let is_full = all.len() >= MAX_UNRECORDED;
    match all.last_mut().filter(|_| is_full) {
        Some(last) => {
            last.to_s = lost.to_s;
            last.samples += lost.samples;
        }
        None => all.push(lost),
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
        self.forget_devices(&totals);
        for device in totals.devices.iter().copied() {
            self.count(device);
            self.note_device(&device, &totals.arrivals);
        }
        self.health.arrivals(totals.arrivals.clone());
        if let Some(room) = &self.room {
            room.totals(&totals);
        }
        self.totals = totals;
        self.forget_not_recorded();
        self.look();
        self.save();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::arrivals::DeviceArrivals;
    use crate::health::{Beds, Limits};

    /// Devices 1, 2 and so on: has it a link, has it said goodbye.
    fn totals(devices: &[(bool, bool)]) -> Totals {
        let mut totals = Totals::default();
        for (device, &(is_up, has_ended)) in (1..).zip(devices) {
            let samples = SampleLedger::default();
            let (fast_ppm, offset_s, round_trip_s) = (None, None, None);
            let counts = DeviceTotals { device, is_up, samples, fast_ppm, offset_s, round_trip_s };
            totals.devices.push(counts);
            let (has_come, age_s, channels) = (true, 0.0, vec![]);
            let arrivals = DeviceArrivals { device, has_come, has_ended, age_s, channels };
            totals.arrivals.devices.push(arrivals);
        }
        totals
    }

    #[test]
    fn devices_stand_for_their_links() {
        let beds = Arc::new(Beds::new(Limits::default()));
        let watched = beds.begin("1", None);
        let health = watched.health.clone();
        let links = [Endpoint::Lsl("q".into()), Endpoint::TcpListen(([127, 0, 0, 1], 1).into())];
        let mut witness = SessionWitness::new(None, health.clone(), None).with_links(&links);
        let links = || (health.report().links_up, health.report().links);
        let line = |witness: &mut SessionWitness, is_up: bool, link: &str| {
            let (link, reason) = (link.to_owned(), String::new());
            let event = match is_up {
                true => SessionEvent::LinkUp { link },
                false => SessionEvent::LinkDown { link, reason },
            };
            witness.line(LogLine { session_s: 0.0, utc: String::new(), event });
        };
        line(&mut witness, false, "lsl q");
        assert_eq!(links(), (0, 1), "no such stream yet");
        line(&mut witness, true, "lsl q #1");
        assert_eq!(links(), (0, 0));
        line(&mut witness, true, "tcp 127.0.0.1:9");
        line(&mut witness, false, "tcp 127.0.0.1:9");
        assert_eq!(links(), (0, 0), "a stranger's is no link of the session");
        for (devices, expected) in [
            (&[(true, false)][..], (1, 1)),
            (&[(false, false)], (0, 1)),
            (&[(true, false), (true, false)], (2, 2)),
            (&[(false, true), (true, false)], (1, 1)),
            (&[], (0, 0)),
        ] {
            witness.totals(totals(devices));
            assert_eq!(links(), expected, "{devices:?}");
        }
    }
}
