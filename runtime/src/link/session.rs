//! All devices of one recording, merged on one time axis. Waits for the devices it expects, puts
//! slot 0 at the first of their samples, and from then on turns messages into samples in places,
//! lines for the log and messages to devices. A session that was cut goes on if its devices are
//! those that come. Does no input and output and reads no clock: both come from the caller, so that
//! a night can be played in a second.

use std::collections::BTreeMap;

use sfm_firmware_bridge::{FromDevice, Hello};

use super::clock::HostSeconds;
use super::device::{Device, MAX_CHANNELS, Out};
use super::ledger::SampleLedger;
use super::mark::Marks;
use super::waiting::Waiting;
use crate::health::arrivals::{Arrivals, DeviceArrivals};

mod start;

pub use self::start::Beginning;
use self::start::Cut;
use super::event::SessionEvent;
use super::types::{Axis, DeviceTotals, LinkId, NoBed, SessionChannel, Settings, Violation};
use crate::text::hex;

/// Devices of one session.
const MAX_DEVICES: usize = 16;

/// Devices that are not recorded and remembered as such.
const MAX_REFUSED: usize = 1024;

/// Before a device that got no session is tried again, real seconds: where it is a matter of moments,
/// and where it is not.
const SOON_S: f64 = 0.1;
const AGAIN_S: f64 = 10.0;
/// The log says again after this time that a device is not recorded, real seconds.
const SAID_FOR_S: f64 = 60.0;
const TOO_MANY: &str = "too many devices wait for a recording of their own";

/// One recording's devices.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    axis: Axis,
    devices: Vec<Device>,
    channels: Vec<SessionChannel>,
    first_ready_s: Option<HostSeconds>,
    /// Since when devices send that are not recorded yet.
    sending_since_s: Option<HostSeconds>,
    /// Channels that no recording can hold: device and label.
    left_out: Vec<(u64, String)>,
    /// Devices that have no place in the recording.
    waiting: Waiting,
    /// Devices of which the log says that they are not recorded, and when it last did.
    refused: BTreeMap<u64, HostSeconds>,
    /// What may go on, until that is decided.
    cut: Option<Cut>,
    beginning: Beginning,
    /// What people mark at the host.
    marks: Option<Marks>,
}

impl Session {
    /// A new session on a host clock of `speed`.
    pub fn new(settings: Settings, speed: f64) -> Self {
        Self {
            settings,
            axis: Axis { started_s: None, speed },
            devices: Vec::new(),
            channels: Vec::new(),
            first_ready_s: None,
            sending_since_s: None,
            left_out: Vec::new(),
            waiting: Waiting::default(),
            refused: BTreeMap::new(),
            cut: None,
            beginning: Beginning::New,
            marks: None,
        }
    }

    /// How it began.
    pub fn beginning(&self) -> &Beginning {
        &self.beginning
    }

    /// Channels of its devices that no recording can hold: device and label.
    pub fn left_out(&self) -> &[(u64, String)] {
        &self.left_out
    }

    /// Takes over a device that has no place in another session.
    pub fn adopt(&mut self, device: Device) {
        self.devices.push(device);
    }

    /// Takes back a device that got no session of its own, for this reason; it is tried again.
    pub fn keep_waiting(
        &mut self,
        device: Device,
        none: NoBed,
        now_s: HostSeconds,
    ) -> Option<SessionEvent> {
        let (event, again_s) = match none {
            NoBed::NotYet => (None, SOON_S),
            NoBed::Refused(reason) => (self.not_recorded(device.id, reason, now_s), AGAIN_S),
        };
        self.waiting.push(device, now_s + again_s * self.axis.speed.max(1.0));
        event
    }

    /// What the log says of a device that is not recorded: once a minute as long as it tries.
    fn not_recorded(
        &mut self,
        device: u64,
        reason: String,
        now_s: HostSeconds,
    ) -> Option<SessionEvent> {
        let minute_s = SAID_FOR_S * self.axis.speed.max(1.0);
        let is_due = match self.refused.get(&device) {
            Some(said_s) => now_s - said_s >= minute_s,
            None => self.refused.len() < MAX_REFUSED,
        };
        is_due.then(|| {
            self.refused.insert(device, now_s);
            SessionEvent::NotRecorded { device: hex(device), reason }
        })
    }

