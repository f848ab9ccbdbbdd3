//! The links' thread: takes what links tell, routes it to the session of the device at the other
//! end, and hands what comes of it to the sessions' threads. One session for all devices, or one a
//! device (beds); a device that has no place in its session gets one of its own. Waits for nobody: a
//! session's thread that does not take its samples loses them, counted.

mod admit;
mod links;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use jiff::{Timestamp, ZonedDateTime};
use sfm_firmware_bridge::{FromDevice, FromHost, MAX_FRAME_BYTES, encode};
use tokio::sync::mpsc;

use self::links::{Closed, OpenLink, Place};
use super::admission::Admission;
use super::clock::{HostClock, HostSeconds};
use super::device::{Device, Out};
use super::event::{Noted, SessionEvent};
use super::ledger::FrameLedger;
use super::log::LogLine;
use super::probation::Probations;
use super::session::{Beginning, Session};
use super::transport::Endpoint;
use super::types::{LinkId, NoBed, SessionChannel, Totals, Violation};
use super::wire::{Wire, Wires};
use crate::edf::DateTime;
use crate::signal::DigitalBlock;
use crate::text::hex;

/// What the links' thread hands to a session's thread, at most: some minutes of a full montage.
const QUEUE: usize = 1 << 15;
/// Sessions beside one that all devices share.
const MAX_BESIDE: usize = 16;
/// How often holes, silence and requests are looked after: real seconds at a speed of 1.
const TICK_S: f64 = 0.1;
const SHORTEST_TICK_S: f64 = 0.002;
/// A minute between two lines about damaged frames.
const REJECTED_S: f64 = 60.0;
/// Real seconds between two looks after which this thread has stood still.
const STALL_S: f64 = 0.5;
/// The wall clock was set if it moved this much against the monotonic one, seconds.
const UTC_STEP_S: f64 = 0.5;

/// What a session's thread gets.
#[derive(Debug)]
pub enum FromLinks {
    /// Slot 0 is known, and with it the channels.
    Started(Box<Started>),
    /// Samples in their places.
    Block(DigitalBlock),
    /// A line of the session log.
    Log(Box<LogLine>),
    /// Now and then: the counts so far.
    Totals(Box<Totals>),
}

/// The start of a session.
#[derive(Debug, Clone)]
pub struct Started {
    /// The channels, in the recording's order.
    pub channels: Vec<SessionChannel>,
    /// Slot 0 by the wall clock, in the host's time zone, to the microsecond.
    pub start: DateTime,
    /// The same, milliseconds after 1970-01-01 UTC.
    pub start_utc_ms: i64,
    /// Channels that no recording can hold: device and label.
    pub left_out: Vec<(u64, String)>,
    /// Whether it goes on with a session that was cut.
    pub beginning: Beginning,
}

/// Which devices belong together.
pub enum Beds {
    /// All of them, in this session; the last makes sessions for those that have no place in it.
    One(Box<Session>, SyncSender<FromLinks>, NewBed),
    /// Each device is a session of its own; this makes it, once the device is admitted.
    PerDevice(NewBed),
}

/// A session and the end of the queue to its thread.
pub type Opened = (Session, SyncSender<FromLinks>);

/// Makes the session of a device and starts the thread that takes what it tells. Called on the
/// links' thread.
pub type NewBed = Box<dyn FnMut(u64) -> Result<Opened, NoBed> + Send>;

struct Bed {
    /// The device, where a session has one.
    device: Option<u64>,
    session: Session,
    /// `None` when the session is over.
    to: Option<SyncSender<FromLinks>>,
    started: bool,
    ended: bool,
    dropped_blocks: u64,
    /// Of links that are gone.
    frames: FrameLedger,
}

/// State of the links' thread.
pub struct Hub {
    clock: HostClock,
    links: BTreeMap<LinkId, OpenLink>,
    beds: Vec<Bed>,
    new_bed: NewBed,
    /// The first bed is that of every device that has a place in it.
    is_shared: bool,
    admission: Admission,
    /// Devices that have no bed yet.
    probations: Probations,
    /// Devices whose link is down, and its name.
    lost: BTreeMap<u64, String>,
    next_look: Instant,
    utc_offset_s: f64,
    next_totals_s: HostSeconds,
    next_rejected_s: HostSeconds,
    ticked_s: HostSeconds,
}

