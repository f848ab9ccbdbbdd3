//! The links' thread: takes what links tell, routes it to the session of the device at the other
//! end, and hands what comes of it to the sessions' threads. One session for all devices, or one a
//! device (beds). Waits for nobody: a session's thread that does not take its samples loses them,
//! counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use jiff::{Timestamp, ZonedDateTime};
use sfm_firmware_bridge::{FromDevice, FromHost, MAX_FRAME_BYTES, encode};
use tokio::sync::mpsc;

use super::LinkId;
use super::clock::{HostClock, HostSeconds};
use super::device::{Out, Violation};
use super::ledger::{FrameLedger, SampleLedger};
use super::log::{LogLine, Noted, SessionEvent, hex};
use super::port::Port;
use super::session::{Session, SessionChannel};
use super::transport::{Endpoint, Wire};
use crate::edf::DateTime;
use crate::service::bind::Devices;
use crate::signal::DigitalBlock;

/// What the links' thread hands to a session's thread, at most: some minutes of a full montage.
const QUEUE: usize = 1 << 15;
/// Beds of one process.
const MAX_BEDS: usize = 256;
/// How often holes, silence and requests are looked after: real seconds at a speed of 1.
const TICK_S: f64 = 0.1;
const SHORTEST_TICK_S: f64 = 0.002;
/// How long a device that was cut off is not taken again, and how many are remembered.
const BARRED: Duration = Duration::from_secs(60);
const MAX_BARRED: usize = 4096;
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
}

/// A session's counts.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Each channel's ledger, in the recording's order.
    pub channels: Vec<SampleLedger>,
    /// Each device.
    pub devices: Vec<DeviceTotals>,
    /// Frames of all links of the session.
    pub frames: FrameLedger,
    /// Blocks that the session's thread did not take.
    pub dropped_blocks: u64,
    /// Links that are up.
    pub links: usize,
}

/// A device's counts and its clock.
#[derive(Debug, Clone, Copy)]
pub struct DeviceTotals {
    /// The device.
    pub device: u64,
    /// It has a link.
    pub is_up: bool,
    /// The sum over its channels.
    pub samples: SampleLedger,
    /// Parts per million that its clock is fast.
    pub fast_ppm: Option<f64>,
    /// The session's time at its tick 0, seconds.
    pub offset_s: Option<f64>,
    /// Median round trip, seconds.
    pub round_trip_s: Option<f64>,
}

/// Which devices belong together.
pub enum Beds {
    /// All of them, in this session.
    One(Box<Session>, SyncSender<FromLinks>),
    /// Each device is a session of its own; this makes it, at its first hello.
    PerDevice(NewBed),
}

/// Makes the session of a device and starts the thread that takes what it tells; one sentence if
/// that is not possible. Called on the links' thread.
pub type NewBed = Box<dyn FnMut(u64) -> Result<(Session, SyncSender<FromLinks>), String> + Send>;

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

struct OpenLink {
    port: Port,
    sender: mpsc::Sender<Vec<u8>>,
    /// Index of its bed.
    bed: Option<usize>,
}