    /// A session that takes what a device sends and does not start; another one may take its devices
    /// over ([`Session::adopt_all`]).
    pub(super) fn without_start(speed: f64) -> Self {
        let devices = usize::MAX;
        Self::new(Settings { devices, wait_s: f64::INFINITY, ..Settings::default() }, speed)
    }

    /// Goes on with the devices of a session that did not start. `false` if this one has its own.
    pub(super) fn adopt_all(&mut self, other: Self) -> bool {
        let is_new = self.axis.started_s.is_none() && self.devices.is_empty();
        if is_new {
            self.devices = other.devices;
        }
        is_new
    }

    /// Whether a device has sent samples for `seconds`, about as many as it says it does.
    pub(super) fn has_streamed(&self, seconds: f64, now_s: HostSeconds) -> bool {
        self.devices.iter().any(|device| device.has_streamed(seconds, now_s))
    }

    /// A device that has no link at the moment is heard over `link` again.
    pub(super) fn relink(&mut self, device: u64, link: LinkId) -> bool {
        let device = self.devices.iter_mut().find(|d| d.id == device && d.link.is_none());
        device.map(|device| device.link = Some(link)).is_some()
    }

    /// The session takes what people mark at the host, from its start on.
    pub fn take_marks(&mut self, marks: Marks) {
        self.marks = Some(marks);
    }

    /// The channels that are recorded, in order; empty before the start.
    pub fn channels(&self) -> &[SessionChannel] {
        &self.channels
    }

    /// Where the time axis lies.
    pub fn axis(&self) -> Axis {
        self.axis
    }

    /// The devices heard so far.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Whether it knows the device, in its recording or without a place in it.
    pub(super) fn has(&self, device: u64) -> bool {
        self.waiting.has(device) || self.devices.iter().any(|known| known.id == device)
    }

    /// Each recorded channel and its ledger so far, in the recording's order.
    pub fn ledgers(&self) -> Vec<(&SessionChannel, SampleLedger)> {
        let ledger = |channel: &SessionChannel| {
            let device = self.devices.iter().find(|d| d.id == channel.device)?;
            device.ledgers().find(|(label, _)| *label == channel.label).map(|(_, ledger)| ledger)
        };
        self.channels.iter().map(|c| (c, ledger(c).unwrap_or_default())).collect()
    }

    /// Each device's counts and clock.
    pub fn device_totals(&self) -> Vec<DeviceTotals> {
        let totals = |device: &Device| DeviceTotals {
            device: device.id,
            is_up: device.link.is_some(),
            samples: device.ledgers().fold(SampleLedger::default(), |sum, (_, l)| sum.plus(l)),
            fast_ppm: device.fit.fast_ppm(),
            offset_s: device.fit.host_s(0).map(|host_s| host_s - self.axis.start_s()),
            round_trip_s: device.fit.round_trip_s(),
        };
        self.devices.iter().map(totals).collect()
    }

    /// What arrives of each device. Those of a session that was cut and may go on are expected from
    /// the start of this program on.
    pub fn arrivals(&self, now_s: HostSeconds) -> Arrivals {
        let has_begun = self.axis.started_s.is_some();
        let absent = self.settings.devices.saturating_sub(self.devices.len());
        let sent_s = self.sending_since_s.map_or(0.0, |since_s| now_s - since_s);
        let expected = self.cut.iter().flat_map(|cut| cut.expected(now_s));
        let is_missing =
            |other: &DeviceArrivals| self.devices.iter().all(|device| device.id != other.device);
        Arrivals {
            speed: self.axis.speed,
            overdue_s: (!has_begun).then(|| (sent_s - self.settings.wait_s).max(0.0)),
            absent: if has_begun { absent } else { 0 },
            devices: self
                .devices
                .iter()
                .map(|device| device.arrivals(now_s))
                .chain(expected.filter(is_missing))
                .collect(),
        }
    }

