//! One simulated device: its clock, its link, its memory, and the account of every sample. Virtual
//! time in, packets out; the same calls give the same bytes. Owns no thread and no socket.
//!
//! **What makes the account exact for a host that counts by counters**: the first and the last block
//! of each channel in a session is exempt from loss, corruption, duplication and reordering; before a
//! reboot and at the end everything due is sent, blocks that are not full and waiting ones included;
//! frames on their way leave before the link goes down. A *stop* and a connection that breaks without
//! being planned end a session without that.

mod events;
mod samples;
mod speech;

use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;
use sfm_firmware_bridge::{ByeReason, Decoder, FromDevice, FromHost, MAX_FRAME_BYTES, MarkKind};

use self::speech::Note;
use super::faults::generator;
use super::ledger::Ledger;
use super::memory::Memory;
use super::plan::{Action, Span};
use super::queue::Queue;
use super::sampler::{Sampler, Sampling};
use super::spec::identity;
use super::{Cause, DeviceReport, Link, Packet, Playback, SensorSpec, SessionReport, SimError};

/// Nominal ticks of the device's clock in a second.
pub(super) const TICK_HZ: u32 = 1_000_000;
/// A device that waits for *start* says hello so often, seconds.
const HELLO_S: f64 = 1.0;
/// A device that never listens says hello so often, seconds.
const ONE_WAY_HELLO_S: f64 = 10.0;
/// From one status message to the next, seconds of device time.
const STATUS_S: f64 = 60.0;
/// What waits in memory is sent so many times faster than it is measured.
const CATCH_UP: f64 = 8.0;