/// A queue between the links' thread and a session's.
pub fn queue() -> (SyncSender<FromLinks>, Receiver<FromLinks>) {
    sync_channel(QUEUE)
}

impl Hub {
    /// A hub with its first session, or with none yet.
    pub fn new(clock: HostClock, beds: Beds, admission: Admission) -> Self {
        let (beds, new_bed, is_shared) = match beds {
            Beds::One(session, to, new_bed) => (vec![Bed::new(None, *session, to)], new_bed, true),
            Beds::PerDevice(new_bed) => (Vec::new(), new_bed, false),
        };
        let utc_offset_s = utc_offset_s(clock.now_s(), clock.speed());
        Self {
            clock,
            links: BTreeMap::new(),
            beds,
            new_bed,
            is_shared,
            admission,
            probations: Probations::default(),
            lost: BTreeMap::new(),
            next_look: Instant::now(),
            utc_offset_s,
            next_totals_s: 0.0,
            next_rejected_s: REJECTED_S,
            ticked_s: clock.now_s(),
        }
    }

    /// Runs the endpoints until `stop` is set or every session is over.
    ///
    /// # Errors
    /// One sentence: an address cannot be taken, or there is no runtime. Told before anything runs.
    pub fn spawn(
        self,
        endpoints: Vec<Endpoint>,
        stop: Arc<AtomicBool>,
    ) -> Result<std::thread::JoinHandle<()>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("links cannot be served: {e}"))?;
        let (queue, wire) = mpsc::channel(1024);
        let (refusals, speed) = (self.admission.refusals().clone(), self.clock.speed());
        let wires = Wires { queue, refusals, speed };
        runtime.block_on(async {
            for endpoint in endpoints {
                let bound = endpoint.bind().await?;
                tokio::spawn(bound.run(wires.clone()));
            }
            Ok::<(), String>(())
        })?;
        std::thread::Builder::new()
            .name("links".to_owned())
            .spawn(move || runtime.block_on(self.run(wire, &stop)))
            .map_err(|e| format!("links cannot be served: {e}"))
    }

    async fn run(mut self, mut wire: mpsc::Receiver<Wire>, stop: &AtomicBool) {
        let period_s = (TICK_S / self.clock.speed()).max(SHORTEST_TICK_S);
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(period_s));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => self.tick(),
                told = wire.recv() => match told {
                    Some(told) => self.take(told),
                    None => break,
                },
            }
            if stop.load(Ordering::Relaxed) || self.is_over() {
                break;
            }
        }
        self.finish();
        // Devices get their last message.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    fn is_over(&self) -> bool {
        self.is_shared && self.beds.iter().all(|bed| bed.ended)
    }

    fn take(&mut self, told: Wire) {
        let now_s = self.clock.now_s();
        match told {
            Wire::Up(new) => {
                let link = new.link;
                // Who has no session waits for the first hello, which says whose it is.
                let bed = self.is_shared.then_some(0);
                let mut open = OpenLink::new(new, bed, now_s);
                if open.place.is_configured {
                    self.show(&mut open, now_s);
                }
                self.links.insert(link, open);
                self.send(link, FromHost::Start);
            }
            Wire::Bytes(link, bytes) => self.bytes(link, &bytes, now_s),
            Wire::Down(link, reason) => self.down(link, reason, now_s),
            Wire::Waiting(link, reason) => {
                self.note_everywhere(now_s, SessionEvent::LinkDown { link, reason });
            }
        }
    }

    fn bytes(&mut self, link: LinkId, bytes: &[u8], now_s: HostSeconds) {
        // Taken out while its messages go through the hub.
        let Some(mut open) = self.links.remove(&link) else { return };
        let before = open.port.device;
        open.place.heard_s = now_s;
        let mut out = Out::default();
        let OpenLink { port, place, .. } = &mut open;
        let result = port.bytes(bytes, now_s, |device, message| {
            self.message(link, device, place, message, now_s, &mut out)
        });
        self.settle(link, &mut open, before, now_s);
        let bed = open.place.bed;
        self.links.insert(link, open);
        match bed {
            Some(bed) => self.dispatch(bed, out, now_s),
            None => self.send_all(out.send),
        }
        if let Err(violation) = result {
            self.cut_off(link, &violation, now_s);
        }
    }

    fn message(
        &mut self,
        link: LinkId,
        device: &mut Option<u64>,
        place: &mut Place,
        message: &FromDevice<'_>,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<(), Violation> {
        if let FromDevice::Hello(hello) = message {
            self.admission.check(hello.device)?;
            (place.bye, place.has_greeted) = (None, true);
            if !self.is_bed_of(place.bed, hello.device) {
                let before = std::mem::replace(&mut place.bed, self.bed_of(hello.device)?);
                // Another device than the one before is at this link.
                if let Some(before) = before.filter(|before| Some(*before) != place.bed) {
                    self.displaced(before, link, now_s);
                }
            }
            let session = place.bed.and_then(|bed| self.beds.get_mut(bed));
            let Some(bed) = session else {
                *device = Some(hello.device);
                return self.probe(link, hello, now_s, out);
            };
            *device = bed.session.hello(link, hello, now_s, out)?.then_some(hello.device);
            return Ok(());
        }
        let Some(device) = *device else { return Ok(()) };
        if let FromDevice::Bye(reason) = message {
            place.bye = Some(*reason);
        }
        let Some(bed) = place.bed.and_then(|bed| self.beds.get_mut(bed)) else {
            return self.probe_on(device, place, message, now_s, out);
        };
        match bed.session.hears(device, link, now_s, out) {
            true => bed.session.message(device, message, now_s, out),
            false => Ok(()),
        }
    }

    /// The device of `bed` is not at the end of `link` any more.
    fn displaced(&mut self, bed: usize, link: LinkId, now_s: HostSeconds) {
        let Some(state) = self.beds.get_mut(bed) else { return };
        state.session.link_lost(link);
        if state.device.is_some() && !state.started {
            self.end(bed, "another device came over its link", now_s);
        }
    }

    /// A device that has no place in `from`'s recording gets one of its own.
    fn give_own_bed(&mut self, from: usize, device: Device, now_s: HostSeconds) {
        let (id, link) = (device.id, device.link);
        let event = match self.open_bed(id) {
            Ok(bed) => {
                let open = link.and_then(|link| self.links.get_mut(&link));
                let link = open.map(|open| {
                    open.place.bed = Some(bed);
                    open.port.name.clone()
                });
                if let Some(state) = self.beds.get_mut(bed) {
                    state.session.adopt(device);
                }
                return self.note(
                    from,
                    Noted {
                        at_s: now_s,
                        event: SessionEvent::OwnRecording {
                            device: hex(id),
                            link: link.unwrap_or_default(),
                        },
                    },
                );
            }
            Err(none) => {
                let state = self.beds.get_mut(from);
                state.and_then(|b| b.session.keep_waiting(device, none, now_s))
            }
        };
        event.into_iter().for_each(|event| self.note(from, Noted { at_s: now_s, event }));
    }

    fn tick(&mut self) {
        let now_s = self.clock.now_s();
        self.forgive_stall(now_s);
        self.watch_utc(now_s);
        for bed in 0..self.beds.len() {
            let mut out = Out::default();
            let Some(state) = self.beds.get_mut(bed).filter(|bed| !bed.ended) else { continue };
            let violations = state.session.tick(now_s, &mut out);
            self.dispatch(bed, out, now_s);
            for (link, violation) in violations {
                self.cut_off(link, &violation, now_s);
            }
            if self.beds.get(bed).is_some_and(|bed| bed.session.is_over()) {
                self.end(bed, "every device ended its session", now_s);
            }
        }
        self.admit_proven(now_s);
        self.look_after_links(now_s);
        let speed = self.clock.speed();
        if now_s >= self.next_totals_s {
            self.next_totals_s = now_s + 1.0_f64.max(0.2 * speed);
            (0..self.beds.len()).for_each(|bed| self.totals(bed));
        }
        if now_s >= self.next_rejected_s {
            self.next_rejected_s = now_s + REJECTED_S;
            self.note_rejected(now_s);
        }
    }

    fn totals(&mut self, bed: usize) {
        let links = || self.links.values().filter(|link| link.place.bed == Some(bed));
        let up = links().filter(|link| link.place.is_shown).count();
        let now_s = self.clock.now_s();
        let frames = links().fold(FrameLedger::default(), |sum, link| sum.plus(link.port.frames));
        let Some(state) = self.beds.get_mut(bed).filter(|bed| !bed.ended) else { return };
        let totals = Totals {
            devices: state.session.device_totals(),
            channels: state.session.ledgers().into_iter().map(|(_, ledger)| ledger).collect(),
            frames: state.frames.plus(frames),
            dropped_blocks: state.dropped_blocks,
            links: up,
            arrivals: state.session.arrivals(now_s),
        };
        state.hand(FromLinks::Totals(Box::new(totals)));
    }

    /// While this thread stood still nobody was silent: what came meanwhile is still to be read.
    fn forgive_stall(&mut self, now_s: HostSeconds) {
        let stall_s = now_s - std::mem::replace(&mut self.ticked_s, now_s);
        if stall_s > STALL_S * self.clock.speed() {
            self.beds.iter_mut().for_each(|bed| bed.session.forgive(stall_s));
            self.probations.forgive(stall_s);
            self.links.values_mut().for_each(|open| open.forgive(stall_s));
        }
    }

    fn note_rejected(&mut self, now_s: HostSeconds) {
        let mut rejected = Vec::new();
        for open in self.links.values_mut() {
            // Of who is no device nobody wants to know.
            let Place { bed, is_shown: true, .. } = open.place else { continue };
            if let (Some(bed), Some(frames)) = (bed, open.port.newly_rejected()) {
                rejected.push((bed, open.port.name.clone(), frames));
            }
        }
        for (bed, link, frames) in rejected {
            self.note(bed, Noted { at_s: now_s, event: SessionEvent::Rejected { link, frames } });
        }
    }

    /// Blocks and lines to the session's thread, messages to the devices.
    fn dispatch(&mut self, bed: usize, out: Out, now_s: HostSeconds) {
        let Out { blocks, log, send, leaving } = out;
        let Some(state) = self.beds.get_mut(bed) else { return };
        if !state.started && state.session.axis().started_s.is_some() {
            state.started = true;
            let behind_s = (now_s - state.session.axis().start_s()) / self.clock.speed();
            let back = jiff::SignedDuration::try_from_secs_f64(behind_s).unwrap_or_default();
            let start = ZonedDateTime::now().saturating_sub(back);
            let start_utc_ms = start.timestamp().as_millisecond();
            let channels = state.session.channels().to_vec();
            let (count, start) = (channels.len(), local(&start));
            let left_out = state.session.left_out().to_vec();
            let beginning = state.session.beginning().clone();
            let resumed = beginning == Beginning::GoesOn;
            let started = Started { channels, start, start_utc_ms, left_out, beginning };
            state.hand(FromLinks::Started(Box::new(started)));
            let event = SessionEvent::Started { channels: count, resumed };
            self.note(bed, Noted { at_s: now_s, event });
        }
        if let Some(state) = self.beds.get_mut(bed) {
            blocks.into_iter().for_each(|block| state.hand(FromLinks::Block(block)));
        }
        for noted in log {
            self.note(bed, noted);
        }
        self.send_all(send);
        leaving.into_iter().for_each(|device| self.give_own_bed(bed, device, now_s));
    }

    /// Messages for one link travel together.
    fn send_all(&mut self, mut messages: Vec<(LinkId, FromHost)>) {
        messages.sort_by_key(|(link, _)| *link);
        for group in messages.chunk_by(|a, b| a.0 == b.0) {
            let mut bytes = Vec::new();
            for (_, message) in group {
                let mut frame = [0; MAX_FRAME_BYTES];
                if let Ok(frame) = encode(message, &mut frame) {
                    bytes.extend_from_slice(frame);
                }
            }
            if let Some(open) = group.first().and_then(|(link, _)| self.links.get(link)) {
                // A device that does not take them gets the next ones.
                let _ = open.sender.try_send(bytes);
            }
        }
    }

    fn send(&mut self, link: LinkId, message: FromHost) {
        self.send_all(vec![(link, message)]);
    }

    fn note_everywhere(&mut self, now_s: HostSeconds, event: SessionEvent) {
        if !self.is_shared {
            match event.is_trouble() {
                true => tracing::warn!("{event}"),
                false if matches!(event, SessionEvent::Refused { .. }) => tracing::info!("{event}"),
                false => tracing::debug!("{event}"),
            }
            return;
        }
        self.note(0, Noted { at_s: now_s, event });
    }

    fn note(&mut self, bed: usize, noted: Noted) {
        let Some(state) = self.beds.get_mut(bed) else { return };
        // Events are noted as they happen, so the wall clock is read now.
        let start_s = state.session.axis().started_s.unwrap_or(noted.at_s);
        let utc = format!("{:.3}", Timestamp::now());
        let session_s = round_to_ms(noted.at_s - start_s);
        state.hand(FromLinks::Log(Box::new(LogLine { session_s, utc, event: noted.event })));
    }

    fn watch_utc(&mut self, now_s: HostSeconds) {
        let offset_s = utc_offset_s(now_s, self.clock.speed());
        let seconds = offset_s - self.utc_offset_s;
        if seconds.abs() > UTC_STEP_S {
            self.utc_offset_s = offset_s;
            for bed in 0..self.beds.len() {
                self.note(bed, Noted { at_s: now_s, event: SessionEvent::UtcStep { seconds } });
            }
        }
    }

    fn end(&mut self, bed: usize, reason: &str, now_s: HostSeconds) {
        let mut out = Out::default();
        let Some(state) = self.beds.get_mut(bed).filter(|bed| !bed.ended) else { return };
        state.session.finish(now_s, &mut out);
        self.dispatch(bed, out, now_s);
        self.totals(bed);
        let reason = reason.to_owned();
        self.note(bed, Noted { at_s: now_s, event: SessionEvent::Ended { reason } });
        if let Some(state) = self.beds.get_mut(bed) {
            // The session's thread takes what is queued, and then finds nobody at this end.
            (state.ended, state.to) = (true, None);
        }
    }

    fn finish(&mut self) {
        let now_s = self.clock.now_s();
        self.note_refused(true, now_s);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.send(link, FromHost::Stop));
        (0..self.beds.len()).for_each(|bed| self.end(bed, "stopped", now_s));
    }
}