    /// A device says hello over `link`; `Ok(false)` if there is no room for it.
    ///
    /// # Errors
    /// [`Violation`]: the link is to be closed.
    pub fn hello(
        &mut self,
        link: LinkId,
        hello: &Hello<'_>,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<bool, Violation> {
        if let Err(violation) = speaks_our_language(hello) {
            // Whoever uses the number of a device that is recorded does not speak for it.
            if self.devices.iter().all(|device| device.id != hello.device) {
                let event = self.not_recorded(hello.device, violation.0.clone(), now_s);
                event.into_iter().for_each(|event| out.note(now_s, event));
            }
            return Err(violation);
        }
        self.hang_up(link, hello.device);
        self.make_room(hello.device);
        let axis = self.axis;
        let Some(device) = self.place_of(hello, now_s) else {
            let event = self.not_recorded(hello.device, TOO_MANY.to_owned(), now_s);
            event.into_iter().for_each(|event| out.note(now_s, event));
            return Ok(false);
        };
        let is_new_link = device.link.replace(link) != Some(link);
        device.greeted = Some(link);
        if is_new_link {
            out.note(
                now_s,
                SessionEvent::Device {
                    device: hex(hello.device),
                    session: hex(hello.session),
                    model: hello.model.chars().take(64).collect(),
                    channels: hello.channels,
                },
            );
        }
        device.hello(hello, &axis, now_s, out);
        if is_new_link {
            self.refused.remove(&hello.device);
        }
        Ok(true)
    }

    /// The device that says hello: one that waits, one of the recording, or a new one.
    fn place_of(&mut self, hello: &Hello<'_>, now_s: HostSeconds) -> Option<&mut Device> {
        if self.waiting.find(hello.device).is_some() {
            return self.waiting.find(hello.device);
        }
        let known = self.devices.iter().position(|d| d.id == hello.device);
        let has_room = self.axis.started_s.is_none() && self.devices.len() < MAX_DEVICES;
        let index = match known {
            Some(index) => index,
            None if has_room => {
                self.devices.push(Device::new(hello, now_s));
                self.devices.len() - 1
            }
            None => return self.waiting.place_of(hello, now_s),
        };
        self.devices.get_mut(index)
    }

    /// Behind a link there is one device: another one that says hello there takes its place.
    fn hang_up(&mut self, link: LinkId, caller: u64) {
        self.waiting.hang_up(link, caller);
        let displaced = |d: &Device| d.link == Some(link) && d.id != caller;
        if self.axis.started_s.is_none() {
            self.devices.retain(|device| !displaced(device));
        } else if let Some(device) = self.devices.iter_mut().find(|d| displaced(d)) {
            device.link = None;
        }
    }

    /// Before the start, devices that have sent nothing or are gone give way to others: anyone can
    /// make up a hello.
    fn make_room(&mut self, caller: u64) {
        let is_there = self.devices.iter().any(|d| d.id == caller);
        if self.axis.started_s.is_none() && self.devices.len() == MAX_DEVICES && !is_there {
            let is_idle = |d: &Device| !d.has_sent() || d.stopped || d.link.is_none();
            let idle = self.devices.iter().position(is_idle);
            idle.into_iter().for_each(|idle| drop(self.devices.remove(idle)));
        }
    }

    /// Whether `device` is heard over `link`, where it or another sensor under its number said hello.
    pub fn hears(&mut self, device: u64, link: LinkId, now_s: HostSeconds, out: &mut Out) -> bool {
        let speed = self.axis.speed;
        let device = self.devices.iter_mut().find(|d| d.id == device);
        device.is_none_or(|device| device.is_heard_over(link, speed, now_s, out))
    }

    /// A device's message other than hello.
    ///
    /// # Errors
    /// [`Violation`]: the link is to be closed.
    pub fn message(
        &mut self,
        device: u64,
        message: &FromDevice<'_>,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<(), Violation> {
        let axis = self.axis;
        if let Some(device) = self.waiting.find(device) {
            return device.message(message, &Axis { started_s: None, ..axis }, now_s, out);
        }
        match self.devices.iter_mut().find(|d| d.id == device) {
            Some(device) => device.message(message, &axis, now_s, out),
            None => Ok(()),
        }
    }

