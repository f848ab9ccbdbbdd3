//! One device of a session: its channels, its clock, and the way of its samples from counters to
//! slots. A restart begins all of it anew on the same time axis. Refuses what no sensor says.

mod account;
mod samples;

use sfm_firmware_bridge::{Channel, FromDevice, FromHost, Hello, TimeReply};

use super::clock::{ClockFit, HostSeconds};
use super::describe::{mark_text, signal};
use super::event::{Noted, SessionEvent};
use super::reassembly::{Reassembly, Run};
use super::slot::Slot;
use super::types::{Axis, LinkId, Resumed, Settings, Violation};
use crate::signal::{DigitalBlock, SignalInfo};
use crate::text::hex;

/// Channels of one device.
pub const MAX_CHANNELS: u8 = 64;
/// What a device may say of itself in a minute besides samples, messages.
const MAX_REMARKS: u32 = 600;
/// Time requests whose reply is still awaited, at most.
const MAX_ASKED: usize = 32;
/// Marks that wait for their place, at most.
const MAX_OPEN_MARKS: usize = 64;
/// A minute of the session, between two ledgers in the log.
const LEDGER_S: f64 = 60.0;
/// Between two lines of the log about a clock.
const CLOCK_LOG_S: f64 = 600.0;

/// A device that is silent for so long is looked for behind other links, seconds of the session and real ones.
const OTHER_LINK_S: (f64, f64) = (3.0, 0.25);

/// What comes out of a session: samples for the recording and the pipeline, lines for the log,
/// messages to devices.
#[derive(Debug, Default)]
pub struct Out {
    /// Samples in their places, for each channel in order.
    pub blocks: Vec<DigitalBlock>,
    /// What happened.
    pub log: Vec<Noted>,
    /// Messages by link.
    pub send: Vec<(LinkId, FromHost)>,
    /// Devices that are ready for a session of their own.
    pub leaving: Vec<Device>,
}

impl Out {
    pub(super) fn note(&mut self, at_s: HostSeconds, event: SessionEvent) {
        self.log.push(Noted { at_s, event });
    }
}

/// A channel as its device describes it, and where its samples are.
#[derive(Debug)]
pub(super) struct DeviceChannel {
    pub signal: SignalInfo,
    pub reassembly: Reassembly,
    /// Runs in order that wait for the session's start or the clock's fit.
    held: Vec<Run>,
    held_samples: usize,
    /// The longest block so far, seconds: a slow channel is given more time.
    longest_block_s: f64,
    first: Option<(u64, u64)>,
    last: Option<(u64, u64)>,
}

/// A device.
#[derive(Debug)]
pub struct Device {
    pub(super) id: u64,
    pub(super) link: Option<LinkId>,
    pub(super) model: String,
    session: u64,
    tick_hz: u32,
    pub(super) fit: ClockFit,
    /// By the device's index; `None` until it has been described.
    channels: Vec<Option<DeviceChannel>>,
    /// The channels that are recorded; found by label.
    pub(super) slots: Vec<Slot>,
    /// The device's clock, as of its last samples.
    tick: u64,
    /// When samples last came, and when they first did.
    heard_s: HostSeconds,
    since_s: HostSeconds,
    silent: bool,
    received: u64,
    asked: Vec<(u32, HostSeconds)>,
    requests: u32,
    next_request_s: HostSeconds,
    next_acknowledge_s: HostSeconds,
    next_start_s: HostSeconds,
    next_other_s: HostSeconds,
    /// The link over which it last said hello.
    pub(super) greeted: Option<LinkId>,
    next_ledger_s: HostSeconds,
    next_clock_log_s: HostSeconds,
    marks: u32,
    /// Marks that wait for the session's start or the clock's fit: tick and text.
    open_marks: Vec<(u64, &'static str)>,
    /// It has said that it was stopped.
    pub(super) stopped: bool,
    pub(super) dropped_blocks: u32,
    remarks: u32,
    remarks_since_s: HostSeconds,
}

impl Device {
    /// A device that has just said hello.
    pub(super) fn new(hello: &Hello<'_>, now_s: HostSeconds) -> Self {
        let mut device = Self::known(hello.device, Vec::new(), now_s);
        device.begin(hello, now_s);
        device
    }