/// State of the links' thread.
pub struct Hub {
    clock: HostClock,
    links: BTreeMap<LinkId, OpenLink>,
    beds: Vec<Bed>,
    per_device: Option<NewBed>,
    /// Devices whose samples are taken.
    allowed: Devices,
    /// Devices that were cut off, and when they may come again.
    barred: BTreeMap<u64, Instant>,
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
    pub fn new(clock: HostClock, beds: Beds, allowed: Devices) -> Self {
        let (beds, per_device) = match beds {
            Beds::One(session, to) => (vec![Bed::new(None, *session, to)], None),
            Beds::PerDevice(new_bed) => (Vec::new(), Some(new_bed)),
        };
        let utc_offset_s = utc_offset_s(clock.now_s(), clock.speed());
        Self {
            clock,
            links: BTreeMap::new(),
            beds,
            per_device,
            allowed,
            barred: BTreeMap::new(),
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
        let (wires, wire) = mpsc::channel(1024);
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
        self.note_resumed();
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

    /// Sessions that go on have started already.
    fn note_resumed(&mut self) {
        for bed in 0..self.beds.len() {
            let started = self.beds.get(bed).filter(|bed| bed.started);
            if let Some(channels) = started.map(|bed| bed.session.channels().len()) {
                let event = SessionEvent::Started { channels, resumed: true };
                self.note(bed, Noted { at_s: self.clock.now_s(), event });
            }
        }
    }

    fn is_over(&self) -> bool {
        self.per_device.is_none() && self.beds.iter().all(|bed| bed.ended)
    }

    fn take(&mut self, told: Wire) {
        let now_s = self.clock.now_s();
        match told {
            Wire::Up { link, name, sender } => {
                self.note_everywhere(now_s, SessionEvent::LinkUp { link: name.clone() });
                // Who has no session waits for the first hello, which says whose it is.
                let bed = self.per_device.is_none().then_some(0);
                self.links.insert(link, OpenLink { port: Port::new(name, now_s), sender, bed });
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
        let mut out = Out::default();
        let OpenLink { port, bed, .. } = &mut open;
        let result = port.bytes(bytes, now_s, |device, message| {
            self.message(link, (device, bed), message, now_s, &mut out)
        });
        let bed = open.bed;
        self.links.insert(link, open);
        if let Some(bed) = bed {
            self.dispatch(bed, out, now_s);
        }
        if let Err(violation) = result {
            self.cut_off(link, &violation, now_s);
        }
    }

    fn message(
        &mut self,
        link: LinkId,
        (device, bed): (&mut Option<u64>, &mut Option<usize>),
        message: &FromDevice<'_>,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<(), Violation> {
        if let FromDevice::Hello(hello) = message {
            if !self.allowed.accept(hello.device) {
                let device = hex(hello.device);
                return Err(Violation(format!(
                    "{device} is none of the devices of --allow-device"
                )));
            }
            if self.barred.contains_key(&hello.device) {
                return Err(Violation("was cut off less than a minute ago".to_owned()));
            }
            // A device that ended its session begins the next one over the same link.
            let is_over = bed.and_then(|bed| self.beds.get(bed)).is_none_or(|bed| bed.ended);
            if is_over && (bed.is_none() || self.per_device.is_some()) {
                *bed = Some(self.bed_of(hello.device)?);
            }
            let session = bed.and_then(|bed| self.beds.get_mut(bed));
            let Some(bed) = session else { return Ok(()) };
            *device = bed.session.hello(link, hello, now_s, out)?.then_some(hello.device);
            return Ok(());
        }
        let (Some(bed), Some(device)) = (bed.and_then(|bed| self.beds.get_mut(bed)), *device)
        else {
            return Ok(());
        };
        bed.session.message(device, message, now_s, out)
    }

    /// The bed of a device, a new one for a new device.
    fn bed_of(&mut self, device: u64) -> Result<usize, Violation> {
        let known = self.beds.iter().position(|bed| bed.device == Some(device) && !bed.ended);
        if let Some(known) = known {
            return Ok(known);
        }
        let Some(new_bed) = &mut self.per_device else { return Ok(0) };
        if self.beds.iter().filter(|bed| !bed.ended).count() >= MAX_BEDS {
            return Err(Violation(format!("is one more than the {MAX_BEDS} beds of a process")));
        }
        let (session, to) =
            new_bed(device).map_err(|reason| Violation(format!("gets no bed: {reason}")))?;
        self.beds.push(Bed::new(Some(device), session, to));
        Ok(self.beds.len() - 1)
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
        let speed = self.clock.speed();
        let late: Vec<(LinkId, Violation)> = self
            .links
            .iter()
            .filter_map(|(link, open)| Some((*link, open.port.check_hello(now_s, speed).err()?)))
            .collect();
        for (link, violation) in late {
            self.cut_off(link, &violation, now_s);
        }
        if now_s >= self.next_totals_s {
            self.next_totals_s = now_s + 1.0_f64.max(0.2 * speed);
            (0..self.beds.len()).for_each(|bed| self.totals(bed));
        }
        self.barred.retain(|_, until| *until > Instant::now());
        if now_s >= self.next_rejected_s {
            self.next_rejected_s = now_s + REJECTED_S;
            self.note_rejected(now_s);
        }
    }

    fn totals(&mut self, bed: usize) {
        let links = || self.links.values().filter(|link| link.bed == Some(bed));
        let up = links().count();
        let frames = links().fold(FrameLedger::default(), |sum, link| sum.plus(link.port.frames));
        let Some(state) = self.beds.get_mut(bed).filter(|bed| !bed.ended) else { return };
        let totals = Totals {
            devices: state.session.device_totals(),
            channels: state.session.ledgers().into_iter().map(|(_, ledger)| ledger).collect(),
            frames: state.frames.plus(frames),
            dropped_blocks: state.dropped_blocks,
            links: up,
        };
        state.hand(FromLinks::Totals(Box::new(totals)));
    }

    /// While this thread stood still nobody was silent: what came meanwhile is still to be read.
    fn forgive_stall(&mut self, now_s: HostSeconds) {
        let stall_s = now_s - std::mem::replace(&mut self.ticked_s, now_s);
        if stall_s > STALL_S * self.clock.speed() {
            self.beds.iter_mut().for_each(|bed| bed.session.forgive(stall_s));
        }
    }

    fn note_rejected(&mut self, now_s: HostSeconds) {
        let mut rejected = Vec::new();
        for open in self.links.values_mut() {
            if let (Some(bed), Some(frames)) = (open.bed, open.port.newly_rejected()) {
                rejected.push((bed, open.port.name.clone(), frames));
            }
        }
        for (bed, link, frames) in rejected {
            self.note(bed, Noted { at_s: now_s, event: SessionEvent::Rejected { link, frames } });
        }
    }

    /// Blocks and lines to the session's thread, messages to the devices.
    fn dispatch(&mut self, bed: usize, out: Out, now_s: HostSeconds) {
        let Out { blocks, log, send } = out;
        let Some(state) = self.beds.get_mut(bed) else { return };
        if !state.started && state.session.axis().started_s.is_some() {
            state.started = true;
            let behind_s = (now_s - state.session.axis().start_s()) / self.clock.speed();
            let back = jiff::SignedDuration::try_from_secs_f64(behind_s).unwrap_or_default();
            let start = ZonedDateTime::now().saturating_sub(back);
            let start_utc_ms = start.timestamp().as_millisecond();
            let channels = state.session.channels().to_vec();
            let (count, start) = (channels.len(), local(&start));
            state.hand(FromLinks::Started(Box::new(Started { channels, start, start_utc_ms })));
            let event = SessionEvent::Started { channels: count, resumed: false };
            self.note(bed, Noted { at_s: now_s, event });
        }
        if let Some(state) = self.beds.get_mut(bed) {
            blocks.into_iter().for_each(|block| state.hand(FromLinks::Block(block)));
        }
        for noted in log {
            self.note(bed, noted);
        }
        self.send_all(send);
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

    fn down(&mut self, link: LinkId, reason: String, now_s: HostSeconds) {
        let Some(open) = self.links.remove(&link) else { return };
        if let Some(bed) = open.bed.and_then(|bed| self.beds.get_mut(bed)) {
            bed.frames = bed.frames.plus(open.port.frames);
            bed.session.link_lost(link);
        }
        let event = SessionEvent::LinkDown { link: open.port.name, reason };
        match open.bed {
            Some(bed) => self.note(bed, Noted { at_s: now_s, event }),
            None => self.note_everywhere(now_s, event),
        }
    }

    fn cut_off(&mut self, link: LinkId, violation: &Violation, now_s: HostSeconds) {
        let Some(open) = self.links.remove(&link) else { return };
        if let Some(bed) = open.bed.and_then(|bed| self.beds.get_mut(bed)) {
            bed.frames = bed.frames.plus(open.port.frames);
            bed.session.link_lost(link);
        }
        let device = open.port.said_hello;
        // It may come again at once and again: one line is enough.
        let is_known = device.is_some_and(|device| self.barred.contains_key(&device));
        if is_known {
            return;
        }
        if let Some(device) = device.filter(|_| self.barred.len() < MAX_BARRED) {
            self.barred.insert(device, Instant::now() + BARRED);
        }
        let device = device.map(|d| format!("device {} ", hex(d))).unwrap_or_default();
        let (link, reason) = (open.port.name, format!("{device}{violation}"));
        let event = SessionEvent::CutOff { link, reason };
        match open.bed {
            Some(bed) => {
                self.note(bed, Noted { at_s: now_s, event });
                // A bed for a device that is none.
                if self.per_device.is_some() && self.beds.get(bed).is_some_and(|bed| !bed.started) {
                    self.end(bed, "its device was cut off", now_s);
                }
            }
            None => self.note_everywhere(now_s, event),
        }
    }

    fn note_everywhere(&mut self, now_s: HostSeconds, event: SessionEvent) {
        if self.per_device.is_some() {
            match event.is_trouble() {
                true => tracing::warn!("{event}"),
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
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.send(link, FromHost::Stop));
        (0..self.beds.len()).for_each(|bed| self.end(bed, "stopped", now_s));
    }
}

impl Bed {
    fn new(device: Option<u64>, session: Session, to: SyncSender<FromLinks>) -> Self {
        let started = session.axis().started_s.is_some();
        let frames = FrameLedger::default();
        Self { device, session, to: Some(to), started, ended: false, dropped_blocks: 0, frames }
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