    /// Recording had begun and every device was stopped at its end.
    pub fn is_over(&self) -> bool {
        self.axis.started_s.is_some() && self.devices.iter().all(|device| device.stopped)
    }

    /// The links' thread has not listened for `stall_s` seconds.
    pub fn forgive(&mut self, stall_s: f64) {
        self.devices.iter_mut().for_each(|device| device.forgive(stall_s));
        self.waiting.forgive(stall_s);
    }

    /// A link is gone; its device may come back over another one.
    pub fn link_lost(&mut self, link: LinkId) {
        for device in self.devices.iter_mut().filter(|d| d.link == Some(link)) {
            device.link = None;
        }
        self.waiting.link_lost(link);
    }

    /// Does what is due. Returns what devices do that none does, each with its link.
    pub fn tick(&mut self, now_s: HostSeconds, out: &mut Out) -> Vec<(LinkId, Violation)> {
        if self.axis.started_s.is_none() {
            let sends = self.devices.iter().any(|device| device.sends(now_s));
            self.sending_since_s = sends.then(|| self.sending_since_s.unwrap_or(now_s));
            self.start_if_ready(now_s, out);
        }
        let (axis, settings) = (self.axis, self.settings);
        let mut violations = Vec::new();
        for device in &mut self.devices {
            if let Err(violation) = device.tick(&settings, &axis, now_s, out) {
                violations.extend(device.link.map(|link| (link, violation)));
            }
        }
        self.move_strangers(now_s, out);
        violations.extend(self.waiting.tick(&settings, &axis, now_s, out));
        self.place_marks(now_s, out);
        violations
    }

    /// Devices that describe channels which have no place in the recording, since they started
    /// again or were changed, get a recording of their own; their places here stay empty.
    fn move_strangers(&mut self, now_s: HostSeconds, out: &mut Out) {
        if self.axis.started_s.is_none() {
            return;
        }
        let mut strangers = Vec::new();
        for device in self.devices.iter_mut().filter(|d| d.is_stranger(&self.left_out)) {
            let stays = device.part(now_s);
            strangers.push(std::mem::replace(device, stays));
        }
        strangers.into_iter().for_each(|device| self.let_wait(device, now_s, out));
    }

    /// A device without a place waits until it is ready for a recording of its own.
    fn let_wait(&mut self, device: Device, now_s: HostSeconds, out: &mut Out) {
        let id = device.id;
        if self.waiting.push(device, now_s).is_none() {
            let event = self.not_recorded(id, TOO_MANY.to_owned(), now_s);
            event.into_iter().for_each(|event| out.note(now_s, event));
        }
    }

    fn place_marks(&self, now_s: HostSeconds, out: &mut Out) {
        let (Some(start_s), Some(Marks(marks))) = (self.axis.started_s, &self.marks) else {
            return;
        };
        for (at_s, mark) in marks.try_iter() {
            // A finger is no more exact than a millisecond.
            let (device, onset_s) = (String::new(), ((at_s - start_s) * 1e3).round() / 1e3);
            out.note(now_s, SessionEvent::Mark { device, onset_s, mark: mark.text() });
        }
    }

    /// The session is over: everything that waits comes out.
    pub fn finish(&mut self, now_s: HostSeconds, out: &mut Out) {
        let axis = self.axis;
        self.devices.iter_mut().for_each(|device| device.finish(&axis, now_s, out));
        self.place_marks(now_s, out);
        // From now on marks are refused.
        self.marks = None;
    }
}

/// # Errors
/// [`Violation`]: no host of this version can take what the device sends.
fn speaks_our_language(hello: &Hello<'_>) -> Result<(), Violation> {
    if !hello.is_compatible() {
        return Err(Violation(format!(
            "speaks another version of the wire protocol ({}); update its firmware",
            hello.protocol
        )));
    }
    if hello.channels == 0 || hello.channels > MAX_CHANNELS {
        return Err(Violation(format!(
            "has {} channels, possible are 1 to {MAX_CHANNELS}",
            hello.channels
        )));
    }
    Ok(())
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