    /// It was not listened to for so long.
    pub(super) fn forgive(&mut self, stall_s: f64) {
        self.heard_s += stall_s;
        for slot in &mut self.slots {
            slot.placed_s = slot.placed_s.max(self.since_s) + stall_s;
        }
    }

    /// Described, and with a channel that has no place in the recording and could have one.
    pub(super) fn is_stranger(&self, left_out: &[(u64, String)]) -> bool {
        self.has_others(&self.slots, left_out)
    }

    /// The same, if it had its places in the session that was cut.
    pub(super) fn would_be_stranger(&self, cut: &Resumed) -> bool {
        self.has_others(&cut.slots_of(self.id), &cut.left_out)
    }

    fn has_others(&self, slots: &[Slot], left_out: &[(u64, String)]) -> bool {
        let described = !self.channels.is_empty() && self.channels.iter().all(Option::is_some);
        let is_left_out = |label: &str| left_out.iter().any(|(d, l)| *d == self.id && l == label);
        let mut signals = self.signals();
        described && signals.any(|s| !is_left_out(&s.label) && !slots.iter().any(|p| p.holds(s)))
    }

    /// Takes its places in the recording away; what is returned stays there and counts as ended.
    pub(super) fn part(&mut self, now_s: HostSeconds) -> Self {
        let slots = std::mem::take(&mut self.slots);
        Self { stopped: true, silent: true, ..Self::known(self.id, slots, now_s) }
    }

    /// A device of a session that goes on, not heard yet.
    pub(super) fn known(id: u64, slots: Vec<Slot>, now_s: HostSeconds) -> Self {
        Self {
            id,
            link: None,
            model: String::new(),
            session: 0,
            tick_hz: 1,
            fit: ClockFit::new(1),
            channels: Vec::new(),
            slots,
            tick: 0,
            heard_s: now_s,
            since_s: now_s,
            silent: false,
            received: 0,
            asked: Vec::new(),
            requests: 0,
            next_request_s: now_s,
            next_acknowledge_s: now_s,
            next_start_s: now_s,
            next_other_s: now_s,
            greeted: None,
            next_ledger_s: now_s + LEDGER_S,
            next_clock_log_s: now_s + LEDGER_S,
            marks: 0,
            open_marks: Vec::new(),
            stopped: false,
            dropped_blocks: 0,
            remarks: 0,
            remarks_since_s: now_s,
        }
    }

    /// Takes a hello: the same session goes on, another one begins anew.
    pub(super) fn hello(
        &mut self,
        hello: &Hello<'_>,
        axis: &Axis,
        now_s: HostSeconds,
        out: &mut Out,
    ) {
        if self.session == hello.session && !self.channels.is_empty() {
            return;
        }
        if !self.channels.is_empty() {
            self.place_marks(axis, now_s, out);
            self.end_session(axis, now_s, out);
            let (device, session) = (hex(self.id), hex(hello.session));
            out.note(now_s, SessionEvent::Restarted { device, session });
        }
        self.begin(hello, now_s);
    }

    fn begin(&mut self, hello: &Hello<'_>, now_s: HostSeconds) {
        self.model = hello.model.chars().take(64).collect();
        self.session = hello.session;
        self.tick_hz = hello.tick_hz.max(1);
        self.fit = ClockFit::new(self.tick_hz);
        self.channels = (0..hello.channels).map(|_| None).collect();
        self.tick = 0;
        self.marks = 0;
        if std::mem::take(&mut self.stopped) {
            // Nothing was expected of it until now.
            self.slots.iter_mut().for_each(|slot| slot.placed_s = now_s);
        }
        self.requests = 0;
        self.asked.clear();
        (self.next_request_s, self.next_start_s) = (now_s, now_s);
        self.slots.iter_mut().for_each(|slot| slot.alignment.restart());
    }

    /// All channels are described, the clock is known, samples have come.
    pub(super) fn is_ready(&self, now_s: HostSeconds) -> bool {
        let described = !self.channels.is_empty() && self.channels.iter().all(Option::is_some);
        described && self.fit.is_usable(now_s) && self.first_sample_s().is_some()
    }

    /// When the first sample was taken, on the host's clock.
    pub(super) fn first_sample_s(&self) -> Option<HostSeconds> {
        let ticks = self.channels.iter().flatten().filter_map(|c| Some(c.first?.1));
        self.fit.host_s(ticks.min()?)
    }