type Out<'o> = &'o mut dyn FnMut(Packet<'_>);

/// A simulated device.
#[derive(Debug)]
pub struct Sensor {
    spec: SensorSpec,
    playback: Playback,
    fates: ChaCha8Rng,
    samplers: Vec<Sampler>,
    ledgers: Vec<Ledger>,
    memory: Memory,
    queue: Queue,
    report: DeviceReport,
    now_s: f64,
    /// True time of the last boot; `None` before the first.
    boot_s: Option<f64>,
    boots: u64,
    session: u64,
    /// True time of recording time 0.
    begin_s: Option<f64>,
    actions: Vec<(f64, Action)>,
    next_action: usize,
    /// Between *start* and the session's end.
    sampling: Option<Sampling>,
    /// The link is planned to be down.
    is_out: bool,
    /// Between crash and boot.
    is_off: bool,
    /// There is no connection.
    is_severed: bool,
    is_started: bool,
    is_stopping: bool,
    ended: Option<&'static str>,
    hello_s: f64,
    status_s: f64,
    resend_s: f64,
    /// From one frame out of memory to the next, seconds.
    resend_every_s: f64,
    /// Marks and contacts and when they happened, true time; they wait for the link.
    notes: VecDeque<(f64, Note)>,
    marks: u32,
    dropped_blocks: u32,
    /// Time requests and the ticks at which they arrived.
    requests: Vec<(u32, u64)>,
    /// Bytes of the host's open frame.
    inbox: Vec<u8>,
    /// Frames other than samples that were sent.
    controls: u64,
    values: Vec<i32>,
}

impl Sensor {
    /// A device that boots at the first call of any other function.
    ///
    /// # Errors
    /// [`SimError::Spec`] as [`SensorSpec::check`].
    pub fn new(spec: SensorSpec, playback: Playback) -> Result<Self, SimError> {
        spec.check()?;
        let off_of = |channel: usize| -> Vec<Span> {
            let of_channel = spec.plan.lead_offs.iter().filter(|l| l.channel == channel);
            of_channel.map(|lead_off| lead_off.span).collect()
        };
        let samplers: Vec<Sampler> = (0..)
            .zip(&spec.channels)
            .map(|(index, c)| Sampler::new(c, spec.block_s, spec.drift_ppm, off_of(index)))
            .collect();
        let blocks_hz: f64 =
            spec.channels.iter().map(|c| c.rate_hz() / c.block_samples(spec.block_s) as f64).sum();
        let report = DeviceReport {
            device: spec.device,
            drift_ppm: spec.drift_ppm,
            ..DeviceReport::default()
        };
        Ok(Sensor {
            fates: generator(spec.seed),
            samplers,
            ledgers: spec.channels.iter().map(|c| Ledger::new(&c.label)).collect(),
            memory: Memory::new(spec.memory_s, spec.channels.len()),
            queue: Queue::default(),
            report,
            now_s: 0.0,
            boot_s: None,
            boots: 0,
            session: 0,
            begin_s: None,
            actions: spec.plan.actions(spec.duration_s),
            next_action: 0,
            sampling: None,
            is_out: false,
            is_off: false,
            is_severed: spec.link == Link::Stream,
            is_started: false,
            is_stopping: false,
            ended: None,
            hello_s: 0.0,
            status_s: 0.0,
            resend_s: 0.0,
            resend_every_s: 1.0 / (CATCH_UP * blocks_hz),
            notes: VecDeque::new(),
            marks: 0,
            dropped_blocks: 0,
            requests: Vec::new(),
            inbox: Vec::new(),
            controls: 0,
            values: Vec::new(),
            spec,
            playback,
        })
    }

    /// Goes on to `true_time_s` and hands out everything that leaves until then, in order. A time
    /// before that of an earlier call is that time.
    ///
    /// # Errors
    /// [`SimError::Recording`] if the recording cannot be read; the device is then at its end.
    pub fn run_until(
        &mut self,
        true_time_s: f64,
        out: &mut impl FnMut(Packet<'_>),
    ) -> Result<(), SimError> {
        let ran = self.run(true_time_s, out);
        if ran.is_err() {
            self.ended = Some("failed");
        }
        ran
    }

    /// Answers time requests, and nothing else: for a link that wants the answers gone before it
    /// looks after the samples. [`Sensor::run_until`] does it first.
    pub fn answer(&mut self, true_time_s: f64, out: &mut impl FnMut(Packet<'_>)) {
        self.boot_once(true_time_s);
        let at_s = self.now_s.max(true_time_s);
        for (request, received_tick) in std::mem::take(&mut self.requests) {
            self.say_time(request, received_tick, at_s, out);
        }
    }

    /// Bytes from the host, in pieces of any length. What they ask for leaves with the next
    /// [`Sensor::run_until`], which is to follow with the same time. Without a link, and on a device
    /// that does not listen, they are lost.
    pub fn take(&mut self, from_host: &[u8], true_time_s: f64) {
        self.boot_once(true_time_s);
        self.now_s = self.now_s.max(true_time_s);
        if self.spec.one_way || !self.has_link() || self.ended.is_some() {
            self.inbox.clear();
            return;
        }
        for &byte in from_host {
            if self.inbox.len() < MAX_FRAME_BYTES {
                self.inbox.push(byte);
            }
            if byte == 0 {
                let frame = std::mem::take(&mut self.inbox);
                let mut buffer = [0; MAX_FRAME_BYTES];
                let message = Decoder::new(&mut buffer).push::<FromHost>(&mut frame.as_slice());
                if let Some(Ok(message)) = message {
                    self.obey(message);
                }
            }
        }
    }

    /// The connection broke: of a stream, or of a link that failed. What is on its way is lost.
    pub fn sever(&mut self, true_time_s: f64) {
        self.boot_once(true_time_s);
        self.now_s = self.now_s.max(true_time_s);
        if self.is_severed {
            return;
        }
        self.report.broken_connections += 1;
        self.unlink();
        self.is_severed = true;
        while let Some(frame) = self.queue.pop() {
            if let Some(cargo) = frame.cargo
                && let Some(ledger) = self.ledgers.get_mut(cargo.channel)
            {
                ledger.failed(cargo.counter, Cause::Outage);
            }
        }
    }

    /// A connection stands; the device says hello on it.
    pub fn restore(&mut self, true_time_s: f64) {
        self.is_severed = false;
        if self.boot_s.is_none() {
            self.boot_once(true_time_s);
        } else {
            self.now_s = self.now_s.max(true_time_s);
            if self.has_link() {
                self.greet(self.now_s);
            }
        }
    }

    /// A stream is to be connected: there is none, and the plan does not forbid it.
    pub fn wants_connection(&self) -> bool {
        self.is_severed && !self.is_out && !self.is_off && self.ended.is_none()
    }

    /// True time of the next thing that happens by itself, seconds; infinite if nothing will.
    pub fn next_due_s(&self) -> f64 {
        self.next_event().0
    }

    /// True time of recording time 0, seconds; `None` until a host starts the device.
    pub fn began_s(&self) -> Option<f64> {
        self.begin_s
    }

    /// Recording time 0 is at `true_time_s`: for devices that share a recording, of which another
    /// one was started first. The first call, or the device's own start, counts.
    pub fn begin_at(&mut self, true_time_s: f64) {
        self.begin_s.get_or_insert(true_time_s);
    }

    /// The device said bye: nothing will happen any more.
    pub fn is_finished(&self) -> bool {
        self.ended.is_some()
    }

    /// The account so far. What has not left yet counts as lost.
    pub fn report(&self) -> DeviceReport {
        DeviceReport {
            ended: self.ended.unwrap_or("interrupted").to_owned(),
            start_s: self.begin_s,
            channels: self.ledgers.iter().map(Ledger::report).collect(),
            ..self.report.clone()
        }
    }

    fn run(&mut self, true_time_s: f64, out: Out<'_>) -> Result<(), SimError> {
        self.answer(true_time_s, &mut |packet| out(packet));
        if std::mem::take(&mut self.is_stopping) && self.ended.is_none() {
            self.finish("stopped", out);
        }
        loop {
            let (due_s, event) = self.next_event();
            if due_s > true_time_s {
                break;
            }
            self.now_s = self.now_s.max(due_s);
            match event {
                Some(event) => self.act(event, out)?,
                None => break,
            }
        }
        self.now_s = self.now_s.max(true_time_s);
        Ok(())
    }

    fn obey(&mut self, message: FromHost) {
        match message {
            FromHost::Start => {
                self.is_started = true;
                self.greet(self.now_s);
                self.start_sampling();
            }
            FromHost::Stop => self.is_stopping = true,
            FromHost::TimeRequest { request } => {
                // A host asks once a second or so; who floods is answered that much.
                if self.requests.len() < MAX_FRAME_BYTES {
                    self.requests.push((request, self.tick(self.now_s)));
                }
            }
            FromHost::Acknowledge { channel, counter } => {
                self.memory.acknowledge(usize::from(channel), counter, self.now_s);
            }
        }
    }

    fn boot_once(&mut self, true_time_s: f64) {
        if self.boot_s.is_none() {
            self.now_s = true_time_s;
            self.boot(true_time_s);
        }
    }

    /// A new session: counters and ticks from 0.
    fn boot(&mut self, at_s: f64) {
        self.boot_s = Some(at_s);
        self.boots += 1;
        self.session = identity([self.spec.seed, 2, self.spec.device, self.boots]);
        (self.marks, self.dropped_blocks) = (0, 0);
        if self.has_link() {
            self.greet(at_s);
        }
        if self.spec.one_way {
            self.is_started = true;
            self.start_sampling();
        }
    }

    /// Samples from the next whole second on, if none are taken yet and the session has time left.
    fn start_sampling(&mut self) {
        let (None, Some(boot_s)) = (self.sampling, self.boot_s) else { return };
        let start_s = self.now_s.ceil().max(self.begin_s.unwrap_or_default());
        let is_first = self.report.sessions.is_empty();
        let begin_s = *self.begin_s.get_or_insert(start_s);
        let ends = |&&(_, action): &&(f64, Action)| matches!(action, Action::Crash | Action::End);
        let rest = self.actions.get(self.next_action..).unwrap_or_default();
        let Some(&(end_s, _)) = rest.iter().find(ends) else { return };
        let end_s = begin_s + end_s;
        if start_s >= end_s {
            return;
        }
        let place_s = self.spec.from_s + start_s - begin_s;
        let sampling = Sampling { start_s, end_s, place_s };
        self.samplers.iter_mut().for_each(|sampler| sampler.begin(&sampling));
        self.sampling = Some(sampling);
        let periods = ((self.now_s - boot_s) * self.clock() / STATUS_S).floor() + 1.0;
        self.status_s = boot_s + periods * STATUS_S / self.clock();
        self.report.sessions.push(SessionReport {
            session: self.session,
            boot_s: boot_s - begin_s,
            start_s: start_s - begin_s,
            end_s: end_s - begin_s,
            taken: vec![0; self.samplers.len()],
        });
        if is_first && self.spec.marks_lights {
            self.notes.push_back((start_s, Note::Mark(MarkKind::LightsOff)));
        }
    }

    /// The last word.
    fn finish(&mut self, how: &'static str, out: Out<'_>) {
        if self.is_usable() {
            self.say(&FromDevice::Bye(ByeReason::Stopped), self.now_s);
        }
        self.leave_all(out);
        self.end_session();
        self.ended = Some(how);
    }

    fn end_session(&mut self) {
        let recording_time_s = self.recording_time_s();
        if self.sampling.take().is_some()
            && let Some(session) = self.report.sessions.last_mut()
        {
            session.end_s = session.end_s.min(recording_time_s);
        }
        let next = self.report.sessions.len();
        self.ledgers.iter_mut().for_each(|ledger| ledger.end_session(next));
    }

    /// The plan ends a stream's connection.
    fn break_stream(&mut self) {
        if self.spec.link == Link::Stream {
            self.is_severed = true;
            self.unlink();
        }
    }

    /// What belongs to a connection ends with it.
    fn unlink(&mut self) {
        self.is_started &= self.spec.one_way || self.spec.link != Link::Stream;
        self.requests.clear();
        self.inbox.clear();
    }

    fn has_link(&self) -> bool {
        !self.is_out && !self.is_off && !self.is_severed
    }

    /// Samples can be sent.
    fn is_usable(&self) -> bool {
        self.has_link() && self.is_started
    }

    /// Speed of the device's clock.
    fn clock(&self) -> f64 {
        1.0 + self.spec.drift_ppm * 1e-6
    }

    /// The device's clock at a moment of true time.
    fn tick(&self, true_time_s: f64) -> u64 {
        let since_s = true_time_s - self.boot_s.unwrap_or(true_time_s);
        (since_s * self.clock() * f64::from(TICK_HZ)).round() as u64
    }

    fn recording_time_s(&self) -> f64 {
        self.now_s - self.begin_s.unwrap_or(self.now_s)
    }
}