impl Bed {
    fn new(device: Option<u64>, session: Session, to: SyncSender<FromLinks>) -> Self {
        let frames = FrameLedger::default();
        let (started, ended) = (false, false);
        Self { device, session, to: Some(to), started, ended, dropped_blocks: 0, frames }
    }

    fn hand(&mut self, told: FromLinks) {
        let Some(to) = &self.to else { return };
        match to.try_send(told) {
            Ok(()) => {}
            // Its thread has given up.
            Err(TrySendError::Disconnected(_)) => (self.ended, self.to) = (true, None),
            Err(TrySendError::Full(_)) => self.dropped_blocks += 1,
        }
    }
}

/// As an EDF header has it; 1985, where the clock says no year that EDF knows.
fn local(now: &ZonedDateTime) -> DateTime {
    let date = (i32::from(now.year()), now.month() as u8, now.day() as u8);
    let time = (now.hour() as u8, now.minute() as u8, now.second() as u8);
    let whole = DateTime::new(date, time).or_else(|| DateTime::new((1985, 1, 1), (0, 0, 0)));
    let micros = f64::from(now.subsec_nanosecond() / 1000) * 1e-6;
    whole.unwrap_or_default().plus_seconds(micros)
}

/// The wall clock less the monotonic one, seconds.
fn utc_offset_s(now_s: HostSeconds, speed: f64) -> f64 {
    Timestamp::now().as_millisecond() as f64 / 1e3 - now_s / speed
}

fn round_to_ms(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

/// How long a links' thread may take to end.
pub fn join(thread: std::thread::JoinHandle<()>, within: Duration) -> bool {
    let begin = Instant::now();
    while !thread.is_finished() {
        if begin.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    thread.join().is_ok()
}