    /// The described channels.
    pub(super) fn signals(&self) -> impl Iterator<Item = &SignalInfo> {
        self.channels.iter().flatten().map(|c| &c.signal)
    }

    /// Samples lie on the axis from now on: channel `label` of this device is channel `index` of
    /// the session.
    pub(super) fn record(&mut self, label: &str, index: usize, recorded: &SignalInfo) {
        self.slots.push(Slot::new(label, index, recorded, 0));
    }

    /// Whether what comes over `link` is this device's: it said hello there last. Of two sensors under
    /// one number only one counts, since counters and clock are its own; when it falls silent, the
    /// other is asked for a hello.
    pub(super) fn is_heard_over(
        &mut self,
        link: LinkId,
        speed: f64,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> bool {
        if self.greeted == Some(link) {
            return true;
        }
        let patience_s = OTHER_LINK_S.0.max(OTHER_LINK_S.1 * speed);
        let is_gone = self.link.is_none() || now_s - self.heard_s > patience_s;
        if is_gone && now_s >= self.next_other_s {
            self.next_other_s = now_s + 1.0;
            out.send.push((link, FromHost::Start));
        }
        false
    }

    /// Takes a message other than hello.
    pub(super) fn message(
        &mut self,
        message: &FromDevice<'_>,
        axis: &Axis,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<(), Violation> {
        self.count_remark(message, now_s)?;
        match message {
            FromDevice::Hello(_) => {}
            FromDevice::Channel(channel) => self.describe(channel)?,
            FromDevice::Samples(samples) => self.samples(samples, axis, now_s, out)?,
            FromDevice::TimeReply(reply) => self.time_reply(reply, now_s),
            FromDevice::Mark(mark) => {
                // A mark that is sent again keeps its number.
                if mark.number >= self.marks && self.open_marks.len() < MAX_OPEN_MARKS {
                    self.marks = mark.number.saturating_add(1);
                    self.open_marks.push((mark.tick, mark_text(mark.kind)));
                }
            }
            FromDevice::Status(status) => {
                self.dropped_blocks = status.dropped_blocks;
                out.note(
                    now_s,
                    SessionEvent::Status {
                        device: hex(self.id),
                        battery_percent: status.battery_percent,
                        temperature_c: status.temperature_decicelsius.map(|t| f64::from(t) / 10.0),
                        dropped_blocks: status.dropped_blocks,
                    },
                );
            }
            FromDevice::Contact(contact) => {
                let index = usize::from(contact.channel);
                let channel = self.label(index);
                out.note(
                    now_s,
                    SessionEvent::Contact {
                        device: hex(self.id),
                        channel,
                        lead_off: contact.lead_off,
                        impedance_ohm: contact.impedance_ohm,
                    },
                );
            }
            FromDevice::Bye(reason) => {
                use sfm_firmware_bridge::ByeReason::{Battery, Fault, Stopped};
                self.stopped = *reason == Stopped;
                let reason = match reason {
                    Stopped => "stopped",
                    Battery => "the battery is empty",
                    Fault => "a fault of the device",
                };
                self.end_session(axis, now_s, out);
                out.note(now_s, SessionEvent::Bye { device: hex(self.id), reason });
            }
        }
        Ok(())
    }

    /// A log is no place to be filled by a device.
    fn count_remark(
        &mut self,
        message: &FromDevice<'_>,
        now_s: HostSeconds,
    ) -> Result<(), Violation> {
        if !matches!(message, FromDevice::Contact(_) | FromDevice::Status(_) | FromDevice::Mark(_))
        {
            return Ok(());
        }
        if now_s - self.remarks_since_s > LEDGER_S {
            (self.remarks, self.remarks_since_s) = (0, now_s);
        }
        self.remarks += 1;
        if self.remarks > MAX_REMARKS {
            return Err(Violation(format!("says more than {MAX_REMARKS} things in a minute")));
        }
        Ok(())
    }

    fn describe(&mut self, channel: &Channel<'_>) -> Result<(), Violation> {
        // Two of one name are told apart by their index.
        let labels: Vec<String> = self.signals().map(|s| s.label.clone()).collect();
        let Some(place) = self.channels.get_mut(usize::from(channel.channel)) else {
            return Err(Violation(format!("describes channel {} of fewer", channel.channel)));
        };
        if place.is_some() {
            return Ok(());
        }
        let mut signal = signal(channel)?;
        if labels.contains(&signal.label) {
            signal.label = format!("{}#{}", signal.label, channel.channel);
        }
        *place = Some(DeviceChannel {
            reassembly: Reassembly::new(signal.rate_hz, self.tick_hz),
            signal,
            held: Vec::new(),
            held_samples: 0,
            longest_block_s: 0.0,
            first: None,
            last: None,
        });
        Ok(())
    }

    fn time_reply(&mut self, reply: &TimeReply, now_s: HostSeconds) {
        let Some(at) = self.asked.iter().position(|a| a.0 == reply.request) else { return };
        let (_, sent_s) = self.asked.swap_remove(at);
        self.fit.exchange(sent_s, (reply.received_tick, reply.sent_tick), now_s);
    }

    /// What is due by the clock: requests, acknowledgements, holes to give up, lines for the log.
    pub(super) fn tick(
        &mut self,
        settings: &Settings,
        axis: &Axis,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<(), Violation> {
        if let Some(link) = self.link {
            self.ask(link, now_s, out);
        }
        self.place_marks(axis, now_s, out);
        self.give_up_holes(settings, axis, now_s, out)?;
        let silent_s = now_s - self.heard_s;
        if !self.silent && silent_s > settings.silence_s(axis.speed) {
            self.silent = true;
            let since_s = self.heard_s - axis.start_s();
            out.note(now_s, SessionEvent::Silence { device: hex(self.id), since_s });
        }
        if axis.started_s.is_some() && silent_s > settings.give_up_s(axis.speed) {
            let behind_s = settings.give_up_s(axis.speed);
            let at_s = now_s - behind_s - axis.start_s();
            for slot in &mut self.slots {
                slot.give_up_before(at_s, &mut out.blocks);
            }
        }
        if now_s >= self.next_ledger_s {
            self.next_ledger_s = now_s + LEDGER_S;
            self.log_ledger(now_s, out);
        }
        if now_s >= self.next_clock_log_s {
            self.next_clock_log_s = now_s + CLOCK_LOG_S;
            self.log_clock(now_s, out);
        }
        Ok(())
    }

    fn place_marks(&mut self, axis: &Axis, now_s: HostSeconds, out: &mut Out) {
        let Some(start_s) = axis.started_s.filter(|_| self.fit.is_usable(now_s)) else { return };
        for (tick, mark) in std::mem::take(&mut self.open_marks) {
            let onset_s = self.fit.host_s(tick).unwrap_or(now_s) - start_s;
            out.note(now_s, SessionEvent::Mark { device: hex(self.id), onset_s, mark });
        }
    }

    fn ask(&mut self, link: LinkId, now_s: HostSeconds, out: &mut Out) {
        if now_s >= self.next_start_s {
            let complete = self.channels.iter().all(Option::is_some) && self.received > 0;
            self.next_start_s = if complete { f64::INFINITY } else { now_s + 1.0 };
            if !complete {
                out.send.push((link, FromHost::Start));
            }
        }
        if now_s >= self.next_request_s {
            // Often at first, until drift is known, then as often as it changes.
            self.next_request_s = now_s + if self.requests < 30 { 0.5 } else { 5.0 };
            self.requests += 1;
            if self.asked.len() == MAX_ASKED {
                self.asked.remove(0);
            }
            self.asked.push((self.requests, now_s));
            out.send.push((link, FromHost::TimeRequest { request: self.requests }));
        }
        if now_s >= self.next_acknowledge_s {
            self.next_acknowledge_s = now_s + 1.0;
            for (channel, state) in (0_u8..).zip(&self.channels) {
                let counter = state.as_ref().and_then(|c| c.reassembly.acknowledged());
                if let Some(counter) = counter {
                    out.send.push((link, FromHost::Acknowledge { channel, counter }));
                }
            }
        }
    }

    /// Everything that is held and waits comes out; nothing follows.
    pub(super) fn finish(&mut self, axis: &Axis, now_s: HostSeconds, out: &mut Out) {
        self.place_marks(axis, now_s, out);
        self.log_clock(now_s, out);
        self.end_session(axis, now_s, out);
        self.log_ledger(now_s, out);
    }

    fn label(&self, index: usize) -> String {
        let channel = self.channels.get(index).and_then(Option::as_ref);
        channel.map(|c| c.signal.label.clone()).unwrap_or_default()
    }
}
